# SPDX-License-Identifier: Apache-2.0
"""The ledger's fine histograms as Prometheus' coarse ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.metrics.text import Histograms

BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets, seconds. A bound is right to within 0.8 % of its value; sum and count are exact."""
BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in BOUNDS_S)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def times(name: str, documentation: str, labels: Sequence[str]) -> Histograms:
    """A family of times in seconds."""
    return Histograms(name, documentation, labels, BOUNDS_S)


def batch_metrics(sizes: Mapping[int, int]) -> Histograms:
    """``pipeline_batch_size``: frames per batch, of ``{size: batches}``."""
    family = Histograms("pipeline_batch_size", "Network inputs per batch", (), _BATCHES)
    at_most = [sum(count for size, count in sizes.items() if size <= bound) for bound in _BATCHES]
    family.add((), at_most, sum(sizes.values()), float(sum(size * count for size, count in sizes.items())))
    return family
