# SPDX-License-Identifier: Apache-2.0
"""The two-sample test on buckets, against scipy's on the samples themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measures import Histogram, bucket_of, bucket_start
from pipeline.report.smirnov import ALPHA, ENOUGH, LEAST, alike, distance

durations = st.lists(st.integers(0, 10**11), min_size=4, max_size=80)


def in_buckets(values: list[int]) -> dict[str, list[int]]:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    buckets, counts = histogram.sparse()
    return {"buckets": buckets, "counts": counts}


@given(durations, durations)
def test_the_distance_is_that_of_the_same_values_rounded_to_their_buckets(one: list[int], other: list[int]) -> None:
    stats = pytest.importorskip("scipy.stats")  # half a second, which only who needs it shall pay
    rounded = [[bucket_start(bucket_of(value)) for value in values] for values in (one, other)]
    exact = stats.ks_2samp(*rounded, method="asymp").statistic
    assert distance(in_buckets(one), in_buckets(other)) == pytest.approx(exact, abs=1e-12)


@given(durations, durations)
def test_buckets_never_make_the_distance_greater(one: list[int], other: list[int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    exact = stats.ks_2samp(one, other, method="asymp").statistic
    assert distance(in_buckets(one), in_buckets(other)) <= exact + 1e-12


@pytest.mark.parametrize(("n", "m"), [(30, 30), (100, 50), (60, 5000)])
def test_the_limit_is_where_chance_would_exceed_it_once_in_a_thousand(n: int, m: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    limit = alike(in_buckets([1] * n), in_buckets([1] * m)).limit
    assert stats.kstwobign.sf(limit * np.sqrt(n * m / (n + m))) == pytest.approx(ALPHA, rel=1e-6)


def test_with_many_frames_a_difference_must_be_worth_a_word() -> None:
    assert alike(in_buckets([1] * 10**5), in_buckets([1] * 10**5)).limit == LEAST


def test_golden() -> None:
    quick, slow = in_buckets([10_000_000] * 100), in_buckets([10_000_000] * 60 + [20_000_000] * 40)
    found = alike(quick, slow)
    assert (found.verdict, found.d, str(found)) == ("differs", 0.4, "differs (D=0.40)")
    assert str(alike(quick, quick)) == "same"
    few = in_buckets([1] * (ENOUGH - 1))
    assert str(alike(quick, few)) == "too few samples"


@pytest.mark.parametrize("seed", range(5))
def test_two_runs_of_one_distribution_are_the_same_and_a_tenth_slower_is_not(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (random.lognormal(16.5, 0.1, 2000).astype(int).tolist() for _ in range(2))
    assert alike(in_buckets(one), in_buckets(other)).verdict == "same"
    assert alike(in_buckets(one), in_buckets([value * 11 // 10 for value in other])).verdict == "differs"


@pytest.mark.parametrize("slow", [10, 20, 60])
def test_a_few_frames_that_are_much_slower_are_told(slow: int) -> None:
    usual = [10_000_000] * 2000
    late = usual[slow:] + [80_000_000] * slow
    found = [alike(in_buckets(one), in_buckets(other)) for one, other in ((usual, late), (late, usual))]
    # Ten of 2,000 do not even move p99.
    assert [str(one) for one in found] == ["same" if slow == 10 else "tail differs"] * 2
    assert found[0].as_dict()["verdict"] == found[0].verdict


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_heavy_tails_of_one_distribution_are_the_same(sigma: float) -> None:
    random = np.random.default_rng(round(sigma * 10))
    for frames in (40, 300, 3000):
        for _ in range(30):
            one, other = (in_buckets(random.lognormal(16.5, sigma, frames).astype(int).tolist()) for _ in range(2))
            assert alike(one, other).verdict == "same"
