# SPDX-License-Identifier: Apache-2.0
"""The tensor arithmetic against the definition of HOG, written out pixel by pixel in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.detectors.people.descriptor import (
    block_features,
    block_taps,
    gradients,
    l2_hys,
    ramp_mix,
    root_table,
)

HEIGHT, WIDTH = 32, 40


def strongest_gradient(image: np.ndarray, y: int, x: int) -> tuple[float, float]:
    """Magnitude and bin position of the channel with the largest gradient at (y, x) of (3, h, w) square roots."""
    best = (-1.0, 0.0)
    for plane in image:
        dx, dy = plane[y, x + 1] - plane[y, x - 1], plane[y + 1, x] - plane[y - 1, x]
        if math.hypot(dx, dy) > best[0] + 1e-9:
            best = (math.hypot(dx, dy), (math.atan2(dy, dx) % math.pi) * 9 / math.pi - 0.5)
    return best


def plain_histograms(image: np.ndarray) -> np.ndarray:
    """Block histograms before normalisation, (blocks down, blocks across, cell column, cell row, bin)."""
    down, across = HEIGHT // 8 - 1, WIDTH // 8 - 1
    result = np.zeros((down, across, 2, 2, 9))
    for row in range(down):
        for column in range(across):
            for i in range(16):
                for j in range(16):
                    magnitude, position = strongest_gradient(image, row * 8 + i + 1, column * 8 + j + 1)
                    weight = magnitude * math.exp(-((i - 8) ** 2 + (j - 8) ** 2) / 32)
                    low = math.floor(position)
                    for cell_x in range(2):
                        for cell_y in range(2):
                            near_x = max(0.0, 1 - abs((j + 0.5) / 8 - 0.5 - cell_x))
                            near_y = max(0.0, 1 - abs((i + 0.5) / 8 - 0.5 - cell_y))
                            share = weight * near_x * near_y
                            result[row, column, cell_x, cell_y, low % 9] += share * (low + 1 - position)
                            result[row, column, cell_x, cell_y, (low + 1) % 9] += share * (position - low)
    return result


def plain_l2_hys(histogram: np.ndarray) -> np.ndarray:
    clipped = np.minimum(histogram / (math.sqrt((histogram**2).sum()) + 3.6), 0.2)
    return clipped / (math.sqrt((clipped**2).sum()) + 1e-3)


def flat(image: np.ndarray) -> tuple[torch.Tensor, int]:
    """(3, HEIGHT + 2, WIDTH + 2) as the functions take it: in rows of a multiple of 8, and one row to spare."""
    pitch = WIDTH + 8
    padded = np.zeros((1, 3, HEIGHT + 3, pitch), np.float32)
    padded[0, :, : HEIGHT + 2, : WIDTH + 2] = image
    return torch.from_numpy(padded).view(1, 3, -1), pitch


def work() -> torch.Tensor:
    """Enough of it, and full of rubbish."""
    return torch.full((15 * HEIGHT * (WIDTH + 8),), math.nan)


def features(image: torch.Tensor, pitch: int) -> torch.Tensor:
    space = work()
    return block_features(gradients(image, pitch, space), pitch, ramp_mix(), block_taps(), space)


@pytest.fixture(scope="module")
def roots() -> np.ndarray:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (3, HEIGHT + 2, WIDTH + 2))
    image[:, 5:20, 8:30] = image[:1, 5:6, 8:9]  # a flat patch: gradients of nothing, and of one channel only
    image[1, 10:14, 10:20] += 9
    return np.sqrt(np.clip(image, 0, 255).astype(np.float32))


def test_roots_are_correctly_rounded() -> None:
    exact = np.sqrt(np.arange(256, dtype=np.float64)).astype(np.float32)
    assert np.array_equal(root_table().numpy(), exact)


def test_gradients_have_the_length_and_the_direction_of_the_strongest_channel(roots: np.ndarray) -> None:
    image, pitch = flat(roots)
    magnitude, weighted = gradients(image, pitch, work()).view(2, HEIGHT, pitch)[:, :, :WIDTH].numpy()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            length, position = strongest_gradient(roots.astype(np.float64), y + 1, x + 1)
            assert magnitude[y, x] == pytest.approx(length, abs=1e-5)
            if length > 1e-3:
                # Half a bin below 0 is half a bin above 8; OpenCV's arctangent is good to 0.01 degrees = 5e-4 bins.
                apart = (weighted[y, x] / length - position + 4.5) % 9 - 4.5
                assert abs(apart) < 1e-3


def test_blocks_equal_the_definition(roots: np.ndarray) -> None:
    image, pitch = flat(roots)
    found = features(image, pitch)
    expected = plain_histograms(roots.astype(np.float64))
    assert found.shape == (1, 36, *expected.shape[:2])
    for row in range(expected.shape[0]):
        for column in range(expected.shape[1]):
            block = plain_l2_hys(expected[row, column])
            np.testing.assert_allclose(found[0, :, row, column].numpy(), block.ravel(), atol=5e-4)


def test_strips_continue_each_other(roots: np.ndarray) -> None:
    image, pitch = flat(roots)
    whole = features(image, pitch)
    lower = features(image[:, :, 8 * pitch :], pitch)
    torch.testing.assert_close(lower, whole[:, :, 1:], rtol=0, atol=1e-6)


def test_normalisation_clips_what_stands_out_and_leaves_nothing_nothing() -> None:
    histogram = torch.zeros(1, 36, 1, 2)
    histogram[0, :, 0, 1] = torch.arange(36.0) ** 3
    expected = plain_l2_hys(histogram[0, :, 0, 1].double().numpy())
    result = l2_hys(histogram.clone())
    assert not result[0, :, 0, 0].any()
    np.testing.assert_allclose(result[0, :, 0, 1].numpy(), expected, rtol=1e-5)
