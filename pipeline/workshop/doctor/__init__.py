# SPDX-License-Identifier: Apache-2.0
"""The doctor: what is wrong with this environment or with a model, each with its remedy; one small file per check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, ModelError, UsageError
from pipeline.workshop.doctor.finding import Finding
from pipeline.workshop.doctor.gpu import driver
from pipeline.workshop.doctor.libgl import missing_library
from pipeline.workshop.doctor.opencv import two_builds
from pipeline.workshop.doctor.threads import too_many
from pipeline.workshop.doctor.too_large import memory_fits
from pipeline.workshop.doctor.torch_fit import operators_register, versions_fit

__all__ = ["ENVIRONMENT", "Finding", "examine_environment", "examine_model"]

ENVIRONMENT: dict[str, Callable[[], Finding | None]] = {
    "two OpenCV builds": two_builds,
    "system libraries of OpenCV": missing_library,
    "torch and torchvision fit": versions_fit,
    "torchvision's operators": operators_register,
    "threads and cores": too_many,
    "GPU driver": driver,
}
"""What is looked at without a model."""

_BUILTIN = "builtin:"


def examine_environment() -> list[Finding]:
    """All checks that need no model. Imports torch and OpenCV."""
    return [finding for finding in (check() for check in ENVIRONMENT.values()) if finding is not None]


def examine_model(
    model: str,
    video: str | None,
    count: int = 8,
    *,
    device: str = "auto",
    precision: str = "auto",
    given: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Whether a model fits into memory, loads, returns finite values, and keeps its memory.

    Args:
        model: a file, or ``builtin:people``.
        video: a recording to take frames from; None for the test pattern.
        count: of frames.
        device, precision, given: what the configuration says; see :func:`pipeline.workshop.compare.open_detector`.

    Raises:
        UsageError: no such file, or a video without a readable frame.
    """
    if not model.startswith(_BUILTIN):
        path = Path(model)
        if not path.is_file():
            raise UsageError(f"{model}: no such model file")
        large = memory_fits(path)
        if large is not None:
            return [large]
    # OpenCV and PyAV come in with these; where they cannot, the environment's findings say why.
    from pipeline.workshop.compare import Limits, open_detector
    from pipeline.workshop.doctor.growth import memory_grows
    from pipeline.workshop.doctor.not_finite import outputs_are_finite
    from pipeline.workshop.frames import items, sample

    captures = sample(video, count)
    try:
        detector = open_detector(model, Limits(), device, precision=precision, given=given, probe=False)
        detector.warm([1])
        inputs = items(captures, detector.spec)
        checks = (outputs_are_finite(detector, inputs), memory_grows(detector, inputs))
    except (ModelError, ConfigError) as error:
        return [_refused(str(error))]
    return [finding for finding in checks if finding is not None]


def _refused(message: str) -> Finding:
    """Many a refusal ends with its remedy: that is told in its own place, and once."""
    found, _, remedy = message.partition(". Remedy: ")
    if not remedy:
        found, _, remedy = message.partition("; remedy: ")
    return Finding("model", "fault", found, remedy or "pipeline model inspect shows what is in the file")
