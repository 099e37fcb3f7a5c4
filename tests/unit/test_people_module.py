# SPDX-License-Identifier: Apache-2.0
"""The compiled detector: what it takes, what it returns, and what must never change its answer."""

from __future__ import annotations

import io
import itertools
import threading

import cv2
import numpy as np
import pytest
import torch

from pipeline.detectors.people import INPUT_HEIGHT, INPUT_WIDTH, build_people, decode_people
from pipeline.detectors.people.build import THRESHOLD, levels
from pipeline.detectors.people.hog import HogPeople, repeat_edge, resize, round_half_even

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> torch.jit.ScriptModule:
    return build_people()


def figure(height: int, centre: int, feet: int, size: tuple[int, int] = (360, 640), seed: int = 0) -> np.ndarray:
    """RGB (h, w, 3): a simple standing person, dark on a light and slightly noisy wall."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), 205, np.uint8)

    def at(x: float, y: float) -> tuple[int, int]:
        return round(centre + x * height), round(feet - height + y * height)

    thick = max(1, round(0.09 * height))
    for side in (-1, 1):
        cv2.line(image, at(side * 0.045, 0.5), at(side * 0.07, 0.96), (45, 48, 70), round(thick * 0.95), cv2.LINE_AA)
        cv2.line(image, at(side * 0.12, 0.21), at(side * 0.15, 0.48), (70, 62, 60), round(thick * 0.6), cv2.LINE_AA)
    cv2.ellipse(
        image, at(0, 0.34), (round(0.115 * height), round(0.18 * height)), 0, 0, 360, (75, 66, 62), -1, cv2.LINE_AA
    )
    cv2.ellipse(
        image, at(0, 0.075), (round(0.05 * height), round(0.073 * height)), 0, 0, 360, (90, 70, 60), -1, cv2.LINE_AA
    )
    noisy = cv2.GaussianBlur(image, (3, 3), 0) + rng.normal(0, 2, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def batch(*images: np.ndarray) -> torch.Tensor:
    """HWC pictures as the pipeline feeds them: (B, 3, H, W), channels last."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def rows(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(images)
    return found


@pytest.mark.parametrize("height", [80, 100, 130, 170, 230, 300, 345])
def test_a_person_of_any_height_is_found_tightly(model: torch.jit.ScriptModule, height: int) -> None:
    feet = min(340, 180 + height // 2)
    (found,) = decode_people(rows(model, batch(figure(height, 300, feet))), 0.4, 0.5)
    person = np.array([300 - 0.18 * height, feet - height, 300 + 0.18 * height, feet])
    assert (found[:, 5] == 0).all()
    assert (found[:, 4] <= 1).all()
    shared = np.minimum(found[:, 2:4], person[2:]) - np.maximum(found[:, :2], person[:2])
    assert (shared > 0).all(), "somebody was found where nobody is"
    inside, own, true = (sides.prod(-1) for sides in (shared[0], found[0, 2:4] - found[0, :2], person[2:] - person[:2]))
    assert inside / (own + true - inside) > 0.6
    assert found[0, 4] > 0.6


def test_windows_come_best_first_and_padded(model: torch.jit.ScriptModule) -> None:
    found = rows(model, batch(figure(150, 200, 300), np.full((360, 640, 3), 90, np.uint8)))
    assert found.dtype == torch.float32
    assert found.shape[0] == 2
    assert found.shape[2] == 6
    margins = found[0, :, 4]
    assert (margins[:-1] >= margins[1:]).all()
    assert margins[-1] >= THRESHOLD
    assert not found[:, :, 5].any()
    ratio = (found[0, :, 3] - found[0, :, 1]) / (found[0, :, 2] - found[0, :, 0])
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0))
    assert torch.isneginf(found[1, :, 4]).all(), "a flat picture holds nobody, and its rows are all padding"
    assert not found[1, :, :4].any()


