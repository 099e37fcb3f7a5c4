# SPDX-License-Identifier: Apache-2.0
"""Packet time stamps as frame times: order, breaks, and when they are not to be trusted."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pipeline.sources.rhythm import intervals, presented, same_beginning

MS = Fraction(1, 1000)


def test_packets_come_in_another_order_than_frames_are_shown() -> None:
    coded = [1000, 1160, 1080, 1040, 1120, 1320, 1240, 1200, 1280]
    assert presented(coded, MS, None) == [(0, pytest.approx(0.04 * index)) for index in range(9)]


def test_a_break_in_the_time_stamps_is_an_epoch_and_no_interval() -> None:
    coded = [90_000, 90_080, 90_040, 90_120, 5, 85, 45, 125]
    found = presented(coded, MS, 0.04)
    assert [epoch for epoch, _ in found] == [0] * 4 + [1] * 4
    mean_s, spread_s, longest_s = intervals(found)
    assert (mean_s, longest_s) == (pytest.approx(0.04), pytest.approx(0.04))
    assert spread_s < 1e-9


def test_a_packet_without_a_time_spoils_them_all() -> None:
    assert presented([0, None, 40], MS, 0.04) == []
    assert presented([], MS, 0.04) == []


@pytest.mark.parametrize(
    ("frames", "packets", "same"),
    [
        ([0.0, 0.04], [0.0, 0.0401, 0.08, 0.12], True),
        ([0.0, 0.04, 0.08], [0.0, 0.02, 0.04, 0.06, 0.08], False),  # two fields of a frame each, or hidden frames
        ([0.0, 0.08], [0.0, 0.04, 0.08], False),  # a frame was lost
        ([0.0, 0.04, 0.08], [0.0, 0.04], False),
        ([], [0.0, 0.04], False),
    ],
)
def test_packets_are_trusted_where_they_agree_with_what_was_decoded(
    frames: list[float], packets: list[float], same: bool
) -> None:
    assert same_beginning([(0, at) for at in frames], [(0, at) for at in packets]) is same


def test_intervals_of_almost_nothing() -> None:
    assert intervals([]) == intervals([(0, 1.0)]) == (0.0, 0.0, 0.0)
    assert intervals([(0, 1.0), (1, 7.0)]) == (0.0, 0.0, 0.0)
