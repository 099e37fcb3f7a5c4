# SPDX-License-Identifier: Apache-2.0
"""Distributions against numpy, stages against their sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measures import Histogram
from pipeline.timing import STAGES, Mark, elapsed, new_trace, part_times, rfc3339, stage_times

durations = st.lists(st.integers(0, 2**62), min_size=1, max_size=200)


@given(durations, st.sampled_from([1, 25, 50, 90, 95, 99, 99.9, 100]))
def test_percentiles_are_within_one_percent_of_numpy(values: list[int], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = int(np.percentile(np.array(values, object), percent, method="inverted_cdf"))
    measured = histogram.percentile(percent)
    assert measured is not None
    assert abs(measured - exact) <= 0.01 * exact
    assert histogram.total == sum(values)
    assert histogram.maximum == max(values)


@given(durations, durations)
def test_merging_equals_recording_everything(first: list[int], second: list[int]) -> None:
    one, two, both = Histogram(), Histogram(), Histogram()
    for value in first:
        one.record(value)
        both.record(value)
    for value in second:
        two.record(value)
        both.record(value)
    one.merge(two)
    assert (one.sparse(), one.count, one.total, one.maximum) == (both.sparse(), both.count, both.total, both.maximum)


def test_an_empty_histogram_has_no_numbers() -> None:
    assert Histogram().percentile(50) is None
    assert Histogram().mean is None


def test_a_negative_duration_is_a_fault() -> None:
    with pytest.raises(ValueError, match="negative"):
        Histogram().record(-1)


@given(
    st.lists(st.integers(0, 10**9), min_size=len(Mark), max_size=len(Mark)), st.sets(st.sampled_from(list(Mark)[1:]))
)
def test_the_stages_of_a_frame_sum_to_its_end_to_end_time(gaps: list[int], skipped: set[Mark]) -> None:
    trace = new_trace()
    now = 1
    for mark, gap in zip(Mark, gaps, strict=True):
        now += gap
        trace[mark] = 0 if mark in skipped else now
    for last in Mark:
        times = stage_times(trace, last)
        assert sum(times.values()) == elapsed(trace, last)
        assert set(times) <= set(STAGES)


def test_each_interval_belongs_to_the_stage_that_it_ends() -> None:
    trace = [0] * len(Mark)
    at = 100
    for mark, gap in zip(Mark, [0, *(2**power for power in range(16))], strict=True):
        trace[mark] = at = at + gap
    assert stage_times(trace) == {
        "decode": 2**0,
        "preprocess": 2**2 + 2**7,
        "queue": 2**1 + sum(2**power for power in (3, 4, 5, 6, 8, 11, 13, 14)),
        "infer": 2**9,
        "postprocess": 2**10,
        "follow": 2**12,
        "sink": 2**15,
    }
    assert part_times(trace) == {
        "decode": 2**0,
        "decoder": 2**1,
        "preprocess": 2**2 + 2**7,
        "scheduler": 2**3 + 2**4,
        "batch": 2**5 + 2**6 + 2**8,
        "infer": 2**9,
        "postprocess": 2**10,
        "reorder": 2**11,
        "follow": 2**12,
        "playout": 2**13,
        "outlet": 2**14,
        "sink": 2**15,
    }


def test_wall_time_is_rfc_3339() -> None:
    assert rfc3339(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"
