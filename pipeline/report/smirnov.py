# SPDX-License-Identifier: Apache-2.0
"""Whether two runs spent their time alike: the two-sample test of Kolmogorov and Smirnov, on the buckets of reports.

``D`` is the largest difference between the two empirical distribution functions. Of two samples of one distribution,
``P(D > x)`` tends to ``2 * exp(-2 * x**2 * n * m / (n + m))``, the first term of Kolmogorov's series
(``scipy.special.kolmogorov``; the terms left out are below 1e-12 here). Solved for ``x`` at the probability
:data:`ALPHA` that is the limit. In buckets ``D`` can be found smaller than it is, never larger, so that what is called
different is so; what is called the same may differ by less than a bucket's width, 1.6 %.

Frames are not independent of each other (all of a batch take as long as it), so there are fewer samples than the test
counts, and with enough of them any two runs differ. Hence a strict :data:`ALPHA`, and no ``D`` below :data:`LEAST` is
called a difference: a tenth of the frames would have to move for one.

So a few slow frames do not show in ``D``, and they are what people see. Where it finds no difference the tails are
compared: how many frames of either run took more than :data:`LONGER` times as long as 99 of 100 frames of the other.
They differ where that is one of a hundred or more, and more than chance would have it by :data:`SIGMAS` standard
deviations of the difference of two proportions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pipeline.measures import bucket_start

ALPHA: Final = 0.001
LEAST: Final = 0.1
ENOUGH: Final = 30
"""Fewer frames than this in one of the runs tell nothing."""

LONGER: Final = 1.5
TAIL: Final = 0.01
SIGMAS: Final = 4.0

Distribution = Mapping[str, Sequence[int]]
"""``buckets`` (ascending) and ``counts``, see :data:`pipeline.ledger.stats.Distributions`."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What the test found.

    Attributes:
        verdict: ``same``: no difference was found; ``differs``; ``tail differs``: only the slowest few frames do; ``too
            few``: samples to tell.
        d: the largest difference of the distribution functions, 0 to 1.
        limit: what it had to exceed.
    """

    verdict: Literal["same", "differs", "tail differs", "too few"]
    d: float
    limit: float

    def __str__(self) -> str:
        return {"differs": f"differs (D={self.d:.2f})", "too few": "too few samples"}.get(self.verdict, self.verdict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"verdict": self.verdict, "d": round(self.d, 6), "limit": round(self.limit, 6)}


def alike(first: Distribution, second: Distribution) -> Likeness:
    """Compare two distributions; both hold at least one value."""
    n, m = sum(first["counts"]), sum(second["counts"])
    limit = max(LEAST, math.sqrt(-math.log(ALPHA / 2) / 2) * math.sqrt((n + m) / (n * m)))
    d = distance(first, second)
    if min(n, m) < ENOUGH:
        return Likeness("too few", d, limit)
    if d > limit:
        return Likeness("differs", d, limit)
    return Likeness("tail differs" if _slower(first, second) or _slower(second, first) else "same", d, limit)


def _slower(first: Distribution, second: Distribution) -> bool:
    """Whether the slowest frames of ``second`` are much slower than those of ``first``."""
    n, m = sum(first["counts"]), sum(second["counts"])
    long = LONGER * _p99(first)
    a, b = _above(first, long), _above(second, long)
    both = (a + b) / (n + m)
    return b >= TAIL * m and b / m - a / n > SIGMAS * math.sqrt(both * (1 - both) * (1 / n + 1 / m))


def _p99(distribution: Distribution) -> int:
    left = math.ceil(0.99 * sum(distribution["counts"]))
    for bucket, count in zip(distribution["buckets"], distribution["counts"], strict=True):
        left -= count
        if left <= 0:
            return bucket_start(bucket)
    raise ValueError("a distribution without a value")


def _above(distribution: Distribution, value: float) -> int:
    each = zip(distribution["buckets"], distribution["counts"], strict=True)
    return sum(count for bucket, count in each if bucket_start(bucket) > value)


def distance(first: Distribution, second: Distribution) -> float:
    """``D``: the largest difference between the shares of values up to the end of any bucket."""
    steps: dict[int, list[int]] = {}
    for which, distribution in enumerate((first, second)):
        for bucket, count in zip(distribution["buckets"], distribution["counts"], strict=True):
            steps.setdefault(bucket, [0, 0])[which] += count
    n, m = sum(first["counts"]), sum(second["counts"])
    below, most = [0, 0], 0
    for bucket in sorted(steps):
        below[0] += steps[bucket][0]
        below[1] += steps[bucket][1]
        most = max(most, abs(below[0] * m - below[1] * n))  # in integers: exact
    return most / (n * m)
