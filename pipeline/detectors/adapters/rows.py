# SPDX-License-Identifier: Apache-2.0
"""Finished detections as rows: (B, N, 6), from exports with built-in suppression and from end-to-end heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.detectors.adapter import Limits, Parsed
from pipeline.detectors.adapters.family import Family, Options, only
from pipeline.detectors.adapters.tensors import first_tensor, of_rank, refuse_shape, shape_of, to_pixels, units
from pipeline.detectors.preprocessing import USUAL, Preprocessing
from pipeline.detectors.suppress import finish
from pipeline.frame import InputSpec

_HIGHEST_CLASS = 65535.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Corners in network pixels, score, class id; short pictures are padded with zeros.

    The network has chosen already, so no further suppression takes place and ``limits.iou`` has no effect.

    Attributes:
        normalised: boxes come in units of the input's width and height instead of in pixels.
        untold: there was no row to tell the units from, and nobody said them.
    """

    normalised: bool = False
    name: str = "rows"
    preprocessing: Preprocessing = USUAL
    untold: bool = False

    def check(self, outputs: Any, size: int) -> None:
        """See :class:`pipeline.detectors.adapter.Adapter`."""
        shape = shape_of(outputs)
        if len(shape) != 3 or shape[0] != size or shape[2] != 6:
            raise refuse_shape(outputs, f"({size}, rows, 6)")

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """A row whose class id is not a class id (negative, or beyond 65535) is treated like one that is not finite."""
        output = first_tensor(outputs)[:count].float().cpu().numpy()
        detections, invalid = [], []
        for rows in output:
            with np.errstate(invalid="ignore"):
                usable = np.isfinite(rows).all(1) & (rows[:, 5] >= 0.0) & (rows[:, 5] <= _HIGHEST_CLASS)
            invalid.append(len(rows) - int(usable.sum()))
            rows = rows[usable]
            xyxy = to_pixels(rows[:, :4], spec, self.normalised)
            class_ids = np.rint(rows[:, 5]).astype(np.int64)
            detections.append(finish(xyxy, rows[:, 4], class_ids, limits, overlap=False))
        return Parsed(detections, invalid)


def _make(outputs: Any, spec: InputSpec, options: Options) -> Rows:
    only(options, "normalised")
    rows = of_rank(outputs, 3, "(B, rows, 6)")
    found = rows[rows[..., 4] > 0.0][:, :4] if rows.shape[2] > 4 else rows
    return Rows(units(found, options), untold=not len(found) and "normalised" not in options)


ROWS = Family("rows", USUAL, _make)
