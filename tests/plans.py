# SPDX-License-Identifier: Apache-2.0
"""A plan as it would come out of measurements, with figures that are known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from pipeline.flow.lanes import Terms
from pipeline.frame import InputSpec
from pipeline.plan.costs import BatchCost, Costs, FrameCost, NetworkCosts, StreamCosts
from pipeline.plan.facts import as_dict
from pipeline.plan.headroom import Headroom
from pipeline.plan.outcome import Load, Outcome, Predicted
from pipeline.plan.proof import Proof, Proven
from pipeline.plan.run import Plan
from pipeline.redact import SourceUrl

SPEC = InputSpec(64, 64)


def a_plan(
    *,
    fps: float = 10.0,
    p99_ms: float = 20.0,
    measured: tuple[float, float] | None = (10.0, 30.0),
    more: Headroom | None = None,
    cores: float = 0.5,
    use: dict[str, float] | None = None,
    device: float = 0.0,
    free: float = 1.0,
    unreachable: dict[str, str] | None = None,
    sinks_ms: dict[str, float] | None = None,
    proven: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    budget_ms: float | None = None,
    isolation_mb: float = 0.0,
) -> Plan:
    """Two streams that ask for 10 frames a second each, and for ten seconds got ``fps``; ``proven``, ``run``: what is
    different in the proof of the second one, and of the whole; ``isolation_mb``: of the first one."""
    names = ("lobby", "gate")
    frames = tuple(FrameCost(number / 10, 2_000_000, 0, 1_000_000) for number in range(10))
    each = StreamCosts(frames, None, SPEC, 640, 360, "h264")
    network = NetworkCosts({SPEC: {1: [BatchCost(5_000_000)], 4: [BatchCost(12_000_000)]}})
    given = sinks_ms or {"jsonl": 0.1}
    sinks = {sink: dict.fromkeys(names, ms) for sink, ms in given.items()}
    streams_costs = {"lobby": replace(each, isolation_mb=isolation_mb), "gate": each}
    costs = Costs(streams_costs, network, sinks, 0.3, 2.0, 2, free, 5.0, 0.0, 500.0, 1000.0)
    terms = Terms(policy="freshest", budget_ns=None if budget_ms is None else round(budget_ms * 1e6))
    loads = tuple(Load(name, streams_costs[name], terms, 0.5, given) for name in names)
    done = round(10 * fps)
    streams = {
        name: Predicted(
            done,
            [p99_ms] * done,
            wanted=100,
            done=min(100, done),
            lost=Counter({"overflow": 100 - done} if done < 100 else {}),
        )
        for name in names
    }
    predicted = Outcome(10.0, streams, cores, use or {"network": 0.3, "decode": 0.2}, device, {1: 50})
    proof = None
    if measured is not None:
        finished = round(10 * measured[0])
        lost = {"overflow": 100 - finished} if finished < 100 else {}
        each_proven = {
            name: Proven(finished, _spread(measured[1], finished), lost=lost, played_s=9.8) for name in names
        }
        each_proven["gate"] = replace(each_proven["gate"], **(proven or {}))
        proof = replace(Proof(10.0, each_proven, 0.6, {1: 50}, {"bottleneck": None}), **(run or {}))
    asked = [SimpleNamespace(name=name, source=SourceUrl.parse(f"{name}.mp4")) for name in names]
    made = tuple(SimpleNamespace(stream=stream, seconds=None, isolated=False) for stream in asked)
    missing = unreachable or {}
    asked += [SimpleNamespace(name=name, source=SourceUrl.parse("rtsp://10.0.0.9/x")) for name in missing]
    copies = SimpleNamespace(made=made, unreachable=missing)
    model = {"path": "m.pt", "device": "cpu", "workers": 2, "adapter": "rows"}
    found = more or Headroom(1.37, 3, {"lobby": 3})
    return Plan(cast("Any", tuple(asked)), cast("Any", copies), model, costs, loads, predicted, found, proof)


def said(plan: Plan) -> dict[str, Any]:
    """As ``plan.json``."""
    return as_dict(plan, "streams.yaml")


def _spread(p99_ms: float, count: int) -> list[float]:
    """So many times, half of them below what the others are."""
    return [p99_ms * min(1.0, 0.5 + n / count) for n in range(count)]
