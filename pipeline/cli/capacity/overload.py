# SPDX-License-Identifier: Apache-2.0
"""Streams of a daemon that lose frames because more comes than can be processed.

One line for all of them when it begins, and one when it is over.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pipeline.cli.capacity.strain import Sample, Strain, why
from pipeline.figures import count, duration, listed, percent

if TYPE_CHECKING:
    from pipeline.daemon.board import Board
    from pipeline.host.neighbours import Moment
    from pipeline.ledger import Ledger, StreamLedger

log = logging.getLogger("pipeline")

EVERY_S: Final = 1.0
SUSTAINED_NS: Final = 5_000_000_000
"""Losing frames for so long, with no pause of that length, is overload."""
OVER_NS: Final = 60_000_000_000
"""Losing none for so long is its end."""
SAY_AGAIN_NS: Final = 120_000_000_000
"""Pause between two lines that it began, or hit more streams: with those of its end it is a line a minute at most."""
_LEAST: Final = 0.01
"""Of the frames so many are lost: fewer is a hiccup."""
_SAMPLES: Final = 11
_ABOUT: Final = {"about": "overload"}


class _Counts(NamedTuple):
    """Frames of a stream: decoded; of these, those that are to be processed (`fps` and `stride` leave out the others);
    of these, those that came faster than they were used."""

    decoded: int
    wanted: int
    lost: int


@dataclass(slots=True)
class _Losing:
    """A stream that loses frames."""

    since_ns: int
    latest_ns: int
    before: _Counts


class Overload:
    """Says that streams lose frames to overload, and that they do no longer.

    Args:
        model: facts of the model in use, as a report has them.
        cpu_ns: CPU time of this process so far.
        machine: what is known of the cores and of who uses them.
    """

    def __init__(
        self,
        model: Callable[[], Mapping[str, Any]],
        cpu_ns: Callable[[], int],
        machine: Callable[[], Moment | None],
    ) -> None:
        self._model = model
        self._cpu_ns = cpu_ns
        self._machine = machine
        self._counts: dict[StreamLedger, _Counts] = {}  # up to the last look, of each life
        self._losing: dict[StreamLedger, _Losing] = {}
        self._said: set[str] = set()  # who was hit when it was said last
        self._since_ns = self._latest_ns = 0
        self._said_ns: int | None = None
        self._dropped = 0  # since it began
        self._samples: deque[Sample] = deque(maxlen=_SAMPLES)

    def look(self, ledger: Ledger, now_ns: int) -> None:
        """Once a second; ``now_ns``: monotonic."""
        from pipeline.report.cost import GIVEN_UP

        self._samples.append(Sample(now_ns, ledger.busy_ns(), self._cpu_ns(), self._machine()))
        before, self._counts = self._counts, {}
        for name, account in list(ledger.streams.items()):
            if name == account.name:  # no earlier life
                decoded, dropped = account.decoded, account.dropped
                lost = sum(dropped[reason] for reason in GIVEN_UP)
                now = _Counts(decoded, decoded - account.decimated, lost)
                self._counts[account] = now
                self._follow(account, before.get(account, now), now, now_ns)
        self._losing = {account: one for account, one in self._losing.items() if account in self._counts}
        hit = {account.name: account for account, one in self._losing.items() if self._sustained(account, one)}
        if hit and not self._said:
            self._since_ns = min(self._losing[account].since_ns for account in hit.values())
        may_say = self._said_ns is None or now_ns - self._said_ns >= SAY_AGAIN_NS
        # Others follow within seconds: they are in the same line.
        whole = len(hit) == len(self._losing) or now_ns - self._since_ns >= 2 * SUSTAINED_NS
        if hit.keys() - self._said and may_say and whole:
            self._say(hit, now_ns)
        elif now_ns - self._latest_ns >= OVER_NS:
            if self._said:
                self._over()
            self._dropped = 0

    def _follow(self, account: StreamLedger, before: _Counts, now: _Counts, now_ns: int) -> None:
        one = self._losing.get(account)
        if now.lost > before.lost:
            if one is None:
                one = self._losing[account] = _Losing(now_ns, now_ns, before)
            one.latest_ns = self._latest_ns = now_ns
            self._dropped += now.lost - before.lost
        elif one is not None and now_ns - one.latest_ns >= SUSTAINED_NS:
            del self._losing[account]

    def _sustained(self, account: StreamLedger, one: _Losing) -> bool:
        return one.latest_ns - one.since_ns >= SUSTAINED_NS and self._share(account, one) >= _LEAST

    def _share(self, account: StreamLedger, one: _Losing) -> float:
        """Of its frames since it began; some of those that are lost came before."""
        now = self._counts[account]
        return min(1.0, (now.lost - one.before.lost) / max(1, now.wanted - one.before.wanted))

    def _say(self, hit: Mapping[str, StreamLedger], now_ns: int) -> None:
        shares = {name: self._share(account, self._losing[account]) for name, account in hit.items()}
        worst = sorted(shares, key=lambda name: -shares[name])
        if len(hit) == 1:
            told = f"{worst[0]} loses {percent(shares[worst[0]])} of its frames"
        else:
            who = f"{len(hit)} of {count(len(self._counts), 'stream')}"
            told = f"{who} lose frames, up to {percent(shares[worst[0]])} of them ({listed(worst, 3)})"
        lost = sum(self._counts[account].lost - self._losing[account].before.lost for account in hit.values())
        came = sum(self._counts[account].wanted - self._losing[account].before.wanted for account in hit.values())
        strain = Strain(
            self._samples[0],
            self._samples[-1],
            reading=max(self._reading(account, self._losing[account], now_ns) for account in hit.values()),
            worst=shares[worst[0]],
            lost=min(1.0, lost / max(1, came)),
        )
        reason = why(strain, self._model(), len(self._counts))
        log.warning("overload: %s; %s", told, reason, extra={**_ABOUT, "same": "overload"})
        self._said = set(hit)
        self._said_ns = now_ns

    def _reading(self, account: StreamLedger, one: _Losing, now_ns: int) -> float:
        """For what part of the time its reader is busy, by what a frame took of late."""
        now, stages = self._counts[account], account.recent(now_ns, 10)["stages"]
        frames = {"decode": now.decoded - one.before.decoded, "preprocess": now.wanted - one.before.wanted}
        busy_ms = sum(stages[stage]["mean_ms"] * number for stage, number in frames.items() if stage in stages)
        span_ns = now_ns - one.since_ns + EVERY_S * 1e9  # counted from the look before
        return min(1.0, float(busy_ms) * 1e6 / span_ns)

    def _over(self) -> None:
        log.info(
            "overload is over, after %s and %s; nothing was lost to it for the last minute",
            duration((self._latest_ns - self._since_ns) / 1e9), count(self._dropped, "lost frame"),
            extra={**_ABOUT, "same": "overload is over", "ends": "overload"},
        )  # fmt: skip
        self._said = set()


@contextmanager
def overload_told(board: Board) -> Iterator[None]:
    """For as long as the block lasts, by a thread of its own."""
    from pipeline.host.neighbours import moment
    from pipeline.timing import cpu_ns, now_ns

    over = threading.Event()
    news = Overload(lambda: board.facts()["model"], cpu_ns, moment)

    def work() -> None:
        failed = False
        while not over.wait(EVERY_S):
            ledger = board.ledger
            if ledger is None or board.stopping:
                continue
            try:
                news.look(ledger, now_ns())
            except Exception:
                if not failed:  # it may fail each second from now on
                    log.exception("looking for overload failed")
                failed = True

    thread = threading.Thread(target=work, name="overload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(EVERY_S)
