# SPDX-License-Identifier: Apache-2.0
"""Which layers must stay in float: a bounded search that ends as soon as the detections agree well enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.timing import now_ns
from pipeline.workshop.int8.graph import Ranges

GROUPS: Final = 6
"""Parts into which the layers between the first one and the heads are divided, in order."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to convert, and what came of it.

    Attributes:
        keep_float: numbers of the convolutions that stay in float.
        ranges: how activations got their range.
        agreement: share of boxes matched with the float model; 0 where the program could not be made or run.
        failure: why it could not, or empty.
    """

    keep_float: frozenset[int]
    ranges: Ranges
    agreement: float
    failure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "float_layers": sorted(self.keep_float),
            "ranges": self.ranges,
            "agreement": round(self.agreement, 6),
            "failure": self.failure or None,
        }


def search(
    attempt: Callable[[frozenset[int], Ranges], Attempt],
    layers: int,
    heads: Sequence[int],
    wanted: float,
    *,
    seconds: float = 600.0,
) -> list[Attempt]:
    """Try ways to convert until one agrees by at least ``wanted``; at most 4 + 2 x :data:`GROUPS` of them.

    First everything, then the last layers of the heads and the first layer in float, then each of six groups of layers
    in between, then those groups together, the one that helped most first.

    Args:
        attempt: converts and compares.
        layers: number of convolutions.
        heads: numbers of the last ones.
        wanted: agreement that is enough.
        seconds: no attempt begins later than this.

    Returns:
        the attempts in order; :func:`best` of them is the result.
    """
    attempts: list[Attempt] = []
    began_ns = now_ns()

    def enough(keep: frozenset[int], ranges: Ranges) -> bool:
        """One more attempt, unless it would leave nothing in INT8; whether to end here."""
        if len(keep) < layers and all((done.keep_float, done.ranges) != (keep, ranges) for done in attempts):
            attempts.append(attempt(keep, ranges))
        return best(attempts).agreement >= wanted or now_ns() - began_ns > seconds * 1e9

    nothing: frozenset[int] = frozenset()
    if enough(nothing, "minmax") or enough(nothing, "histogram"):
        return attempts
    ranges = best(attempts).ranges
    last = frozenset(heads)
    ends = last | {0}
    if enough(last, ranges) or enough(ends, ranges):
        return attempts
    between = [number for number in range(layers) if number not in ends]
    size = -(-len(between) // GROUPS) if between else 1
    groups = [frozenset(between[begin : begin + size]) for begin in range(0, len(between), size)]
    helped: dict[frozenset[int], float] = {}
    for group in groups:
        if enough(ends | group, ranges):
            return attempts
        helped[group] = next((done.agreement for done in attempts if done.keep_float == ends | group), 0.0)
    kept = ends
    for group in sorted(groups, key=lambda group: -helped[group])[:-1]:
        kept = kept | group
        if enough(kept, ranges):
            break
    return attempts


def best(attempts: Sequence[Attempt]) -> Attempt:
    """The one that agrees most; of equals the one with the fewest layers in float."""
    return max(attempts, key=lambda done: (done.agreement, -len(done.keep_float)))
