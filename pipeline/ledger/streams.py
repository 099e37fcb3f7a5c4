# SPDX-License-Identifier: Apache-2.0
"""The account of one stream: its state, what became of each of its frames, and how long that took."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Final

from pipeline.errors import Cause
from pipeline.events import Condition, StreamState
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.ledger.arrivals import Arrivals
from pipeline.ledger.balance import Balance
from pipeline.ledger.counters import summed
from pipeline.ledger.exits import added_by_stage
from pipeline.ledger.lifecycle import ENDED, Lifecycle
from pipeline.ledger.measured import Measured
from pipeline.ledger.playout import PlayoutCount
from pipeline.ledger.shape import pack, shape, unpack
from pipeline.ledger.stats import of_tally
from pipeline.ledger.times import StreamTimes
from pipeline.timing import SYSTEM, Clock, PlayoutDelay, ended_in, published_ns

FROZEN_NS = 30_000_000_000
"""A camera that shows the same picture for so long shows nothing live: every sensor has noise."""

STEADY_NS: Final = 1_000_000_000
"""Of results that came within less no rate is told."""


class StreamLedger:
    """Everything that is counted and timed about one stream."""

    def __init__(
        self,
        name: str,
        *,
        source: str = "",
        live: bool = False,
        paced: bool = False,
        budget_ns: int | None = None,
        playout: PlayoutDelay | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """``source`` is what people are shown: a path, or an address without credentials. ``budget_ns``: a frame that
        takes longer is late; None: one that takes unusually long. ``playout``: how long results are held."""
        self.name = name
        self.budget_ns = budget_ns
        self.source = source
        self.life = Lifecycle(name, StreamInfo(name, live=live), clock=clock)
        self.paced = paced or live
        self.awaited_ns = clock.now_ns()  # since when a result is waited for, if there is none
        self.is_faulty = False  # nobody ever read it: see faulty()
        self.counters = SourceCounters()
        # What earlier lives of this name came to: frame numbers and epochs go on from there
        self.first_frame = 0
        self.first_epoch = 0
        # Written by the read loop
        self.epoch = 0
        self.decoded = 0
        self.decimated = 0
        self.corrupt = 0
        self.opened_ns = 0
        self.last_frame_ns = 0
        self.fallen_ns = 0  # how far its reader has fallen behind the pace of its time stamps
        self.arrivals = Arrivals()
        # Written by the follow loop
        self.processed = 0
        self.detections = 0
        self.playout = PlayoutCount(playout)
        self._lost: Counter[tuple[str, str]] = Counter()  # by reason, and by the stage or wait where it happened
        self.first_result_ns = 0
        self.last_result_ns = 0
        self.times = StreamTimes(name, looks_back=self.paced)
        self._settled: dict[str, Any] | None = None
        self._shape: bytes | None = None
        self.in_total = False  # its distributions are among those of the run's ended streams; under the ledger's lock
        self._reconnects = 0  # as far as they are in the course
        self.lives = 1  # how many it stands for: see together()

    @classmethod
    def faulty(cls, name: str, error: str) -> StreamLedger:
        """Of a stream that does not run, since its entry in the configuration is faulty."""
        account = cls(name, live=True)
        account.failed(error)
        account.is_faulty = account.closed = True
        return account

    @property
    def info(self) -> StreamInfo:
        """What is known of the stream: as it opened, and of the last frame its size."""
        return self.life.info

    @property
    def state(self) -> StreamState:
        """How it is, by the names of the contract."""
        return self.life.state

    @state.setter
    def state(self, state: StreamState) -> None:
        self.life.state = state

    @property
    def error(self) -> str | None:
        """Why it is not live, in words."""
        return self.life.detail

    @error.setter
    def error(self, error: str | None) -> None:
        self.life.detail = error

    @property
    def closed(self) -> bool:
        """It is no longer read."""
        return self.life.closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self.life.closed = closed

    @classmethod
    def together(cls, first: StreamLedger, later: StreamLedger) -> StreamLedger:
        """Two lives that are over as one account: counts are added up, the end is the later one's.

        It has no distributions: those of lives that are over are in the run's total already.
        """
        both = cls(first.name, source=later.source, live=later.info.live, paced=later.paced)
        both.lives = first.lives + later.lives
        for name in ("decoded", "decimated", "corrupt", "processed", "detections", "fallen_ns"):
            setattr(both, name, getattr(first, name) + getattr(later, name))
        both._lost = first._lost + later._lost
        both.playout = first.playout + later.playout
        both.counters = summed(first.counters, later.counters)
        both.opened_ns = min(filter(None, (first.opened_ns, later.opened_ns)), default=0)
        both.first_result_ns = first.first_result_ns or later.first_result_ns
        both.last_result_ns = later.last_result_ns or first.last_result_ns
        both.state, both.error, both.closed = later.state, later.error, True
        both.life.stalls = first.life.stalls + later.life.stalls
        both.life.param_changes = first.life.param_changes + later.life.param_changes
        both.times.late.parts = first.times.late.parts + later.times.late.parts
        both._settled = _figures(both.times.measured(0))
        return both

    def opened(self, info: StreamInfo, counters: SourceCounters, at_ns: int) -> None:
        """The read loop opened the source."""
        self.counters = counters
        self.opened_ns = at_ns
        self.life.opened(info)

    def at(self, condition: Condition) -> None:
        """A supervised source says how it is."""
        self.life.at(condition)

    def arrived(
        self, read_ns: int, pts_s: float, epoch: int, corrupt: bool, size: tuple[int, int] | None = None
    ) -> None:
        """The read loop got a frame from the decoder, of ``size`` (width, height) where that is known."""
        self.decoded += 1
        self.epoch = epoch
        self.corrupt += corrupt
        self.last_frame_ns = read_ns
        self.life.arrived(read_ns, epoch, self.decoded, size, self.counters.discontinuities)
        if self.counters.reconnects != self._reconnects:
            self._reconnects = self.counters.reconnects
            self.times.reconnected(read_ns)
        if self.paced:
            self.arrivals.add(read_ns, round(pts_s * 1e9), epoch)

    def numbered(self, capture: Capture) -> Capture:
        """The capture as this program counts: also a stream that was begun anew goes on."""
        if not self.first_epoch:
            return capture
        return replace(capture, index=self.first_frame + capture.index, epoch=self.first_epoch + capture.epoch)

    def ended(self, truncation: str | None, *, at_limit: bool, asked: bool) -> None:
        """The read loop ended without an error: at the limit, because it was asked to, or at the end of the source."""
        if at_limit or not (asked or truncation):
            self.life.end("finished")
        elif truncation and not asked:
            self.life.end("truncated", truncation)
        else:
            self.life.end("stopped")

    def failed(self, error: str, cause: Cause | None = None) -> None:
        """The read loop ended with an error."""
        self.life.end("failed", error, cause)

    def never_opened(self) -> None:
        """A stop came before its turn."""
        self.life.end("stopped")
        self.life.closed = True

    def published(self, trace: list[int], detections: int = 0) -> None:
        """The follow loop made a result of a frame, with so many detections."""
        at_ns = published_ns(trace)
        self.processed += 1
        self.detections += detections
        self.first_result_ns = self.first_result_ns or at_ns
        self.last_result_ns = at_ns
        self.life.works()

    def lost(self, reason: str, trace: list[int]) -> None:
        """The follow loop was told that a frame is dropped; its journey ended where it was lost."""
        self._lost[reason, ended_in(trace)] += 1
        self.times.lost(trace)

    def lost_by_shutdown(self) -> None:
        """All loops have ended: what was still under way is lost, and nobody knows where."""
        left = self.in_flight
        if left > 0:
            self._lost["shutdown", "unknown"] += left
        if self.state not in ENDED:
            self.state = "stopped"

    def finished(self, trace: list[int]) -> None:
        """A published frame has left its last sink."""
        self.times.finished(trace)

    @property
    def over(self) -> bool:
        """The stream has ended, and its last frame, if it had any, has left the last sink."""
        return self.closed and (self._settled is not None or not self.opened_ns)

    @property
    def dropped(self) -> Counter[str]:
        """Frames dropped so far, by reason."""
        return self.balance().dropped

    @property
    def in_flight(self) -> int:
        """Frames decoded but not accounted for yet; 0 at the end of every run."""
        return self.balance().in_flight

    def balance(self) -> Balance:
        """What became of the frames so far.

        What becomes of a frame is counted after it was decoded. So what left is read first: then nothing has left that
        was not counted as decoded, whatever happens in between.
        """
        lost, processed, decimated = self._lost.copy(), self.processed, self.decimated
        return Balance(self.decoded, processed, decimated, lost)

    @property
    def still_ns(self) -> int:
        """For how long all frames have shown the same picture; 0 where nobody looks."""
        since_ns = self.counters.still_since_ns
        return max(0, self.last_frame_ns - since_ns) if since_ns else 0

    @property
    def arrival_jitter_ns(self) -> float | None:
        """Jitter of the arrivals (RFC 3550, section 6.4.1), or None where frames are not paced."""
        return self.arrivals.jitter_ns if self.paced else None

    @property
    def departure_jitter_ns(self) -> float | None:
        """Standard deviation of the intervals between results."""
        return self.times.departure_jitter_ns

    @property
    def settled(self) -> dict[str, Any] | None:
        """The distributions' figures once the last frame has left the last sink, as in ``report.json``."""
        return self._settled

    @property
    def measuring_ns(self) -> int:
        """CPU time that was spent, beside the way of the frames, on working all this out."""
        return self.times.cpu_ns + self.arrivals.cpu_ns

    def recent(self, now_ns: int, span_s: int = 60) -> dict[str, Any]:
        """What the last ``span_s`` seconds (10 or 60) up to ``now_ns`` (monotonic) were like.

        ``{"stages": {STAGE: STATS}, "waits": {PLACE: STATS}, "end_to_end": STATS | None}``: STATS as in
        ``report.json`` but without ``jitter_ms``. Where nothing finished within the time there are no stages, no waits,
        and None; so it is for recordings that are read as fast as possible.
        """
        return of_tally(self.times.recent(span_s, now_ns))

    def settle(self) -> Measured:
        """All frames have left all sinks: keep the figures, give away the distributions."""
        self.life.over()
        measured = self.times.take()
        self._shape = pack(measured.distributions, measured.course)
        self._settled = _figures(measured)
        return measured

    def shape(self, start_ns: int, measured: Measured | None = None) -> dict[str, Any]:
        """What this stream's part of ``report.json`` has beside :meth:`as_dict`: distributions, and how it went over
        time; see :func:`pipeline.ledger.shape.shape`."""
        if self._shape is not None:
            return unpack(self._shape, start_ns)
        measured = measured or self.times.measured(0)
        return shape(measured.distributions, measured.course, start_ns)

    def counts(self, start_ns: int, *, final: bool = True) -> dict[str, Any]:
        """The part of :meth:`as_dict` that costs nothing: state and counts, no distributions."""
        under_way = not final and self.state == "finished" and self._settled is None
        span_s = (self.last_result_ns - self.opened_ns) / 1e9 if self.last_result_ns else 0.0
        return {
            "source": self.source or None,
            "paced": self.paced,
            **({"lives": self.lives} if self.lives > 1 else {}),
            "state": "live" if under_way else self.state,
            "error": self.error,
            "frames": {
                **self.balance().as_dict(),
                "corrupt": self.corrupt,
                "decode_errors": self.counters.decode_errors,
                "skipped": self.counters.skipped,
            },
            "detections": self.detections,
            "behind_ms": _ms(self.fallen_ns) if self.paced and not self.info.live else None,
            **({"playout": told} if (told := self.playout.as_dict()) else {}),
            "decoder": self.counters.decoder or None,
            "reconnects": self.counters.reconnects,
            "discontinuities": self.counters.discontinuities,
            "param_changes": self.life.param_changes,
            "stalls": self.life.stalls,
            "fps": round(self.processed / span_s, 3) if span_s > 0 else None,
            "steady_fps": steady_fps(self.processed, self.first_result_ns, self.last_result_ns),
            "first_result_ms": ms_since(start_ns, self.first_result_ns),
        }

    def _camera(self, measured: Measured) -> dict[str, Any]:
        """What is true of the camera; ``duplicates``: pictures that repeated the one before, None where nobody
        looks."""
        looked = bool(self.counters.still_since_ns) or self.lives > 1
        return {
            **self.arrivals.as_dict(self.info.fps),
            **self.times.capture().as_dict(measured.capture_to_result),
            "duplicates": self.counters.duplicates if looked else None,
        }

    def as_dict(
        self, start_ns: int, *, final: bool = True, at_ns: int = 0, measured: Measured | None = None
    ) -> dict[str, Any]:
        """This stream's part of ``report.json``; with ``windows`` that end at ``at_ns`` (monotonic), if given.
        ``measured``: what was measured up to then, where the caller has it.

        Before the run's end (not ``final``) a recording that was read to its end is ``live`` until the last sink has
        finished it.
        """
        measured = measured or self.times.measured(at_ns)
        late = self.times.lateness()
        return {
            **self.counts(start_ns, final=final),
            "camera": self._camera(measured) if self.info.live else None,
            **(self._settled or _figures(measured)),
            "windows": {f"{span_s}s": told for span_s, told in measured.lately.items()} if at_ns else {},
            "dropped_after": measured.dropped_after,
            "late": late.counts,
            "slow_frames": [one.as_dict(start_ns) for one in late.slowest],
            "jitter": self._jitter(measured.nominal_ns, measured.exits),
        }

    def _jitter(self, nominal_ns: int | None, exits: dict[str, Any]) -> dict[str, Any]:
        return {
            "arrival_ms": _ms(self.arrival_jitter_ns),
            "departure_ms": _ms(self.departure_jitter_ns),
            "nominal_interval_ms": _ms(nominal_ns),
            "exits": exits,
            "added": added_by_stage(exits),
        }


def _figures(measured: Measured) -> dict[str, Any]:
    corrected = measured.end_to_end_corrected
    told = None if corrected is None else {"interval_ms": _ms(measured.nominal_ns), **corrected}
    return {**measured.figures, "end_to_end_corrected": told}


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None else round(value_ns / 1e6, 6)


def steady_fps(frames: int, first_ns: int, last_ns: int) -> float | None:
    """Results per second from the first one on, however long that took to come; None where the last one came less than
    :data:`STEADY_NS` after it: results come in batches, and of one or two of them no rate can be told."""
    return round((frames - 1) * 1e9 / (last_ns - first_ns), 3) if last_ns - first_ns >= STEADY_NS else None


def ms_since(start_ns: int, at_ns: int) -> float | None:
    """Milliseconds from one monotonic time to another; None where the other has not come."""
    return _ms(at_ns - start_ns) if at_ns else None
