# SPDX-License-Identifier: Apache-2.0
"""The proof: the pipeline of the daemon on copies that play the part of the cameras, and what is measured of it."""

from __future__ import annotations

import random
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline import build
from pipeline.bench.trial import LONGEST_START_S, Trial
from pipeline.config import Config
from pipeline.daemon.model import Loaded
from pipeline.daemon.outlets import with_outlets
from pipeline.errors import PipelineError
from pipeline.flow import Pipeline
from pipeline.host.footprint import keep_for_good
from pipeline.ledger import Ledger
from pipeline.plan.copies import Copy
from pipeline.plan.costs import StreamCosts
from pipeline.plan.simulation import WARM_S
from pipeline.plan.window import Processed, Together
from pipeline.report import compose
from pipeline.sources import Isolation
from pipeline.threads import StopFlag
from pipeline.timing import FRAME, Mark, cpu_ns, elapsed, now_ns, part_times

OVERLAP_NS: Final = 2_000_000_000
"""Looks at the ledger overlap by so much: a frame is noted some time after it ended."""


def phases(count: int) -> list[float]:
    """When each stream begins, as a share of its interval: cameras know nothing of each other. The same every time."""
    rng = random.Random(0)
    return [rng.random() for _ in range(count)]


@dataclass(slots=True)
class Proven(Processed):
    """What was measured of one stream within the window; ``lost``: frames that were dropped, by reason."""

    lost: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Proof(Together[Proven]):
    """What was measured.

    Attributes:
        cores: CPU time of the program, and of the processes of its cameras, over the window's length.
        batches: how many of each size, over the whole run.
        report: the report of the run.
    """

    cores: float
    batches: dict[int, int]
    report: dict[str, Any]


def prove(
    config: Config,
    copies: Sequence[Copy],
    costs: dict[str, StreamCosts],
    loaded: Loaded,
    seconds: float,
    stop: StopFlag,
    say: Callable[[str], None],
) -> Proof:
    """Run the plan and look at it for ``seconds``, from :data:`WARM_S` after every stream had a result.

    Args:
        config: with sinks that may be written to.
        copies: the streams.
        costs: of their frames: streams begin spread over the interval between those that are processed.
        loaded: the model.
        seconds: length of the window.
        stop: ends it early.
        say: is told how far it is.

    Raises PipelineError where the run fails, or a stream has no result.
    """
    sinks = build.sinks(config.sinks, run_id="plan")
    pipeline = Pipeline(loaded.detector, sinks, with_outlets(loaded.options, sinks, len(copies)))
    ledger = pipeline.ledger
    with Trial(pipeline, config.model.timeout_s) as trial:
        keep_for_good()
        homes = _add(pipeline, copies, costs, stop)
        pipeline.finish()
        if silent := trial.go_until_all_have_a_result():
            raise PipelineError(f"without a result for {LONGEST_START_S:g} s: {', '.join(silent)}")
        say("proving: warming up")
        trial.go(WARM_S)
        before = {name: _counted(ledger, name) for name in ledger.streams}
        began_ns, began_cpu_ns = now_ns(), _cpu_ns(homes)
        latencies = Latencies(began_ns)
        while (left_s := seconds - (now_ns() - began_ns) / 1e9) > 0:
            say(f"proving: {seconds - left_s:.0f} of {seconds:.0f} s")
            trial.go(min(1.0, left_s))
            latencies.collect(ledger)
        ended_ns, ended_cpu_ns = now_ns(), _cpu_ns(homes)
        streams = {
            name: _since(before[name], _counted(ledger, name)) for name in list(ledger.streams) if name in before
        }
        trial.drain()
        latencies.collect(ledger, ended_ns)
        for name, proven in streams.items():
            proven.latencies_ms = latencies.of(name)
        report = compose(ledger.as_dict(), {"command": "run", "model": loaded.facts, "startup_s": {}})
    window_s = (ended_ns - began_ns) / 1e9
    return Proof(window_s, streams, (ended_cpu_ns - began_cpu_ns) / 1e9 / window_s, ledger.batches(), report)


class Latencies:
    """End-to-end times of frames that ended within a window, however long that is: what a ledger remembers of a run,
    for some seconds, is looked at as often.

    Args:
        began_ns: of the window (monotonic).
    """

    def __init__(self, began_ns: int) -> None:
        self._began_ns = self._looked_ns = began_ns
        self._found: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self._last: dict[str, int] = {}  # number of the newest frame of a stream that was taken

    def collect(self, ledger: Ledger, until_ns: int | None = None) -> None:
        """What has ended since it was called before; of frames that end after ``until_ns`` nothing."""
        looked_ns = now_ns()
        for name, traces in ledger.journal(max(self._began_ns, self._looked_ns - OVERLAP_NS)).journeys.items():
            for trace in traces:  # by their ends, and so by their numbers
                if not trace[Mark.FOLLOWED] or trace[FRAME] <= self._last.get(name, -1):
                    continue
                ended_ns = max(trace[: len(Mark)])
                if until_ns is None or ended_ns < until_ns:
                    # A plan is about what the machine takes, not about a wait that was asked for.
                    self._found[name].append((elapsed(trace) - part_times(trace).get("playout", 0)) / 1e6)
                self._last[name] = trace[FRAME]
        self._looked_ns = looked_ns

    def of(self, name: str) -> list[float]:
        """Milliseconds."""
        return list(self._found[name])


def _add(pipeline: Pipeline, copies: Sequence[Copy], costs: dict[str, StreamCosts], stop: StopFlag) -> list[Isolation]:
    """Each at its own time, so that their frames are due at different times; returns the processes of those that have
    their own."""
    begins = sorted(
        (phase * costs[copy.stream.name].interval_s / max(costs[copy.stream.name].kept, 1e-3), number, copy)
        for number, (copy, phase) in enumerate(zip(copies, phases(len(copies)), strict=True))
    )
    began_ns = now_ns()
    homes: list[Isolation] = []
    for at_s, _, copy in begins:
        stop.wait(max(0.0, at_s - (now_ns() - began_ns) / 1e9))
        pipeline.add(build.feed(copy.config, apart=homes if copy.isolated else None))
    return homes


def _cpu_ns(homes: Sequence[Isolation]) -> int:
    """CPU time of the program and of the processes of its streams so far."""
    return cpu_ns() + sum(home.cpu_ns for home in homes)


def _counted(ledger: Ledger, name: str) -> tuple[int, dict[str, int]]:
    account = ledger.streams[name]
    return account.processed, dict(account.dropped)


def _since(before: tuple[int, dict[str, int]], after: tuple[int, dict[str, int]]) -> Proven:
    lost = {reason: frames - before[1].get(reason, 0) for reason, frames in after[1].items()}
    return Proven(after[0] - before[0], lost={reason: frames for reason, frames in lost.items() if frames})
