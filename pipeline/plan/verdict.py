# SPDX-License-Identifier: Apache-2.0
"""Does it go, does the measurement bear the prediction out, and what would help?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.figures import listed, percent
from pipeline.plan.headroom import MOST_MISSING, has_memory, has_reserve, holds, in_time, missing
from pipeline.plan.outcome import Load, Outcome
from pipeline.plan.proof import Proof
from pipeline.plan.run import Plan
from pipeline.report.advice import Kind, advice
from pipeline.report.bottleneck import SATURATED

RATE_BOUND: Final = 0.15
"""How far the predicted rate may lie from the measured one, as a share of it."""
LATENCY_BOUND: Final = 2.0
"""How many times the measured p99 may be above or below the predicted one."""

EDGE: Final = 0.02
"""Of a stream that loses a share of its frames within so much of what was predicted, the prediction was right, on which
side of the limit either lies: at the limit a frame more or less would change the answer."""
BEGINNINGS: Final = 3.0
"""So many intervals between frames a window may show less of a copy than it lasts, at its ends."""

SUSTAINABLE, LEFT_OUT, TOO_MUCH, NOT_BORNE_OUT = 0, 3, 4, 5
"""Exit codes: it goes; it goes without the sources that did not open; it does not; the proof came out otherwise."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Attributes:
    sustainable: by the prediction every frame is processed, and in time.
    reserve: and the usual share of the machine is left free.
    rate_ratio, p99_ratio: predicted over measured; None without a proof.
    within: both lie within the bounds; None without a proof.
    sustained: what was measured kept up as well; None without a proof.
    against: what speaks against the prediction, in words.
    """

    sustainable: bool
    reserve: bool
    rate_ratio: float | None = None
    p99_ratio: float | None = None
    within: bool | None = None
    sustained: bool | None = None
    against: tuple[str, ...] = ()

    @property
    def borne_out(self) -> bool:
        """What was measured does not speak against it; also where nothing was."""
        return not self.against


def verdict(plan: Plan) -> Verdict:
    """By the prediction, and by the proof where there is one."""
    predicted, proof = plan.predicted, plan.proof
    sustainable = holds(predicted, plan.loads)
    reserve = has_reserve(predicted, plan.costs) and has_memory(plan.loads, plan.costs)
    if proof is None:
        return Verdict(sustainable, reserve)
    rate = predicted.fps / proof.fps if proof.fps else float("inf")
    p99 = _ratio(predicted.percentile(99), proof.percentile(99))
    against = []
    if abs(rate - 1) > RATE_BOUND:
        against.append(f"the rate is off by more than {percent(RATE_BOUND)}")
    if not 1 / LATENCY_BOUND <= p99 <= LATENCY_BOUND:
        against.append(f"p99 is off by more than a factor of {LATENCY_BOUND:g}")
    within = not against
    late = behind(plan.loads, proof)
    unlike = [load.name for load in plan.loads if not _alike(load, predicted, proof)]
    worse, better = [name for name in unlike if name in late], [name for name in unlike if name not in late]
    if worse:
        against.append(f"{listed(worse, 3)} did not keep up")
    if better and not worse:
        against.append(f"{listed(better, 3)} kept up after all")
    return Verdict(sustainable, reserve, rate, p99, within, not late, tuple(against))


def behind(loads: Sequence[Load], proof: Proof) -> list[str]:
    """The streams that did not keep up in a proof: frames were lost, not read, or not done in time."""
    return [load.name for load in loads if not _kept_up(load, proof)]


def exit_code(plan: Plan, found: Verdict) -> int:
    """What the command ends with."""
    if not found.borne_out:
        return NOT_BORNE_OUT
    if not found.sustainable:
        return TOO_MUCH
    return LEFT_OUT if plan.copies.unreachable else SUSTAINABLE


def limit(plan: Plan) -> tuple[Kind, str, str | None]:
    """What the machine would run out of first, in words, and the setting that helps most."""
    predicted, costs = plan.predicted, plan.costs
    report: Mapping[str, Any] = {
        "command": "run",
        "model": plan.model,
        "machine": {"cores": costs.allowed},
        "cpu_s": predicted.cores,
        "wall_s": 1.0,
    }
    streams = len(plan.loads)
    if predicted.device > predicted.cores / costs.cores:
        return "network", f"the GPU, busy {percent(predicted.device)} of the time", advice("network", report, streams)
    sink, busy = _busiest_sink(plan)
    if busy > max(SATURATED, predicted.cores / costs.cores):
        return (
            "sink",
            f"sink {sink}, whose thread is busy {percent(busy)} of the time",
            advice("sink", report, streams, sink),
        )
    shares = sorted(predicted.use.items(), key=lambda each: -each[1])
    whole = sum(predicted.use.values()) or 1.0
    parts = ", ".join(f"{name} {percent(used / whole)}" for name, used in shares if used / whole >= 0.005)
    kinds: dict[str, Kind] = {"decode": "decode", "preprocess": "decode", "network": "network", "sinks": "sink"}
    kind = kinds.get(shares[0][0], "follow")
    text = f"the CPU, {predicted.cores:.2f} of {costs.cores:.2f} cores busy: {parts}"
    return kind, text, advice(kind, report, streams, sink)


def _busiest_sink(plan: Plan) -> tuple[str, float]:
    """And the share of the time for which its thread is busy."""
    predicted = plan.predicted
    busy: dict[str, float] = {}
    for load in plan.loads:
        rate = predicted.streams[load.name].finished / predicted.seconds
        for name, cost_ms in load.sinks_ms.items():
            busy[name] = busy.get(name, 0.0) + rate * cost_ms / 1e3
    name = max(busy, key=lambda each: busy[each], default="")
    return name, busy.get(name, 0.0)


def _kept_up(load: Load, proof: Proof) -> bool:
    """Whether a stream had its frames processed in the proof, and in time."""
    return _missed(load, proof) <= MOST_MISSING and in_time(proof.streams[load.name], load.terms.budget_ns)


def _missed(load: Load, proof: Proof) -> float:
    """Share of a stream's frames that were lost, or that its reader did not get to, or that a sink lost.

    How many there were is not told by the rate that was measured before: that of a camera changes from one second to
    the next. Time stamps tell it.
    """
    measured, costs = proof.streams[load.name], load.costs
    lost = sum(measured.lost.values())
    ends_s = BEGINNINGS * costs.interval_s / max(costs.kept, 1e-3)
    behind_s = max(0.0, proof.seconds - measured.played_s - ends_s)
    return max(lost / max(1, lost + measured.finished), behind_s / proof.seconds, proof.unwritten)


def _alike(load: Load, predicted: Outcome, proof: Proof) -> bool:
    """Whether a stream came out as it was predicted: neither in time where it should not be, nor with many more or
    fewer frames lost."""
    expected, measured = predicted.streams[load.name], proof.streams[load.name]
    budget_ns = load.terms.budget_ns
    shares = missing(predicted, load), _missed(load, proof)
    same_side = (shares[0] <= MOST_MISSING) == (shares[1] <= MOST_MISSING)
    in_times = in_time(expected, budget_ns) == in_time(measured, budget_ns)
    return in_times and (same_side or abs(shares[0] - shares[1]) <= EDGE)


def _ratio(predicted: float | None, measured: float | None) -> float:
    return predicted / measured if predicted and measured else float("inf")
