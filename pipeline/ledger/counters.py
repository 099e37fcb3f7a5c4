# SPDX-License-Identifier: Apache-2.0
"""What sources counted, added up."""

from __future__ import annotations

from collections import Counter

from pipeline.frame import SourceCounters


def summed(first: SourceCounters, later: SourceCounters) -> SourceCounters:
    """Both together; no picture stands still any more."""
    return SourceCounters(
        decode_errors=first.decode_errors + later.decode_errors,
        skipped=first.skipped + later.skipped,
        discontinuities=first.discontinuities + later.discontinuities,
        reconnects=first.reconnects + later.reconnects,
        reconnects_by_cause=dict(Counter(first.reconnects_by_cause) + Counter(later.reconnects_by_cause)),
    )
