# SPDX-License-Identifier: Apache-2.0
"""N feeds from a streams.yaml through one detector until somebody stops it."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pipeline.config import growth_warnings, load_config_quarantining, placing_model_faults
from pipeline.daemon.attempt import InUse
from pipeline.daemon.board import Beside, Board, Serve, nothing_beside, served
from pipeline.daemon.late import LateNews
from pipeline.daemon.model import Wanted, load
from pipeline.daemon.notify import Notifier
from pipeline.daemon.outlets import tell_where, with_outlets
from pipeline.daemon.shard import WHOLE, Shard
from pipeline.daemon.stacks import told_on_a_signal
from pipeline.daemon.status import Status
from pipeline.daemon.supervise import Supervisor
from pipeline.daemon.swap import Swapper
from pipeline.daemon.verdict import exit_code, served_out
from pipeline.daemon.watched import WatchedFile
from pipeline.errors import ConfigError, ModelHung, SinkError
from pipeline.figures import count
from pipeline.flow.stream import NOBODY
from pipeline.host.footprint import Footprint, keep_for_good, resident_bytes
from pipeline.ledger import Ledger
from pipeline.timing import SYSTEM, Clock, now_ns

if TYPE_CHECKING:
    from pipeline.arrivals import Recorder
    from pipeline.config import LoadedConfig, StreamConfig
    from pipeline.config.outputs import SinkConfig
    from pipeline.daemon.reload import Reloader
    from pipeline.flow import Pipeline
    from pipeline.flow.stream import Stream
    from pipeline.protocols import Tap
    from pipeline.sources import Gate

log = logging.getLogger("pipeline")


FIRST_STATUS_S = 5.0
"""After so long the first status line of each stream is due: whoever started it by hand is still watching."""
RELOADS_APART_NS = 1_000_000_000
"""A signal that asks for a reload so soon after another one is heard after that time: a hundred of them are two."""
CONNECTING = 8
"""Cameras that connect at the same time: a hundred at once would be a storm for the network, and for this machine."""
LOADING_TOO_LONG_NS = 60_000_000_000
"""Loading and warming the model for so long is worth a word, then again after as long."""
STOPPED_LOADING_S = 2.0
"""How long a stop waits for a model that is being loaded before it leaves it behind."""


def loading_limit_s(timeout_s: float) -> float:
    """Longest that loading, trying and warming a model may take, by the ``model.timeout_s`` of a batch, in seconds."""
    return max(10.0 * timeout_s, 300.0)


class Daemon:
    """One run of ``pipeline run``. The calling thread, the program's first, only waits and listens to signals.

    Args:
        config_path: the streams.yaml.
        status_every_s: pause between two status lines of a stream; the first comes after :data:`FIRST_STATUS_S`.
        grace_s: how long a stop may take to serve what is under way before it is given up.
        shard: which part of the streams is this daemon's.
        clock: where time comes from.
        serve: binds the HTTP server where the configuration has one; None: nothing is served.
        recorder: keeps what arrives, from its opening until whoever gave it closes it; None: nobody does.
        beside: looks at the daemon while it runs.

    Attributes:
        ready: the detector is loaded and warm, the sinks are open: from here on there is something to report.
        sinks: where results go, as configured when it began; a reload does not change them.
    """

    def __init__(
        self,
        config_path: Path,
        *,
        status_every_s: float = 60.0,
        grace_s: float = 10.0,
        shard: Shard = WHOLE,
        clock: Clock = SYSTEM,
        serve: Serve | None = None,
        recorder: Recorder | None = None,
        beside: Beside = nothing_beside,
    ) -> None:
        self._path = config_path
        self._status_every_ns = int(status_every_s * 1e9)
        self._grace_ns = int(grace_s * 1e9)
        self._shard = shard
        self._now = clock.now_ns
        self._notify = Notifier(clock.now_ns)
        self._signals: list[int] = []
        self._reload_asked = False
        self._may_reload_ns = 0
        self._reloader: Reloader | None = None
        self._supervisor: Supervisor | None = None
        self._swapper: Swapper | None = None
        self._serve = serve
        self._recorder = recorder
        self._beside = beside
        self._board = Board(self.facts, clock.now_ns)
        self._tap: Tap = NOBODY
        self._file = WatchedFile(config_path, self._now)  # what changes while the model is loaded counts
        self._pipeline: Pipeline | None = None
        self.ready = False
        self.sinks: tuple[SinkConfig, ...] = ()
        self._refused = False  # a stream entry was faulty and is not run
        self._status = Status(self._notify, clock.now_ns)
        self._startup_s: dict[str, float] = {}

    def run(self) -> int:
        """Run until a signal, or until the last stream has ended; SIGHUP reads the file again. Returns the exit code.

        Raises ConfigError for a global fault or when no stream is left, ModelLoadError when the detector cannot be had.
        """
        with self._listening():
            file = load_config_quarantining(self._path)
            self._shard.tell(file)
            loaded = self._shard.of(file)
            self.sinks = loaded.config.sinks
            with (
                served(self._serve, loaded.config.server, self._board, self._path) as self._tap,
                self._beside(loaded.config, self._board),
            ):
                code = self._run(loaded)
            return 128 + self._signals[1] if self._board.leaving else code

    def _run(self, loaded: LoadedConfig) -> int:
        try:
            pipeline = self._begun(loaded)
        except ModelHung as error:
            log.error("%s; leaving, so that a supervisor can start anew", error)
            return self._leave(1)
        if pipeline is None:
            log.info("%s: stopped before anything ran", signal.Signals(self._signals[0]).name)
            return self._leave(0)
        return self._watch(pipeline)

    @property
    def asked(self) -> int:
        """How many signals asked it to stop."""
        return len(self._signals)

    @property
    def ledger(self) -> Ledger:
        """The accounts of a run that was ``ready``."""
        assert self._pipeline is not None, "run() comes first"
        return self._pipeline.ledger

    def accounts(self) -> dict[str, Any]:
        """Counts and times of a run that was ``ready`` and has ended, as :func:`pipeline.report.compose` takes them."""
        ledger = self.ledger
        if not ledger.end_ns:  # threads were left behind
            ledger.account_for_shutdown()
            ledger.end(now_ns())
        return ledger.as_dict()

    def facts(self) -> dict[str, Any]:
        """What a report needs to know beside the ledger."""
        model = {} if self._swapper is None else self._swapper.facts()
        recording = {} if self._recorder is None else {"recording": self._recorder.facts()}
        return {"command": "run", "model": model, "startup_s": self._startup_s, **recording}

    @contextmanager
    def _listening(self) -> Iterator[None]:
        handlers = {signal.SIGINT: self._on_signal, signal.SIGTERM: self._on_signal, signal.SIGHUP: self._on_reload}
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            with told_on_a_signal():
                yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
        self._board.leaving = len(self._signals) > 1

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload_asked = True

    def _begun(self, loaded: LoadedConfig) -> Pipeline | None:
        """:meth:`_begin` in a thread of its own; None when a signal came before anything ran.

        A model file is a program: its first run may never end, and in the main thread no signal would be heard.
        Raises ModelHung when it takes longer than :func:`loading_limit_s`.
        """
        outcome: list[Pipeline | BaseException | None] = []

        def work() -> None:
            try:
                outcome.append(self._begin(loaded))
            except BaseException as error:  # noqa: BLE001 - raised again by the main thread
                outcome.append(error)

        loader = threading.Thread(target=work, name="load", daemon=True)
        loader.start()
        timeout_s = loaded.config.model.timeout_s
        limit_s = loading_limit_s(timeout_s)
        since_ns = said_ns = self._now()
        while loader.is_alive() and not self._signals:
            loader.join(0.1)
            self._board.turn()
            if self._now() - said_ns > LOADING_TOO_LONG_NS:
                said_ns = self._now()
                log.warning("the model is still being loaded, after %.0f s", (said_ns - since_ns) / 1e9)
            if self._now() - since_ns > limit_s * 1e9 and loader.is_alive():
                raise ModelHung(f"the model was not ready within {limit_s:g} s (model.timeout_s is {timeout_s:g})")
        if self._signals:
            loader.join(STOPPED_LOADING_S)
        begun = outcome[0] if outcome else None
        if isinstance(begun, BaseException):
            if self._signals:
                return None
            raise begun
        return begun  # what runs by now is stopped as it is at any other time

    def _begin(self, loaded: LoadedConfig) -> Pipeline | None:
        """Load and warm the detector, open the sinks, start the streams; None where a signal came while it loaded."""
        growth = growth_warnings(loaded.config, loaded.document)
        for text in (*loaded.warnings, *growth, *(fault for stream in loaded.quarantined for fault in stream.faults)):
            log.warning("%s", text)
        from pipeline import build
        from pipeline.daemon.reload import Reloader
        from pipeline.flow import Pipeline
        from pipeline.sources import Gate

        config = loaded.config
        self._refused = bool(loaded.quarantined)
        gate = Gate(CONNECTING)
        streams = self._feeds(loaded, gate)
        log.info("loading the model: %s", config.model.path)
        wanted = Wanted.of(config)
        with placing_model_faults(loaded.document):
            model = load(wanted)
        if self._signals:
            return None
        self._startup_s = dict(model.detector.startup_s)
        run_id = secrets.token_hex(8)
        sinks = build.sinks(config.sinks, run_id)
        options = replace(
            with_outlets(model.options, sinks, len(streams)),
            required_sinks=build.required_sinks(config.sinks),
            tap=self._tap,
        )
        self._pipeline = pipeline = Pipeline(model.detector, sinks, options)
        if self._recorder is not None:
            self._recorder.begin(config, model.facts, run_id, pipeline.ledger)
        self._swapper = swapper = Swapper(pipeline, InUse(wanted, model.facts), loading_limit_s, self._now)
        try:
            pipeline.start()
        except SinkError as error:  # as `check` calls it: a path in the file that cannot be used
            raise ConfigError(f"{self._path}: sinks: {error}") from error
        keep_for_good()
        tell_where(sinks)
        log.info(
            "detector ready: %s on %s; %s", config.model.path, model.facts["device"], count(len(streams), "stream")
        )
        self.ready = True
        for _, stream in streams:
            pipeline.add(stream)
        running = [config for config, _ in streams]
        make_feed = partial(build.feed, gate=gate, recorder=self._recorder)
        self._reloader = reloader = Reloader(
            self._path, self._file, self._shard, loaded, running, pipeline, make_feed,
            lambda config, asked: swapper.want(config, asked=asked),
        )  # fmt: skip
        self._supervisor = Supervisor(pipeline.ledger, pipeline.abandon, reloader.restart, reloader.limit_s, self._now)
        self._board.reload_succeeded, self._board.reloads = reloader.succeeded, reloader.reloads  # before anybody asks
        self._board.show(pipeline)
        self._notify.ready()
        return pipeline

    def _feeds(self, loaded: LoadedConfig, gate: Gate) -> list[tuple[StreamConfig, Stream]]:
        from pipeline import build

        feeds = []
        for stream in loaded.config.streams:
            if stream.enabled:
                try:
                    feeds.append((stream, build.feed(stream, gate, self._recorder)))
                except ConfigError as error:
                    self._refused = True
                    log.error("%s; the other streams run", error)
        if not feeds and self._shard == WHOLE:
            raise ConfigError(f"{self._path}: no stream to run: all are faulty, disabled or missing")
        return feeds

    def _watch(self, pipeline: Pipeline) -> int:
        next_status_ns = self._now() + min(int(FIRST_STATUS_S * 1e9), self._status_every_ns)
        stopped_ns: int | None = None
        footprint, late = Footprint(), LateNews()
        swapper = self._swapper
        assert swapper is not None, "_begin made it"
        while not pipeline.join(0.2):
            now_ns = self._now()
            if pipeline.failure is not None:  # all that can end does: who waits for a reader that hangs waits for ever
                self._leave(1, now_ns + self._grace_ns)
                raise pipeline.failure
            self._notify.alive()
            self._board.turn()
            late.look(pipeline.ledger, now_ns)
            footprint.tidy()
            try:
                pipeline.check_model(swapper.timeout_s)
            except ModelHung as error:
                log.error("%s; leaving, so that a supervisor can start anew", error)
                return self._leave(1)
            if now_ns >= next_status_ns:
                self._status.say(pipeline.ledger)
                next_status_ns = now_ns + self._status_every_ns
                growth = footprint.look(resident_bytes())
                if growth is not None:
                    log.warning("%s", growth)
            if not self._signals:
                self._look_after(pipeline)
                if self._supervisor is not None and self._supervisor.exhausted:
                    log.error("so many readers hang that only a new process helps; leaving, so that one is started")
                    return self._leave(1)
            if self._board.leaving:
                return self._leave(128 + self._signals[1])
            if self._signals and stopped_ns is None:
                log.info("%s: stopping; a second one quits at once", signal.Signals(self._signals[0]).name)
                self._notify.stopping()
                self._board.stopping = True
                swapper.stop()
                pipeline.stop()
                stopped_ns = now_ns
            elif stopped_ns is not None and now_ns - stopped_ns > 1e9 and served_out(pipeline.ledger):
                # A reader may sit in a network call that only its own time limit ends. It holds nothing of ours; the
                # sinks are given the rest of the grace to close.
                self._status.say(pipeline.ledger)
                return self._leave(0, stopped_ns + self._grace_ns)
            elif stopped_ns is not None and now_ns - stopped_ns > self._grace_ns:
                log.error("not drained within %g s: %s", self._grace_ns / 1e9, ", ".join(pipeline.alive()))
                return self._leave(1)
        self._status.say(pipeline.ledger)
        swapper.stop()
        swapper.hangs(STOPPED_LOADING_S)  # else its loading is left behind
        pipeline.detector.close()
        return exit_code(pipeline.ledger, refused=self._refused, asked=bool(self._signals))

    def _look_after(self, pipeline: Pipeline) -> None:
        """Feeds that stand still, a changed file, and the end when all streams have ended by themselves."""
        reloader, supervisor, swapper = self._reloader, self._supervisor, self._swapper
        assert reloader is not None, "_begin made it"
        assert supervisor is not None, "_begin made it"
        assert swapper is not None, "_begin made it"
        supervisor.look()
        asked = self._reload_asked and self._now() >= self._may_reload_ns
        if asked:
            self._reload_asked, self._may_reload_ns = False, self._now() + RELOADS_APART_NS
            self._notify.reloading()
            reloader.ask()
        reloader.look()
        swapper.look()
        if asked:
            self._notify.ready()
        self._board.reload_succeeded = reloader.succeeded and swapper.succeeded
        self._refused = self._refused or reloader.refused
        if reloader.over and self._shard == WHOLE:  # a part that has no streams now may get some
            pipeline.finish()

    def _leave(self, code: int, deadline_ns: int | None = None) -> int:
        """Give up what is under way. Nobody waits for readers that are stuck in native code, nor for anything after the
        deadline (1 s unless given)."""
        pipeline = self._pipeline
        if pipeline is None:
            return code
        deadline_ns = deadline_ns or self._now() + 1_000_000_000
        pipeline.abort()
        if self._swapper is not None:
            self._swapper.stop()
        while not pipeline.join(0.1):
            if self._now() >= deadline_ns or all(name.startswith("read:") for name in pipeline.alive()):
                log.warning("left behind: %s", ", ".join(pipeline.alive()))
                break
        return code
