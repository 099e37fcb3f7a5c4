# SPDX-License-Identifier: Apache-2.0
"""Two detectors on the same frames: how far they agree, how fast each is, how large."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.detectors import build_detector
from pipeline.detectors.agreement import Agreement, agreement, renamed
from pipeline.detectors.engine import TorchScriptDetector
from pipeline.detectors.intra_op import intra_op_threads
from pipeline.frame import Batch, Capture, Detections
from pipeline.workshop.frames import find, items
from pipeline.workshop.speed import interleaved_ms

ROUNDS = 30
"""Timed calls of each model."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as a detection.

    Attributes:
        confidence: lowest confidence, 0..1.
        iou: overlap above which the less confident of two boxes of a class is removed, 0..1.
    """

    confidence: float = 0.25
    iou: float = 0.5


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two.

    Attributes:
        path: as it was given.
        size_bytes: of the file; None for a built-in model.
        precision, adapter: as the report of a run names them.
        input: height and width in pixels.
        ms: median time of one picture on one thread, post-processing included, in milliseconds.
        labels: class names by class id.
        found: detections per frame, in source pixels, class ids as A numbers them.
    """

    path: str
    size_bytes: int | None
    precision: str
    adapter: str
    input: tuple[int, int]
    ms: float
    labels: dict[int, str]
    found: list[Detections]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "precision": self.precision,
            "adapter": self.adapter,
            "input": list(self.input),
            "ms_per_frame": round(self.ms, 4),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Attributes:
    a, b: the two models.
    agreement: of B with A.
    """

    a: Side
    b: Side
    agreement: Agreement

    @property
    def speedup(self) -> float:
        """Time of A as a multiple of that of B."""
        return self.a.ms / self.b.ms

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``size_ratio`` is None where one of them is not a file."""
        sizes = (self.a.size_bytes, self.b.size_bytes)
        return {
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
            "agreement": self.agreement.as_dict(self.a.labels),
            "speedup": round(self.speedup, 4),
            "size_ratio": round(sizes[0] / sizes[1], 4) if sizes[0] and sizes[1] else None,
        }


def open_detector(
    path: str | Path,
    limits: Limits,
    device: str = "auto",
    *,
    precision: str = "auto",
    given: Mapping[str, Any] | None = None,
    probe: bool = True,
) -> TorchScriptDetector:
    """A detector with one intra-op thread and batches of one picture.

    Args:
        path: the file, or ``builtin:people``.
        limits: what counts as a detection.
        device, precision, probe: see :func:`pipeline.detectors.build_detector`.
        given: its other arguments, as :func:`pipeline.build.detector_arguments` makes them of a configuration.

    Raises:
        ModelLoadError: not a detector that can run here.
        ConfigError: a value out of range, or a class that the model does not have.
    """
    arguments = {**(given or {}), "confidence": limits.confidence, "iou": limits.iou}
    return build_detector(path, **arguments, max_batch=1, threads=1, device=device, precision=precision, probe=probe)


def compare(
    a: TorchScriptDetector, b: TorchScriptDetector, captures: Sequence[Capture], *, rounds: int = ROUNDS
) -> Comparison:
    """Show the same frames to both, one at a time; raises InferenceError, StageError."""
    detectors = (a, b)
    timed = captures[: max(3, rounds)]
    inputs = [items(timed, detector.spec) for detector in detectors]
    with intra_op_threads(1):
        for detector in detectors:
            detector.warm([1])
        found = [find(detector, captures) for detector in detectors]
        found[1] = renamed(found[1], b.labels, a.labels)
        programs = [_program(detector, given) for detector, given in zip(detectors, inputs, strict=True)]
        times = interleaved_ms(programs, inputs=len(timed), rounds=rounds)
    sides = [_side(detector, ms, seen) for detector, ms, seen in zip(detectors, times, found, strict=True)]
    return Comparison(sides[0], sides[1], agreement(found[0], found[1]))


def _program(detector: TorchScriptDetector, inputs: Sequence[Any]) -> Callable[[int], object]:
    return lambda number: detector.submit(Batch((inputs[number],), 1, number)).result()


def _side(detector: TorchScriptDetector, ms: float, found: list[Detections]) -> Side:
    info = detector.model_info()
    path = str(info["path"])
    size = os.path.getsize(path) if os.path.isfile(path) else None
    shape = (detector.spec.height, detector.spec.width)
    return Side(path, size, info["precision"], info["adapter"], shape, ms, dict(detector.labels), found)
