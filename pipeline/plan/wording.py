# SPDX-License-Identifier: Apache-2.0
"""A plan in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.figures import count, listed, milliseconds, percent, rate
from pipeline.plan.headroom import MOST_MISSING
from pipeline.plan.outcome import BUSY


def headline(plan: Mapping[str, Any]) -> str:
    """``sustainable: yes, 37 % headroom, 3 more such cameras``, or that the proof came out otherwise."""
    if plan["verdict"]["borne_out"] is False:
        return f"sustainable: not confirmed; predicted: {_answer(plan)}"
    return f"sustainable: {_answer(plan)}"


def _answer(plan: Mapping[str, Any]) -> str:
    found, more = plan["verdict"], plan["headroom"]
    if not found["sustainable"]:
        return f"no, {too_short_line(plan) or _too_much(plan)}"
    if more["share"] < 0 or not found["reserve"]:
        return "yes, but without the usual reserve"
    cameras = count(max(0, more["cameras"]), "more such camera")
    at_least = "at least " if more["or_more"] else ""
    remarks = ["memory is what is short"] if more["memory"] else []
    if more["proof"] is not None:
        remarks.append("proven" if more["proof"]["kept_up"] else "not confirmed")
    remark = f" ({', '.join(remarks)})" if remarks else ""
    return f"yes, {percent(more['share'])} headroom, {at_least}{cameras}{remark}"


def too_short_line(plan: Mapping[str, Any]) -> str | None:
    """Which streams have a budget that not one of their frames can keep; None where there is none."""
    late = plan["predicted"]["late"]
    never = [name for name, each in late.items() if each["least_ms"] > each["budget_ms"]]
    if not never:
        return None
    name, *others = never
    takes = f"a frame by itself takes {milliseconds(late[name]['least_ms'])} ms"
    nor = f"; nor can {listed(others, 3)}" if others else ""
    return f"{name} cannot keep its latency_budget_ms of {late[name]['budget_ms']:g}: {takes}{nor}"


def _too_much(plan: Mapping[str, Any]) -> str:
    planned = [stream for stream in plan["streams"].values() if stream["state"] == "planned"]
    predicted, fits = plan["predicted"], len(planned) + plan["headroom"]["cameras"]
    would = f"only {count(fits, 'such camera')} would fit" if fits > 0 else "not one such camera would fit"
    if predicted["late"] and all(stream["predicted"]["missing"] <= MOST_MISSING for stream in planned):
        return f"{listed(list(predicted['late']), 3)} would be over the latency_budget_ms; {would}"
    return f"{rate(predicted['fps'])} of {rate(predicted['wanted_fps'])} frames per second; {would}"


def proof_line(plan: Mapping[str, Any]) -> str:
    """What was measured against what was predicted."""
    proof, predicted = plan["proof"], plan["predicted"]
    if proof is None:
        return "not proven: it was not run"
    if not proof["fps"]:
        return "not confirmed: not one frame was processed"
    rates, times = _beside(predicted, proof)
    ratio = proof["ratio"]
    ratios = f"(x {ratio['fps']:.2f}); {times} (x {ratio['p99']:.2f})" if ratio["p99"] else f"(x {ratio['fps']:.2f})"
    against = plan["verdict"]["against"]
    return f"{'not confirmed (' + '; '.join(against) + ')' if against else 'proven'}: {rates} {ratios}"


def growth_line(plan: Mapping[str, Any]) -> str | None:
    """What was measured with as many more cameras as are said to fit; None where none was tried."""
    growth = plan["headroom"]["proof"]
    if growth is None:
        return None
    tried = f"with {count(plan['headroom']['cameras'], 'more camera')}, {growth['streams']} in all"
    if growth["measured"] is None:
        return f"{tried}: not confirmed ({growth['error']})"
    late = growth["behind"]
    kept = f"not confirmed ({len(late)} of {growth['streams']} did not keep up)" if late else "proven"
    return f"{tried}: {kept}: {'; '.join(_beside(growth['predicted'], growth['measured']))}"


def _beside(predicted: Mapping[str, Any], measured: Mapping[str, Any]) -> tuple[str, str]:
    return (
        f"{rate(measured['fps'])} frames per second measured, {rate(predicted['fps'])} predicted",
        f"p99 {milliseconds(measured['p99_ms'])} ms measured, {milliseconds(predicted['p99_ms'])} ms predicted",
    )


def busy_line(plan: Mapping[str, Any]) -> str | None:
    """That the machine had other work, while it was measured or proven; None where it had hardly any."""
    free, allowed = plan["measured"]["cores_free"], plan["measured"]["cores_allowed"]
    proofs = [proof for proof in (plan["proof"], plan["headroom"]["proof"]) if proof is not None]
    others = max((proof["others"] for proof in proofs if proof["others"] is not None), default=None)
    told = []
    if free < BUSY:
        told.append(f"only {percent(free)} of its cores were free while it was measured")
    if others is not None and others > (1 - BUSY) * allowed:
        told.append(f"others used {others:.1f} of {count(allowed, 'core')} during the proof")
    if not told:
        return None
    advice = "plan again on a quiet one" if plan["verdict"]["borne_out"] is False else "a quiet one may do more"
    return f"the machine was busy: {', and '.join(told)}; {advice}"


def limit_line(plan: Mapping[str, Any]) -> str:
    """What runs out first, and what would help."""
    limited = plan["limit"]
    help_most = f"; what would help most: {limited['advice']}" if limited["advice"] else ""
    return f"limited by {limited['text']}{help_most}"


def more_line(plan: Mapping[str, Any]) -> str | None:
    """How many more of each kind; None where there is one kind only, or nothing more fits."""
    kinds = plan["headroom"]["by_kind"]
    if len(kinds) < 2:
        return None
    return "or, each by itself: " + ", ".join(f"{number} more like {name}" for name, number in kinds.items())
