# SPDX-License-Identifier: Apache-2.0
"""Frames that were late, as exemplars of the histograms that they are in: a point of a graph leads to its frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pipeline.ledger import Late
from pipeline.metrics.text import Exemplar
from pipeline.timing import STAGES, WAITS, Anchor


@dataclass(frozen=True, slots=True)
class Shown:
    """How late frames are shown.

    Attributes:
        anchor: when it was; the same at each scrape, so that what was shown before stays the same.
        trace_id: the number under which a tracing system has the frame, if it has it.
    """

    anchor: Anchor
    trace_id: Callable[[Late], str | None] = lambda late: None


def exemplars(late: Iterable[Late], shown: Shown) -> Mapping[str, list[Exemplar]]:
    """By stage the frames that it made late, and all of them as ``end_to_end``; in the order in which they ended.

    Prometheus keeps the exemplars of a bucket that it was shown before, and refuses older ones after newer ones.
    """
    found: dict[str, list[Exemplar]] = {"end_to_end": []}
    for one in sorted(late, key=lambda one: one.ended_ns):
        labels, at_s = {"frame": str(one.frame)}, shown.anchor.wall_ns(one.ended_ns) / 1e9
        trace_id = shown.trace_id(one)
        if trace_id is not None:
            labels["trace_id"] = trace_id
        found["end_to_end"].append(Exemplar(labels, one.took_ns / 1e9, at_s))
        stage = one.part if one.part in STAGES else "queue"
        parts = (one.part,) if one.part in STAGES else WAITS
        took_ns = sum(one.parts.get(part, 0) for part in parts)
        found.setdefault(stage, []).append(Exemplar(labels, took_ns / 1e9, at_s))
    return found