def test_batch_mates_layout_and_threads_do_not_change_a_bit(model: torch.jit.ScriptModule) -> None:
    pictures = [figure(90 + 40 * k, 150 + 60 * k, 330, seed=k) for k in range(4)]
    alone = [rows(model, batch(picture))[0] for picture in pictures]
    together = rows(model, batch(*pictures))
    contiguous = rows(model, batch(*pictures).contiguous())
    for k, single in enumerate(alone):
        assert torch.equal(together[k, : len(single)], single)
        assert torch.isneginf(together[k, len(single) :, 4]).all()
    assert torch.equal(together, contiguous)

    results: dict[int, torch.Tensor] = {}

    def work(k: int) -> None:
        torch.set_num_threads(1)
        results[k] = rows(model, batch(pictures[k]))[0]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[k], alone[k]) for k in range(4))


def test_many_at_once_as_a_gpu_does_it_equals_one_by_one() -> None:
    model = HogPeople([(1.0, 16), (1.4, 24)], -0.5).eval()
    pictures = batch(figure(110, 80, 140, (150, 160)), figure(100, 60, 120, (150, 160), 1))
    with torch.inference_mode():
        together = model.windows(pictures)
        for k, found in enumerate(together):
            (single,) = model.windows(pictures[k : k + 1])
            assert len(found) > 0
            torch.testing.assert_close(found, single, rtol=0, atol=1e-4)


def test_the_input_is_left_as_it_was(model: torch.jit.ScriptModule) -> None:
    images = batch(figure(150, 300, 300))
    before = images.clone()
    rows(model, images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (30, 400), (95, 31), (96, 32), (128, 64), (131, 67), (719, 333)])
def test_any_size_is_taken(model: torch.jit.ScriptModule, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = rows(model, batch(noise))
    assert found.shape[0] == 1
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 64, 64),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.zeros(1, 1, 64, 64, dtype=torch.uint8),
    ],
)
def test_other_inputs_are_refused(model: torch.jit.ScriptModule, images: torch.Tensor) -> None:
    with pytest.raises(Exception, match="takes uint8 images"):
        model(images)


def test_a_level_that_makes_no_sense_is_refused() -> None:
    for level in [(0.0, 16), (1.0, 12), (1.0, -8)]:
        with pytest.raises(ValueError, match="multiple of 8"):
            HogPeople([level])


def test_saved_frozen_and_eager_agree(model: torch.jit.ScriptModule) -> None:
    images = batch(figure(170, 300, 320))
    file = io.BytesIO()
    torch.jit.save(model, file)
    file.seek(0)
    expected = rows(model, images)
    for other in (torch.jit.load(file), torch.jit.freeze(model), HogPeople(levels(), THRESHOLD).eval()):
        torch.testing.assert_close(rows(other, images), expected, rtol=0, atol=1e-4)


def test_levels_reach_from_80_pixels_to_the_full_height() -> None:
    used = [scale for scale, padding in levels() if round(INPUT_HEIGHT / scale) + 2 * padding >= 128]
    assert INPUT_WIDTH * 9 == INPUT_HEIGHT * 16
    assert min(used) * 96 < 85
    assert max(used) * 96 > INPUT_HEIGHT
    assert max(b / a for a, b in itertools.pairwise(used)) < 1.16


@pytest.mark.parametrize("size", [(424, 753), (300, 533), (131, 200)])
def test_resizing_is_within_one_of_opencv(size: tuple[int, int]) -> None:
    image = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (360, 640, 3), dtype=np.uint8), (5, 5), 0)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR_EXACT).astype(int)
    for exact, most in ((True, 0.02), (False, 0.25)):
        ours = resize(batch(image), *size, exact)[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(ours - expected).max() <= 1
        assert np.count_nonzero(ours != expected) <= most * expected.size


def test_edges_are_repeated() -> None:
    image = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (2, 3), (1, 4)), mode="edge")
    assert np.array_equal(repeat_edge(image, 1, 2, 9, 10).numpy(), expected)


def test_rounding_is_opencvs() -> None:
    for value in (0.0, 0.49, 0.5, 0.51, 1.5, 2.5, 3.5, 216.5, 217.5, 266.66):
        assert round_half_even(value) == round(value)
