# SPDX-License-Identifier: Apache-2.0
"""A second model on live frames, beside the one in use: does it work on them, and how far do the two agree?

Frames are looked at one at a time, with a pause after each that is three times as long as the look: whatever the model
takes, this costs a quarter of one core at most. The model in use is not run twice; what it found anyway is compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.detectors.agreement import Agreement, agreement, renamed
from pipeline.errors import InferenceError, ModelError
from pipeline.figures import count, percent
from pipeline.flow.inference import in_source_pixels
from pipeline.flow.shadow import Sample, Shadow
from pipeline.frame import Batch, Detections
from pipeline.protocols import Detector

LONGEST_NS = 10_000_000_000
"""How long live frames are waited for."""
PAUSES = 3
"""Pause after a look, in multiples of the look."""
SETTLES_S = 2.0
"""How long the model in use may take for a frame that is compared; one that takes longer is left out."""
MATCH = 0.5
"""IoU from which two boxes of a class count as the same."""


class Unfit(ModelError):
    """The model does not work on live frames."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it.

    Attributes:
        agreement: of the new model with the one in use, class by class name where both have names.
        streams: whose frames they were.
        ms: median time of a look, in milliseconds, beside everything else that runs; None without a frame.
    """

    agreement: Agreement
    streams: int
    ms: float | None

    @property
    def share(self) -> float:
        """Detections that both found, as a share of the larger count; 1.0 where neither found anything."""
        return self.agreement.matched[MATCH]

    def __str__(self) -> str:
        frames, a, b = self.agreement.frames, self.agreement.count_a, self.agreement.count_b
        if not frames:
            return f"no live frame came within {LONGEST_NS / 1e9:g} s to compare it on"
        agree = f"{percent(self.share)} agree of {count(b, 'detection')}, {a:,} before"
        found = agree if a or b else "neither found anything"
        seen = f"{count(frames, 'live frame')} of {count(self.streams, 'stream')}"
        return f"compared on {seen}: {found}; {self.ms:.0f} ms a frame"

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {
            "frames": self.agreement.frames,
            "streams": self.streams,
            "detections": {"before": self.agreement.count_a, "after": self.agreement.count_b},
            "agreement": round(self.share, 4),
            "ms_per_frame": None if self.ms is None else round(self.ms, 3),
        }


def compare(
    shadow: Shadow,
    detector: Detector,
    labels: dict[int, str],
    frames: int,
    pause: Callable[[float], None],
    watched: Callable[[], AbstractContextManager[None]],
    now: Callable[[], int],
) -> Compared:
    """Show live frames to the model behind ``shadow``.

    Args:
        shadow: where frames come from.
        detector: the second model.
        labels: of the model in use.
        frames: how many are wanted.
        pause: waits for so many seconds; raises when this was given up.
        watched: within it the model is running, and somebody looks whether it hangs.
        now: monotonic nanoseconds.

    Raises Unfit when the second model fails on a frame that the one in use can do, or returns something that is no
    number.
    """
    before: list[Detections] = []
    after: list[Detections] = []
    streams: set[str] = set()
    took_ns: list[int] = []
    began_ns = now()
    not_finite = getattr(detector, "nonfinite_frames", 0)
    while len(before) < frames and now() - began_ns < LONGEST_NS:
        pause(0.0)
        try:
            sample = shadow.next(0.2)
        except Exception as error:  # whatever a stage raises
            raise Unfit(f"no input can be made for it of a live frame: {error}") from error
        if sample is None:
            continue
        try:
            look_ns = now()
            with watched():
                found = _look(detector, sample)
            took_ns.append(now() - look_ns)
            sample.settled.wait(SETTLES_S)
        finally:
            shadow.release(sample)
        if getattr(detector, "nonfinite_frames", 0) > not_finite:  # the engine has removed them
            raise _not_finite(sample)
        if sample.found is not None and found is not None:
            before.append(sample.found)
            after.append(found)
            streams.add(sample.stream)
        pause(PAUSES * took_ns[-1] / 1e9)
    ms = statistics.median(took_ns) / 1e6 if took_ns else None
    return Compared(agreement(before, renamed(after, detector.labels, labels)), len(streams), ms)


def _look(detector: Detector, sample: Sample) -> Detections | None:
    """What the second model finds, in source pixels; None for a frame that neither model can do."""
    parts: list[Detections] = []
    for item in sample.items:
        try:
            (found,) = detector.submit(Batch((item,), 1, 0)).result()
        except (InferenceError, ValueError) as error:
            sample.settled.wait(SETTLES_S)
            if sample.dropped == "inference_error":
                return None
            text = f"it fails on a live frame ({sample.stream}, frame {sample.index}): {error}"
            raise Unfit(text) from error
        if not (np.isfinite(found.xyxy).all() and np.isfinite(found.confidence).all()):
            raise _not_finite(sample)
        parts.append(in_source_pixels(found, item))
    if len(parts) == 1:
        return parts[0]
    return Detections(
        np.concatenate([part.xyxy for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.class_id for part in parts]),
    )


def _not_finite(sample: Sample) -> Unfit:
    return Unfit(f"it returns NaN or infinite values for a live frame ({sample.stream}, frame {sample.index})")
