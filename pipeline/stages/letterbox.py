# SPDX-License-Identifier: Apache-2.0
"""The stage that every stream has: a decoded picture, or a region of it, becomes a network input.

How, and why it is fast: the planes are reduced separately, still as YUV, and only the few pixels that the network
sees are converted to RGB. A plane that is at least twice as large as needed is halved first (means of 2 x 2 pixels,
for which OpenCV has a vector path), as often as its size is even; so most of the picture's pixels contribute, where
bilinear sampling alone would skip them and alias. Once luma and chroma have the same size, which for 4:2:0 is after
luma's first halving, they are interleaved and the rest is one bilinear resize of three channels. The matrix is one
``cv2.transform`` at network size, whatever the standard and the range.

Simplifications, both far below what a detector notices: chroma samples are taken to lie in the middle of the pixels
that share them (H.264 puts them on the left one by default: half a source pixel), and chroma of an odd size is
stretched over the picture (at most one source pixel at its right and lower border).
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.errors import StageError
from pipeline.frame import Geometry, InputSpec, Picture, Uint8Array
from pipeline.stages.colour import conversion
from pipeline.stages.geometry import Box, fit, place
from pipeline.stages.planes import crop, sampling
from pipeline.stages.reduce import Reduction
from pipeline.stages.region import Region, align, to_displayed, to_stored
from pipeline.stages.turn import turn

_PLANS = 4  # a stream has one, two while a model is swapped, more only where its picture keeps changing size


class _Plan:
    """All that depends on the form of a picture and the spec only, with the scratch buffers. Made once, then reused."""

    def __init__(self, picture: Picture, spec: InputSpec, region: Region | None, antialias: bool) -> None:
        rows, columns = picture.planes[0].shape[:2]
        rotation, self.rotation = picture.rotation, picture.rotation
        self.step_x, self.step_y = sampling(picture)
        self.box = Box(0, 0, columns, rows) if region is None else _stored_part(picture, region)
        self.whole = region is None
        displayed = to_displayed(self.box, columns, rows, rotation)
        self.geometry = fit(picture.width, picture.height, spec, displayed)

        x, y, width, height = place(displayed.width, displayed.height, spec)
        self.window = (slice(y, y + height), slice(x, x + width))
        self.borders = tuple(
            border
            for border in (
                (slice(0, y), slice(None)),
                (slice(y + height, None), slice(None)),
                (self.window[0], slice(0, x)),
                (self.window[0], slice(x + width, None)),
            )
            if np.empty(spec.shape, np.bool_)[border].size
        )
        inner = (width, height) if rotation in (0, 180) else (height, width)
        planes = crop(picture, self.box, self.step_x, self.step_y)
        self.reduction = Reduction(planes, inner, self.step_x, self.step_y, antialias=antialias)
        self.upright = np.empty((inner[1], inner[0], 3), np.uint8) if rotation else None

    def fill(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> None:
        """Reduce, convert, turn and pad one picture of this form."""
        # Input buffers are shared by all streams, so nothing is known of their padding: it is written every time.
        for border in self.borders:
            out[border] = spec.pad_value
        window = out[self.window]
        target = window if self.upright is None else self.upright
        planes = picture.planes if self.whole else crop(picture, self.box, self.step_x, self.step_y)
        reduced = self.reduction(planes)
        if picture.layout == "yuv":
            cv2.transform(reduced, conversion(picture.matrix, picture.full_range, spec.colour), target)
        elif picture.layout == "gray":
            cv2.cvtColor(reduced, cv2.COLOR_GRAY2RGB, target)
        elif spec.colour == "bgr":
            cv2.cvtColor(reduced, cv2.COLOR_RGB2BGR, target)
        else:
            target[:] = reduced
        if self.upright is not None:
            turn(self.upright, self.rotation, window)


class Letterbox:
    """Fits a picture into the network's input; a :class:`pipeline.protocols.Stage`, one instance per stream.

    Args:
        region: the part of the picture that the network sees, as displayed; None: all of it. It is grown outwards to
            whole chroma samples; the geometry says what it became.
        antialias: halve before resizing, see the module's docstring. Without it the result is that of plain bilinear
            sampling (``cv2.INTER_LINEAR`` of the whole picture), as most training code has it.
    """

    def __init__(self, region: Region | None = None, *, antialias: bool = True) -> None:
        self.region = region
        self.antialias = antialias
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self._asked: tuple[object, ...] = ()  # of the last `spec_for`, and the answer
        self._answer: InputSpec | None = None

    def spec_for(self, picture: Picture, spec: InputSpec) -> InputSpec:
        """Without the padding that the picture, or the region of it, does not need, where ``spec.trim`` allows."""
        asked = (spec, picture.width, picture.height, picture.rotation)
        if self._answer is None or asked != self._asked:
            width, height = picture.width, picture.height
            if self.region is not None:
                _, _, width, height = _displayed_part(picture, self.region)
            self._answer = spec.trimmed(width, height)
            self._asked = asked
        return self._answer

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        """Write the network input for ``picture`` into ``out`` and say how to get back.

        Args:
            picture: any layout, sub-sampling (4:4:4, 4:2:2, 4:2:0, 4:1:1), odd size and rotation. ``gray`` is taken
                as it is, 0..255, as FFmpeg does.
            spec: the network input.
            out: uint8 of ``spec.shape``, C-contiguous, writable; every byte of it is written.

        Raises:
            StageError: planes that do not fit together, a picture or region under 2 x 2 pixels, a region beyond the
                picture, or an ``out`` that does not fit ``spec``.
        """
        if out.shape != spec.shape or out.dtype != np.uint8 or not out.flags.c_contiguous or not out.flags.writeable:
            raise StageError(
                f"an input buffer is writable, C-contiguous uint8 of shape {spec.shape}, not {out.dtype} of {out.shape}"
            )
        try:
            plan = self._plan(picture, spec)
            plan.fill(picture, spec, out)
        except cv2.error as error:
            raise StageError(f"OpenCV could not prepare the picture: {' '.join(str(error).split())}") from error
        return plan.geometry

    def geometry(self, picture: Picture, spec: InputSpec) -> Geometry:
        """What :meth:`prepare` would return, without looking at a pixel; raises StageError as it would."""
        return self._plan(picture, spec).geometry

    def _plan(self, picture: Picture, spec: InputSpec) -> _Plan:
        form = (spec, picture.layout, picture.rotation, *[(plane.shape, plane.dtype) for plane in picture.planes])
        plan = self._plans.get(form)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan = self._plans[form] = _Plan(picture, spec, self.region, self.antialias)
        return plan


def _stored_part(picture: Picture, region: Region) -> Box:
    """The region as the planes hold it, grown outwards to whole chroma samples."""
    rows, columns = picture.planes[0].shape[:2]
    left, top, right, bottom = region.pixels(picture.width, picture.height)
    wanted = to_stored(Box(left, top, right - left, bottom - top), columns, rows, picture.rotation)
    return align(wanted, *sampling(picture), columns, rows)


def _displayed_part(picture: Picture, region: Region) -> Box:
    rows, columns = picture.planes[0].shape[:2]
    return to_displayed(_stored_part(picture, region), columns, rows, picture.rotation)
