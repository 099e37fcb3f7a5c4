# SPDX-License-Identifier: Apache-2.0
"""The account of every frame: ``decoded = processed + dropped by reason + decimated + in flight``, per stream.

Each count has one writer: the stream's read loop (decoded, decimated, corrupt), the follow loop (processed, dropped).
A run that does not balance at its end is a fault of the program and fails loudly.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import Cause
from pipeline.events import Condition, StreamState
from pipeline.frame import SourceCounters, StreamInfo
from pipeline.ledger.lifecycle import ENDED, Lifecycle
from pipeline.ledger.stats import Latency
from pipeline.timing import IntervalJitter, Mark, TransitJitter, cpu_ns, now_ns

SinkState = Literal["ok", "degraded", "failed"]

FROZEN_NS = 30_000_000_000
"""The same picture for so long is no picture of anything that goes on: no sensor is without noise."""


class StreamLedger:
    """Everything that is counted and timed about one stream."""

    def __init__(self, name: str, *, source: str = "", live: bool = False, paced: bool = False) -> None:
        """``source`` is what people are shown: a path, or an address without credentials."""
        self.name = name
        self.source = source
        self.life = Lifecycle(name, StreamInfo(name, live=live))
        self.paced = paced or live
        self.awaited_ns = now_ns()  # since when a result is waited for, if there is none
        self.is_faulty = False  # nobody ever read it: see faulty()
        self.counters = SourceCounters()
        # Written by the read loop
        self.decoded = 0
        self.decimated = 0
        self.corrupt = 0
        self.opened_ns = 0
        self.last_frame_ns = 0
        self._arrival = TransitJitter()
        self._arrival_epoch = 0
        # Written by the follow loop
        self.processed = 0
        self.dropped: Counter[str] = Counter()
        self.first_result_ns = 0
        self.last_result_ns = 0
        self._departure = IntervalJitter()
        # Written under the lock by whichever sink finishes a frame last
        self._lock = threading.Lock()
        self._latency = Latency()
        self._settled: dict[str, Any] | None = None

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
        """Nobody reads it any more."""
        return self.life.closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self.life.closed = closed

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
        self.corrupt += corrupt
        self.last_frame_ns = read_ns
        self.life.arrived(read_ns, epoch, self.decoded, size, self.counters.discontinuities)
        if self.paced:
            if epoch != self._arrival_epoch:
                self._arrival.reset()
                self._arrival_epoch = epoch
            self._arrival.record(read_ns, round(pts_s * 1e9))

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

    def published(self, trace: list[int]) -> None:
        """The follow loop made a result of a frame."""
        at_ns = trace[Mark.FOLLOWED]
        self.processed += 1
        self.first_result_ns = self.first_result_ns or at_ns
        self.last_result_ns = at_ns
        self._departure.record(at_ns)

    def finished(self, trace: list[int]) -> None:
        """A published frame has left its last sink."""
        with self._lock:
            self._latency.record(trace)

    @property
    def over(self) -> bool:
        """The stream has ended, and its last frame, if it had any, has left the last sink."""
        return self.closed and (self._settled is not None or not self.opened_ns)

    @property
    def in_flight(self) -> int:
        """Frames decoded but not accounted for yet; 0 at the end of every run."""
        return self.decoded - self.decimated - self.processed - self.dropped.total()

    @property
    def still_ns(self) -> int:
        """For how long all frames have shown the same picture; 0 where nobody looks."""
        since_ns = self.counters.still_since_ns
        return max(0, self.last_frame_ns - since_ns) if since_ns else 0

    @property
    def arrival_jitter_ns(self) -> float | None:
        """Jitter of the arrivals (RFC 3550, section 6.4.1), or None where frames are not paced."""
        return self._arrival.value_ns if self.paced else None

    @property
    def departure_jitter_ns(self) -> float | None:
        """Standard deviation of the intervals between results."""
        return self._departure.value_ns

    @property
    def settled(self) -> dict[str, Any] | None:
        """The distributions' figures once the last frame has left the last sink, as in ``report.json``."""
        return self._settled

    def latency(self) -> Latency:
        """A copy of the distributions so far; empty once settled."""
        copy = Latency()
        with self._lock:
            copy.merge(self._latency)
        return copy

    def settle(self) -> Latency:
        """All frames have left all sinks: keep the figures, give away the distributions."""
        with self._lock:
            latency, self._latency = self._latency, Latency()
            self._settled = latency.as_dict()
        return latency

    def as_dict(self, start_ns: int, *, final: bool = True) -> dict[str, Any]:
        """This stream's part of ``report.json``.

        Before the run's end (not ``final``) a recording that was read to its end is ``live`` until the last sink has
        finished it.
        """
        under_way = not final and self.state == "finished" and self._settled is None
        span_s = (self.last_result_ns - self.opened_ns) / 1e9 if self.last_result_ns else 0.0
        return {
            "source": self.source or None,
            "state": "live" if under_way else self.state,
            "error": self.error,
            "frames": {
                "decoded": self.decoded,
                "processed": self.processed,
                "dropped": dict(sorted(self.dropped.items())),
                "decimated": self.decimated,
                "corrupt": self.corrupt,
                "decode_errors": self.counters.decode_errors,
                "skipped": self.counters.skipped,
            },
            "reconnects": self.counters.reconnects,
            "discontinuities": self.counters.discontinuities,
            "param_changes": self.life.param_changes,
            "stalls": self.life.stalls,
            "fps": round(self.processed / span_s, 3) if span_s > 0 else None,
            "first_result_ms": _ms_since(start_ns, self.first_result_ns),
            **(self._settled or self.latency().as_dict()),
            "jitter": {
                "arrival_ms": _ms(self.arrival_jitter_ns),
                "departure_ms": _ms(self.departure_jitter_ns),
            },
        }


