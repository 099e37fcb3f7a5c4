# SPDX-License-Identifier: Apache-2.0
"""A batch in several calls: as many as the cache of a CPU asks for, decided by sizes alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detectors import build_detector
from pipeline.detectors.capacity import CALL_PIXELS, parts, pictures_per_call
from pipeline.detectors.trial.verdict import Verdict
from pipeline.frame import InputSpec
from tests.models import Cells, batch_of, save


class TellsItsBatch(Cells):
    """Every cell is as sure as the call is large: confidence 0.1 per picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        boxes, scores = self.cells(x)
        return torch.cat((boxes, torch.full_like(scores, 0.1 * x.size(0))), 1)


@given(size=st.integers(1, 64), most=st.integers(1, 64))
def test_parts_are_few_and_even(size: int, most: int) -> None:
    found = parts(size, most)
    assert sum(found) == size
    assert len(found) == -(-size // most), "no more calls than are needed"
    assert all(0 < part <= found[0] <= most for part in found)
    assert set(found[:-1]) <= {found[0]}, "warming one size warms all but the last"


@pytest.mark.parametrize(
    ("height", "width", "threads", "expected"),
    [(160, 160, 1, 12), (224, 352, 1, 4), (320, 320, 1, 3), (640, 640, 1, 1), (640, 640, 4, 3), (4096, 4096, 1, 1)],
)
def test_what_one_call_takes(height: int, width: int, threads: int, expected: int) -> None:
    assert pictures_per_call(height, width, threads) == expected
    assert pictures_per_call(height, width, threads, halved=True) >= 2 * expected - 1
    assert expected == 1 or expected * height * width <= CALL_PIXELS * threads


@pytest.mark.parametrize(
    ("whole", "given", "size", "calls"),
    [
        (False, 4, 4, [2, 2, 2, 2]),
        (False, 3, 4, [2, 2, 2]),
        (False, 2, 4, [2, 2]),
        (False, 3, 3, [3, 3, 3]),
        (True, 4, 4, [4, 4, 4, 4]),
    ],
)
def test_large_pictures_are_shown_in_parts(
    tmp_path: Path, whole: bool, given: int, size: int, calls: list[int]
) -> None:
    path = save(TellsItsBatch(), tmp_path / "tells.pt")
    detector = build_detector(
        path,
        adapter="ultralytics",
        input_size=(320, 320),
        confidence=0.01,
        max_batch=4,
        whole_batches=whole,
        verdict=Verdict(largest=4),  # a trial would say that its answers depend on the batch, as they do
    )
    picture = np.full((320, 320, 3), 90, np.uint8)
    found = detector.submit(batch_of(InputSpec(320, 320), *[picture] * given, size=size)).result()
    assert [round(float(one.confidence.max()) * 10) for one in found] == calls
