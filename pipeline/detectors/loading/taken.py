# SPDX-License-Identifier: Apache-2.0
"""What a compiled or exported program says about its first input, as metadata: batch, size, layout and dtype."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.detectors.loading.metadata import Metadata
from pipeline.errors import ModelLoadError

Side = int | tuple[int, int | None]
"""A fixed length, or the least and the most (None: no limit)."""

_DTYPES = ("float32", "float16", "bfloat16", "uint8")


class ForAnotherDevice(ModelLoadError):
    """A program that was made for another kind of device than it was to be loaded on."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The tensor that a program takes.

    Attributes:
        shape: its sides, of the batch (four), or of one picture of a list (three).
        dtype: torch's name without ``torch.``.
        pictures: how many pictures a list must hold; None: a batch is taken.
    """

    shape: tuple[Side, ...]
    dtype: str
    pictures: int | None = None


def with_taken(metadata: Metadata, taken: Taken, name: str) -> Metadata:
    """Metadata in which the program's own word about its input comes first.

    Raises:
        ModelLoadError: it takes no pictures of three channels.
    """
    batch, sides = (taken.pictures, taken.shape) if taken.pictures else (taken.shape[0], taken.shape[1:])
    shown = ", ".join(str(side) if isinstance(side, int) else "any" for side in taken.shape)
    if len(sides) != 3 or (sides[0] != 3 and sides[2] != 3):
        raise ModelLoadError(
            f"{name}: it takes a tensor ({shown}); pictures (B, 3, H, W) or (B, H, W, 3) were expected"
        )
    if taken.dtype not in _DTYPES:
        raise ModelLoadError(f"{name}: it takes {taken.dtype}; one of {', '.join(_DTYPES)} was expected")
    layout = "nchw" if sides[0] == 3 else "nhwc"
    height, width = sides[1:] if layout == "nchw" else sides[:2]
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    wishes = {"dtype": taken.dtype} if taken.dtype != "float32" else {}
    wishes |= {"layout": layout} if layout != "nchw" else {}
    most = batch[1] if isinstance(batch, tuple) else None
    if most is None or (metadata.largest_batch is not None and metadata.largest_batch < most):
        most = metadata.largest_batch
    return replace(
        metadata,
        size=size or metadata.size,
        fixed_size=size is not None or metadata.fixed_size,
        fixed_batch=batch if isinstance(batch, int) else metadata.fixed_batch,
        largest_batch=most,
        input_spec=wishes | metadata.input_spec,
    )
