# SPDX-License-Identifier: Apache-2.0
"""What an answer of the HTTP server costs the thread that makes it: CPU by thread time, so it holds beside other work.

Nothing is decoded and no network runs: the frames of two minutes are made up (test cameras, one frame in ten lost, one
in fifty late) and put into the accounts. Then each answer is made again and again: after some seconds of news
(``cold``), and once more at once, as it is where distributions are kept up (``kept up``).

    python -m benchmarks.answers [--streams 8] [--fps 15] [--rounds 10] [--profile report]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipeline.frame import SourceCounters, StreamInfo
from pipeline.ledger import BatchRun, Ledger, StreamLedger, held
from pipeline.metrics import exposition
from pipeline.report import compose
from pipeline.timing import FRAME, PTS, Mark, new_trace, thread_cpu_ns
from pipeline.web.answers import written
from pipeline.web.describe import overview, stream
from pipeline.web.history import History

MS, S = 1_000_000, 1_000_000_000
MINUTES = 2
NEWS_S = 2.3
USUAL_MS = (0.2, 0.05, 1.5, 5.0, 0.05, 20.0, 0.02, 0.02, 0.1, 30.0, 0.6, 0.1, 0.2, 0.0, 0.3, 0.2)
"""What a frame usually takes from each mark to the next."""
LATE = 0.02
LATE_MS = 150.0
LOST = 0.1


class Run:
    """Accounts of cameras that were never there. It has what the metrics ask of a daemon."""

    reload_succeeded = True
    reloads: Mapping[str, int] = {"done": 0, "refused": 0}

    def __init__(self, streams: int, fps: float, seed: int = 1) -> None:
        self.ledger = Ledger()
        self.ledger.pauses = None
        self.ledger.begin(S)
        self.history = History()
        self.now_ns = S
        self._fps = fps
        self._frames = 0
        self._random = np.random.default_rng(seed)
        for number in range(streams):
            account = StreamLedger(f"s{number}", source=f"rtsp://10.0.0.{number}/", live=True)
            self.ledger.add(account)
            account.opened(StreamInfo(account.name, 640, 360, fps, live=True), SourceCounters(), S)

    def facts(self) -> dict[str, Any]:
        return {"command": "run", "model": {"path": "m.pt", "device": "cpu", "workers": 2}, "startup_s": {}}

    def waiting(self) -> dict[str, int]:
        return {}

    def goes_on(self, seconds: float) -> None:
        """Frames of all streams, with an interval of theirs between two."""
        frames = max(1, round(seconds * self._fps))
        accounts = list(self.ledger.streams.values())
        for number in range(self._frames, self._frames + frames):
            for place, account in enumerate(accounts):
                self._frame(account, number, round(number * S / self._fps) + place * 3 * MS)
        self._frames += frames
        self.now_ns = S + round(self._frames * S / self._fps) + 300 * MS

    def _frame(self, account: StreamLedger, number: int, pts_ns: int) -> None:
        took_ms = self._random.lognormal(0, 0.4, len(USUAL_MS)) * USUAL_MS
        late, lost, delay = self._random.random(3)
        if late < LATE:
            took_ms[self._random.integers(len(USUAL_MS))] += LATE_MS
        trace = new_trace()
        trace[PTS], trace[FRAME] = pts_ns, number
        trace[: len(Mark)] = (S + pts_ns + np.cumsum([delay * 4, *took_ms]) * MS).astype(np.int64).tolist()
        trace[Mark.PLAYED] = 0  # there is no playout delay
        account.arrived(trace[Mark.READ], pts_ns / S, 0, False, (640, 360))
        if lost < LOST:
            trace[Mark.COLLECT : len(Mark)] = [0] * (len(Mark) - Mark.COLLECT)
            account.lost("stale", trace)
            return
        times = trace[Mark.INFER], trace[Mark.INFERRED], trace[Mark.PARSED]
        self.ledger.batch(BatchRun("detect:0", number, 4, *times))
        account.published(trace, 1)
        account.finished(trace)

    def answers(self) -> dict[str, Callable[[], object]]:
        """How each is made, by route."""
        ledger, history = self.ledger, self.history

        def taken_apart() -> None:
            with held(list(ledger.streams.values())):
                pass

        def one() -> bytes:
            return written(stream(ledger, ledger.streams["s0"], self.waiting(), history, self.now_ns))

        return {
            "news": taken_apart,
            "/api/streams": lambda: written(overview(ledger, self.facts(), self.waiting(), history, self.now_ns)),
            "/api/streams/s0": one,
            "/metrics": lambda: exposition(self, self.now_ns),
            "/api/report": lambda: written(compose(ledger.as_dict(self.now_ns), self.facts())),
        }


def a_run(streams: int, fps: float, minutes: float = MINUTES) -> Run:
    """Of so many minutes."""
    run = Run(streams, fps)
    for _ in range(round(minutes * 12)):
        run.goes_on(5)
        run.history.sample(run.ledger, run.now_ns)
    return run


def cpu_ms(make: Callable[[], object]) -> float:
    """What one answer costs."""
    began_ns = thread_cpu_ns()
    make()
    return (thread_cpu_ns() - began_ns) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--fps", type=float, default=15.0, help="frames per second of each stream")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--profile", metavar="ROUTE", help="show what this answer, kept up, spends its time on")
    options = parser.parse_args()
    run = a_run(options.streams, options.fps)
    if options.profile:
        make = run.answers()[options.profile]
        make()
        profile = cProfile.Profile(thread_cpu_ns, 1e-9)
        for _ in range(options.rounds):
            profile.runcall(make)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    print(f"{options.streams} streams; ms of CPU{'cold':>9}{'kept up':>10}")
    for route, make in run.answers().items():
        cold, kept_up = [], []
        for _ in range(options.rounds):
            run.goes_on(NEWS_S)
            cold.append(cpu_ms(make))
            kept_up.append(cpu_ms(make))
        print(f"{route:20}{statistics.median(cold):12.1f}{statistics.median(kept_up):10.1f}", flush=True)


if __name__ == "__main__":
    main()
