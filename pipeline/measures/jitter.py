# SPDX-License-Identifier: Apache-2.0
"""Two measures of unsteadiness. Each keeps several series side by side and takes many values of each at once: what they
cost is mostly paid per call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Columns = slice | npt.NDArray[np.intp]

_KEPT: Final = 15 / 16
_FREEZE_NS: Final = 150_000_000


class SmoothedChange:
    """``J += (|x - x_before| - J) / 16`` over successive values x: the filter of RFC 3550 section 6.4.1.

    Of transit times (arrival less capture) it is that section's interarrival jitter; of a stage's durations it tells
    the same of the stage. Of n changes d at once: ``J * q^n + (q^(n-1) d_1 + ... + q d_(n-1) + d_n) / 16``, q = 15/16.

    Attributes:
        value_ns: (series,) J; 0 before the second value.
    """

    def __init__(self, series: int = 1) -> None:
        self.value_ns: FloatArray = np.zeros(series)
        self._steps = _Steps(series)

    def add(self, values_ns: Int64Array, passed: npt.NDArray[np.bool_] | None = None) -> None:
        """Successive values, (n, series) nanoseconds; ``passed``, of the same shape: which are there (None: all)."""
        for columns, steps, fresh in self._steps.add(values_ns, passed):
            count = len(steps)
            weights = _KEPT ** np.arange(count - 1, -1, -1) / 16
            self.value_ns[columns] = self.value_ns[columns] * _KEPT ** (count - fresh) + weights @ np.abs(steps)

    def reset(self) -> None:
        """Forget the last values, not J: what comes next is compared with nothing."""
        self._steps.reset()

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(series,) whether there were two values to compare."""
        return self._steps.counts > 0


class IntervalJitter:
    """Standard deviation of the intervals between successive moments, and gaps.

    The running variance is merged block by block (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm
    for computing sample variances", 1979).

    Attributes:
        largest_ns: (series,) the longest interval.
        freezes: (series,) intervals above ``max(3 * nominal, nominal + 150 ms)``, the rule of WebRTC's ``freezeCount``.
    """

    def __init__(self, series: int = 1) -> None:
        self.largest_ns: Int64Array = np.zeros(series, np.int64)
        self.freezes: Int64Array = np.zeros(series, np.int64)
        self._steps = _Steps(series)
        self._mean: FloatArray = np.zeros(series)
        self._squares: FloatArray = np.zeros(series)

    def add(
        self, times_ns: Int64Array, passed: npt.NDArray[np.bool_] | None = None, nominal_ns: int | None = None
    ) -> None:
        """Successive moments, (n, series) monotonic nanoseconds; ``passed``, of the same shape: which are there (None:
        all). ``nominal_ns``: the interval that is no freeze; None: what is one cannot be said."""
        for columns, steps, fresh in self._steps.add(times_ns, passed):
            self.largest_ns[columns] = np.maximum(self.largest_ns[columns], steps.max(axis=0))
            if nominal_ns is not None:
                limit_ns = max(3 * nominal_ns, nominal_ns + _FREEZE_NS)
                self.freezes[columns] += (steps > limit_ns).sum(axis=0)
            new = len(steps) - fresh
            count = self._steps.counts[columns]
            mean = steps.sum(axis=0) / np.maximum(new, 1)
            off = steps - mean
            off[0] *= ~fresh  # no interval ends at the very first moment
            further = mean - self._mean[columns]
            share = new / np.maximum(count, 1)
            self._mean[columns] += further * share
            self._squares[columns] += (off * off).sum(axis=0) + further * further * share * (count - new)

    def reset(self) -> None:
        """Forget the last moments, not the values: what comes next ends no interval."""
        self._steps.reset()

    @property
    def value_ns(self) -> FloatArray:
        """(series,) standard deviation in nanoseconds; NaN before the second interval."""
        counts = self._steps.counts
        deviation: FloatArray = np.sqrt(self._squares / np.maximum(counts, 1))
        return np.where(counts > 1, deviation, np.nan)


class _Steps:
    """Differences between successive values of series side by side.

    Attributes:
        counts: (series,) how many there were.
    """

    def __init__(self, series: int) -> None:
        self.counts: Int64Array = np.zeros(series, np.int64)
        self._before: Int64Array = np.zeros(series, np.int64)
        self._fresh = np.ones(series, np.bool_)

    def add(
        self, values: Int64Array, passed: npt.NDArray[np.bool_] | None
    ) -> Iterator[tuple[Columns, npt.NDArray[Any], npt.NDArray[np.bool_]]]:
        """``(columns, steps, fresh)`` of series that go together: the (n, columns) steps to their n values, and of
        which of them the first value is the very first: its step is 0 and counts for nothing."""
        for columns, rows in _together(values.shape, passed):
            new, fresh = values[rows][:, columns], self._fresh[columns].copy()
            before = np.where(fresh, new[0], self._before[columns])
            self._before[columns] = new[-1]
            self._fresh[columns] = False
            self.counts[columns] += len(new) - fresh
            yield columns, new - np.concatenate([before[None], new[:-1]]), fresh

    def reset(self) -> None:
        """The next values are the very first again."""
        self._fresh[:] = True


def _together(shape: tuple[int, ...], passed: npt.NDArray[np.bool_] | None) -> Iterator[tuple[Columns, Columns]]:
    """``(columns, rows)`` such that each of these columns has values in exactly these rows; few where frames go one of
    a few ways. Columns without any are left out."""
    if passed is None or passed.all():
        if shape[0]:
            yield slice(None), slice(None)
        return
    alike: dict[bytes, list[int]] = {}
    for number, column in enumerate(np.ascontiguousarray(passed.T)):
        if column.any():
            alike.setdefault(column.tobytes(), []).append(number)
    for numbers in alike.values():
        yield np.array(numbers), np.flatnonzero(passed[:, numbers[0]])
