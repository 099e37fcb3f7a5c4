# SPDX-License-Identifier: Apache-2.0
"""The intervals between successive moments, as a distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.measures.histogram import Histogram, buckets_of
from pipeline.measures.steps import ONE, Int64Array, Steps


class Intervals:
    """Those between successive arrivals.

    Attributes:
        histogram: nanoseconds.
    """

    __slots__ = ("_steps", "histogram")

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._steps = Steps(1)

    def add(self, arrived_ns: Int64Array) -> None:
        """Add arrivals, (n,) monotonic nanoseconds."""
        if arrived_ns.size:
            self.add_each([self], arrived_ns, ONE)

    @staticmethod
    def add_each(many: Sequence[Intervals], arrived_ns: Int64Array, firsts: Int64Array) -> None:
        """Those of each of ``many``: see :meth:`pipeline.measures.steps.Steps.add_each`."""
        runs = Steps.add_each([each._steps for each in many], arrived_ns[:, None], None, firsts)
        steps = np.maximum(runs.steps, 0)  # B-frames are read after the frame shown after them
        buckets = buckets_of(steps)
        totals, largest = np.add.reduceat(steps, firsts).tolist(), np.maximum.reduceat(steps, firsts).tolist()
        begins, ends = (runs.starts + runs.fresh).tolist(), (runs.starts + runs.lengths).tolist()
        for each, begin, end, total, maximum in zip(many, begins, ends, totals, largest, strict=True):
            if begin < end:
                each.histogram.record_counted(buckets[begin:end], total, maximum)

    def reset(self) -> None:
        """The next arrival ends no interval."""
        self._steps.reset()
