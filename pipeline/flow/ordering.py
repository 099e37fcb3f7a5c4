# SPDX-License-Identifier: Apache-2.0
"""Back in order: joins the parts of each frame and releases a stream's frames in the sequence in which they entered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.frame import Detections, DropReason, Frame, Outcome
from pipeline.timing import Mark


@dataclass(frozen=True, slots=True)
class Joined:
    """A frame whose parts are all there: detections (None where nobody looked), or why it is lost, also in words."""

    frame: Frame
    detections: Detections | None
    dropped: DropReason | None
    why: str = ""


class StreamOrder:
    """The order of one stream. Every sequence number yields an outcome, so it never waits for what cannot come.

    Memory is bounded by the frames under way between the stream's reader and here.
    """

    def __init__(self) -> None:
        self._next = 0
        self._parts: dict[int, list[Outcome]] = {}
        self._ends_at: int | None = None

    def add(self, outcome: Outcome) -> Iterator[Joined]:
        """Take one outcome; yields the frames whose turn has come, in order."""
        self._parts.setdefault(outcome.frame.sequence, []).append(outcome)
        while (parts := self._parts.get(self._next)) is not None and len(parts) == parts[0].of:
            del self._parts[self._next]
            self._next += 1
            yield join(parts)

    def end(self, frames: int) -> None:
        """The stream has ended after ``frames`` frames."""
        self._ends_at = frames

    @property
    def released(self) -> int:
        """Frames that have been yielded so far."""
        return self._next

    @property
    def complete(self) -> bool:
        """The stream has ended and all its frames have been released."""
        return self._ends_at == self._next


def join(parts: list[Outcome]) -> Joined:
    """One frame out of its parts: their detections together, or the loss of any of them.

    The frame's trace takes the marks of the part that was ready last: that one held the frame up. A frame that is lost
    takes those of the part that was lost first.
    """
    frame = parts[0].frame
    lost = min((part for part in parts if part.dropped is not None), key=_ready_ns, default=None)
    last = lost or max(parts, key=_ready_ns)
    frame.trace[Mark.QUEUED : Mark.QUEUED + len(last.marks)] = last.marks
    if lost is not None:
        return Joined(frame, None, lost.dropped, lost.why)
    found = [part.detections for part in sorted(parts, key=lambda part: part.part) if part.detections is not None]
    if len(found) <= 1:
        return Joined(frame, found[0] if found else None, None)
    together = Detections(
        np.concatenate([part.xyxy for part in found]),
        np.concatenate([part.confidence for part in found]),
        np.concatenate([part.class_id for part in found]),
    )
    return Joined(frame, together, None)


def _ready_ns(part: Outcome) -> int:
    return part.marks[-1] if part.marks else 0
