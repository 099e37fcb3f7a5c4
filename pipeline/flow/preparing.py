# SPDX-License-Identifier: Apache-2.0
"""The body of the read loop: a decoded frame goes in, its network inputs are queued, made or to be made by the worker
that takes them, or it has an outcome already."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from pipeline.flow.shadow import Shadow
from pipeline.flow.stream import Pictures, Stream
from pipeline.frame import Capture, Frame, Geometry, Item, Outcome, Picture, Uint8Array
from pipeline.protocols import Model, Stage
from pipeline.timing import AGE, EPOCH, FRAME, PTS, Mark, new_trace

_NONE: Final = np.empty((0, 0, 3), np.uint8)
_NOWHERE: Final = Geometry(1, 1, 1, 1)


class Preparer:
    """Runs the stages of a stream on its frames. Shared by all readers.

    Attributes:
        shadow: a second model that some frames are prepared for as well, or None.
    """

    def __init__(
        self,
        emit: Callable[[Outcome], object],
        now: Callable[[], int],
        pictures: Pictures,
    ) -> None:
        """``pictures``: who wants the source's picture with its results."""
        self.shadow: Shadow | None = None
        self._emit = emit
        self._now = now
        self._pictures = pictures

    def missed(self, stream: Stream, capture: Capture) -> None:
        """Account for the frames before this one that gave way before anybody saw them."""
        for index in range(capture.index - capture.missed, capture.index):
            trace = new_trace()
            trace[Mark.READ] = capture.read_ns
            trace[PTS], trace[EPOCH], trace[FRAME] = round(capture.pts_s * 1e9), capture.epoch, index
            frame = Frame(
                stream.key, stream.frames, index, capture.pts_s, capture.wall_ns, capture.epoch,
                *capture.picture.size, None, trace, stream.model.labels,
            )  # fmt: skip
            stream.frames += 1
            self._emit(Outcome(frame, dropped="overflow"))

    def prepare(self, stream: Stream, capture: Capture, sequence: int, wanted: bool) -> None:
        """Make the network inputs of one frame and queue them, unless the detector is not to look at it."""
        model = stream.model
        trace = new_trace()
        trace[Mark.READ], trace[Mark.DECODED] = capture.read_ns, capture.decoded_ns
        trace[Mark.PREPARE] = self._now()
        trace[PTS], trace[EPOCH], trace[FRAME] = round(capture.pts_s * 1e9), capture.epoch, capture.index
        trace[AGE] = capture.age_ns
        picture = capture.picture
        account, lag_ns, place_ns = stream.account, 0, None
        if account.paced:
            lag_ns = stream.lag.at(trace[Mark.PREPARE], trace[PTS], capture.epoch)
            account.fallen_ns = stream.lag.fallen_ns
            if account.playout.delay is not None:
                place_ns = trace[Mark.PREPARE] - lag_ns
        frame = Frame(
            stream.key, sequence, capture.index, capture.pts_s, capture.wall_ns, capture.epoch, picture.width,
            picture.height, picture if self._pictures.kept(account.name) else None, trace, model.labels,
            place_ns=place_ns,
        )  # fmt: skip
        if capture.corrupt and stream.drop_corrupt:
            self._emit(Outcome(frame, dropped="corrupt"))
            return
        if not wanted:
            self._emit(Outcome(frame))
            return
        later = model.prepares(stream.key)
        if stream.lag.is_behind(lag_ns) and not later and model.turns_away(stream.key, len(stream.stages)):
            trace[Mark.PREPARE], trace[Mark.QUEUED] = 0, trace[Mark.PREPARE]
            self._emit(Outcome(frame, dropped="overflow"))
            return
        try:
            items = (_left if later else _inputs)(stream, model, frame, picture)
        except Exception as error:  # noqa: BLE001 - StageError, or whatever a plug-in raises; it costs this frame only
            trace[Mark.PREPARED] = self._now()
            self._emit(Outcome(frame, dropped="stage_error", why=str(error) or type(error).__name__))
            return
        shadow = self.shadow
        if shadow is not None and shadow.claim(stream.account.name):
            try:
                shadow.take(_inputs(stream, shadow.model, frame, picture))
            except Exception as error:  # noqa: BLE001 - likewise; it is the second model's fault, not the frame's
                shadow.fail(error)
        if not later:
            trace[Mark.PREPARED] = self._now()
        for item in model.offer(stream.key, items):
            if item.make is None:
                model.buffers.release(item.input)
            marks = (item.queued_ns, self._now())
            self._emit(Outcome(item.frame, dropped="overflow", part=item.part, of=item.of, marks=marks))


def _inputs(stream: Stream, model: Model, frame: Frame, picture: Picture) -> list[Item]:
    """The network inputs of one frame; raises what a stage raised, and then leaves no buffer on loan."""
    items: list[Item] = []
    inputs: list[Uint8Array] = []
    try:
        for part, stage in enumerate(stream.stages):
            with stream.preparing:
                spec = stage.spec_for(picture, model.spec)
                inputs.append(model.buffers.acquire(spec.shape))
                geometry = stage.prepare(picture, spec, inputs[part])
            items.append(Item(frame, spec, inputs[part], geometry, part, len(stream.stages)))
    except Exception:
        for out in inputs:
            model.buffers.release(out)
        raise
    return items


def _left(stream: Stream, model: Model, frame: Frame, picture: Picture) -> list[Item]:
    """The same, to be made by whoever takes them: nothing is spent on what gives way before."""
    with stream.preparing:
        specs = [stage.spec_for(picture, model.spec) for stage in stream.stages]
    return [
        Item(frame, spec, _NONE, _NOWHERE, part, len(stream.stages), make=partial(_make, stream, stage, model, picture))
        for part, (stage, spec) in enumerate(zip(stream.stages, specs, strict=True))
    ]


def _make(stream: Stream, stage: Stage, model: Model, picture: Picture, item: Item) -> None:
    out = model.buffers.acquire(item.spec.shape)
    try:
        with stream.preparing:
            item.geometry = stage.prepare(picture, item.spec, out)
    except Exception:
        model.buffers.release(out)
        raise
    item.input = out
