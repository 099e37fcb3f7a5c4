# SPDX-License-Identifier: Apache-2.0
"""Differences between successive values of series side by side, of many owners at once: what they cost is mostly paid
per call of numpy, not per value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_COUNTS, _BEFORE, _FRESH = range(3)


class Runs(NamedTuple):
    """The steps to many values, run by run: a run holds the values of one series of one owner.

    Attributes:
        owners, series: (runs,) whose each is.
        steps: (values,) differences from the value before, run after run. That to the very first value is 0.
        starts, lengths: (runs,) where each run begins, and how many values it has; at least one.
        fresh: (runs,) whether it begins with the very first value, whose step counts for nothing.
        counts: (runs,) steps of that series and owner so far, these included.
    """

    owners: Int64Array
    series: Int64Array
    steps: npt.NDArray[Any]
    starts: Int64Array
    lengths: Int64Array
    fresh: BoolArray
    counts: Int64Array


class Steps:
    """Remembers the last value of each of some series. Not locked."""

    __slots__ = ("_state",)

    def __init__(self, series: int) -> None:
        self._state: Int64Array = np.zeros((3, series), np.int64)  # in one piece, to be gathered in one
        self._state[_FRESH] = 1

    @property
    def counts(self) -> Int64Array:
        """(series,) how many differences there were."""
        counts: Int64Array = self._state[_COUNTS]
        return counts

    def reset(self) -> None:
        """The next values are the very first again."""
        self._state[_FRESH] = 1

    @staticmethod
    def add_each(many: Sequence[Steps], values: Int64Array, passed: BoolArray | None, firsts: Int64Array) -> Runs:
        """Successive values of each of ``many``.

        Args:
            many: whose they are, each with as many series.
            values: (n, series), first those of the first one, then those of the next, ...
            passed: of the same shape, which of them are there; None: all.
            firsts: (len(many),) ascending, the first row of each; each has one at least.
        """
        owners, series = len(many), values.shape[1]
        of_owner, of_series = _places(owners, series)
        if passed is None or passed.all():
            found = values.T.ravel()
            starts = (np.arange(0, found.size, len(values))[:, None] + firsts).ravel()
            lengths = np.append(starts[1:], found.size) - starts
        else:
            found = values.T[passed.T]
            lengths = np.add.reduceat(passed, firsts, axis=0, dtype=np.int64).T.ravel()
            if not lengths.all():
                used = lengths.nonzero()[0]
                of_owner, of_series, lengths = of_owner[used], of_series[used], lengths[used]
            starts = lengths.cumsum() - lengths
        state = np.concatenate([each._state for each in many]).reshape(owners, 3, series)
        counts, before, fresh = state[of_owner, :, of_series].T
        new = fresh > 0
        previous = np.empty_like(found)
        previous[1:] = found[:-1]
        previous[starts] = np.where(new, found[starts], before)
        counts = counts + lengths - new
        state[of_owner, _COUNTS, of_series] = counts
        state[of_owner, _BEFORE, of_series] = found[starts + lengths - 1]
        state[of_owner, _FRESH, of_series] = 0
        for each, own in zip(many, state, strict=True):
            each._state = own.copy()  # a part would keep the whole alive, for as long as nothing comes of this one
        return Runs(of_owner, of_series, found - previous, starts, lengths, new, counts)


def in_order(times_ns: Int64Array, firsts: Int64Array, newest_ns: Sequence[Int64Array]) -> Int64Array:
    """Times (n, series) of several owners, of each and each series as they followed each other.

    Frames are shown in another order than their packets come in, and overtake each other on their way. ``firsts``: as
    in :meth:`Steps.add_each`. ``newest_ns``: (series,) of each owner, the latest times before, which none of these
    comes before: what was passed by earlier counts as passed with it. They are moved on, in place.
    """
    ordered = np.empty_like(times_ns)
    for newest, begin, end in zip(newest_ns, firsts.tolist(), [*firsts[1:].tolist(), len(times_ns)], strict=True):
        own = ordered[begin:end]
        own[...] = times_ns[begin:end]
        own.sort(axis=0)
        np.maximum(own, newest, out=own)
        newest[...] = own[-1]
    return ordered


@lru_cache(64)
def _places(owners: int, series: int) -> tuple[Int64Array, Int64Array]:
    """Of all runs, series by series: whose each is, and of which series."""
    return np.tile(np.arange(owners), series), np.repeat(np.arange(series), owners)


ONE: Final = np.zeros(1, np.int64)
"""``firsts`` of a single owner."""
