# SPDX-License-Identifier: Apache-2.0
"""Public doubles for tests: a scripted source, a detector that sees what the source says, a list sink, a manual clock.

They stand at the same seams as the real parts. Pictures are tiny grey images whose first pixel carries the frame index,
so a test can follow a frame through the whole pipeline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import InferenceError
from pipeline.events import StreamEvent
from pipeline.frame import (
    Batch,
    Capture,
    Detections,
    Geometry,
    InputSpec,
    Picture,
    Result,
    SourceCounters,
    StreamInfo,
    Uint8Array,
)
from pipeline.threads import StopFlag
from pipeline.timing import SYSTEM, Clock


class ManualClock:
    """A clock that stands still until :meth:`advance` is called."""

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self._now_ns = start_ns
        self._wall_ns = 1_700_000_000_000_000_000

    def now_ns(self) -> int:
        """The time that was set."""
        return self._now_ns

    def wall_ns(self) -> int:
        """A wall clock that moves along."""
        return self._wall_ns

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        self._now_ns += nanoseconds
        self._wall_ns += nanoseconds

    def set_wall(self, wall_ns: int) -> None:
        """Somebody sets the system's clock."""
        self._wall_ns = wall_ns


PAUSE = threading.Event
"""An event in a script holds the source until it is set (or the stream is stopped)."""

Script = Iterable["int | float | BaseException | threading.Event"]


class ScriptedSource:
    """Plays a script: a number is a frame with that pts in seconds, an exception is raised, an event is waited for.

    Args:
        script: in the order in which it is played; :meth:`open` begins it anew.
        size: width and height of its pictures: grey ones, whose pixels all have the frame's index modulo 256.
        open_error: raised by :meth:`open`.
        truncation: why the recording is cut short, or None.
        corrupt: indices of the frames that are flagged as damaged.
        live: a feed.
        clock: where the times of its frames come from.

    Attributes:
        closed: how often it was closed.
        stop: what it was opened with.
    """

    def __init__(
        self,
        script: Script,
        *,
        size: tuple[int, int] = (64, 48),
        open_error: BaseException | None = None,
        truncation: str | None = None,
        corrupt: Sequence[int] = (),
        live: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.counters = SourceCounters()
        self.truncation = truncation
        self.closed = 0
        self.stop: StopFlag | None = None
        self._script = script
        self._steps: Iterator[int | float | BaseException | threading.Event] = iter(())
        self._size = size
        self._open_error = open_error
        self._corrupt = frozenset(corrupt)
        self._live = live
        self._clock = clock
        self._index = 0

    def open(self, stop: StopFlag) -> StreamInfo:
        """Begin the script; raises ``open_error`` when there is one."""
        if self._open_error is not None:
            raise self._open_error
        self.stop = stop
        self._steps = iter(self._script)
        width, height = self._size
        return StreamInfo("scripted", width, height, live=self._live)

    def read(self) -> Capture | None:
        """The next frame of the script."""
        assert self.stop is not None, "read before open"
        for step in self._steps:
            if self.stop.is_set():
                return None
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, threading.Event):
                while not step.is_set() and not self.stop.wait(0.002):
                    pass
                continue
            return self._capture(float(step))
        return None

    def _capture(self, pts_s: float) -> Capture:
        read_ns = self._clock.now_ns()
        width, height = self._size
        plane = np.full((height, width), self._index % 256, np.uint8)
        index = self._index
        self._index += 1
        wall_ns = self._clock.wall_ns() if self._live else None
        return Capture(
            Picture((plane,), "gray"), index, pts_s, read_ns, self._clock.now_ns(), wall_ns, 0, index in self._corrupt
        )

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1


class CopyStage:
    """A stage that paints the picture's first pixel over the whole input."""

    def spec_for(self, picture: Picture, spec: InputSpec) -> InputSpec:
        """The padding that this picture does not need is left off."""
        return spec.trimmed(picture.width, picture.height)

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        """Fill ``out`` with one value; the geometry scales the picture to the input."""
        out[...] = picture.planes[0][0, 0]
        return Geometry(picture.width, picture.height, spec.width / picture.width, spec.height / picture.height)


@dataclass
class _Done:
    found: list[Detections]

    def wait(self) -> None:
        pass

    def result(self) -> Sequence[Detections]:
        return self.found


def one_box(value: int) -> Detections:
    """A box in the middle of a 32 x 32 input whose confidence tells the value of its pixels."""
    box = np.array([[8.0, 8.0, 24.0, 24.0]], np.float32)
    return Detections(box, np.array([value / 255], np.float32), np.zeros(1, np.int64))


@dataclass
class FakeDetector:
    """Finds one box per picture (:func:`one_box` of its first pixel), or what ``find`` says.

    Attributes:
        find: what to report for a picture whose pixels have this value; may raise InferenceError to fail the batch.
        sizes: the padded size of every batch, in order of submission.
        gate: when given, every batch waits for it.
    """

    spec: InputSpec = field(default_factory=lambda: InputSpec(32, 32))
    labels: dict[int, str] = field(default_factory=lambda: {0: "thing"})
    max_batch: int = 64
    depth: int = 1
    find: Callable[[int], Detections] = one_box
    gate: threading.Event | None = None
    sizes: list[int] = field(default_factory=list)
    warmed: list[list[int]] = field(default_factory=list)
    closed: int = 0

    def warm(self, sizes: Sequence[int]) -> None:
        """Note the sizes."""
        self.warmed.append(list(sizes))

    def submit(self, batch: Batch) -> _Done:
        """Look at the first pixel of each picture."""
        if self.gate is not None:
            self.gate.wait()
        if len(batch.items) > batch.size or batch.size > self.max_batch:
            raise InferenceError(f"{len(batch.items)} items in a batch of {batch.size}")
        self.sizes.append(batch.size)
        return _Done([self.find(int(item.input[0, 0, 0])) for item in batch.items])

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1


class ListSink:
    """Keeps everything in lists. ``fail`` may raise for a result; ``gate`` holds every write.

    With ``wants_events`` it keeps events of streams in ``told``, and all there is in ``order``: frame numbers, kinds.
    """

    def __init__(
        self,
        name: str = "list",
        *,
        wants_pictures: bool = False,
        fail: Callable[[Result], None] | None = None,
        gate: threading.Event | None = None,
        wants_events: bool = False,
    ) -> None:
        self.name = name
        self.wants_pictures = wants_pictures
        self.wants_events = wants_events
        self.told: list[StreamEvent] = []
        self.order: list[tuple[str, int | str]] = []
        self.results: list[Result] = []
        self.events: list[str] = []
        self._fail = fail
        self._gate = gate

    def open(self) -> None:
        """Note it."""
        self.events.append("open")

    def begin(self, stream: StreamInfo) -> None:
        """Note it."""
        self.events.append(f"begin {stream.name}")

    def write(self, result: Result) -> None:
        """Keep it."""
        if self._gate is not None:
            self._gate.wait()
        if self._fail is not None:
            self._fail(result)
        self.results.append(result)
        self.order.append((result.stream, result.frame))

    def event(self, event: StreamEvent) -> None:
        """Keep it."""
        if self._gate is not None:
            self._gate.wait()
        self.told.append(event)
        self.order.append((event.stream, event.kind))

    def end(self, stream: str) -> None:
        """Note it."""
        self.events.append(f"end {stream}")

    def close(self) -> None:
        """Note it."""
        self.events.append("close")

    def frames(self, stream: str) -> list[int]:
        """Frame numbers of one stream in order of arrival."""
        return [result.frame for result in self.results if result.stream == stream]
