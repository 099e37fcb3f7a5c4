# SPDX-License-Identifier: Apache-2.0
"""What a tuning found, as data; and its choice kept where later runs look for it."""

from __future__ import annotations

import statistics
from typing import Any, Final

from pipeline.timing import rfc3339, wall_ns
from pipeline.workshop.tuning.contender import Contender
from pipeline.workshop.tuning.contest import Tuning
from pipeline.workshop.tuning.space import Subject

BUSY: Final = 0.8
"""With a smaller share of the CPU time than this, figures say little."""


def report_of(found: Tuning, subject: Subject, *, keep_it: bool = True) -> dict[str, Any]:
    """For JSON: ``candidates``, ``choice``, ``baseline``, ``left_out``, ``entry`` and what else there is to say."""
    from pipeline.detectors.tuned import keep, recall_entry

    fps = found.baseline.fps
    created = rfc3339(wall_ns())
    rows = [_row(one, fps) for one in found.contenders]
    usable = [row for row in rows if row["left_out"] is None and row["fps"] is not None]
    choice = _row(found.choice, fps)
    entry = None
    remarks = _remarks(found, subject)
    if keep_it:
        path = keep(found.key, created, usable.index(choice), usable)
        entry = str(path) if recall_entry(path) is not None else None
        if entry is None:
            remarks.append(f"{path} could not be written, so that later runs know nothing of this choice")
    return {
        "model": subject.model,
        "video": subject.video,
        "created": created,
        "seconds": round(found.seconds, 1),
        "frames": found.frames,
        "confidence": found.confidence,
        "candidates": rows,
        "choice": choice,
        "baseline": _row(found.baseline, fps),
        "left_out": found.missing,
        "entry": entry,
        "key": found.key,
        "remarks": remarks,
    }


def _row(contender: Contender, baseline_fps: float) -> dict[str, Any]:
    return {"recipe_name": contender.setting.recipe.name, **contender.as_dict(baseline_fps)}


def _remarks(found: Tuning, subject: Subject) -> list[str]:
    remarks = []
    if found.confidence is None:
        remarks.append("nothing is found in these frames, so only fp32 candidates were let in; give others (--frames)")
    elif found.confidence < subject.given["confidence"]:
        remarks.append(
            f"nothing is found in these frames at confidence {subject.given['confidence']:g}; "
            f"boxes were compared at {found.confidence:g}"
        )
    used = statistics.median(found.choice.used) if found.choice.used and found.on_cpu else 1.0
    if used < BUSY:
        remarks.append(
            f"other programs took {1 - used:.0%} of the CPU time meanwhile: measure again when the machine is quiet"
        )
    if subject.video is None:
        remarks.append("measured on a test pattern; --frames VIDEO takes frames of yours, and tries INT8 too")
    return remarks
