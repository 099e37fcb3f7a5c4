# SPDX-License-Identifier: Apache-2.0
"""The body of the read loop: a decoded frame goes in, its network inputs are queued, or it has an outcome already."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pipeline.complaints import Complaints
from pipeline.frame import Capture, Frame, InputSpec, Item, Outcome, StreamKey, Uint8Array
from pipeline.memory import BufferPool
from pipeline.stream import Pictures, Stream
from pipeline.timing import Mark, new_trace


class Preparer:
    """Runs the stages of a stream on its frames. Shared by all readers."""

    def __init__(
        self,
        spec: InputSpec,
        buffers: BufferPool,
        offer: Callable[[StreamKey, Sequence[Item]], list[Item]],
        emit: Callable[[Outcome], object],
        now: Callable[[], int],
        complaints: Complaints,
        pictures: Pictures,
    ) -> None:
        """``spec`` is what the detector wants; ``offer`` queues items and returns those that had to give way;
        ``pictures``: who wants the source's picture with its results."""
        self._spec = spec
        self._buffers = buffers
        self._offer = offer
        self._emit = emit
        self._now = now
        self._complaints = complaints
        self._pictures = pictures

    def prepare(self, stream: Stream, capture: Capture, sequence: int, wanted: bool) -> None:
        """Make the network inputs of one frame and queue them, unless the detector is not to look at it."""
        trace = new_trace()
        trace[Mark.READ], trace[Mark.DECODED] = capture.read_ns, capture.decoded_ns
        trace[Mark.PREPARE] = self._now()
        picture = capture.picture
        frame = Frame(
            stream.key, sequence, capture.index, capture.pts_s, capture.wall_ns, capture.epoch,
            picture.width, picture.height, picture if self._pictures.kept(stream.account.name) else None, trace,
        )  # fmt: skip
        if capture.corrupt and stream.drop_corrupt:
            self._emit(Outcome(frame, dropped="corrupt"))
            return
        if not wanted:
            self._emit(Outcome(frame))
            return
        items: list[Item] = []
        inputs: list[Uint8Array] = []
        try:
            for part, stage in enumerate(stream.stages):
                spec = stage.spec_for(picture, self._spec)
                inputs.append(self._buffers.acquire(spec.shape))
                geometry = stage.prepare(picture, spec, inputs[part])
                items.append(Item(frame, spec, inputs[part], geometry, part, len(stream.stages)))
        except Exception as error:  # noqa: BLE001 - StageError, or whatever a plug-in raises; it costs this frame only
            text = f"frame {frame.index}: {error}"
            self._complaints.say(logging.WARNING, stream.account.name, "stage", text)
            for out in inputs:
                self._buffers.release(out)
            self._emit(Outcome(frame, dropped="stage_error"))
            return
        trace[Mark.PREPARED] = self._now()
        for item in self._offer(stream.key, items):
            self._buffers.release(item.input)
            self._emit(Outcome(item.frame, dropped="overflow", part=item.part, of=item.of))
