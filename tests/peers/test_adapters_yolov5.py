# SPDX-License-Identifier: Apache-2.0
"""Outputs of the legacy YOLOv5 layout, against that project's own non-maximum suppression.

Optional: ``pip install yolov5`` (GPL-3.0, used by this test only).
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.detectors.adapter import Limits
from pipeline.detectors.adapters import ADAPTERS
from pipeline.frame import InputSpec
from tests.golden import assert_equal

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def suppress() -> Iterator[Callable[..., list[torch.Tensor]]]:
    packaging = pytest.importorskip("packaging.version")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        if "pkg_resources" not in sys.modules:  # gone from setuptools; the package asks it to compare versions only
            stand_in: Any = types.ModuleType("pkg_resources")
            stand_in.parse_version = packaging.parse
            patch.setitem(sys.modules, "pkg_resources", stand_in)
        general = pytest.importorskip("yolov5.utils.general", exc_type=ImportError)
        yield general.non_max_suppression
    torch.set_num_threads(threads)


@pytest.mark.parametrize("classes", [1, 5])
def test_the_same_detections(suppress: Callable[..., list[torch.Tensor]], classes: int) -> None:
    rng = np.random.default_rng(classes)
    centre = rng.uniform(0, 320, (2, 400, 2))
    size = rng.uniform(20, 120, (2, 400, 2))
    scores = rng.uniform(0, 1, (2, 400, 1 + classes))
    output = torch.from_numpy(np.concatenate((centre, size, scores), 2).astype(np.float32))
    adapter = ADAPTERS["yolov5"].make((output, [output]), InputSpec(320, 320), {})
    parsed = adapter.parse((output, [output]), 2, Limits(0.35, 0.45), InputSpec(320, 320))
    # In double precision: it moves boxes of class c by 7680 c pixels, where float32 rounds to 1/16 of a pixel.
    expected = suppress(output.double(), 0.35, 0.45, max_det=300)
    assert sum(map(len, expected)) > 50
    for found, rows in zip(parsed.detections, expected, strict=True):
        assert_equal(found, rows[:, :4], rows[:, 4], rows[:, 5])
