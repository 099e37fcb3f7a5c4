# SPDX-License-Identifier: Apache-2.0
"""From windows to people: shrinking, merging, parts, thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.detectors.people import decode_people
from pipeline.detectors.people.postprocess import confidence_of, shrink
from tests.opencv_grouping import components, group_windows


def window(x: float, y: float, scale: float, margin: float) -> list[float]:
    return [x, y, x + 64 * scale, y + 128 * scale, margin, 0.0]


def decode(*windows: list[float], confidence: float = 0.1, iou: float = 0.5) -> np.ndarray:
    ordered = sorted(windows, key=lambda row: -row[4])
    return decode_people(torch.tensor([ordered]), confidence, iou)[0]


def test_confidence_is_the_stated_logistic() -> None:
    margins = np.array([-0.3, 0.0, 0.5, 1.0, 5.0], np.float32)
    expected = [1 / (1 + math.exp(-(4.0 * float(m) - 2.4))) for m in margins]
    np.testing.assert_allclose(confidence_of(margins), expected, rtol=1e-5)
    assert confidence_of(np.array([0.5], np.float32))[0] == pytest.approx(0.4, abs=0.002)


def test_a_window_is_cut_down_to_the_person() -> None:
    (found,) = decode(window(100, 50, 2.0, 1.0))
    x1, y1, x2, y2, confidence, class_id = found
    assert 100 < x1 < x2 < 228
    assert 50 < y1 < y2 < 306
    assert (y2 - y1) / 256 == pytest.approx(0.77, abs=0.01)
    assert (x2 - x1) / 128 == pytest.approx(0.57, abs=0.01)
    assert confidence == pytest.approx(1 / (1 + math.exp(-1.6)), abs=1e-4)
    assert class_id == 0


def test_neighbouring_windows_become_one_box_between_them_with_the_best_margin() -> None:
    (found,) = decode(window(100, 100, 1.0, 1.0), window(108, 100, 1.0, 1.0), window(104, 92, 1.0, 0.2))
    assert found[0] + found[2] == pytest.approx(2 * (100 + 4 + 32), abs=0.1)
    assert found[4] == pytest.approx(1 / (1 + math.exp(-1.6)), abs=1e-4)


def test_people_side_by_side_stay_two_the_surer_first() -> None:
    found = decode(window(100, 100, 1.0, 0.6), window(150, 100, 1.0, 1.2))
    assert len(found) == 2
    assert found[0, 4] > found[1, 4]
    assert found[0, 0] > found[1, 0]


def test_a_pair_of_legs_goes_with_the_person_around_it() -> None:
    whole = [window(100, 20, 2.0, 0.9), window(104, 20, 2.0, 0.7)]
    legs = window(134, 145, 0.8, 1.2)
    assert len(decode(*whole, legs)) == 1
    assert decode(*whole, legs)[0, 3] - decode(*whole, legs)[0, 1] > 190


def test_a_small_person_is_not_lost_in_a_weak_or_lonely_large_window() -> None:
    small = [window(140, 150, 0.9, 1.6), window(144, 150, 0.9, 1.5)]
    assert len(decode(*small, window(100, 20, 2.0, 0.4))) == 2, "one large window against two small ones"
    assert len(decode(*small, window(100, 20, 2.0, 0.4), window(104, 20, 2.0, 0.4))) == 2, "two, but far less sure"


def test_iou_decides_between_people_who_overlap() -> None:
    # A taller and a shorter window around the same place: overlapping by 0.34 after the cut.
    pair = (window(100, 100, 1.6, 1.5), window(118, 130, 1.0, 1.4))
    boxes = [shrink(np.array([row[:4]], np.float32))[0] for row in pair]
    shared = (boxes[1][2] - boxes[1][0]) * (boxes[1][3] - boxes[1][1])
    total = (boxes[0][2] - boxes[0][0]) * (boxes[0][3] - boxes[0][1])
    overlap = shared / total
    assert 0.3 < overlap < 0.4, "the smaller lies inside"
    extra = window(120, 132, 1.0, 1.3)  # more support for the smaller, so that it does not count as a part
    assert len(decode(*pair, extra, iou=0.45)) == 2
    assert len(decode(*pair, extra, iou=0.30)) == 1


def test_confidence_only_selects() -> None:
    windows = [window(60 * k, 20 * k, 1.0 + 0.1 * k, 0.2 * k) for k in range(8)]
    everything = decode(*windows, confidence=0.0)
    for threshold in (0.05, 0.2, 0.4, 0.8, 0.99):
        np.testing.assert_array_equal(decode(*windows, confidence=threshold), everything[everything[:, 4] >= threshold])


def test_padding_and_empty_batches() -> None:
    batch = torch.zeros(3, 2, 6)
    batch[:, :, 4] = -math.inf
    batch[1, 0] = torch.tensor(window(10, 10, 1.0, 2.0))
    found = decode_people(batch, 0.4, 0.5)
    assert [rows.shape for rows in found] == [(0, 6), (1, 6), (0, 6)]
    assert all(rows.dtype == np.float32 for rows in found)
    assert [rows.shape for rows in decode_people(torch.zeros(2, 0, 6), 0.4, 0.5)] == [(0, 6), (0, 6)]
    assert decode_people(torch.zeros(0, 0, 6), 0.4, 0.5) == []


def test_thousands_of_windows_stay_bounded() -> None:
    rng = np.random.default_rng(0)
    rows = [window(*rng.uniform(0, 600, 2), rng.uniform(0.8, 3), rng.uniform(-0.3, 2)) for _ in range(5000)]
    found = decode(*rows, confidence=0.0)
    assert 0 < len(found) <= 512


def test_components_against_a_walk_over_the_links() -> None:
    rng = np.random.default_rng(5)
    for count in (1, 2, 30, 60):
        links = rng.random((count, count)) < 1.2 / count
        links |= links.T | np.eye(count, dtype=bool)
        expected = np.full(count, -1)
        for start in range(count):
            if expected[start] < 0:
                stack, number = [start], expected.max() + 1
                while stack:
                    node = stack.pop()
                    if expected[node] < 0:
                        expected[node] = number
                        stack.extend(np.flatnonzero(links[node]))
        assert np.array_equal(components(links), expected)


def test_grouping_without_a_threshold_returns_what_it_was_given() -> None:
    boxes, margins = np.array([[1, 2, 64, 128]]), np.array([0.5])
    assert group_windows(boxes, margins, 0) == (boxes, margins)
    assert len(group_windows(boxes, margins, 1)[0]) == 0
