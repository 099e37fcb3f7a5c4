# SPDX-License-Identifier: Apache-2.0
"""What a tuning found, as data; and its choice kept where later runs look for it."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pipeline.figures import percent
from pipeline.host.caches import cache_folder, make_private
from pipeline.host.replacing import replacing
from pipeline.timing import rfc3339, wall_ns
from pipeline.workshop.tuning.contender import Contender
from pipeline.workshop.tuning.contest import Tuning
from pipeline.workshop.tuning.space import Subject

BUSY: Final = 0.8
"""With a smaller share of the CPU time than this, figures say little, and none of them is kept."""


def report_of(found: Tuning, subject: Subject, *, keep_it: bool = True, force: bool = False) -> dict[str, Any]:
    """For JSON: ``candidates``, ``choice``, ``baseline``, ``left_out``, ``entry`` (``not_kept``: why there is
    none, where one was wanted) and what else there is to say.

    Args:
        found: its files are still there.
        subject: what was tuned.
        keep_it: for later runs, in the cache; without it nothing is written, nor where other programs were at work.
        force: then all the same.
    """
    from pipeline.detectors.tuned import keep, recall_entry

    created = rfc3339(wall_ns())
    entry = not_kept = None
    remarks = _remarks(found, subject)
    others = _others(found)
    if others > 1 - BUSY:
        kept = "" if force or not keep_it else "not kept: "
        forced = ", or keep it all the same with --force" if kept else ""
        told = f"other programs took {percent(others)} of the CPU time meanwhile"
        remarks.append(f"{kept}{told}; measure again when the machine is quiet{forced}")
        not_kept = remarks[-1] if kept else None
        keep_it = keep_it and force
    lost = _keep_files([one for one in found.contenders if one.counts], found.key, remarks) if keep_it else []
    rows = [_row(one, found.baseline) for one in found.contenders]
    choice = _row(found.choice, found.baseline)
    if keep_it:
        usable = [_row(one, found.baseline) for one in found.contenders if one.counts and one not in lost]
        path = keep(found.key, created, usable.index(choice) if choice in usable else 0, usable)
        entry = str(path) if recall_entry(path) is not None else None
        if entry is None:
            not_kept = f"{path} could not be written, so that later runs know nothing of this choice"
            remarks.append(not_kept)
    return {
        "model": subject.model,
        "video": subject.video,
        "created": created,
        "seconds": round(found.seconds, 1),
        "frames": found.frames,
        "confidence": found.confidence,
        "candidates": rows,
        "choice": choice,
        "baseline": _row(found.baseline, found.baseline),
        "left_out": found.missing,
        "entry": entry,
        "not_kept": not_kept,
        "others": round(others, 4),
        "key": found.key,
        "remarks": remarks,
    }


def _keep_files(contenders: Sequence[Contender], key: Mapping[str, Any], remarks: list[str]) -> list[Contender]:
    """Copy files that recipes name to the cache; returns the contenders whose files cannot be kept, and remarks it."""
    kept: dict[str, str | None] = {}
    lost = []
    for contender in contenders:
        recipe = contender.setting.recipe
        if recipe.file is None or recipe.sha256 is None:
            continue
        if recipe.file not in kept:
            path = cache_folder("tuned") / f"{str(key['model'])[:24]}-{recipe.sha256[:16]}{Path(recipe.file).suffix}"
            try:
                make_private(path.parent)
                with replacing(path, private=True) as partial:  # one that others may write would not be run
                    shutil.copyfile(recipe.file, partial)
                kept[recipe.file] = str(path)
            except OSError as error:
                kept[recipe.file] = None
                reason = error.strerror or error
                remarks.append(f"{path} cannot be written ({reason}), so that later runs cannot use {recipe.name}")
        file = kept[recipe.file]
        if file is None:
            lost.append(contender)
        else:
            contender.setting = replace(contender.setting, recipe=replace(recipe, file=file))
    return lost


def _row(contender: Contender, baseline: Contender) -> dict[str, Any]:
    return {"recipe_name": contender.setting.recipe.name, **contender.as_dict(baseline)}


def _others(found: Tuning) -> float:
    """Share of the CPU time that other programs took while the candidates of the final, which are compared, ran."""
    used = [share for one in found.contenders for share in one.used]
    return max(0.0, 1 - statistics.median(used)) if used and found.on_cpu else 0.0


def _remarks(found: Tuning, subject: Subject) -> list[str]:
    remarks = []
    if found.confidence is None:
        remarks.append("nothing is found in these frames, so only fp32 candidates were let in; give others (--frames)")
    elif found.confidence < subject.given["confidence"]:
        remarks.append(
            f"nothing is found in these frames at confidence {subject.given['confidence']:g}; "
            f"boxes were compared at {found.confidence:g}"
        )
    if subject.video is None:
        remarks.append("measured on a test pattern; --frames VIDEO takes frames of yours, and tries INT8 too")
    return remarks
