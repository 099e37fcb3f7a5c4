# SPDX-License-Identifier: Apache-2.0
"""How long a batch takes, by how much is in it: what waiting for a fuller one can save."""

from __future__ import annotations

from typing import Final

_FORGET: Final = 1 / 64
"""By so much what was measured before counts less with each batch."""
_SPREAD: Final = 0.05
"""Least variance of the sizes of batches from which a line through their times says anything."""


class ServiceTimes:
    """Measured times of batches, and the line ``fixed + items * each`` through them. Not locked.

    The line is that of least squares, what was measured lately weighs more. Its constant part is what every batch
    costs, however little is in it: so much time of a worker is saved where two batches become one.

    Where a device has two batches of a worker at a time, the second one waits. That counts for when a frame will be
    done that is sent off now, and not for what a batch costs.

    Attributes:
        usual_ns: smoothed time from the submission of a batch, of whatever size, to its detections; 0 while it is not
            known.
    """

    __slots__ = ("_n", "_nn", "_nt", "_t", "_weight", "usual_ns")

    def __init__(self) -> None:
        self.usual_ns = 0.0
        self._weight = self._n = self._nn = self._t = self._nt = 0.0

    def add(self, items: int, duration_ns: int, waited_ns: int = 0) -> None:
        """A batch of ``items`` took ``duration_ns``, after it had waited behind another one for ``waited_ns``."""
        until_done_ns = waited_ns + duration_ns
        self.usual_ns += (until_done_ns - self.usual_ns) * (1 / 8 if self.usual_ns else 1)
        kept = 1.0 - _FORGET
        self._weight = self._weight * kept + 1.0
        self._n = self._n * kept + items
        self._nn = self._nn * kept + items * items
        self._t = self._t * kept + duration_ns
        self._nt = self._nt * kept + items * duration_ns

    def forget_usual(self) -> None:
        """What batches took lately is too long ago: the next one tells anew."""
        self.usual_ns = 0.0

    @property
    def saved_ns(self) -> float:
        """What is saved where a frame joins a batch and is not one of its own; 0 while only one size of batch is
        known."""
        if not self._weight:
            return 0.0
        mean, mean_ns = self._n / self._weight, self._t / self._weight
        variance = self._nn / self._weight - mean * mean
        if variance < _SPREAD:
            return 0.0
        each_ns = max(0.0, (self._nt / self._weight - mean * mean_ns) / variance)
        return min(max(0.0, mean_ns - mean * each_ns), self.usual_ns)
