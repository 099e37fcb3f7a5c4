# SPDX-License-Identifier: Apache-2.0
"""What many durations and moments come to: distributions and jitter."""

from pipeline.measures.histogram import (
    BUCKETS,
    Histogram,
    bucket_of,
    bucket_start,
    buckets_of,
    last_buckets,
    middles_of,
    ranks_of,
)
from pipeline.measures.intervals import Intervals
from pipeline.measures.jitter import IntervalJitter, SmoothedChange
from pipeline.measures.steps import ONE, in_order

__all__ = [
    "BUCKETS",
    "ONE",
    "Histogram",
    "IntervalJitter",
    "Intervals",
    "SmoothedChange",
    "bucket_of",
    "bucket_start",
    "buckets_of",
    "in_order",
    "last_buckets",
    "middles_of",
    "ranks_of",
]
