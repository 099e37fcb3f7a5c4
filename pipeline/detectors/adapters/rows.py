# SPDX-License-Identifier: Apache-2.0
"""Finished detections as rows: (B, N, 6), from exports with built-in suppression and from end-to-end heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.detectors.adapter import UNIT, Encoding, Limits, Parsed
from pipeline.detectors.adapters.tensors import first_tensor, refuse_shape, shape_of
from pipeline.detectors.suppress import finish

_HIGHEST_CLASS = 65535.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Corners in network pixels, score, class id; short pictures are padded with zeros.

    The network has chosen already, so no further suppression takes place and ``limits.iou`` has no effect.

    Attributes:
        box_scale: network pixels per unit of the output, (x, y); other than 1 when boxes come normalised.
    """

    box_scale: tuple[float, float] = (1.0, 1.0)
    name: str = "rows"
    encoding: Encoding = UNIT

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        if len(shape) != 3 or shape[0] != size or shape[2] != 6:
            raise refuse_shape(outputs, f"({size}, rows, 6)")

    def parse(self, outputs: Any, count: int, limits: Limits) -> Parsed:
        """A row whose class id is no class id (negative, or beyond 65535) is treated like one that is not finite."""
        output = first_tensor(outputs)[:count].float().cpu().numpy()
        detections, invalid = [], []
        for rows in output:
            with np.errstate(invalid="ignore"):
                usable = np.isfinite(rows).all(1) & (rows[:, 5] >= 0.0) & (rows[:, 5] <= _HIGHEST_CLASS)
            invalid.append(len(rows) - int(usable.sum()))
            rows = rows[usable]
            xyxy = rows[:, :4] * np.array(self.box_scale * 2, np.float32)
            class_ids = np.rint(rows[:, 5]).astype(np.int64)
            detections.append(finish(xyxy, rows[:, 4], class_ids, limits, overlap=False))
        return Parsed(detections, invalid)
