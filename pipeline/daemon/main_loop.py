# SPDX-License-Identifier: Apache-2.0
"""What the main thread does while everything runs: it looks after streams and model until all has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.daemon.board import Board
from pipeline.daemon.late import LateNews
from pipeline.daemon.loading import STOPPED_S
from pipeline.daemon.notify import Notifier
from pipeline.daemon.reload import Reloader
from pipeline.daemon.signals import Signals
from pipeline.daemon.status import Status
from pipeline.daemon.supervise import Supervisor
from pipeline.daemon.swap import Swapper
from pipeline.daemon.verdict import exit_code, served_out
from pipeline.errors import ModelHung
from pipeline.flow import Pipeline
from pipeline.host.footprint import Footprint, resident_bytes

log = logging.getLogger("pipeline")

FIRST_STATUS_NS = 5_000_000_000
"""When the first status line of each stream is due: whoever started it by hand is still watching."""


@dataclass(frozen=True, slots=True)
class Running:
    """What runs, and who keeps it as the file says."""

    pipeline: Pipeline
    swapper: Swapper
    reloader: Reloader
    supervisor: Supervisor


class MainLoop:
    """Five turns a second, each of them short.

    Args:
        running: what is looked after.
        signals: what is asked for meanwhile.
        board: is kept up to date.
        notify: is told that the loop turns.
        refused: a stream's entry was faulty when all began.
        ends: it is over when all streams have ended.
        status_every_ns: pause between two status lines of a stream; the first comes after :data:`FIRST_STATUS_NS`.
        grace_ns: how long a stop may take to serve what is under way.
        now: monotonic nanoseconds.
    """

    def __init__(
        self,
        running: Running,
        signals: Signals,
        board: Board,
        notify: Notifier,
        *,
        refused: bool,
        ends: bool,
        status_every_ns: int,
        grace_ns: int,
        now: Callable[[], int],
    ) -> None:
        self._running = running
        self._pipeline = running.pipeline
        self._signals = signals
        self._board = board
        self._notify = notify
        self._refused = refused
        self._ends = ends
        self._status_every_ns = status_every_ns
        self._grace_ns = grace_ns
        self._now = now
        self._status = Status(notify, now)
        self._next_status_ns = now() + min(FIRST_STATUS_NS, status_every_ns)
        self._footprint, self._late = Footprint(), LateNews()
        self._stopped_ns: int | None = None

    def run(self) -> int:
        """Turn until everything has ended, or cannot. Returns the exit code; raises what killed the pipeline."""
        while not self._pipeline.join(0.2):
            code = self._turn(self._now())
            if code is not None:
                return code
        self._status.say(self._pipeline.ledger)
        swapper = self._running.swapper
        swapper.stop()
        swapper.hangs(STOPPED_S)  # else its loading is left behind
        self._pipeline.detector.close()
        return exit_code(self._pipeline.ledger, refused=self._refused, asked=bool(self._signals.stops))

    def _turn(self, now_ns: int) -> int | None:
        """The exit code, where nothing more is to be waited for."""
        pipeline, running = self._pipeline, self._running
        if pipeline.failure is not None:  # all that can end does: who waits for a reader that hangs waits for ever
            self._leave(1, now_ns + self._grace_ns)
            raise pipeline.failure
        self._notify.alive()
        self._board.turn()
        self._late.look(pipeline.ledger, now_ns)
        self._footprint.tidy()
        try:
            pipeline.check_model(running.swapper.timeout_s)
        except ModelHung as error:
            log.error("%s; leaving, so that a supervisor can start anew", error)
            return self._leave(1)
        if now_ns >= self._next_status_ns:
            self._next_status_ns = now_ns + self._status_every_ns
            self._say_how_it_goes()
        if not self._signals.stops:
            self._look_after()
            if running.supervisor.exhausted:
                log.error("so many readers hang that only a new process helps; leaving, so that one is started")
                return self._leave(1)
        if self._board.leaving:
            return self._leave(128 + self._signals.stops[1])
        return self._stop(now_ns) if self._signals.stops else None

    def _say_how_it_goes(self) -> None:
        self._status.say(self._pipeline.ledger)
        growth = self._footprint.look(resident_bytes())
        if growth is not None:
            log.warning("%s", growth)

    def _look_after(self) -> None:
        """Feeds that stand still, a changed file, and the end when all streams have ended by themselves."""
        reloader, swapper = self._running.reloader, self._running.swapper
        self._running.supervisor.look()
        asked = self._signals.asks_for_reload(self._now())
        if asked:
            self._notify.reloading()
            reloader.ask()
        reloader.look()
        swapper.look()
        if asked:
            self._notify.ready()
        self._board.reload_succeeded = reloader.succeeded and swapper.succeeded
        self._refused = self._refused or reloader.refused
        if reloader.over and self._ends:
            self._pipeline.finish()

    def _stop(self, now_ns: int) -> int | None:
        """Have everything that is under way served, for as long as that may take."""
        if self._stopped_ns is None:
            log.info("%s: stopping; a second one quits at once", self._signals.first)
            self._notify.stopping()
            self._board.stopping = True
            self._running.swapper.stop()
            self._pipeline.stop()
            self._stopped_ns = now_ns
            return None
        if now_ns - self._stopped_ns > 1e9 and served_out(self._pipeline.ledger):
            # A reader may sit in a network call that only its own time limit ends. It holds nothing of ours; the
            # sinks are given the rest of the grace to close.
            self._status.say(self._pipeline.ledger)
            return self._leave(0, self._stopped_ns + self._grace_ns)
        if now_ns - self._stopped_ns > self._grace_ns:
            log.error("not drained within %g s: %s", self._grace_ns / 1e9, ", ".join(self._pipeline.alive()))
            return self._leave(1)
        return None

    def _leave(self, code: int, deadline_ns: int | None = None) -> int:
        leave(self._pipeline, self._running.swapper, self._now, deadline_ns)
        return code


def leave(pipeline: Pipeline, swapper: Swapper, now: Callable[[], int], deadline_ns: int | None = None) -> None:
    """Give up what is under way. Nobody waits for readers that are stuck in native code, nor for anything after the
    deadline (1 s unless given)."""
    deadline_ns = deadline_ns or now() + 1_000_000_000
    pipeline.abort()
    swapper.stop()
    while not pipeline.join(0.1):
        if now() >= deadline_ns or all(name.startswith("read:") for name in pipeline.alive()):
            log.warning("left behind: %s", ", ".join(pipeline.alive()))
            break
