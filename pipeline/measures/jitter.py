# SPDX-License-Identifier: Apache-2.0
"""Two measures of unsteadiness. Each keeps several series side by side and takes many values of each at once, also of
many owners: what they cost is mostly paid per call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.measures.steps import ONE, BoolArray, Int64Array, Steps

FloatArray = npt.NDArray[np.float64]

_KEPT: Final = 15 / 16
_POWERS: Final[FloatArray] = np.power(_KEPT, np.arange(1024))
"""What is left of a change after 0, 1, 2, ... others; after so many it is nothing (1e-29)."""
_FREEZE_NS: Final = 150_000_000
_NO_LIMIT: Final = 1 << 62
_LARGEST, _FREEZES = range(2)
_MEAN, _SQUARES = range(2)


class SmoothedChange:
    """``J += (|x - x_before| - J) / 16`` over successive values x: the filter of RFC 3550 section 6.4.1.

    Of transit times (arrival less capture) it is that section's interarrival jitter; of a stage's durations it tells
    the same of the stage. Of n changes d at once: ``J * q^n + (q^(n-1) d_1 + ... + q d_(n-1) + d_n) / 16``, q = 15/16.

    Attributes:
        value_ns: (series,) J; 0 before the second value.
    """

    __slots__ = ("_steps", "value_ns")

    def __init__(self, series: int = 1) -> None:
        self.value_ns: FloatArray = np.zeros(series)
        self._steps = Steps(series)

    def add(self, values_ns: Int64Array, passed: BoolArray | None = None) -> None:
        """Successive values, (n, series) nanoseconds; ``passed``, of the same shape: which are there (None: all)."""
        if len(values_ns):
            self.add_each([self], values_ns, passed, ONE)

    @staticmethod
    def add_each(
        many: Sequence[SmoothedChange], values_ns: Int64Array, passed: BoolArray | None, firsts: Int64Array
    ) -> None:
        """Those of each of ``many``: see :meth:`pipeline.measures.steps.Steps.add_each`."""
        runs = Steps.add_each([each._steps for each in many], values_ns, passed, firsts)
        if not runs.steps.size:
            return
        later = np.repeat(runs.starts + runs.lengths - 1, runs.lengths) - np.arange(runs.steps.size)
        weights = _powers(later) / 16
        values = np.concatenate([each.value_ns for each in many]).reshape(len(many), -1)
        values[runs.owners, runs.series] *= _powers(runs.lengths - runs.fresh)
        values[runs.owners, runs.series] += np.add.reduceat(weights * np.abs(runs.steps), runs.starts)
        for each, own in zip(many, values, strict=True):
            each.value_ns = own.copy()

    def reset(self) -> None:
        """Forget the last values, not J: what comes next is compared with nothing."""
        self._steps.reset()

    @property
    def known(self) -> BoolArray:
        """(series,) whether there were two values to compare."""
        return self._steps.counts > 0


class IntervalJitter:
    """Standard deviation of the intervals between successive moments, and gaps.

    The running variance is merged block by block (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm
    for computing sample variances", 1979).
    """

    __slots__ = ("_gaps", "_moments", "_steps")

    def __init__(self, series: int = 1) -> None:
        self._gaps: Int64Array = np.zeros((2, series), np.int64)
        self._moments: FloatArray = np.zeros((2, series))
        self._steps = Steps(series)

    def add(self, times_ns: Int64Array, passed: BoolArray | None = None, nominal_ns: int | None = None) -> None:
        """Successive moments, (n, series) monotonic nanoseconds; ``passed``, of the same shape: which are there (None:
        all). ``nominal_ns``: the interval that is not a freeze; None: what is one cannot be said."""
        if len(times_ns):
            self.add_each([self], times_ns, passed, ONE, [nominal_ns])

    @staticmethod
    def add_each(
        many: Sequence[IntervalJitter],
        times_ns: Int64Array,
        passed: BoolArray | None,
        firsts: Int64Array,
        nominal_ns: Sequence[int | None],
    ) -> None:
        """Those of each of ``many``: see :meth:`pipeline.measures.steps.Steps.add_each`."""
        runs = Steps.add_each([each._steps for each in many], times_ns, passed, firsts)
        if not runs.steps.size:
            return
        steps, starts, lengths, at = runs.steps, runs.starts, runs.lengths, (runs.owners, runs.series)
        gaps = np.concatenate([each._gaps for each in many]).reshape(len(many), 2, -1)
        largest, freezes = gaps[:, _LARGEST], gaps[:, _FREEZES]
        largest[at] = np.maximum(largest[at], np.maximum.reduceat(steps, starts))
        limits = np.array([_NO_LIMIT if each is None else max(3 * each, each + _FREEZE_NS) for each in nominal_ns])
        freezes[at] += np.add.reduceat(steps > np.repeat(limits[runs.owners], lengths), starts, dtype=np.int64)
        moments = np.concatenate([each._moments for each in many]).reshape(len(many), 2, -1)
        means, squares = moments[:, _MEAN], moments[:, _SQUARES]
        new = lengths - runs.fresh
        mean = np.add.reduceat(steps, starts) / np.maximum(new, 1)
        off = steps - np.repeat(mean, lengths)
        off[starts] *= ~runs.fresh  # no interval ends at the very first moment
        further = mean - means[at]
        share = new / np.maximum(runs.counts, 1)
        means[at] += further * share
        squares[at] += np.add.reduceat(off * off, starts) + further * further * share * (runs.counts - new)
        for each, own_gaps, own_moments in zip(many, gaps, moments, strict=True):
            each._gaps, each._moments = own_gaps.copy(), own_moments.copy()

    def reset(self) -> None:
        """Forget the last moments, not the values: what comes next ends no interval."""
        self._steps.reset()

    @property
    def largest_ns(self) -> Int64Array:
        """(series,) the longest interval."""
        largest: Int64Array = self._gaps[_LARGEST]
        return largest

    @property
    def freezes(self) -> Int64Array:
        """(series,) intervals above ``max(3 * nominal, nominal + 150 ms)``, the rule of WebRTC's ``freezeCount``."""
        freezes: Int64Array = self._gaps[_FREEZES]
        return freezes

    @property
    def value_ns(self) -> FloatArray:
        """(series,) standard deviation in nanoseconds; NaN before the second interval."""
        counts = self._steps.counts
        deviation: FloatArray = np.sqrt(self._moments[_SQUARES] / np.maximum(counts, 1))
        return np.where(counts > 1, deviation, np.nan)


def _powers(exponents: Int64Array) -> FloatArray:
    powers: FloatArray = _POWERS[np.minimum(exponents, _POWERS.size - 1)]
    return powers
