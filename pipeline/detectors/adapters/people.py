# SPDX-License-Identifier: Apache-2.0
"""The built-in people detector: the bytes of the picture in, (B, rows, 6) out, with its own grouping of windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.adapters.tensors import first_tensor, refuse_shape, shape_of
from pipeline.detectors.people import decode_people
from pipeline.detectors.preprocessing import BYTES, Preprocessing
from pipeline.detectors.suppress import finish
from pipeline.frame import InputSpec


@dataclass(frozen=True, slots=True)
class People:
    """One class, 0 = person. Windows of all scales come as rows and are grouped on the CPU."""

    name: str = "people"
    preprocessing: Preprocessing = BYTES

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        if len(shape) != 3 or shape[0] != size or shape[2] != 6:
            raise refuse_shape(outputs, f"({size}, rows, 6)")

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Grouped windows, most confident first. The inputs are bytes, so every output is finite."""
        found = decode_people(first_tensor(outputs)[:count], limits.confidence, limits.iou)
        detections = [
            finish(rows[:, :4], rows[:, 4], rows[:, 5].astype("int64"), limits, overlap=False) for rows in found
        ]
        return Parsed(detections, [0] * count)
