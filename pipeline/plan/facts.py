# SPDX-License-Identifier: Apache-2.0
"""A plan as ``plan.json``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.plan.assumptions import assumptions
from pipeline.plan.growth import Growth
from pipeline.plan.headroom import in_time, least_ms, memory_mb
from pipeline.plan.outcome import Outcome
from pipeline.plan.proof import Proof
from pipeline.plan.run import Plan
from pipeline.plan.verdict import behind, exit_code, limit, verdict
from pipeline.plan.wording import headline
from pipeline.redact import scrub
from pipeline.report import describe_machine
from pipeline.report.machine import package_version
from pipeline.timing import rfc3339, wall_ns

PERCENTILES = (50, 90, 95, 99)
CURVE = tuple(range(1, 100)) + (99.5, 99.9, 100)
"""Percentiles that a picture of a distribution is drawn from."""


def as_dict(plan: Plan, file: str) -> dict[str, Any]:
    """The whole plan, fit for JSON.

    ``verdict``: what people want to know; ``predicted``, ``proof``: the figures of both in one form; ``streams``: of
    each; ``measured``: what the prediction is made of; ``assumptions``: what has to hold for it to hold.

    Args:
        plan: it.
        file: the streams.yaml.
    """
    found = verdict(plan)
    kind, what, help_most = limit(plan)
    predicted, more, costs = plan.predicted, plan.headroom, plan.costs
    report: dict[str, Any] = {
        "version": package_version(),
        "command": "plan",
        "created": rfc3339(wall_ns()),
        "file": file,
        "machine": describe_machine(),
        "model": plan.model,
        "verdict": {
            "sustainable": found.sustainable,
            "reserve": found.reserve,
            "borne_out": None if plan.proof is None else found.borne_out,
            "against": list(found.against),
            "exit_code": exit_code(plan, found),
        },
        "predicted": {
            **_curves(predicted, predicted.cores, memory_mb(plan.loads, costs)),
            "wanted_fps": round(predicted.wanted_fps, 3),
            "sustainable_fps": round(predicted.wanted_fps * more.speed, 3),
            "use": {name: round(cores, 4) for name, cores in predicted.use.items()},
            "device": round(predicted.device, 4),
            "late": dict(_late(plan)),
        },
        "headroom": {
            "share": round(more.speed - 1, 4),
            "cameras": more.mean,
            "or_more": more.most,
            "memory": more.memory,
            "by_kind": more.kinds,
            "proof": None if plan.growth is None else _growth(plan.growth),
        },
        "limit": {"kind": kind, "text": what, "advice": help_most},
        "proof": None
        if plan.proof is None
        else _proof(plan.proof, found.rate_ratio, found.p99_ratio)
        | {"within": found.within, "sustained": found.sustained},
        "streams": {stream.name: _stream(plan, stream.name) for stream in plan.asked},
        "measured": {
            "cores": round(costs.cores, 3),
            "cores_allowed": costs.allowed,
            "cores_free": round(costs.free, 3),
            "memory_limit_mb": costs.memory_limit_mb,
            "lost_ms": round(costs.lost_ms, 4),
            "network": costs.network.as_dict(),
            "sinks_ms": {sink: round(max(each.values()), 4) for sink, each in costs.sinks.items() if each},
            "overhead_ms": round(costs.overhead_ms, 4),
            "seconds": round(costs.measured_s, 1),
        },
        "assumptions": list(assumptions(plan)),
    }
    report["verdict"]["text"] = headline(report)
    return report


def _late(plan: Plan) -> Iterator[tuple[str, dict[str, float]]]:
    """Streams whose frames would be over their budget, and what a frame takes at least."""
    for load in plan.loads:
        budget_ns = load.terms.budget_ns
        if budget_ns is not None and not in_time(plan.predicted.streams[load.name], budget_ns):
            least = round(least_ms(load, plan.costs), 3)
            yield load.name, {"budget_ms": budget_ns / 1e6, "least_ms": least}


def _figures(outcome: Outcome | Proof, cores: float) -> dict[str, Any]:
    return {
        "fps": round(outcome.fps, 3),
        **{f"p{percent}_ms": _rounded(outcome.percentile(percent)) for percent in PERCENTILES},
        "cores": round(cores, 3),
    }


def _curves(outcome: Outcome | Proof, cores: float, memory: float) -> dict[str, Any]:
    values = outcome.latencies_ms
    return _figures(outcome, cores) | {
        "memory_mb": round(memory, 1),
        "batches": {str(size): count for size, count in outcome.batches.items()},
        "curve": [round(float(value), 3) for value in np.percentile(values, CURVE)] if values else [],
    }


def _proof(proof: Proof, rate: float | None, p99: float | None) -> dict[str, Any]:
    limited = proof.report.get("bottleneck")
    return {
        "seconds": round(proof.seconds, 3),
        **_curves(proof, proof.cores, proof.memory_mb),
        "others": None if proof.others is None else round(proof.others, 3),
        "lost": sum(sum(stream.lost.values()) for stream in proof.streams.values()),
        "ratio": {"fps": _finite(rate), "p99": _finite(p99)},
        "bottleneck": limited["text"] if limited else None,
    }


def _growth(growth: Growth) -> dict[str, Any]:
    """What was measured of as many more cameras as are said to fit."""
    predicted, proof = growth.predicted, growth.proof
    late = [] if proof is None else behind(growth.loads, proof)
    return {
        "streams": len(growth.loads),
        "kept_up": proof is not None and not late,
        "behind": late,
        "error": scrub(growth.error) or None,
        "predicted": _figures(predicted, predicted.cores),
        "measured": None if proof is None else _figures(proof, proof.cores),
        "others": None if proof is None or proof.others is None else round(proof.others, 3),
    }


def _stream(plan: Plan, name: str) -> dict[str, Any]:
    stream = next(each for each in plan.asked if each.name == name)
    known: dict[str, Any] = {"source": str(stream.source)}
    if name in plan.copies.unreachable:
        return known | {"state": "unreachable", "error": scrub(plan.copies.unreachable[name])}
    costs, predicted = plan.costs.streams[name], plan.predicted.streams[name]
    copy = next(each for each in plan.copies.made if each.stream.name == name)
    facts = known | {
        "state": "planned",
        "error": None,
        "codec": costs.codec,
        "width": costs.width,
        "height": costs.height,
        "input": [costs.spec.height, costs.spec.width],
        "decoder": costs.decoder,
        "fps": round(costs.fps, 3),
        "wanted_fps": round(costs.fps * costs.kept, 3),
        "copied_s": None if copy.seconds is None else round(copy.seconds, 2),
        "frames_looked_at": len(costs.frames),
        "decode_ms": round(costs.decode_ms, 4),
        "isolation_ms": round(costs.isolation_ms, 4),
        "isolation_mb": round(costs.isolation_mb, 1),
        "preprocess_ms": round(costs.prepare_ms, 4),
        "predicted": {
            "fps": round(predicted.finished / plan.predicted.seconds, 3),
            "p99_ms": _rounded(predicted.percentile(99)),
            "missing": round(predicted.missing, 4),
        },
        "measured": None,
    }
    if plan.proof is not None:
        proven = plan.proof.streams[name]
        facts["measured"] = {
            "fps": round(proven.finished / plan.proof.seconds, 3),
            "p99_ms": _rounded(proven.percentile(99)),
            "lost": proven.lost,
        }
    return facts


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _finite(value: float | None) -> float | None:
    return None if value is None or value == float("inf") else round(value, 4)
