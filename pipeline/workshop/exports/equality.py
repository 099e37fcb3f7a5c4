# SPDX-License-Identifier: Apache-2.0
"""Whether an exported module returns what its original returns: structure, types, shapes and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torchvision.ops import box_iou

from pipeline.detectors.adapter import describe
from pipeline.detectors.torch_messages import one_line
from pipeline.figures import count, percent

TOLERANCE = 1e-4
"""Largest difference of two values, relative to the largest value of their channel."""
MATCHED = 0.98
"""Least share of detections that must have a partner where suppression made lists of different length or order."""

_FLOOR = 1e-3  # of the tensor's largest value: channels below it may be rounding alone
_SAME_BOX = 0.9
_SAME_SCORE = 0.01


class Disagreement(Exception):
    """The exported module does something else; ``str`` is one line that says what."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input for both, and what the original returns for it.

    Attributes:
        title: such as ``random pictures, batch of 3``.
        given: (B, 3, H, W) float32, or a list of (3, H, W).
        expected: what the original returned.
    """

    title: str
    given: Any
    expected: Any


@dataclass(slots=True)
class Account:
    """What was compared.

    Attributes:
        pictures: how many were shown.
        values: numbers that were compared.
        detections: of these, rows of detectors that suppress by themselves.
        largest: largest difference relative to the largest value of its channel.
    """

    pictures: int = 0
    values: int = 0
    detections: int = 0
    largest: float = 0.0


def compare(module: Any, cases: Sequence[Case]) -> Account:
    """Show every case to ``module``; raises Disagreement at the first one that it treats otherwise."""
    account = Account()
    for case in cases:
        try:
            with torch.inference_mode():
                returned = module(_copied(case.given))
        except Exception as exc:
            raise Disagreement(f"{case.title}: it raises {one_line(exc)}") from exc
        try:
            _compare(_without_losses(returned), _without_losses(case.expected), "its output", account)
        except Disagreement as exc:
            raise Disagreement(f"{case.title}: {exc}") from None
        account.pictures += len(case.given)
    return account


def _copied(given: Any) -> Any:
    """A module that writes into its input must not spoil the next comparison."""
    return given.clone() if isinstance(given, torch.Tensor) else [picture.clone() for picture in given]


def _without_losses(value: Any) -> Any:
    """Scripted torchvision detectors return (losses, detections), the originals only detections."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == {} and isinstance(value[1], list):
        return value[1]
    return value


def _compare(found: Any, expected: Any, where: str, account: Account) -> None:
    if isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor):
        _compare_tensors(found, expected, where, account)
    elif isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        if {"boxes", "scores", "labels"} <= expected.keys():
            _compare_detections(found, expected, where, account)
            return
        for key in expected:
            _compare(found[key], expected[key], f"{where}[{key!r}]", account)
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple) and len(found) == len(expected):
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            _compare(one, other, f"{where}[{index}]", account)
    elif isinstance(expected, torch.Tensor | dict | list | tuple) or found != expected:
        raise Disagreement(f"{where} is {describe(found)}; the original returns {describe(expected)}")


def _compare_tensors(found: torch.Tensor, expected: torch.Tensor, where: str, account: Account) -> None:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise Disagreement(f"{where} is {describe(found)}; the original returns {describe(expected)}")
    account.values += expected.numel()
    if not expected.is_floating_point():
        wrong = int((found != expected).sum())
        if wrong:
            raise Disagreement(f"{where} differs in {wrong} of {expected.numel()} whole numbers")
        return
    one, other = found.double(), expected.double()
    strange = ~torch.isfinite(other)
    same_strange = (one == other) | (torch.isnan(one) & torch.isnan(other))
    if bool((strange & ~same_strange).any()) or bool((~strange & ~torch.isfinite(one)).any()):
        raise Disagreement(f"{where} has NaN or infinite values where the original has none, or the reverse")
    if bool(strange.all()):
        return
    scale = _scale(other.masked_fill(strange, 0.0))
    difference = float(((one - other) / scale)[~strange].abs().max())
    account.largest = max(account.largest, difference)
    if difference > TOLERANCE:
        raise Disagreement(
            f"{where} differs by {difference:.2g} of a channel's largest value; {TOLERANCE:g} is allowed"
        )


def _scale(expected: torch.Tensor) -> torch.Tensor:
    """The largest value of each channel, for comparison: boxes in pixels dwarf scores, and would hide their errors.

    Channels are the shorter axis of rows and columns (B, C, N), the second of maps (B, C, H, W), the last of more.
    """
    whole = expected.abs().amax().clamp(min=1e-12)
    if expected.dim() < 2:
        return whole
    shorter = -1 if expected.shape[-1] <= expected.shape[-2] else -2
    channel = shorter if expected.dim() < 4 else 1 if expected.dim() == 4 else -1
    others = [axis for axis in range(expected.dim()) if axis != channel % expected.dim()]
    return expected.abs().amax(others, keepdim=True).clamp(min=float(whole) * _FLOOR)


def _compare_detections(found: dict[str, Any], expected: dict[str, Any], where: str, account: Account) -> None:
    """Row by row where the lists fit; else, as near ties may fall either way in suppression, by their best partners."""
    account.detections += len(expected["scores"])
    trial = Account()
    try:
        for key in expected:
            _compare(found[key], expected[key], f"{where}[{key!r}]", trial)
    except Disagreement:
        share = _matched(found, expected)
        if share < MATCHED:
            raise Disagreement(
                f"{where} has {count(len(found['scores']), 'detection')}, the original {len(expected['scores'])}, and "
                f"{percent(share, 1)} of them match; {percent(MATCHED)} are needed"
            ) from None
    account.values += trial.values
    account.largest = max(account.largest, trial.largest if trial.largest <= TOLERANCE else 0.0)


def _matched(found: dict[str, Any], expected: dict[str, Any]) -> float:
    count = max(len(found["scores"]), len(expected["scores"]))
    if not len(found["scores"]) or not len(expected["scores"]):
        return 1.0 if not count else 0.0
    same = box_iou(expected["boxes"].float(), found["boxes"].float()) >= _SAME_BOX
    same &= expected["labels"][:, None] == found["labels"][None, :]
    same &= (expected["scores"][:, None] - found["scores"][None, :]).abs() <= _SAME_SCORE
    return min(int(same.any(1).sum()), int(same.any(0).sum())) / count
