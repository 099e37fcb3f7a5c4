# SPDX-License-Identifier: Apache-2.0
"""What the engine needs to know about a family of detectors: how to feed it, and how to read what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pipeline.detectors.preprocessing import Preprocessing
from pipeline.frame import Detections, InputSpec


@dataclass(frozen=True, slots=True)
class Limits:
    """Which rows of a network's output are detections.

    Attributes:
        confidence: lowest confidence to keep, 0..1.
        iou: of two boxes of one class that overlap by more than this, the less confident one is removed, 0..1.
        classes: class ids to keep; None keeps all.
        max_detections: the most confident ones that are kept per picture.
    """

    confidence: float = 0.4
    iou: float = 0.5
    classes: frozenset[int] | None = None
    max_detections: int = 300


class Parsed(NamedTuple):
    """What a batch's outputs say.

    Attributes:
        detections: per picture, in network pixels, most confident first.
        nonfinite: per picture, how many rows were removed because of NaN or infinite values. Counted are rows whose
            score is NaN and rows that would have passed the confidence threshold.
    """

    detections: list[Detections]
    nonfinite: list[int]


UNREADABLE = (RuntimeError, ValueError, IndexError, KeyError, TypeError)
"""What an adapter may raise over outputs that it was not made for."""


class Adapter(Protocol):
    """A family of detectors. Stateless: ``parse`` is called from several threads at once.

    Attributes:
        name: as in ``model.adapter`` of the configuration.
        preprocessing: what its networks want to be given, unless the file or the configuration say otherwise.

    Two more attributes are read where they exist: ``classes``, the number of classes or None, and ``first_class``, the
    lowest class id (1 where 0 is the background).
    """

    @property
    def name(self) -> str:
        """As in ``model.adapter`` of the configuration."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """What its networks want to be given, unless the file or the configuration say otherwise."""
        ...

    def check(self, outputs: Any, size: int) -> None:
        """Raise InferenceError, naming what was expected and what came, unless ``outputs`` fit ``size`` pictures."""
        ...

    def parse(self, outputs: Any, count: int, limits: Limits, spec: InputSpec) -> Parsed:
        """Detections of the first ``count`` pictures of checked outputs; ``spec`` is their input's."""
        ...


def describe(outputs: Any) -> str:
    """Types and shapes of anything that a network returns, in one line: ``(1, 84, 8400)``, ``list of 3 [...]``."""
    shape = getattr(outputs, "shape", None)
    if shape is not None:
        kind = str(getattr(outputs, "dtype", "")).removeprefix("torch.")
        return f"{tuple(shape)} {kind}".strip()
    if isinstance(outputs, dict):
        shown = ", ".join(f"{key}: {describe(value)}" for key, value in list(outputs.items())[:6])
        return f"dict {{{shown}}}"
    if isinstance(outputs, Sequence) and not isinstance(outputs, str):
        shown = ", ".join(describe(value) for value in list(outputs)[:4])
        return f"{type(outputs).__name__} of {len(outputs)} [{shown}{', ...' if len(outputs) > 4 else ''}]"
    return type(outputs).__name__
