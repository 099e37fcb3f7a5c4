# SPDX-License-Identifier: Apache-2.0
"""One stream's part of a recording: what its reader sees, and what becomes of its frames, for the writing thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import av
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.arrivals.layout import ARRIVALS, FRAMES
from pipeline.arrivals.segment import Segment
from pipeline.arrivals.stream_files import StreamFiles
from pipeline.events import Condition
from pipeline.frame import DropReason
from pipeline.redact import scrub
from pipeline.sources.isolation.relay import Track
from pipeline.sources.libav import Opened
from pipeline.timing import EPOCH, FRAME, PTS, Mark

log = logging.getLogger(__name__)

_MARKS = (Mark.DECODED, Mark.PREPARE, Mark.PREPARED, Mark.QUEUED)


class Desk(Protocol):
    """Where a stream's recorder hands things in.

    Attributes:
        origin_ns: when the recording began (monotonic).
        ended: why nothing is written any more, or None.
    """

    origin_ns: int
    ended: str | None

    def now_ns(self) -> int:
        """Monotonic time."""
        ...

    def put(self, job: Callable[[], None], size: int = 0, packets: int = 0, lines: int = 0) -> bool:
        """Have the writing thread do something; False where that will not happen, which is counted."""
        ...

    def lose(self, packets: int, lines: int = 0) -> None:
        """Count packets and lines that nobody will write."""
        ...


class StreamRecorder:
    """Watches one life of a stream. Its reader calls :meth:`begin`, :meth:`packet` and :meth:`at`, or, where another
    process reads it, :meth:`track`, :meth:`passed`, :meth:`missed` and :meth:`at`; the follow loop :meth:`outcome`.
    None of them waits.

    Once the next life's reader has begun, nothing more is kept of this one's: it may have hung, been left behind, and
    come back with a packet that nobody is given.

    Args:
        files: of the stream.
        desk: who writes.
        kind: ``camera``, whose packets come when they come, or ``recording``, whose frames are given out at a pace.
    """

    def __init__(self, files: StreamFiles, desk: Desk, kind: str) -> None:
        self._files = files
        self._desk = desk
        self._kind = kind
        self._begun = False
        self._connection = 0
        self._segment: Segment | None = None  # the reader's view: where its packets go
        self._pending: tuple[Segment, dict[str, Any]] | None = None  # a connection that nobody was told of yet
        self._gap = 0  # packets lost since the last one that was not

    # The reader's thread

    def begin(self, opened: Opened) -> None:
        """A connection, or a lap of a recording, is open."""
        self._open(Track.of(opened), lambda path: Segment.like(path, opened))

    def track(self, track: Track) -> None:
        """The same, in another process."""
        self._open(track, lambda path: Segment.of(path, track))

    def _open(self, track: Track, make: Callable[[Path], Segment]) -> None:
        at_ns = self._at(self._desk.now_ns())
        self._segment = self._pending = None
        if not self._is_reader() or self._desk.ended is not None:
            return
        self._connection, path = self._files.next_connection()
        try:
            new = make(path)
        except (av.FFmpegError, ValueError) as error:  # the camera is read all the same
            log.warning("%s: cannot be recorded: %s", self._files.folder.name, scrub(str(error)))
            return
        facts: dict[str, Any] = {
            "opened": self._connection,
            "at": at_ns,
            "kind": self._kind,
            "codec": track.codec,
            "time_base": [track.time_base.numerator, track.time_base.denominator],
            "fps": track.fps,
            "width": track.width,
            "height": track.height,
        }
        if track.tag:
            facts["tag"] = track.tag
        self._pending = new, facts
        self._tell_opened()

    def _is_reader(self) -> bool:
        if not self._begun:
            self._begun, self._files.reader = True, self
        return self._files.reader is self

    def _tell_opened(self) -> None:
        """Hand the connection in, if there is room for it now: without it none of its packets can be kept."""
        if self._pending is not None and self._desk.put(partial(self._files.write_opened, *self._pending)):
            self._segment, self._pending = self._pending[0], None

    def packet(self, packet: Packet[VideoStream], read_ns: int) -> None:
        """A packet was read at ``read_ns``; what the decoder makes of it comes later."""
        self.passed(bytes(packet), packet.pts, read_ns, key=packet.is_keyframe)

    def missed(self, packets: int) -> None:
        """So many were read in another process, and did not come from there."""
        if self._is_reader():
            self._desk.lose(packets)
            self._gap += packets

    def passed(self, data: bytes, pts: int | None, read_ns: int, *, key: bool) -> None:
        """A packet was read at ``read_ns``, here or in another process."""
        if not self._is_reader():
            return
        self._tell_opened()
        into = self._segment
        if into is None:
            self._desk.lose(1)
            self._gap += self._pending is not None
            return
        line: dict[str, Any] = {
            "packet": self._connection,
            "at": self._at(read_ns),
            "pts": pts,
            "key": key,
            "size": len(data),
        }
        if self._gap:
            line["gap"] = self._gap
        if self._desk.put(partial(self._files.write_packet, into, data, line), len(data), packets=1):
            self._gap = 0
        else:
            self._gap += 1

    def at(self, condition: Condition) -> None:
        """The source says how it is."""
        if not self._is_reader():
            return
        line: dict[str, Any] = {"state": condition.state, "at": self._at(self._desk.now_ns())}
        if condition.cause is not None:
            line["cause"] = condition.cause
        self._tell_opened()
        self._desk.put(partial(self._files.write_line, ARRIVALS, line), lines=1)

    # The follow loop

    def outcome(self, trace: list[int], reason: DropReason | None) -> None:
        """A frame was published, or dropped for a reason."""
        line: dict[str, Any] = {
            "frame": trace[FRAME],
            "epoch": trace[EPOCH],
            "pts": trace[PTS],
            "outcome": reason or "processed",
            "read": self._at(trace[Mark.READ]),
        }
        for mark in _MARKS:
            if trace[mark]:
                line[mark.name.lower()] = self._at(trace[mark])
        line["ended"] = self._at(max(trace[: Mark.PLAYED + 1]))
        self._desk.put(partial(self._files.write_line, FRAMES, line), lines=1)

    def _at(self, at_ns: int) -> int:
        return at_ns - self._desk.origin_ns
