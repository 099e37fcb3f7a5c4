# SPDX-License-Identifier: Apache-2.0
"""Does it go, does the measurement bear the prediction out, and what would help?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.figures import percent
from pipeline.plan.headroom import MOST_MISSING, has_reserve, holds
from pipeline.plan.run import Plan
from pipeline.report.bottleneck import SATURATED, Kind, advice

RATE_BOUND: Final = 0.15
"""How far the predicted rate may lie from the measured one, as a share of it."""
LATENCY_BOUND: Final = 2.0
"""How many times the measured p99 may be above or below the predicted one."""

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
    """

    sustainable: bool
    reserve: bool
    rate_ratio: float | None = None
    p99_ratio: float | None = None
    within: bool | None = None
    sustained: bool | None = None

    @property
    def borne_out(self) -> bool:
        """What was measured does not speak against it; also where nothing was."""
        return self.within is not False and self.sustained in (None, self.sustainable)


def verdict(plan: Plan) -> Verdict:
    """By the prediction, and by the proof where there is one."""
    predicted, proof = plan.predicted, plan.proof
    sustainable = holds(predicted, plan.loads)
    reserve = has_reserve(predicted, plan.costs)
    if proof is None:
        return Verdict(sustainable, reserve)
    rate = predicted.fps / proof.fps if proof.fps else float("inf")
    p99 = _ratio(predicted.percentile(99), proof.percentile(99))
    within = abs(rate - 1) <= RATE_BOUND and 1 / LATENCY_BOUND <= p99 <= LATENCY_BOUND
    return Verdict(sustainable, reserve, rate, p99, within, _kept_up(plan))


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


def _kept_up(plan: Plan) -> bool:
    """Whether each stream had its frames processed in the proof, but for one that was under way at either end."""
    proof, predicted = plan.proof, plan.predicted
    assert proof is not None, "only asked where there is a proof"
    for load in plan.loads:
        measured = proof.streams[load.name]
        wanted = predicted.streams[load.name].wanted / predicted.seconds * proof.seconds
        if sum(measured.lost.values()) > MOST_MISSING * wanted or measured.finished < (1 - MOST_MISSING) * wanted - 2:
            return False
    return True


def _ratio(predicted: float | None, measured: float | None) -> float:
    return predicted / measured if predicted and measured else float("inf")