@dataclass(slots=True)
class SinkLedger:
    """What one sink was given and what became of it. Lost is counted by reason.

    Attributes:
        received: results that were meant for it.
        written: results that it kept.
        events_received, events_written, events_lost: the same for events of streams, where the sink wants them.
        faults: times that a stream could not be begun or ended, or the sink not closed: results that counted as
            written may be missing then.
        state: ``ok``; ``degraded`` (the last write failed, it is tried again); ``failed`` (detached for good).
    """

    name: str
    received: int = 0
    written: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    events_received: int = 0
    events_written: int = 0
    events_lost: int = 0
    faults: int = 0
    state: SinkState = "ok"
    error: str | None = None

    @property
    def lost_data(self) -> bool:
        """Whether anything that was meant for it is, or may be, missing."""
        return bool(self.lost or self.events_lost or self.faults) or self.state == "failed"

    @property
    def served(self) -> bool:
        """It is done with everything that was meant for it."""
        events = self.events_received == self.events_written + self.events_lost
        return events and self.received == self.written + self.lost.total()

    def as_dict(self) -> dict[str, Any]:
        """This sink's part of ``report.json``."""
        return {
            "received": self.received,
            "written": self.written,
            "lost": dict(sorted(self.lost.items())),
            "events": {
                "received": self.events_received,
                "written": self.events_written,
                "lost": self.events_lost,
            },
            "faults": self.faults,
            "state": self.state,
            "error": self.error,
        }


