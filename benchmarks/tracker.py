# SPDX-License-Identifier: Apache-2.0
"""What measuring costs a frame: on its way, and in all.

Verified first: on synthetic journeys all figures of every part are numpy's, percentiles within 1 %, sums exact, over
the whole run and lately. Then CPU time, of live streams with windows and jitter:

- **on the way** of a frame: its trace, the clock for each mark, the frame counted where it arrives, is published and
  ends, and what finished left behind; nothing is taken apart there;
- **beside** it: traces taken apart, late ones explained, and the figures of all streams for the last minute, as often
  as the daemon looks for late frames. In between other data goes through the cache, as in a daemon.

And what is held in memory, again and again, after so many further frames.

    python -m benchmarks.tracker --expect 'way<=5' 'all<=25' 'core<=1'
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tracemalloc

import numpy as np

from benchmarks.expectations import unmet
from pipeline.daemon.late import EVERY_NS
from pipeline.ledger import BatchRun, Ledger, SinkLedger, StreamLedger, Write
from pipeline.ledger.blocks import SERIES, Block
from pipeline.timing import FRAME, PARTS, PTS, Mark, new_trace, now_ns, thread_cpu_ns

MS, S = 1_000_000, 1_000_000_000
LATE, LATE_NS = 0.03, 100 * MS
"""So many frames wait longer in the decoder, by so much on average, and have to be explained: as with B-frames."""
DECODER = PARTS.index("decoder")
"""The mark at which the wait for frames that are shown before ends, which makes them late."""
OTHER_BYTES = 64 << 20
"""What goes through the cache between two looks."""
PERCENTS = {"p50_ms": 50, "p90_ms": 90, "p95_ms": 95, "p99_ms": 99, "p999_ms": 99.9, "max_ms": 100}


def marked() -> list[int]:
    """What the loops do for one frame: a trace, and the clock read for each mark."""
    trace = new_trace()
    trace[Mark.READ], trace[Mark.DECODED] = now_ns(), now_ns()
    trace[Mark.PREPARE] = now_ns()
    trace[PTS] = round(0.04 * 1e9)
    trace[Mark.PREPARED] = now_ns()
    marks = (now_ns(), max(now_ns(), 0), now_ns(), 0, 0, now_ns(), now_ns(), now_ns())
    trace[Mark.QUEUED : Mark.QUEUED + len(marks)] = marks
    trace[Mark.FOLLOW] = now_ns()
    trace[Mark.FOLLOWED] = now_ns()
    trace[Mark.SINK], trace[Mark.DONE] = now_ns(), now_ns()
    return trace


def journeys(first: int, frames: int, fps: int) -> list[list[int]]:
    """Traces of a camera from its ``first`` frame on, with log-normal times between marks, and late ones among them."""
    random = np.random.default_rng(first)
    gaps = random.lognormal(13.5, 0.7, (frames, len(Mark) - 1)).astype(np.int64)
    gaps[:, DECODER - 1] += np.where(random.random(frames) < LATE, random.exponential(LATE_NS, frames), 0).astype(int)
    traces = []
    for number, row in enumerate(gaps.tolist(), first):
        trace = new_trace()
        trace[PTS], trace[FRAME] = number * S // fps, number
        trace[Mark.READ] = at = S + trace[PTS]
        for mark, gap in zip(list(Mark)[1:], row, strict=True):
            trace[mark] = at = at + gap
        traces.append(trace)
    return traces


def verify() -> None:
    """The tracker's figures against numpy's."""
    traces = journeys(0, 5000, 30)
    account = StreamLedger("a", live=True)
    for trace in traces:
        account.finished(trace)
    now = traces[-1][Mark.DONE]
    block = Block(traces)
    lately = block.ended_ns // S > now // S - 60
    report = account.as_dict(0, at_ns=now)
    for figures, rows in ((report, np.full(len(traces), True)), (report["windows"]["60s"], lately)):
        known = {**figures["stages"], **figures["waits"], "end_to_end": figures["end_to_end"]}
        for number, series in enumerate(SERIES):
            took = block.durations[rows, number]
            found = known[series]
            for key, percent in PERCENTS.items():
                exact = float(np.percentile(took, percent, method="inverted_cdf")) / 1e6
                assert abs(found[key] - exact) <= 0.01 * exact, (series, key, found[key], exact)
            assert (found["count"], found["mean_ms"]) == (len(took), round(int(took.sum()) / len(took) / 1e6, 9))
    total = sum(stage["mean_ms"] for stage in report["stages"].values())
    assert abs(total - report["end_to_end"]["mean_ms"]) < 1e-6


class Cameras:
    """Accounts of cameras, fed second by second.

    Attributes:
        way_ns, beside_ns: CPU time on the way of the frames so far, without that of the marks, and beside it.
        frames: how many there were.
    """

    def __init__(self, streams: int, fps: int) -> None:
        self.ledger = Ledger()
        self.ledger.sinks["jsonl"] = SinkLedger("jsonl")
        for number in range(streams):
            self.ledger.add(StreamLedger(f"s{number}", live=True))
        self._fps = fps
        self._second = 0
        self._others = np.zeros(OTHER_BYTES, np.uint8)
        self.way_ns = self.beside_ns = self.frames = 0

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            traces = journeys(self._second * self._fps, self._fps, self._fps)
            self._second += 1
            copies = [[trace.copy() for _ in self.ledger.streams] for trace in traces]
            began_ns = thread_cpu_ns()
            for each in copies:
                for trace, account in zip(each, self.ledger.streams.values(), strict=True):
                    account.arrived(trace[Mark.READ], trace[PTS] / 1e9, 0, False)
                    account.published(trace)
                    account.finished(trace)
            self.way_ns += thread_cpu_ns() - began_ns
            self.frames += len(traces) * len(self.ledger.streams)
            self._note(traces)
            if self._second % (EVERY_NS // S) == 0:
                self._look(traces[-1][Mark.DONE])

    def _look(self, now_ns: int) -> None:
        """What the daemon does now and then, and who asks for the last minute."""
        self._others += 1
        began_ns = thread_cpu_ns()
        self.ledger.catch_up(late=True)
        self.ledger.recent(now_ns, 60)
        self.beside_ns += thread_cpu_ns() - began_ns

    def _note(self, traces: list[list[int]]) -> None:
        """Batches and writes: what late frames are explained by."""
        writes = self.ledger.sinks["jsonl"].writes
        for number, trace in enumerate(traces):
            times = (trace[Mark.INFER], trace[Mark.INFERRED], trace[Mark.PARSED])
            self.ledger.batch(BatchRun("detect:0", number, len(self.ledger.streams), *times))
            for name in self.ledger.streams:
                writes.add(Write(trace[Mark.SINK], trace[Mark.DONE], name, trace[FRAME]))


def measure(streams: int, fps: int, seconds: int) -> dict[str, float]:
    marks_us = min(_timed() for _ in range(5))
    Cameras(streams, fps).run(66)  # everything has been seen once
    cameras = Cameras(streams, fps)
    cameras.run(66)  # the last minute is full
    cameras.way_ns = cameras.beside_ns = cameras.frames = 0
    cameras.run(seconds)
    own = cameras.ledger.tracker(0)
    way_us = marks_us + cameras.way_ns / cameras.frames / 1e3
    all_us = way_us + cameras.beside_ns / cameras.frames / 1e3
    return {
        "marks": marks_us,
        "way": way_us,
        "all": all_us,
        "core": all_us * streams * fps / 1e4,
        "own_way": own["marks_us_per_frame"],
        "own_apart": own["us_per_frame"],
    }


def held(streams: int, fps: int, seconds: int, times: int = 4) -> list[float]:
    """Mebibytes held after each of so many times ``seconds`` further seconds."""
    cameras = Cameras(streams, fps)
    found = []
    tracemalloc.start()
    for _ in range(times + 1):
        cameras.run(seconds)
        cameras.ledger.recent(0, 60)
        gc.collect()
        found.append(tracemalloc.get_traced_memory()[0] / 2**20)
    tracemalloc.stop()
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--expect", nargs="+", default=[], metavar="NAME<=NUMBER")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    verify()
    figures = measure(options.streams, options.fps, options.seconds)
    memory = held(options.streams, options.fps, 70)
    figures |= {"memory": memory[-1], "grown": memory[-1] - memory[0]}
    faults = [fault for wanted in options.expect if (fault := unmet(figures, wanted, LABELS)) is not None]
    if options.json:
        print(json.dumps({"options": vars(options), "figures": figures, "held_mib": memory, "faults": faults}))
    else:
        print(f"{options.streams} cameras of {options.fps} frames per second; figures are those of numpy")
        for name, (label, unit) in LABELS.items():
            print(f"  {label:<64} {figures[name]:8.3f}{unit}")
        print(f"  held after each further 70 s, MiB: {', '.join(f'{each:.3f}' for each in memory)}")
        for fault in faults:
            print(f"NOT MET  {fault}")
    sys.exit(bool(faults))


LABELS = {
    "marks": ("marks alone", " us"),
    "way": ("on the way of a frame, marks included", " us"),
    "all": ("in all, the last minute asked for at every look", " us"),
    "core": ("of a core", " %"),
    "own_way": ("by its own account: on the way", " us"),
    "own_apart": ("by its own account: taking apart", " us"),
    "memory": ("memory held in the end", " MiB"),
    "grown": ("of that since the first time", " MiB"),
}


def _timed(calls: int = 20_000) -> float:
    began_ns = thread_cpu_ns()
    for _ in range(calls):
        marked()
    return (thread_cpu_ns() - began_ns) / calls / 1e3


if __name__ == "__main__":
    main()
