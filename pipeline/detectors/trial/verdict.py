# SPDX-License-Identifier: Apache-2.0
"""What trying a model before the first frame showed: kept by digest, so that it is tried once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ModelLoadError
from pipeline.figures import percent
from pipeline.host.caches import cache_folder, read_cached, write_cached

EDITION = 3
"""Grows when the checks change: older verdicts are then not believed."""

DIGITS = 32
"""Of a model's digest, in the name of an entry."""

_LISTS = ("checked", "left_out", "not_told")

MOST_KEPT = 32
"""Entries of one model: ways to use it, versions of torch. The oldest go."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a model may be used.

    Attributes:
        largest: how many pictures may be given at once.
        fixed: how many it must be shown every time, or None; smaller batches are padded to it.
        why: the reason if ``largest`` is less than what was wanted.
        trim: stride to which inputs may be trimmed (:meth:`pipeline.frame.InputSpec.trimmed`); 0: one size only.
        repeatable: it answers the same when it is shown the same.
        exclusive: two threads must not run it at the same time: it keeps something between calls.
        finite: share of its output values that are neither NaN nor infinite, 0..1.
        ms_per_picture: by batch size, on the machine and at the time of the check.
        checked: what was tried.
        left_out: what was not tried because the budget of time was spent.
        not_told: what trying cannot tell of this model.
        cached: the verdict is from an earlier start.
    """

    largest: int
    fixed: int | None = None
    why: str = ""
    trim: int = 0
    repeatable: bool = True
    exclusive: bool = False
    finite: float = 1.0
    ms_per_picture: dict[str, float] = field(default_factory=dict)
    checked: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    not_told: tuple[str, ...] = ()
    cached: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return asdict(self) | {name: list(getattr(self, name)) for name in _LISTS}

    def remarks(self, wanted: int) -> list[str]:
        """What the user should know, a line each, given the largest batch that was asked for."""
        found = []
        if self.largest < wanted:
            found.append(f"batches are limited to {self.largest}: {self.why}")
        if not self.repeatable:
            found.append(
                "it answers differently when it is shown the same picture again; if that is not meant, "
                "export it again after model.eval() (dropout and batch norm may still be in training mode)"
            )
        if self.exclusive:
            found.append("it keeps something between calls, so that only one thread may run it at a time")
        if self.finite < 1.0:
            found.append(f"{percent(1.0 - self.finite, 1)} of its outputs are NaN or infinite for a real picture")
        if self.left_out and not self.cached:
            found.append(f"not tried, for lack of time: {', '.join(self.left_out)}")
        if self.not_told:
            found.append(f"trying it does not tell {', nor '.join(self.not_told)}")
        return found


def entry(digest: str, facts: Sequence[object]) -> Path:
    """The cache file of a model (by digest) that is used in one way (``facts``) with this torch."""
    told = hashlib.sha256(repr((EDITION, torch.__version__, *facts)).encode()).hexdigest()[:16]
    return cache_folder("verdicts") / f"{digest[:DIGITS]}-{told}.json"


def recall(path: Path) -> Verdict | None:
    """What was kept there, or None where nothing fit for use is."""
    facts = read_cached(path)
    return None if facts is None else verdict_of(facts)


def verdict_of(facts: Mapping[str, Any]) -> Verdict | None:
    """What :meth:`Verdict.as_dict` returned, or None where it is something else."""
    try:
        verdict = Verdict(**{**facts, **{name: tuple(facts[name]) for name in _LISTS}, "cached": True})
    except (KeyError, TypeError):
        return None
    return verdict if isinstance(verdict.largest, int) and verdict.largest >= 1 else None


def keep(path: Path, verdict: Verdict) -> None:
    """Keep a verdict whose checks were all made; one that lacked time is tried again at the next start."""
    if verdict.left_out:
        return
    write_cached(path, verdict.as_dict())
    try:
        kept = sorted(path.parent.glob(f"{path.name[:DIGITS]}-*.json"), key=lambda one: one.stat().st_mtime_ns)
        for old in kept[:-MOST_KEPT]:
            old.unlink()
    except OSError:
        return  # somebody else tidies up at the same time, or there is no cache


def refuse_not_finite(path: str, precision: str) -> ModelLoadError:
    """The refusal of a model that computes nothing but NaN."""
    return ModelLoadError(
        f"{path}: every output is NaN or infinite for a real picture; {not_finite_because(precision)}"
    )


def not_finite_because(precision: str) -> str:
    """The likely reason for NaN and infinite values, and the remedy."""
    if precision in ("fp16", "bf16"):
        return f"likely {precision} overflows in this network: try precision: fp32"
    return (
        "likely its input is not scaled as it was trained for (model.input_spec: scale, mean, std), "
        "or its weights are damaged"
    )
