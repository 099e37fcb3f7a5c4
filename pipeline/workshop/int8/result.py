# SPDX-License-Identifier: Apache-2.0
"""What came of a quantisation, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.workshop.compare import Comparison
from pipeline.workshop.int8.float_layers import Attempt

MATCH_AT: Final = 0.75
"""IoU from which a box of the INT8 model counts as the same as one of the float model."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What came of it.

    Attributes:
        out: the file; it exists only if ``kept``.
        kept: the agreement was enough, or was not asked for.
        wanted: the least agreement.
        calibrated, judged: frames that gave the ranges, and other frames on which agreement was measured.
        convolutions, operators: of the program; operators of the result that compute in INT8.
        attempts: the ways to convert that were tried.
        chosen: the one that was taken.
        without_kernel: numbers of convolutions that stay in float because INT8 would be slower.
        comparison: the float file (A) with the INT8 file as it was stored (B).
        remarks: for the user, one line each.
    """

    out: Path
    kept: bool
    wanted: float
    calibrated: int
    judged: int
    convolutions: int
    operators: int
    attempts: tuple[Attempt, ...]
    chosen: Attempt
    without_kernel: frozenset[int]
    comparison: Comparison
    remarks: tuple[str, ...]

    @property
    def float_layers(self) -> list[int]:
        """Numbers of the convolutions that stayed in float."""
        return sorted(self.chosen.keep_float | self.without_kernel)

    @property
    def share(self) -> float:
        """Boxes matched at :data:`MATCH_AT`, as a share of the larger count."""
        return self.comparison.agreement.matched[MATCH_AT]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.comparison.as_dict()
        return {
            "out": str(self.out),
            "kept": self.kept,
            "wanted": self.wanted,
            "matched": round(self.share, 6),
            "before": found["a"],
            "after": {**found["b"], "path": str(self.out)},
            "speedup": found["speedup"],
            "size_ratio": found["size_ratio"],
            "agreement": found["agreement"],
            "frames": {"calibrated": self.calibrated, "judged": self.judged},
            "convolutions": self.convolutions,
            "float_layers": self.float_layers,
            "without_kernel": sorted(self.without_kernel),
            "int8_operators": self.operators,
            "ranges": self.chosen.ranges,
            "attempts": [attempt.as_dict() for attempt in self.attempts],
            "remarks": list(self.remarks),
        }
