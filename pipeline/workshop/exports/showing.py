# SPDX-License-Identifier: Apache-2.0
"""What an original and its export are both shown: noise and real frames, in every batch size and input size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pipeline.detectors.torch_messages import one_line, quiet
from pipeline.detectors.trial.probe import COMMON_SIDES
from pipeline.errors import ModelError
from pipeline.frame import InputSpec
from pipeline.workshop.exports.equality import Case
from pipeline.workshop.exports.origin import Origin
from pipeline.workshop.frames import items, sample

BATCHES = (1, 2, 3)
"""Batch sizes that a dynamic export must take."""

_FRAMES = 3


@dataclass(slots=True)
class Show:
    """Inputs and what the original makes of them.

    Attributes:
        size: (height, width) in pixels.
        as_list: the original takes a list of pictures instead of a batch.
        source: where the real frames come from.
        batches: batch sizes that the original takes.
        other_size: another size of input, or None where the original takes none.
    """

    module: nn.Module
    size: tuple[int, int]
    as_list: bool
    source: str
    batches: tuple[int, ...]
    frames: torch.Tensor
    other_size: tuple[int, int] | None = None
    _known: dict[str, Case] = field(default_factory=dict)

    def example(self, batch: int) -> torch.Tensor:
        """Noise, (batch, 3, H, W) float32 in 0..1; the same every time."""
        return _noise(batch, self.size)

    def of(self, batches: Sequence[int], *, all_sizes: bool = False) -> list[Case]:
        """Noise in each of these batch sizes, the real frames, and with ``all_sizes`` noise of another size."""
        cases = [self._case(f"noise, batch of {count}", _noise(count, self.size)) for count in batches]
        most = max(batches)
        frames = self.frames.repeat(-(-most // len(self.frames)), 1, 1, 1) if most > len(self.frames) else self.frames
        for begin in range(0, len(frames) - most + 1, most):
            cases.append(self._case(f"{self.source}, {begin + 1} to {begin + most}", frames[begin : begin + most]))
        if all_sizes and self.other_size is not None:
            cases.append(self.at_other_size(min(batches)))
        return cases

    def at_other_size(self, batch: int) -> Case:
        """Noise of :attr:`other_size`; of a list of pictures each has a size of its own."""
        size = self.other_size or self.size
        if self.as_list:
            given = [_noise(1, self.size)[0], _noise(1, size)[0]]
            return self._case(f"noise of {self.size[1]}x{self.size[0]} and {size[1]}x{size[0]}", given)
        return self._case(f"noise of {size[1]}x{size[0]}, batch of {batch}", _noise(batch, size))

    def _case(self, title: str, given: Any) -> Case:
        if title not in self._known:
            if self.as_list and isinstance(given, torch.Tensor):
                given = list(given.unbind())
            self._known[title] = Case(title, given, run(self.module, given))
        return self._known[title]


def run(module: nn.Module, given: Any) -> Any:
    """What the original returns; it is given a copy, because it may write into it."""
    copy = given.clone() if isinstance(given, torch.Tensor) else [picture.clone() for picture in given]
    with torch.inference_mode(), quiet():
        return module(copy)


def shown_list(origin: Origin, size: tuple[int, int], video: str | None) -> Show:
    """For a module that takes a list of pictures of any sizes; raises ModelError where it does not."""
    show = Show(origin.module, size, True, _source(video), BATCHES, _frames(video, size))
    show.other_size = (max(32, size[0] // 2), size[1])
    try:
        show.at_other_size(1)
    except Exception as exc:
        raise ModelError(f"{origin.title}: it does not take a list of pictures: {one_line(exc)}") from exc
    return show


def shown_tensor(
    origin: Origin, size: tuple[int, int] | None, batch: int | None, stride: int, video: str | None
) -> Show:
    """For a module that takes (B, 3, H, W): find a size and the batch sizes that it takes.

    Raises:
        ModelError: it takes nothing of what was asked for, or none of the usual sizes.
    """
    batches = BATCHES if batch is None else (batch,)
    sizes = [size] if size is not None else [(side, side) for side in COMMON_SIDES]
    first: Exception | None = None
    for candidate in sizes:
        taken = []
        for count in batches:
            try:
                run(origin.module, _noise(count, candidate))
            except Exception as exc:  # noqa: BLE001 - whatever a module of the user raises means that it does not take it
                first = first or exc
            else:
                taken.append(count)
        if taken:
            show = Show(origin.module, candidate, False, _source(video), tuple(taken), _frames(video, candidate))
            show.other_size = _other_size(origin.module, candidate, taken[0], stride)
            return show
    reason = one_line(first) if first is not None else ""
    wanted = f"a batch of {batches[0]} at {sizes[0][1]}x{sizes[0][0]}" if size else "pictures of any usual size"
    remedy = "--input H,W gives another size, --batch N another batch"
    raise ModelError(f"{origin.title}: it does not take {wanted}: {reason}; {remedy}") from first


def _other_size(module: nn.Module, size: tuple[int, int], batch: int, stride: int) -> tuple[int, int] | None:
    """A larger size that the original takes too, neither square nor of the same shape; None when it takes no other."""
    step = stride * -(-32 // stride)
    other = (size[0] + 2 * step, size[1] + step)
    try:
        run(module, _noise(batch, other))
    except Exception:  # noqa: BLE001 - as above
        return None
    return other


def _noise(count: int, size: tuple[int, int]) -> torch.Tensor:
    chance = torch.Generator().manual_seed(count)
    return torch.rand((count, 3, *size), generator=chance)


def _frames(video: str | None, size: tuple[int, int]) -> torch.Tensor:
    """Real frames, (n, 3, H, W) float32 in 0..1, letterboxed as the pipeline does it."""
    made = items(sample(video, _FRAMES), InputSpec(*size))
    pictures = [torch.from_numpy(item.input).permute(2, 0, 1).float() / 255.0 for item in made]
    return torch.stack(pictures).contiguous()


def _source(video: str | None) -> str:
    return "frames of a rendered pattern" if video is None else f"frames of {video}"
