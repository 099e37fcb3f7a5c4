# SPDX-License-Identifier: Apache-2.0
"""A plan from beginning to end: copy, measure, predict, prove."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from pipeline import build
from pipeline.bench.capacity import Capacity, measure_capacity
from pipeline.config import Config, StreamConfig
from pipeline.daemon.model import Loaded, Wanted, load
from pipeline.daemon.outlets import with_outlets
from pipeline.errors import SourceUnavailable
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions
from pipeline.host.cores import allowed_cores
from pipeline.plan.copies import Copies, Copy, make_copies, redirected, spread
from pipeline.plan.costs import Costs
from pipeline.plan.growth import Growth, further, grow
from pipeline.plan.headroom import Headroom, headroom
from pipeline.plan.isolation import with_isolation
from pipeline.plan.measuring import Measured, measure
from pipeline.plan.outcome import Load, Outcome, phases
from pipeline.plan.proof import Proof, prove
from pipeline.plan.simulation import simulate
from pipeline.plan.sinks import sink_costs
from pipeline.report import describe_machine, peak_rss_mb
from pipeline.threads import StopFlag
from pipeline.timing import now_ns

Say = Callable[[str], None]
SIMULATED_S = 20.0
"""Of what was asked for; of what else might fit a quarter."""


OVERRUN: Final = 1.05
"""So many times as many frames read as processed are more than the workers can take."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Attributes:
    measure_s: about how long each kind of work is measured.
    camera_s: how much of a camera is kept.
    prove_s: how long the plan is tried, and then with what else is said to fit; None: not at all.
    without_unreachable: plan for the others where a source does not open.
    """

    measure_s: float = 4.0
    camera_s: float = 10.0
    prove_s: float | None = 20.0
    without_unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All that came out.

    Attributes:
        asked: the streams that were asked for.
        copies: what stood in for them.
        model: facts of the model, and how it is run.
        costs: what was measured.
        loads: the streams as they were simulated.
        predicted: what they come to.
        headroom: what else would fit.
        proof: what was measured then, or None.
        growth: what was measured of that many more cameras; None where none fits, or nothing is proven.
    """

    asked: tuple[StreamConfig, ...]
    copies: Copies
    model: dict[str, Any]
    costs: Costs
    loads: tuple[Load, ...]
    predicted: Outcome
    headroom: Headroom
    proof: Proof | None
    growth: Growth | None = None


def make_plan(config: Config, options: PlanOptions, stop: StopFlag, say: Say) -> Plan:
    """Measure, predict and prove.

    Args:
        config: the whole; disabled streams are left out.
        options: how long, and what to do with sources that do not open.
        stop: ends it early.
        say: is told what is being done, from any thread.

    Raises:
        SourceUnavailable: a source does not open, and is not to be left out; or none does.
        ModelLoadError, ConfigError: the model cannot be had.
        ModelHung: the model does not answer; a thread is left in it.
        PipelineError: the measurement, or the proof, failed.
    """
    with tempfile.TemporaryDirectory(prefix="pipeline-plan-") as place:
        folder = Path(place)
        streams = spread([stream for stream in config.streams if stream.enabled])
        copies = make_copies(streams, folder, options.camera_s, stop, say)
        _refuse_unreachable(copies, options)
        config = redirected(config, folder)
        say("loading the model")
        loaded = load(Wanted.of(config))
        try:
            costs, flow = _measured(config, copies.made, loaded, options, stop, say)
            say("predicting")
            loads = _loads(copies.made, costs)
            depth, exclusive = loaded.detector.depth, loaded.detector.exclusive

            def tried(some: Sequence[Load], speed: float, seconds: float) -> Outcome:
                return simulate(some, costs, flow, seconds=seconds, speed=speed, depth=depth, exclusive=exclusive)

            predicted = tried(loads, 1.0, SIMULATED_S)
            more = headroom(loads, costs, predicted, lambda some, speed: tried(some, speed, SIMULATED_S / 4))
            proof = growth = None
            if options.prove_s is not None:
                proven = partial(_proven, config, folder, loaded, options.prove_s, stop, say)
                proof = proven("proving", copies.made, loads)
                if more.mean > 0:
                    grown = further(loads, len(loads) + more.mean)
                    what = f"proving with {more.mean} more"
                    growth = grow(copies.made, grown, tried(grown, 1.0, SIMULATED_S), partial(proven, what))
        finally:
            loaded.detector.close()
        return Plan(tuple(streams), copies, loaded.facts, costs, tuple(loads), predicted, more, proof, growth)


