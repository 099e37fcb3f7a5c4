# SPDX-License-Identifier: Apache-2.0
"""The input that a network wants, in full: channel order, numbers, fit and memory layout, put together in layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from pipeline.frame import InputSpec

Colour = Literal["rgb", "bgr"]
Fit = Literal["letterbox", "top_left", "stretch"]
Dtype = Literal["float32", "float16", "bfloat16", "uint8"]
Layout = Literal["nchw", "nhwc"]
Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
"""Of ImageNet's training pictures, R, G, B, in 0..1: what most backbones were trained with."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "colour": get_args(Colour),
    "fit": get_args(Fit),
    "dtype": get_args(Dtype),
    "layout": get_args(Layout),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a batch of uint8 HWC pictures becomes the network's arguments: ``(byte * scale - mean) / std``.

    Attributes:
        dtype: of the network's input; ``uint8`` are the bytes themselves.
        scale: network value per grey level.
        as_list: the network takes a list of B pictures (3, H, W) instead of one tensor.
        mean, std: per channel, in the order of the picture's channels and in the unit that ``scale`` makes.
        layout: ``nchw``: (B, 3, H, W); ``nhwc``: (B, H, W, 3).
        sizes: a second argument follows, (B, 2) int64: width and height that boxes are to be scaled to
            (``orig_target_sizes`` of RT-DETR). It is the input's own size, so that boxes are in network pixels.
        stride: both sides of the input must be multiples of it.
    """

    dtype: Dtype = "float32"
    scale: float = 1.0 / 255.0
    as_list: bool = False
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    layout: Layout = "nchw"
    sizes: bool = False
    stride: int = 1

    @property
    def shifted(self) -> bool:
        """Whether more than ``scale`` is to be done."""
        return self.mean != (0.0, 0.0, 0.0) or self.std != (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a network wants to be given, but for its size. The defaults are those of most detectors.

    Attributes:
        colour: channel order.
        scale: network value per grey level 0..255; 1/255 makes 0..1.
        mean: subtracted after scaling, per channel in the order of ``colour``.
        std: what the difference is divided by.
        fit: see :class:`pipeline.frame.InputSpec`.
        pad_value: grey level of the padding, 0..255.
        stride: both sides of the input must be multiples of it.
        dtype: of the input tensor; ``uint8`` takes neither scale nor mean nor std.
        layout: ``nchw`` or ``nhwc``.
    """

    colour: Colour = "rgb"
    scale: float = 1.0 / 255.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    fit: Fit = "letterbox"
    pad_value: int = 114
    stride: int = 1
    dtype: Dtype = "float32"
    layout: Layout = "nchw"

    def overlaid(self, wishes: Mapping[str, Any]) -> Preprocessing:
        """With some values replaced.

        Args:
            wishes: names of attributes and their values as YAML and JSON have them: one number stands for three equal
                ones, ``1/255`` may be written as text, and None leaves a value as it is.

        Raises:
            ValueError: an unknown name or a value out of range; the message is one line per fault.
        """
        faults: list[str] = []
        changes: dict[str, Any] = {}
        for key, value in wishes.items():
            if value is None:
                continue
            try:
                changes[key] = _checked(key, value)
            except ValueError as exc:
                faults.append(f"{key}: {exc}")
        if changes.get("dtype") == "uint8":
            changes.setdefault("scale", 1.0)
        if faults:
            raise ValueError("\n".join(faults))
        changed = replace(self, **changes)
        if changed.dtype == "uint8" and (changed.scale != 1.0 or changed.encoding().shifted):
            raise ValueError("dtype: uint8 are the bytes themselves; leave scale, mean and std out, or use float32")
        return changed

    def encoding(self, *, as_list: bool = False, sizes: bool = False) -> Encoding:
        """The part that concerns numbers and memory."""
        return Encoding(self.dtype, self.scale, as_list, self.mean, self.std, self.layout, sizes, self.stride)

    def spec(self, height: int, width: int) -> InputSpec:
        """The part that concerns pictures, for a network input of ``height`` x ``width`` pixels."""
        return InputSpec(height, width, self.colour, self.fit, self.pad_value)


USUAL = Preprocessing()
"""RGB, 0..1, letterboxed."""

BYTES = Preprocessing(dtype="uint8", scale=1.0)
"""Grey levels as they are."""


def describe_input(spec: InputSpec, encoding: Encoding) -> dict[str, Any]:
    """Everything about a network's input as plain data, for ``model_info`` and reports."""
    numbers = asdict(encoding)
    return {
        "size": [spec.height, spec.width],
        "layout": numbers["layout"],
        "dtype": numbers["dtype"],
        "colour": spec.colour,
        "scale": numbers["scale"],
        "mean": list(encoding.mean),
        "std": list(encoding.std),
        "fit": spec.fit,
        "pad_value": spec.pad_value,
        "stride": numbers["stride"],
        "as_list": numbers["as_list"],
        "extra_inputs": ["orig_target_sizes"] if encoding.sizes else [],
    }


def _checked(key: str, value: Any) -> Any:
    """The value of one key in the type of its attribute; raises ValueError."""
    known = [field.name for field in fields(Preprocessing)]
    if key not in known:
        raise ValueError(f"there is no such key; one of {', '.join(known)} was expected")
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ValueError(f"{value!r} is not known; one of {', '.join(_CHOICES[key])} was expected")
        return value
    if key in ("pad_value", "stride"):
        low, high = (0, 255) if key == "pad_value" else (1, 1024)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{value!r} is out of range; a whole number from {low} to {high} was expected")
        return value
    if key == "scale":
        number = 1.0 / 255.0 if value == "1/255" else _number(value)
        if number <= 0.0:
            raise ValueError(f"{value!r} is out of range; a number above 0, or 1/255, was expected")
        return number
    numbers = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(numbers) != 3:
        raise ValueError(f"{value!r} are {len(numbers)} values; one number, or one per channel (3), was expected")
    triple = tuple(_number(each) for each in numbers)
    if key == "std" and min(triple) <= 0.0:
        raise ValueError(f"{value!r} is out of range; numbers above 0 were expected")
    return triple


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)
