# SPDX-License-Identifier: Apache-2.0
"""A plan in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.figures import count, milliseconds, percent, rate


def headline(plan: Mapping[str, Any]) -> str:
    """``sustainable: yes, 37 % headroom, 3 more such cameras``."""
    found, more, predicted = plan["verdict"], plan["headroom"], plan["predicted"]
    if not found["sustainable"]:
        fits = sum(stream["state"] == "planned" for stream in plan["streams"].values()) + more["cameras"]
        lost = f"{rate(predicted['fps'])} of {rate(predicted['wanted_fps'])} frames per second"
        return f"sustainable: no, {lost}; {count(max(0, fits), 'such camera')} would fit"
    if more["share"] < 0:
        return "sustainable: yes, but without the usual reserve"
    cameras = count(max(0, more["cameras"]), "more such camera")
    at_least = "at least " if more["or_more"] else ""
    return f"sustainable: yes, {percent(more['share'])} headroom, {at_least}{cameras}"


def proof_line(plan: Mapping[str, Any]) -> str:
    """What was measured against what was predicted."""
    proof, predicted = plan["proof"], plan["predicted"]
    if proof is None:
        return "not proven: it was not run"
    if not proof["fps"]:
        return "proof: not one frame was processed"
    rates = f"{rate(proof['fps'])} frames per second measured, {rate(predicted['fps'])} predicted"
    times = f"p99 {milliseconds(proof['p99_ms'])} ms measured, {milliseconds(predicted['p99_ms'])} ms predicted"
    ratio = proof["ratio"]
    ratios = f"(x {ratio['fps']:.2f}); {times} (x {ratio['p99']:.2f})" if ratio["p99"] else f"(x {ratio['fps']:.2f})"
    return f"{'proven' if plan['verdict']['borne_out'] else 'not confirmed'}: {rates} {ratios}"


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