def _proven(
    config: Config,
    folder: Path,
    loaded: Loaded,
    seconds: float,
    stop: StopFlag,
    say: Say,
    what: str,
    copies: Sequence[Copy],
    loads: Sequence[Load],
) -> Proof:
    """What the sinks write in one proof is none of the next one's."""
    own = tempfile.mkdtemp(dir=folder)
    return prove(redirected(config, Path(own)), copies, loads, loaded, seconds, stop, say, what)


def _refuse_unreachable(copies: Copies, options: PlanOptions) -> None:
    faults = [f"{name}: {reason}" for name, reason in copies.unreachable.items()]
    if not copies.made:
        raise SourceUnavailable("; ".join(faults))
    if faults and not options.without_unreachable:
        raise SourceUnavailable(f"{'; '.join(faults)} (--without-unreachable plans for the others)")


def _measured(
    config: Config, copies: Sequence[Copy], loaded: Loaded, options: PlanOptions, stop: StopFlag, say: Say
) -> tuple[Costs, FlowOptions]:
    began_ns = now_ns()
    cores = allowed_cores()
    parts = measure(copies, loaded, cores, options.measure_s, config.model.timeout_s, stop, say)
    parts.streams = with_isolation(copies, parts.streams, options.measure_s, stop, say)
    say("measuring: the sinks")
    rates = {name: costs.fps * costs.kept for name, costs in parts.streams.items()}
    sinks = sink_costs(config, parts.captures, parts.detections, loaded.detector.labels, rates, stop)
    say("measuring: everything together")
    copied = config.model_copy(update={"streams": tuple(copy.config for copy in copies)})
    warm_s = min(1.0, options.measure_s)
    whole = measure_capacity(copied, options.measure_s, warm_s, loaded=loaded)
    say("measuring: more than it can do")
    overrun = measure_capacity(copied, options.measure_s / 2, warm_s, overrun=True, loaded=loaded)
    on_device = loaded.facts["device"] != "cpu"
    overhead_ms = max(0.0, whole.cpu_ms_per_frame - _known_ms(parts, sinks, whole))
    costs = Costs(
        streams=parts.streams,
        network=parts.network,
        sinks=sinks,
        overhead_ms=overhead_ms,
        cores=cores if on_device else _cores(cores, parts.free, whole, overrun, len(copies)),
        allowed=cores,
        free=parts.free,
        measured_s=(now_ns() - began_ns) / 1e9,
        lost_ms=_lost_ms(parts, whole, overrun, overhead_ms),
        memory_mb=peak_rss_mb(),
        memory_limit_mb=describe_machine()["memory_mb"],
    )
    return costs, with_outlets(loaded.options, build.sinks(config.sinks, run_id="plan"), len(copies))


def _cores(allowed: int, free: float, whole: Capacity, overrun: Capacity, streams: int) -> float:
    """How many this program gets when it wants all. Less than were free where its threads wait for the interpreter: it
    shows where nothing holds the readers up, if there are threads for all cores, and too much to do for them."""
    wants_all = streams + overrun.workers >= allowed and overrun.read_fps > OVERRUN * overrun.fps
    return min(allowed, overrun.cores if wants_all else max(allowed * free, whole.cores))


def _known_ms(parts: Measured, sinks: dict[str, dict[str, float]], whole: Capacity) -> float:
    """CPU time per frame that the parts account for where all streams have as many frames, and all are processed."""
    streams = parts.streams.values()
    threads = parts.network.threads
    size = max(1, round(whole.mean_batch))
    return (
        fmean(costs.decode_ms + costs.prepare_ms for costs in streams)
        + fmean(parts.network.cpu_ms(costs.spec, size) * threads / size for costs in streams)
        + sum(fmean(each.values()) for each in sinks.values())
    )


def _lost_ms(parts: Measured, whole: Capacity, overrun: Capacity, overhead_ms: float) -> float:
    """What a frame that gives way costs beside its reading: by how much less comes out where frames are read as fast as
    they can be than where the readers are held up, for each frame that was lost."""
    lost_fps = overrun.read_fps - overrun.fps
    if lost_fps <= 0 or overrun.fps >= whole.fps:
        return 0.0
    each_ms = whole.cores * 1e3 * (1 - overrun.fps / whole.fps) / lost_fps
    read_ms = fmean(costs.decode_ms for costs in parts.streams.values())  # nothing is prepared that gives way
    return max(0.0, each_ms - read_ms - overhead_ms)


def _loads(copies: Sequence[Copy], costs: Costs) -> list[Load]:
    loads = []
    for copy, phase in zip(copies, phases(len(copies)), strict=True):
        name = copy.stream.name
        terms: Terms = build.feed(copy.config).terms
        sinks_ms = {sink: each[name] for sink, each in costs.sinks.items()}
        loads.append(Load(name, costs.streams[name], terms, phase, sinks_ms, isolated=copy.isolated))
    return loads
