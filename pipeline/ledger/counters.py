# SPDX-License-Identifier: Apache-2.0
"""What sources counted, added up."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

from pipeline.frame import SourceCounters


def summed(first: SourceCounters, later: SourceCounters) -> SourceCounters:
    """Both together: numbers are added up, words are the later one's, and no picture stands still."""
    both = SourceCounters()
    for name in (field.name for field in fields(SourceCounters)):
        one, two = getattr(first, name), getattr(later, name)
        if isinstance(one, int):
            setattr(both, name, one + two)
        else:
            setattr(both, name, dict(Counter(one) + Counter(two)) if isinstance(one, dict) else two or one)
    both.still_since_ns = 0
    return both
