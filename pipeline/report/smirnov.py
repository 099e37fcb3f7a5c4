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
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

ALPHA: Final = 0.001
LEAST: Final = 0.1
ENOUGH: Final = 30
"""Fewer frames than this in one of the runs tell nothing."""

Distribution = Mapping[str, Sequence[int]]
"""``buckets`` (ascending) and ``counts``, see :data:`pipeline.ledger.stats.Distributions`."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What the test found.

    Attributes:
        verdict: ``same``: no difference was found; ``differs``; ``too few``: samples to tell.
        d: the largest difference of the distribution functions, 0 to 1.
        limit: what it had to exceed.
    """

    verdict: Literal["same", "differs", "too few"]
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
    return Likeness("differs" if d > limit else "same", d, limit)


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