class Ledger:
    """The accounts of one run."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamLedger] = {}
        self.sinks: dict[str, SinkLedger] = {}
        self.batch_sizes: Counter[int] = Counter()  # real items per batch; written under the lock
        self.start_ns = 0
        self.end_ns = 0
        self.cpu_ns = 0  # of the whole process, from start to end
        self._cpu_start_ns = 0
        self._lock = threading.Lock()
        self._settled = Latency()  # of the streams that have ended: a run over thousands of files stays small

    def begin(self, at_ns: int) -> None:
        """The detector is warm, the first source may open."""
        self.start_ns = at_ns
        self._cpu_start_ns = cpu_ns()

    def end(self, at_ns: int) -> None:
        """The last sink is closed."""
        self.end_ns = at_ns
        self.cpu_ns = cpu_ns() - self._cpu_start_ns

    def add(self, account: StreamLedger) -> None:
        """Keep a stream's account. An earlier life of the same name stays, under ``name~1``, ``name~2``, ..."""
        earlier = self.streams.get(account.name)
        if earlier is not None:  # begun anew: the stream has been without a result since then
            account.awaited_ns = earlier.last_result_ns or earlier.awaited_ns
            account.life.told.update(earlier.life.told)  # why it was begun anew is among them
        self.retire(account.name)
        self.streams[account.name] = account

    def retire(self, name: str) -> None:
        """The stream of that name is one that was: its account stays as an earlier life, unless it never ran."""
        earlier = self.streams.pop(name, None)
        if earlier is not None and not earlier.is_faulty:
            lives = sum(other.startswith(f"{name}~") for other in self.streams)
            self.streams[f"{name}~{lives + 1}"] = earlier

    def batch(self, items: int) -> None:
        """A detect worker finished a batch of ``items`` items."""
        with self._lock:
            self.batch_sizes[items] += 1

    def batches(self) -> dict[int, int]:
        """How many batches of each size there were so far."""
        with self._lock:
            return dict(sorted(self.batch_sizes.items()))

    def settle(self, account: StreamLedger) -> None:
        """A stream has ended and its last frame has left the last sink."""
        with self._lock:
            self._settled.merge(account.settle())

    def unbalanced(self) -> dict[str, int]:
        """Streams with frames unaccounted for, and how many; empty at the end of a sound run."""
        return {name: stream.in_flight for name, stream in self.streams.items() if stream.in_flight}

    def account_for_shutdown(self) -> None:
        """After an abort: frames that were under way are dropped by the shutdown. All loops have ended."""
        for stream in self.streams.values():
            if stream.in_flight > 0:
                stream.dropped["shutdown"] += stream.in_flight
            if stream.state not in ENDED:
                stream.state = "stopped"

    def as_dict(self, at_ns: int = 0) -> dict[str, Any]:
        """The measured part of ``report.json``; while it runs, the figures up to ``at_ns`` (monotonic)."""
        running = bool(at_ns and self.start_ns and not self.end_ns)
        cpu_so_far_ns = cpu_ns() - self._cpu_start_ns if running else self.cpu_ns
        total = Latency()
        with self._lock:
            total.merge(self._settled)
        streams = dict(self.streams)  # more may be added meanwhile
        for stream in streams.values():
            total.merge(stream.latency())
        frames = sum(stream.processed for stream in streams.values())
        wall_s = max(0, (at_ns if running else self.end_ns) - self.start_ns) / 1e9
        first_ns = min((s.first_result_ns for s in streams.values() if s.first_result_ns), default=0)
        sizes = self.batches()
        batches = sum(sizes.values())
        items = sum(size * count for size, count in sizes.items())
        return {
            "wall_s": round(wall_s, 6),
            "cpu_s": round(cpu_so_far_ns / 1e9, 3),
            "frames": frames,
            "fps": round(frames / wall_s, 3) if wall_s > 0 else 0.0,
            "first_result_ms": _ms_since(self.start_ns, first_ns),
            "batches": {
                "count": batches,
                "mean_size": round(items / batches, 4) if batches else None,
                "sizes": {str(size): count for size, count in sizes.items()},
            },
            "streams": {
                name: stream.as_dict(self.start_ns, final=bool(self.end_ns)) for name, stream in streams.items()
            },
            "sinks": {name: sink.as_dict() for name, sink in self.sinks.items()},
            "total": total.as_dict(),
        }


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None else round(value_ns / 1e6, 6)


def _ms_since(start_ns: int, at_ns: int) -> float | None:
    return _ms(at_ns - start_ns) if at_ns else None
