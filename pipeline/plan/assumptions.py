# SPDX-License-Identifier: Apache-2.0
"""What has to hold for a plan to hold."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.figures import count, listed, memory, percent
from pipeline.plan.headroom import MOST_MISSING, RESERVE
from pipeline.plan.outcome import BUSY
from pipeline.plan.run import Plan

LITTLE = 0.5
"""Below this share of the cores, they take more time for the same work (design/plan.md)."""
FULL = 0.75
"""Above this share of the cores, latencies depend on more than was measured (design/plan.md)."""


def assumptions(plan: Plan) -> Iterator[str]:
    """A sentence each."""
    costs, copies = plan.costs, plan.copies.made
    yield (
        "Streams were played by copies that are repeated at the pace of their own time stamps: other scenes, other "
        "times of day and other bit rates cost more or less."
    )
    lengths = [copy.seconds for copy in copies if copy.seconds is not None]
    if lengths:
        yield (
            f"Of {count(len(lengths), 'camera')} at least {min(lengths):.1f} s of packets were copied; receiving them "
            "over the network costs more, and jitter of the network is not in it."
        )
    if isolated := [copy.stream.name for copy in copies if copy.isolated]:
        most_ms = max(costs.streams[name].isolation_ms for name in isolated)
        most_mb = max(costs.streams[name].isolation_mb for name in isolated)
        yield (
            f"A process of its own (`isolation`) reads {listed(isolated)}: up to {most_ms:.2f} ms of CPU time more for "
            f"each decoded frame, and {memory(most_mb)} each; other programs need memory as well."
        )
    yield "Cameras know nothing of each other: their frames are due at different times, drawn at random, always alike."
    yield (
        f"What fits leaves {percent(RESERVE)} of the cores free and loses no more than {percent(MOST_MISSING)} of the "
        "frames of any stream."
    )
    yield "Sinks wrote into a temporary folder; the dashboard and its live pictures were off."
    if costs.free < BUSY:
        yield (
            f"The machine was busy with other things: {percent(costs.free)} of its cores were free while it was "
            f"measured, and the prediction counts on {costs.cores:.2f} of {costs.allowed}."
        )
    if plan.predicted.cores < LITTLE * costs.cores:
        yield (
            "Little is asked of the cores, and one that sleeps between two frames is slow when it wakes: up to twice "
            "the CPU time that is predicted was measured then. What fits is about cores that are busy."
        )
    if plan.predicted.cores > FULL * costs.cores:
        yield (
            f"More than {percent(FULL)} of the cores are busy: a disturbance that a machine with room takes "
            "in its stride makes queues then, and p99 may be several times what is predicted."
        )
    if plan.proof is not None and lengths and plan.proof.seconds > min(lengths):
        yield "Copies shorter than the proof began anew in it, which costs a moment each time."
