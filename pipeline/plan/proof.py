# SPDX-License-Identifier: Apache-2.0
"""The proof: the pipeline of the daemon on copies that play the part of the cameras, and what is measured of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import build
from pipeline.bench.trial import LONGEST_START_S, Trial
from pipeline.config import Config
from pipeline.daemon.model import Loaded
from pipeline.daemon.outlets import with_outlets
from pipeline.errors import PipelineError
from pipeline.flow import Pipeline
from pipeline.host.footprint import keep_for_good
from pipeline.host.neighbours import moment, others
from pipeline.ledger import Ledger
from pipeline.plan.copies import Copy
from pipeline.plan.journeys import Journeys
from pipeline.plan.outcome import Load
from pipeline.plan.simulation import WARM_S
from pipeline.plan.window import Processed, Together
from pipeline.report import compose, peak_rss_mb
from pipeline.sources import Isolation
from pipeline.threads import StopFlag
from pipeline.timing import cpu_ns, now_ns


@dataclass(slots=True)
class Proven(Processed):
    """What was measured of one stream within the window.

    Attributes:
        lost: frames that were dropped, by reason.
        played_s: how much of the copy was read, by its time stamps; less than the window lasted, where its reader did
            not keep up.
    """

    lost: dict[str, int] = field(default_factory=dict)
    played_s: float = 0.0


@dataclass(slots=True)
class Proof(Together[Proven]):
    """What was measured.

    Attributes:
        cores: CPU time of the program, and of the processes of its cameras, over the window's length.
        batches: how many of each size, over the whole run.
        report: the report of the run.
        unwritten: share of its results that a sink lost, of the sink that lost most.
        memory_mb: most memory of the program, with that of its cameras' processes at the end, MiB.
        others: cores that other programs kept busy on average meanwhile; None: not known.
    """

    cores: float
    batches: dict[int, int]
    report: dict[str, Any]
    unwritten: float = 0.0
    memory_mb: float = 0.0
    others: float | None = None


def prove(
    config: Config,
    copies: Sequence[Copy],
    loads: Sequence[Load],
    loaded: Loaded,
    seconds: float,
    stop: StopFlag,
    say: Callable[[str], None],
    what: str = "proving",
) -> Proof:
    """Run the plan and look at it for ``seconds``, from :data:`WARM_S` after every stream had a result.

    Args:
        config: with sinks that may be written to.
        copies: the streams.
        loads: the same as they were simulated: they begin spread over the interval between the frames to be processed.
        loaded: the model.
        seconds: length of the window.
        stop: ends it early.
        say: is told how far it is.
        what: it is called there.

    Raises PipelineError where the run fails, or a stream has no result.
    """
    sinks = build.sinks(config.sinks, run_id="plan")
    pipeline = Pipeline(loaded.detector, sinks, with_outlets(loaded.options, sinks, len(copies)))
    ledger = pipeline.ledger
    with Trial(pipeline, config.model.timeout_s) as trial:
        keep_for_good()
        homes = _add(pipeline, copies, loads, stop)
        pipeline.finish()
        if silent := trial.go_until_all_have_a_result():
            raise PipelineError(f"without a result for {LONGEST_START_S:g} s: {', '.join(silent)}")
        say(f"{what}: warming up")
        trial.go(WARM_S)
        before = {name: _counted(ledger, name) for name in ledger.streams}
        given, before_all = _given(ledger), moment()
        began_ns, began_cpu_ns = now_ns(), _cpu_ns(homes)
        journeys = Journeys(began_ns)
        while (left_s := seconds - (now_ns() - began_ns) / 1e9) > 0:
            say(f"{what}: {seconds - left_s:.0f} of {seconds:.0f} s")
            trial.go(min(1.0, left_s))
            journeys.collect(ledger)
        ended_ns, ended_cpu_ns = now_ns(), _cpu_ns(homes)
        taken = others(before_all, moment())
        memory_mb = peak_rss_mb() + sum(home.own_bytes for home in homes) / (1 << 20)
        streams = {
            name: _since(before[name], _counted(ledger, name)) for name in list(ledger.streams) if name in before
        }
        unwritten = _unwritten(given, _given(ledger))
        trial.drain()
        journeys.collect(ledger, ended_ns)
        for name, proven in streams.items():
            proven.latencies_ms, proven.played_s = journeys.latencies_ms(name), journeys.played_s(name)
        report = compose(ledger.as_dict(), {"command": "run", "model": loaded.facts, "startup_s": {}})
    window_s = (ended_ns - began_ns) / 1e9
    cores = (ended_cpu_ns - began_cpu_ns) / 1e9 / window_s
    return Proof(window_s, streams, cores, ledger.batches(), report, unwritten, memory_mb, taken)


def _add(pipeline: Pipeline, copies: Sequence[Copy], loads: Sequence[Load], stop: StopFlag) -> list[Isolation]:
    """Each at its own time, so that their frames are due at different times; returns the processes of those that have
    their own."""
    begins = sorted(
        (load.phase * load.costs.interval_s / max(load.costs.kept, 1e-3), number, copy)
        for number, (copy, load) in enumerate(zip(copies, loads, strict=True))
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


def _given(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """Results that each sink was given so far, and of these those that it lost."""
    return {name: (sink.received, sink.lost.total()) for name, sink in ledger.sinks.items()}


def _unwritten(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float:
    shares = [(after[name][1] - lost) / max(1, after[name][0] - given) for name, (given, lost) in before.items()]
    return max(shares, default=0.0)


def _counted(ledger: Ledger, name: str) -> tuple[int, dict[str, int]]:
    account = ledger.streams[name]
    return account.processed, dict(account.dropped)


def _since(before: tuple[int, dict[str, int]], after: tuple[int, dict[str, int]]) -> Proven:
    lost = {reason: frames - before[1].get(reason, 0) for reason, frames in after[1].items()}
    return Proven(after[0] - before[0], lost={reason: frames for reason, frames in lost.items() if frames})
