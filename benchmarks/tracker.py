# SPDX-License-Identifier: Apache-2.0
"""What measuring costs: marks on the way of a frame, and taking finished traces apart beside it.

Verified first: what the tracker says of synthetic journeys agrees with numpy. Then CPU time per frame of marking (as
the loops do it, clock included) and of the rest, for live streams, with windows and jitter, the figures of each asked
for once a second as a dashboard does; and how much memory is held after twice as many frames.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import tracemalloc

import numpy as np

from pipeline.ledger import Ledger, StreamLedger
from pipeline.timing import PTS, Mark, new_trace, now_ns, thread_cpu_ns

STREAMS, FPS = 8, 30
MS = 1_000_000


def marked() -> list[int]:
    """What the loops do for one frame: a trace, and the clock read for each mark."""
    trace = new_trace()
    trace[Mark.READ], trace[Mark.DECODED] = now_ns(), now_ns()
    trace[Mark.PREPARE] = now_ns()
    trace[PTS] = round(0.04 * 1e9)
    trace[Mark.PREPARED] = now_ns()
    marks = (now_ns(), max(now_ns(), 0), now_ns(), now_ns(), now_ns(), now_ns())
    trace[Mark.QUEUED : Mark.QUEUED + len(marks)] = marks
    trace[Mark.FOLLOW] = now_ns()
    trace[Mark.FOLLOWED] = now_ns()
    trace[Mark.SINK], trace[Mark.DONE] = now_ns(), now_ns()
    return trace


def journeys(frames: int, seed: int = 0) -> list[list[int]]:
    """Traces of a camera, with log-normal times between marks."""
    gaps = np.random.default_rng(seed).lognormal(13.5, 0.7, (frames, len(Mark) - 1)).astype(np.int64)
    traces = []
    for number, row in enumerate(gaps.tolist()):
        trace = new_trace()
        trace[PTS] = number * 1_000_000_000 // FPS
        trace[Mark.READ] = at = 1_000_000_000 + trace[PTS]
        for mark, gap in zip(list(Mark)[1:], row, strict=True):
            trace[mark] = at = at + gap
        traces.append(trace)
    return traces


def verify(traces: list[list[int]]) -> None:
    """The tracker's percentiles against numpy's."""
    account = StreamLedger("a", live=True)
    for trace in traces:
        account.finished(trace)
    whole = [trace[Mark.DONE] - trace[Mark.READ] for trace in traces]
    found = account.as_dict(0)["end_to_end"]
    for key, percent in (("p50_ms", 50), ("p90_ms", 90), ("p95_ms", 95), ("p99_ms", 99), ("p999_ms", 99.9)):
        exact = float(np.percentile(whole, percent, method="inverted_cdf")) / 1e6
        assert abs(found[key] - exact) <= 0.01 * exact, (key, found[key], exact)
    assert found["mean_ms"] == round(sum(whole) / len(whole) / 1e6, 9)


def feed(ledger: Ledger, traces: list[list[int]], times: int) -> int:
    """``times`` rounds of all traces through every stream; CPU nanoseconds, figures once a second included."""
    began_ns = thread_cpu_ns()
    for number in range(times):
        later = number * (traces[-1][PTS] + 1_000_000_000 // FPS)
        for index, trace in enumerate(traces):
            moved = [at + later for at in trace]
            for account in ledger.streams.values():
                account.arrived(moved[Mark.READ], moved[PTS] / 1e9, 0, False)
                account.published(moved)
                account.finished(moved)
            if index % FPS == 0:
                ledger.recent(moved[Mark.DONE], 60)
    return thread_cpu_ns() - began_ns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="of eight cameras with 30 frames per second")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    verify(journeys(5000))
    rounds = [_timed(marked) for _ in range(5)]
    ledger = Ledger()
    for number in range(STREAMS):
        ledger.add(StreamLedger(f"s{number}", live=True))
    traces = journeys(FPS * 10)
    feed(ledger, traces, 1)  # everything has been seen once
    spent_ns = feed(ledger, traces, options.seconds // 10)
    frames = STREAMS * len(traces) * (options.seconds // 10)
    tracemalloc.start()
    feed(ledger, traces, 14)  # every slot of every window has been filled anew, twice
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    feed(ledger, traces, 14)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    marks_us = min(rounds)
    rest_us = spent_ns / frames / 1e3
    figures = {
        "marks_us_per_frame": round(marks_us, 2),
        "rest_us_per_frame": round(rest_us, 2),
        "of_a_core_percent": round((marks_us + rest_us) * STREAMS * FPS / 1e4, 3),
        "grown_bytes_per_frame": round(grown / (STREAMS * len(traces) * 14), 3),
        "own_account_us_per_frame": ledger.tracker()["us_per_frame"],
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:26} {value}")


def _timed(call: object, calls: int = 20_000) -> float:
    began_ns = time.thread_time_ns()
    for _ in range(calls):
        call()  # type: ignore[operator]
    return (time.thread_time_ns() - began_ns) / calls / 1e3


if __name__ == "__main__":
    main()
