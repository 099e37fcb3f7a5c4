# SPDX-License-Identifier: Apache-2.0
"""The account of every frame: ``decoded = processed + dropped by reason + decimated + in flight``, per stream.

Each count has one writer: the stream's read loop (decoded, decimated, corrupt), the follow loop (processed, dropped).
A run that does not balance at its end is a fault of the program and fails loudly.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from pipeline.host.neighbours import Moment, moment, others
from pipeline.ledger.blocks import together
from pipeline.ledger.busy import Busy
from pipeline.ledger.cost import marking_ns
from pipeline.ledger.course import Course
from pipeline.ledger.folding import MOST_NAMES, folded
from pipeline.ledger.holding import held
from pipeline.ledger.journal import LATELY_NS, BatchRun, Journal, Lately, Lazily
from pipeline.ledger.measured import Measured
from pipeline.ledger.shape import shape
from pipeline.ledger.sinks import SinkLedger
from pipeline.ledger.stats import Latency, of_latencies, of_tally, stats
from pipeline.ledger.streams import StreamLedger, ms_since, steady_fps
from pipeline.ledger.times import StreamTimes
from pipeline.ledger.whole import WholeRun
from pipeline.ledger.windows import SPANS
from pipeline.measures import Histogram
from pipeline.timing import GC_PAUSES, Pause, Pauses, cpu_ns, now_ns

MUCH: Final = 64
"""Traces of all streams that are worth being taken apart together."""
KEPT_UP_NS: Final = 2_500_000_000
"""How old distributions may be where somebody keeps them up."""


class Ledger:
    """The accounts of one run."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamLedger] = {}
        self.sinks: dict[str, SinkLedger] = {}
        self.batch_sizes: Counter[int] = Counter()  # real items per batch; written under the lock
        self.start_ns = 0
        self.begun_ns = 0  # start_ns by this machine's clock, which is another one in a virtual replay
        self.end_ns = 0
        self.cpu_ns = 0  # of the whole process, from start to end
        self._cpu_start_ns = 0
        self._others: float | None = None  # cores that other programs used, likewise; None: not known
        self._machine_start: Moment | None = None
        self._lock = threading.Lock()  # asked for under the locks of streams, so none of theirs under it
        self._batches: Lately[BatchRun] = Lately()
        self._busy = Busy()  # written under the lock
        self._whole: WholeRun | None = None
        self.pauses: Pauses | None = GC_PAUSES  # None on a clock that is not this machine's
        self.on_batch: Callable[[BatchRun], None] = lambda run: None  # told of each batch, by its worker
        self._reached: dict[str, tuple[int, int]] = {}  # by name: its next frame and epoch, if it is begun anew
        self._ended: deque[StreamLedger] = deque()  # lately
        self._kept_up_ns: int | None = None
        # Of the streams that have ended: a run over thousands of files stays small.
        self._settled = Latency()
        self._corrected = Histogram()
        self._course = Course()

    def begin(self, at_ns: int) -> None:
        """The detector is warm, the first source may open."""
        self.start_ns = at_ns
        self.begun_ns = at_ns if self.pauses is not None else now_ns()
        if self.pauses is not None:
            self.pauses.watch()
            self._machine_start = moment()
        self._cpu_start_ns = cpu_ns()

    def end(self, at_ns: int) -> None:
        """The last sink is closed."""
        self.end_ns = at_ns
        self.cpu_ns = cpu_ns() - self._cpu_start_ns
        self._others = others(self._machine_start, moment())

    def keep_all(self) -> None:
        """Remember what happens not for some seconds only: it is to be written into a file. Before anything runs."""
        self._whole = WholeRun()
        self._batches.keep_more()
        for sink in self.sinks.values():
            sink.writes.keep_more()

    def journal(self, since_ns: int) -> Journal:
        """What ended after ``since_ns`` (monotonic), as far as it is remembered: for :data:`LATELY_NS`, or after
        :meth:`keep_all` the newest of the whole run."""
        journeys = {name: stream.times.newest(since_ns) for name, stream in list(self.streams.items())}
        left_out = 0
        if self._whole is not None:
            since_ns = max(since_ns, self._whole.since_ns())  # all tracks begin at the same time
            journeys, left_out = self._whole.journeys(since_ns), self._whole.left_out
        return Journal(
            journeys,
            self._batches.since(since_ns),
            {name: sink.writes.since(since_ns) for name, sink in self.sinks.items()},
            [pause for pause in self._paused(since_ns) if not self.end_ns or pause.began_ns < self.end_ns],
            left_out=left_out,
        )

    def around(self, since_ns: int) -> Journal:
        """The same for whoever takes the times of one stream apart: it takes nobody else's apart, nor any lock but the
        ledger's own."""
        sizes, streams = self.batches(), dict(self.streams)
        return Journal(
            Lazily(
                [name for name, stream in streams.items() if stream.last_result_ns > since_ns],
                lambda name: streams[name].times.glance(since_ns),
            ),
            self._batches.since(since_ns),
            {name: sink.writes.since(since_ns) for name, sink in self.sinks.items()},
            self._paused(since_ns),
            _median(sizes),
        )

    def _paused(self, since_ns: int) -> list[Pause]:
        return [] if self.pauses is None else self.pauses.since(since_ns)

    def add(self, account: StreamLedger) -> None:
        """Keep a stream's account. An earlier life of the same name stays, under ``name~1``, ``name~2``, ..."""
        earlier = self.streams.get(account.name)
        if earlier is not None:  # begun anew: the stream has been without a result since then
            account.awaited_ns = earlier.last_result_ns or earlier.awaited_ns
            account.life.told.update(earlier.life.told)  # why it was begun anew is among them
        self.retire(account.name)
        account.first_frame, account.first_epoch = self._reached.get(account.name, (0, 0))
        if self._whole is not None:
            account.times.keep_in(self._whole)
        account.times.watch(account.budget_ns, self.around)
        self.streams[account.name] = account

    def retire(self, name: str) -> None:
        """The stream of that name is one that was: its account stays as an earlier life, unless it never ran."""
        earlier = self.streams.pop(name, None)
        if earlier is not None and earlier.decoded:
            self._reached.pop(name, None)  # so that the name that was begun anew last is the last
            self._reached[name] = earlier.first_frame + earlier.decoded, earlier.epoch + 1
            while len(self._reached) > MOST_NAMES:
                del self._reached[next(iter(self._reached))]
        if earlier is not None and not earlier.is_faulty:
            lives = [int(key.rpartition("~")[2]) for key in self.streams if key.startswith(f"{name}~")]
            self.streams[f"{name}~{max(lives, default=0) + 1}"] = earlier
            earlier.times.forget()
            self.streams = folded(self.streams)

    def batch(self, run: BatchRun) -> None:
        """A detect worker finished a batch."""
        with self._lock:
            self.batch_sizes[run.items] += 1
            self._batches.add(run)
            self._busy.add(run)
        self.on_batch(run)

    def batches(self) -> dict[int, int]:
        """How many batches of each size there were so far."""
        with self._lock:
            return dict(sorted(self.batch_sizes.items()))

    def busy_ns(self) -> int:
        """Time with a batch under way so far, of all detect workers together."""
        with self._lock:
            return self._busy.spent_ns.total()

    def settle(self, account: StreamLedger) -> None:
        """A stream has ended and its last frame has left the last sink."""
        with account.times.lock:  # whoever adds up finds its frames there or in the total, not in neither
            long_ago = self._add_to_total(account, account.settle())
        for ended in long_ago:  # without the lock, which is asked for under those of streams
            ended.times.let_go()

    def _add_to_total(self, account: StreamLedger, measured: Measured) -> list[StreamLedger]:
        """Keep what it gave away; returns streams that ended long ago."""
        moved_ns = _moved_ns(account)
        long_ago = [] if moved_ns else [account]
        with self._lock:
            if moved_ns:
                self._ended.append(account)
            while self._ended and _moved_ns(self._ended[0]) < moved_ns - LATELY_NS:
                long_ago.append(self._ended.popleft())
            account.in_total = True
            self._settled.merge(measured.latency)
            self._course.merge(measured.course)
            if measured.corrected is not None:
                self._corrected.merge(measured.corrected)
        return long_ago

    def unbalanced(self) -> dict[str, int]:
        """Streams with frames unaccounted for, and how many; empty at the end of a sound run."""
        return {name: stream.in_flight for name, stream in self.streams.items() if stream.in_flight}

    def account_for_shutdown(self) -> None:
        """After an abort: frames that were under way are dropped by the shutdown. All loops have ended."""
        for stream in self.streams.values():
            stream.lost_by_shutdown()

    def as_dict(self, at_ns: int = 0) -> dict[str, Any]:
        """The measured part of ``report.json``; while it runs, the figures up to ``at_ns`` (monotonic)."""
        running = bool(at_ns and self.start_ns and not self.end_ns)
        cpu_so_far_ns = cpu_ns() - self._cpu_start_ns if running else self.cpu_ns
        taken = others(self._machine_start, moment()) if running else self._others
        streams = dict(self.streams)  # more may be added meanwhile
        frames = sum(stream.processed for stream in streams.values())
        until_ns = at_ns if running else self.end_ns
        wall_s = max(0, until_ns - self.start_ns) / 1e9
        first_ns = min((s.first_result_ns for s in streams.values() if s.first_result_ns), default=0)
        accounts = list(streams.values())
        with self.held(accounts, at_ns) if running else held(accounts):
            found = StreamTimes.measured_of([account.times for account in accounts], until_ns)
            measured = dict(zip(streams, found, strict=True))
            told = {
                name: stream.as_dict(self.start_ns, final=bool(self.end_ns), at_ns=until_ns, measured=measured[name])
                | stream.shape(self.start_ns, measured[name])
                for name, stream in streams.items()
            }
            total = self._total(list(zip(accounts, found, strict=True)))
        sizes = self.batches()
        batches = sum(sizes.values())
        items = sum(size * count for size, count in sizes.items())
        return {
            "wall_s": round(wall_s, 6),
            "cpu_s": round(cpu_so_far_ns / 1e9, 3),
            "others_cores": None if taken is None else round(taken, 3),
            "frames": frames,
            "fps": round(frames / wall_s, 3) if wall_s > 0 else 0.0,
            "steady_fps": steady_fps(frames, first_ns, max((s.last_result_ns for s in streams.values()), default=0)),
            "first_result_ms": ms_since(self.start_ns, first_ns),
            "batches": {
                "count": batches,
                "mean_size": round(items / batches, 4) if batches else None,
                "sizes": {str(size): count for size, count in sizes.items()},
            },
            "busy_s": {
                "workers": self._busy.as_dict(),
                "sinks": {name: round(sink.busy_ns / 1e9, 6) for name, sink in self.sinks.items()},
            },
            "streams": told,
            "sinks": {name: sink.as_dict() for name, sink in self.sinks.items()},
            "total": total,
            "tracker": self.tracker(until_ns),
        }

    def keep_up(self, now_ns: int) -> None:
        """Take apart what all streams left behind, so that who asks within :data:`KEPT_UP_NS` need not."""
        with held(list(self.streams.values())):
            self._kept_up_ns = now_ns

    def catch_up(self, *, late: bool = False) -> None:
        """Take apart what has finished, of all streams at once, where it is much; with ``late`` also where a frame
        among it is late. For who waits for something else, so that nobody has to who is on the way of a frame."""
        accounts = [one for name, one in list(self.streams.items()) if name == one.name and not one.over]
        if sum(one.times.left for one in accounts) >= MUCH or (late and any(one.times.has_late for one in accounts)):
            with held(accounts):
                pass

    def held(self, accounts: Sequence[StreamLedger], now_ns: int) -> AbstractContextManager[None]:
        """For an answer at ``now_ns`` about ``accounts``: see :func:`pipeline.ledger.holding.held`. Counts, states and
        ages are as they are; distributions may be :data:`KEPT_UP_NS` old where they are kept up."""
        return held(accounts, anew=self._kept_up_ns is None or now_ns - self._kept_up_ns > KEPT_UP_NS)

    def recent(self, now_ns: int, span_s: int = 60) -> dict[str, Any]:
        """What all streams together were like within the last ``span_s`` seconds (10 or 60) up to ``now_ns``; see
        :meth:`pipeline.ledger.streams.StreamLedger.recent`. It costs about 1 ms per 10 streams: ask once a second."""
        accounts = list(self.streams.values())
        with held(accounts):
            return of_tally(together(account.times.recent(span_s, now_ns) for account in accounts))

    def tracker(self, until_ns: int) -> dict[str, Any]:
        """What all this measuring costs, by its own account, up to ``until_ns``: ``tracker`` in ``report.json``.

        ``cpu_ms`` and ``us_per_frame`` are of taking traces apart, ``marks_us_per_frame`` of what is done on the way of
        a frame (:mod:`pipeline.ledger.cost`), ``core_percent`` of both. What is done to answer those who ask for
        figures is not in it.
        """
        streams = list(self.streams.values())
        frames, spent_ns = sum(one.times.frames for one in streams), sum(one.measuring_ns for one in streams)
        whole_ns = spent_ns + frames * marking_ns()
        wall_ns = until_ns - self.start_ns
        return {
            "frames": frames,
            "cpu_ms": round(spent_ns / 1e6, 3),
            "us_per_frame": round(spent_ns / frames / 1e3, 3) if frames else None,
            "marks_us_per_frame": round(marking_ns() / 1e3, 3),
            "core_percent": round(100 * whole_ns / wall_ns, 4) if wall_ns > 0 else None,
        }

    def _total(self, streams: Sequence[tuple[StreamLedger, Measured]]) -> dict[str, Any]:
        total, corrected, course = Latency(), Histogram(), Course()
        with self._lock:
            total.merge(self._settled)
            corrected.merge(self._corrected)
            course.merge(self._course)
            running = [measured for stream, measured in streams if not stream.in_total]  # some ended since the copy
        for measured in running:
            total.merge(measured.latency)
            course.merge(measured.course)
            found = measured.corrected
            if found is not None:
                corrected.merge(found)
        lately = {span_s: together(measured.windows[span_s] for _, measured in streams) for span_s in SPANS}
        (figures,), (distributions,) = of_latencies([total])
        return figures | {
            "end_to_end_corrected": stats(corrected),
            "windows": {f"{span_s}s": of_tally(tally) for span_s, tally in lately.items()},
            **shape(distributions, course, self.start_ns),
        }


def _moved_ns(account: StreamLedger) -> int:
    """When its last frame came or its last result went; 0 where there never was one."""
    return max(account.last_frame_ns, account.last_result_ns)


def _median(sizes: dict[int, int]) -> int:
    """Of the sizes of batches, counted by size, ascending; 0 where there are none."""
    left = (sum(sizes.values()) + 1) // 2
    for size, count in sizes.items():
        left -= count
        if left <= 0:
            return size
    return 0
