# SPDX-License-Identifier: Apache-2.0
"""Two programs agree when every box of one has its own partner in the other."""

from __future__ import annotations

import pytest

from pipeline.bench.agreement import compare

BOX = (10.0, 20.0, 30.0, 40.0, 1)


def moved(by: float, class_id: int = 1) -> tuple[float, ...]:
    return (*(corner + by for corner in BOX[:4]), class_id)


def test_the_same_detections_agree_wholly() -> None:
    clips = [[[BOX, moved(50)], []], [[BOX]]]
    found = compare(clips, clips)
    assert found.frames
    assert (found.ours, found.theirs, found.matched, found.share) == (3, 3, 3, 1.0)


@pytest.mark.parametrize(("other", "matched"), [(moved(1.5), 1), (moved(1.6), 0), (moved(0, class_id=0), 0)])
def test_corners_within_the_tolerance_and_one_class(other: tuple[float, ...], matched: int) -> None:
    assert compare([[[BOX]]], [[[other]]], tolerance_px=1.5).matched == matched


def test_one_corner_too_far_is_enough() -> None:
    assert compare([[[BOX]]], [[[(10.0, 20.0, 30.0, 45.0, 1)]]]).matched == 0


def test_a_detection_is_used_once() -> None:
    found = compare([[[BOX, BOX]]], [[[BOX]]])
    assert (found.matched, found.share) == (1, 0.5)


def test_extra_detections_of_either_side_lower_the_share() -> None:
    assert compare([[[BOX]]], [[[BOX, moved(50)]]]).share == 0.5
    assert compare([[[BOX, moved(50)]]], [[[BOX]]]).share == 0.5


def test_the_same_box_in_another_frame_is_no_match() -> None:
    assert compare([[[BOX], []]], [[[], [BOX]]]).matched == 0


@pytest.mark.parametrize("theirs", [[[[BOX]]], [[[BOX], []], [[]]], [[[BOX]], [[], []]]])
def test_missing_frames_are_noticed(theirs: list[list[list[tuple[float, ...]]]]) -> None:
    assert not compare([[[BOX]], [[]]], theirs).frames


def test_nothing_found_by_both_is_agreement() -> None:
    found = compare([[[]]], [[[]]])
    assert (found.share, found.frames) == (1.0, True)
