# SPDX-License-Identifier: Apache-2.0
"""The contracts between the flow and its parts. Each is as small as the flow's need; a third party implements one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pipeline.events import StreamEvent
from pipeline.frame import (
    Batch,
    Capture,
    Detections,
    Frame,
    Geometry,
    InputSpec,
    Item,
    Picture,
    Result,
    SourceCounters,
    StreamInfo,
    StreamKey,
    Uint8Array,
)
from pipeline.frame.buffers import BufferPool
from pipeline.threads import StopFlag


class Source(Protocol):
    """Something that delivers frames. Opened, read and closed by one thread.

    ``read`` blocks until the next frame is there, but never beyond its own deadlines, and returns soon after ``stop``
    is set. It returns None at the regular end and raises :class:`pipeline.errors.SourceError` when the source fails.
    """

    counters: SourceCounters

    def open(self, stop: StopFlag) -> StreamInfo:
        """Connect and look at the stream; raises SourceUnavailable, SourceTimeout or SourceInvalid."""
        ...

    def read(self) -> Capture | None:
        """The next frame in presentation order, or None at the end (or once ``stop`` was set)."""
        ...

    @property
    def truncation(self) -> str | None:
        """After the end: why the recording is known to be cut short, or None."""
        ...

    def close(self) -> None:
        """Release everything; may be called twice and after a failed ``open``."""
        ...


class Stage(Protocol):
    """Turns a picture into a network input. One instance per stream, called by one thread at a time: the stream's
    reading thread, or a detect worker where the stream loses frames."""

    def spec_for(self, picture: Picture, spec: InputSpec) -> InputSpec:
        """What this picture gets: ``spec``, or less of it (:meth:`InputSpec.trimmed`); raises StageError."""
        ...

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        """Fill ``out`` (uint8, spec.shape) wholly and say how to get back; raises StageError."""
        ...


class Pending(Protocol):
    """A batch under way in a detector.

    One of a device that works beside the worker may also have ``device_ns``: after ``wait``, how many nanoseconds the
    device worked on this batch, by its own clock, or None. What it waited behind another batch then counts as a wait.
    So does one of a detector that lets one thread in at a time, for what it waited until it was let in.
    """

    def wait(self) -> None:
        """Return when the network's outputs exist; raises InferenceError, or StageError where an input was left to the
        detector and cannot be made."""
        ...

    def result(self) -> Sequence[Detections]:
        """Detections in network pixels, one per item of the batch, on the CPU; raises InferenceError."""
        ...


class Detector(Protocol):
    """A batched detector. ``warm`` and ``submit`` are called from several threads at once.

    One that wants its inputs in memory of a special kind also has ``allocate``, see
    :class:`pipeline.frame.buffers.BufferPool`. One that lets one thread in at a time has ``exclusive`` and says True:
    then the others' waiting for their turn does not count as a model that hangs.

    Attributes:
        spec: what it wants to be given.
        labels: class names by class_id.
        max_batch: the largest batch that it takes.
        depth: how many batches a worker keeps under way: 1 on a CPU, 2 where a device works beside the worker.
    """

    spec: InputSpec
    labels: dict[int, str]
    max_batch: int
    depth: int

    def warm(self, sizes: Sequence[int]) -> None:
        """Make the calling thread ready for batches of these sizes; called once per thread before any ``submit``."""
        ...

    def submit(self, batch: Batch) -> Pending:
        """Start a batch of up to ``max_batch`` items, padded to ``batch.size``; raises InferenceError."""
        ...

    def close(self) -> None:
        """Release everything; no batch is under way."""
        ...


class Model(Protocol):
    """What a reader knows of the model that its frames go to.

    Attributes:
        spec: what the model wants to be given.
        labels: class names by class id.
        buffers: memory for its inputs.
    """

    spec: InputSpec
    labels: dict[int, str]
    buffers: BufferPool

    def prepares(self, key: StreamKey) -> bool:
        """Whether the inputs of the next frame of this stream are made by whoever takes it."""
        ...

    def turns_away(self, key: StreamKey, parts: int) -> bool:
        """Whether a frame that comes late is lost before it is prepared, since others of its stream wait."""
        ...

    def offer(self, key: StreamKey, items: Sequence[Item]) -> list[Item]:
        """Queue the inputs of one frame; returns those that had to give way. Raises Closed once aborted."""
        ...

    def leave(self, key: StreamKey) -> None:
        """No more frames of this stream will come; what is queued is still served."""
        ...


class Follower(Protocol):
    """Per-stream state that sees results in stream order (tracker, zones, counts). Runs in the follow loop."""

    def follow(self, frame: Frame, detections: Detections | None) -> Detections:
        """Detections to publish for this frame. ``None`` comes in where nobody looked (gated, interval)."""
        ...


class Tap(Protocol):
    """Somebody who may look at results with their pictures as they are published, such as a live view.

    Asked once per frame, so that nothing is kept for nobody. Unlike a sink it may miss results and holds nothing up.
    """

    def wants(self, stream: str) -> bool:
        """Whether somebody looks at this stream now. Any thread, at any time; must not wait."""
        ...

    def show(self, result: Result) -> None:
        """One result of such a stream, with its picture. In the follow loop; must neither wait nor work."""
        ...


@runtime_checkable
class Sink(Protocol):
    """A consumer of results, in a thread of its own. Raises SinkError when it cannot keep what it was given.

    Attributes:
        name: unique among the sinks of a run; a report key and a metric label.
        wants_pictures: ``Result.picture`` is filled only when some sink wants it.
    """

    name: str
    wants_pictures: bool

    def open(self) -> None:
        """Get ready; raises SinkError at once where it never could work (unwritable folder)."""
        ...

    def begin(self, stream: StreamInfo) -> None:
        """A stream opened: exactly once per stream, before its first result."""
        ...

    def write(self, result: Result) -> None:
        """Keep one result. Results of one stream come in order."""
        ...

    def end(self, stream: str) -> None:
        """A stream ended: finish and close what belongs to it."""
        ...

    def close(self) -> None:
        """Flush, make durable, close. Called once, also after errors."""
        ...


class EventSink(Sink, Protocol):
    """A sink that is also told what happens to streams: cameras that go and come back, stalls, changes of size.

    Attributes:
        wants_events: True; a sink without this attribute, or with False, is told nothing.
    """

    wants_events: bool

    def event(self, event: StreamEvent) -> None:
        """Keep one event; raises SinkError. It comes in its place between the results of its stream, and before
        ``begin`` where a camera has not been reached yet."""
        ...


@runtime_checkable
class PlacedSink(Protocol):
    """What a sink has beside, if it writes files; it is shown, so that a name such as ``jsonl-0`` means something.

    Attributes:
        path: where it writes, absolute, with ``{stream}`` for the name of a stream.
    """

    path: str


@runtime_checkable
class LimitedSink(Protocol):
    """What a sink has beside, if it removes its oldest files to keep to limits; the count is shown in its account.

    Attributes:
        segments_removed: how many files it removed so far; None while it was given no limits.
    """

    segments_removed: int | None
