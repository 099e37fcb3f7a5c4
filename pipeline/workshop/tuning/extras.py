# SPDX-License-Identifier: Apache-2.0
"""Candidates that have to be made first: an INT8 copy, and programs of torch's compilers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipeline.detectors.loading.builtin import PREFIX
from pipeline.detectors.loading.recipe import DEFAULT, Recipe
from pipeline.detectors.tuned import digest_of
from pipeline.figures import percent
from pipeline.workshop.tuning.contender import COMPILE_S, REDUCED
from pipeline.workshop.tuning.nursery import Lost, Nursery
from pipeline.workshop.tuning.space import About, Effort, Setting, Subject, shaped

CALIBRATED_ON: Final = 24
"""Frames for an INT8 copy: half of them give the ranges, the other half judges."""

PER_START: Final = "measured for information: it would be compiled at every start"


@dataclass(frozen=True, slots=True)
class Bench:
    """What is needed to make them.

    Attributes:
        subject, effort, about: what is tuned, and how.
        nursery: where processes are started.
        folder: for files.
        missing: recipes that cannot be tried, with the reason; added to.
        tell: progress, a line at a time.
    """

    subject: Subject
    effort: Effort
    about: About
    nursery: Nursery
    folder: Path
    missing: dict[str, str]
    tell: Callable[[str], None]


def add_quantized(bench: Bench) -> list[Recipe]:
    """A recipe with an INT8 copy of the model, or none, and the reason among what is missing."""
    recipe = replace(DEFAULT, precision="int8")
    reason = _no_int8(bench)
    if not reason:
        bench.tell("an INT8 copy")
        out = bench.folder / "int8.pt"
        command = {
            "do": "quantize",
            "model": bench.subject.model,
            "given": dict(bench.subject.given),
            "video": bench.subject.video,
            "count": CALIBRATED_ON,
            "confidence": bench.subject.given["confidence"],
            "wanted": REDUCED[1],
            "quick": not bench.effort.every,
            "out": str(out),
        }
        made = _made(bench, command, bench.effort.quantize_s)
        if isinstance(made, str):
            reason = made
        elif made["kept"]:
            return [replace(recipe, file=str(out), sha256=digest_of(str(out)))]
        else:
            reason = (
                f"only {percent(made['agreement'], 1)} of its boxes are the same; 'pipeline model quantize' tries more"
            )
    bench.missing[recipe.name] = reason
    return []


def add_compiled(bench: Bench, best: Setting) -> list[Setting]:
    """The best fp32 candidate's batch size for torch.compile and AOTInductor, through torch's converter."""
    ways = [replace(DEFAULT, way=way) for way in ("compiled", "aotinductor")]
    reason = _no_compiler(bench)
    if reason:
        bench.missing.update({recipe.name: reason for recipe in ways})
        return []
    about = bench.about
    setting = replace(best, workers=about.cores, threads=1)
    compiled, packaged = (shaped(recipe, best.batch, about) for recipe in ways)
    found = [replace(setting, recipe=compiled)]
    bench.tell("AOTInductor compiles")
    out = bench.folder / "compiled.pt2"
    made = _made(
        bench,
        {"do": "package", "model": bench.subject.model, "shape": list(packaged.shape or ()), "out": str(out)},
        COMPILE_S,
    )
    if isinstance(made, str):
        bench.missing[packaged.name] = made
    else:
        found.append(replace(setting, recipe=replace(packaged, file=str(out), sha256=digest_of(str(out)))))
    return found


def _no_int8(bench: Bench) -> str:
    subject, about = bench.subject, bench.about
    if about.precision != "fp32":
        return f"the model computes in {about.precision}"
    if about.cuda:
        return "INT8 copies run on CPUs"
    if subject.model.startswith(PREFIX):
        return "a built-in model is not quantised"
    if not bench.effort.quantize_s:
        return "--quick makes no copies"
    if subject.video is None:
        return "it has to be calibrated on your own frames: --frames VIDEO"
    return ""


def _no_compiler(bench: Bench) -> str:
    if not bench.effort.compilers:
        return "compiling takes minutes; --thorough tries it"
    if bench.about.cuda:
        return "TorchScript is converted for CPUs only here"
    if bench.subject.model.startswith(PREFIX):
        return "a built-in model is not a file that could be converted"
    if not bench.about.tensor:
        return "the model takes a list of pictures, which torch's converter does not"
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        return "there is no C++ compiler"
    return ""


def _made(bench: Bench, command: dict[str, Any], timeout_s: float) -> dict[str, Any] | str:
    """The answer of a process of its own, or why there is none."""
    child = bench.nursery.child()
    try:
        return child.ask(command, timeout_s)
    except Lost as lost:
        return str(lost)
    finally:
        child.close()
