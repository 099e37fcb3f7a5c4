# SPDX-License-Identifier: Apache-2.0
"""Annotated videos: every processed frame with its boxes, at its own time, as H.264 that browsers play."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import av
import cv2

from pipeline.complaints import Complaints
from pipeline.errors import SinkError
from pipeline.events import StreamEvent
from pipeline.frame import Matrix, Picture, Result, StreamInfo
from pipeline.sinks.canvas import YuvCanvas
from pipeline.sinks.drawing import caption, paint
from pipeline.sinks.mp4 import TICKS_PER_SECOND, Mp4File
from pipeline.sinks.parts import Files, Parts
from pipeline.sinks.paths import StreamPaths
from pipeline.sinks.planes import even, fill_planes
from pipeline.sinks.segments import SegmentFiles, Segments
from pipeline.sinks.shared_limit import SharedLimit
from pipeline.sinks.stream_files import Mode
from pipeline.sinks.timeline import Timeline
from pipeline.timing import SYSTEM, Clock, rfc3339

log = logging.getLogger("pipeline")

_SHORT_S = 60.0
"""A camera that goes away ends a segment of this length, so that one that comes and goes does not make very many."""
_LOOK_EVERY_NS = 60_000_000_000
"""How often segments are looked through for those that are too old."""


@dataclass(slots=True)
class _Recording:
    """What is written of one stream.

    Attributes:
        info: the stream.
        files: how its files are called.
        timeline: when its frames are shown.
        file: the current file, or None before the first picture and after an error.
        shape: displayed width and height and matrix of the pictures in ``file``.
    """

    info: StreamInfo
    files: Files
    timeline: Timeline
    file: Mp4File | None = None
    shape: tuple[int, int, Matrix] | None = None


class VideoSink:
    """Writes ``<stream>.mp4`` (libx264 of the PyAV wheel), boxes and labels drawn.

    - pts are the results' own, to 1/90000 s. Where they do not advance (a reconnect) it goes on one interval later.
    - A change of picture size starts another file, ``<stream>.2.mp4``, whose time starts at 0; so does the first frame
      after a failed write. A dot cannot be part of a stream's name, so no other stream is in the way.
    - With ``rotate`` every file is a segment of some length, named by the time when it began, its time starts at 0, and
      old ones are removed: see :mod:`pipeline.sinks.segments`. No frame is in two, and each begins with a key frame. A
      camera that goes away ends its segment, unless that is short: its last pictures are the ones that are asked for.
    - Drawn straight into the YUV planes: the picture is not converted unless it is RGB. The odd pixel of an odd size is
      repeated. Full range becomes limited range.
    - A killed process leaves a file that plays up to its last complete fragment: see :class:`Mp4File`.

    Args:
        path: template such as ``out/{stream}.mp4``.
        mode: ``replace`` removes what an earlier run left, ``append`` begins with the first part number that is free.
        rotate: segments, and what is kept of them; whatever the mode, only what these limits say is removed.
        crf, preset, threads: quality, effort and threads of each encoder.
        captions: write the stream's name and the time into the lower left corner.

    Attributes:
        segments_removed: how many were, since it was made; None without ``rotate``.
    """

    wants_pictures = True

    def __init__(
        self,
        path: str | Path,
        *,
        mode: Mode = "replace",
        rotate: Segments | None = None,
        crf: float = 23,
        preset: str = "veryfast",
        threads: int = 1,
        captions: bool = False,
        name: str = "video",
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.segments_removed = None if rotate is None else 0
        self.wants_events = rotate is not None
        self._paths = StreamPaths(path)
        self.path = self._paths.absolute
        self._mode = mode
        self._rotate = rotate
        self._crf = crf
        self._preset = preset
        self._threads = threads
        self._captions = captions
        self._clock = clock
        self._complaints = Complaints(log, clock)
        self._looked_ns: int | None = None
        self._shared: SharedLimit | None = None
        if rotate is not None and rotate.max_total_bytes is not None:
            self._shared = SharedLimit(
                self._paths, rotate.max_total_bytes, self._tell_removed, self._tell_kept, self._clock
            )
        self._recordings: dict[str, _Recording] = {}
        self._begun: set[str] = set()

    def open(self) -> None:
        """Make the folder and look for the encoder; raises SinkError."""
        try:
            av.codec.Codec("libx264", "w")
        except ValueError as error:
            raise SinkError("this PyAV has no libx264: install the wheel of the package 'av' to save videos") from error
        self._paths.prepare()

    def begin(self, stream: StreamInfo) -> None:
        """Get ready for a stream; its file is made by its first picture. Raises SinkError."""
        self.end(stream.name)  # of a stream of the same name that was removed a moment ago
        self._recordings[stream.name] = _Recording(stream, self._files(stream.name), Timeline(stream.fps))

    def write(self, result: Result) -> None:
        """Draw and encode one frame; raises SinkError."""
        if result.picture is None:
            raise SinkError(f"{result.stream} frame {result.frame} came without its picture, so it is not in the video")
        if result.stream not in self._recordings:
            self.begin(StreamInfo(result.stream))
        recording = self._recordings[result.stream]
        self._remove_old()
        file = self._file_for(recording, result, result.picture)
        frame, planes = file.blank()
        try:
            fill_planes(result.picture, *planes)
        except (cv2.error, ValueError) as error:
            raise SinkError(f"{result.stream} frame {result.frame}: the picture is malformed: {error}") from error
        canvas = YuvCanvas(*planes, result.picture.matrix)
        paint(canvas, result.detections, result.labels)
        if self._captions:
            caption(canvas, f"{result.stream}  {_clock(result)}")
        ticks = recording.timeline.place(result.pts, recording.files.own_start)
        try:
            file.write(frame, ticks, recording.timeline.interval)
            recording.files.grown(file.bytes_written)
        except SinkError:
            self._give_up(recording)
            raise

    def event(self, event: StreamEvent) -> None:
        """Finish the segment of a camera that goes away, unless it is short; raises SinkError."""
        self._remove_old()
        recording = self._recordings.get(event.stream)
        if recording is None or self._rotate is None or event.kind not in ("down", "stalled", "paused"):
            return
        enough = min(_SHORT_S, self._rotate.seconds / 2) * TICKS_PER_SECOND
        if recording.timeline.last is not None and recording.timeline.last >= enough:
            self._finish(recording)

    def end(self, stream: str) -> None:
        """Finish the stream's file; raises SinkError."""
        recording = self._recordings.pop(stream, None)
        if recording is not None:
            self._finish(recording)

    def close(self) -> None:
        """Finish all files; raises the first SinkError after all of them were tried."""
        failure: SinkError | None = None
        for stream in list(self._recordings):
            try:
                self.end(stream)
            except SinkError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _files(self, stream: str) -> Files:
        first = self._paths.of(stream)
        if self._rotate is not None:
            return SegmentFiles(
                stream,
                first,
                self._rotate,
                lambda path, why: self._tell_removed(stream, path, why),
                lambda error: self._tell_kept(stream, error),
                self._shared,
            )
        parts = Parts(first)
        if self._mode == "replace" and stream not in self._begun:
            parts.remove()
        self._begun.add(stream)
        return parts

    def _file_for(self, recording: _Recording, result: Result, picture: Picture) -> Mp4File:
        shape = (picture.width, picture.height, picture.matrix)
        if recording.file is not None and (recording.shape != shape or self._is_full(recording, result.pts)):
            self._finish(recording)
        if recording.file is None:
            self._paths.of(result.stream)  # makes the folder, should somebody have moved it away
            path = recording.files.next(self._clock.wall_ns() if result.wall_ns is None else result.wall_ns)
            try:
                recording.file = Mp4File(
                    path,
                    even(picture.width),
                    even(picture.height),
                    fps=recording.info.fps,
                    matrix=picture.matrix,
                    crf=self._crf,
                    preset=self._preset,
                    threads=self._threads,
                    segment=self._rotate is not None,
                )
            except SinkError as error:
                if not isinstance(error.__cause__, FileExistsError):  # which is another's
                    recording.files.failed(path)
                raise
            recording.shape = shape
        return recording.file

    def _finish(self, recording: _Recording) -> None:
        file, recording.file = recording.file, None
        recording.timeline.begin_again()
        if file is not None:
            try:
                file.close()
            except SinkError:
                recording.files.failed(file.path)
                raise
            recording.files.finished()

    def _is_full(self, recording: _Recording, pts_s: float) -> bool:
        rule, file, timeline = self._rotate, recording.file, recording.timeline
        if rule is None or file is None:
            return False
        most = rule.segment_bytes(len(self._recordings))
        if most is not None and file.bytes_written >= most:
            return True
        return timeline.leaps(pts_s) or timeline.following(pts_s) >= rule.seconds * TICKS_PER_SECOND

    def _remove_old(self) -> None:
        """Once a minute, of all streams that were begun: their cameras may be away."""
        if self._rotate is None or self._rotate.keep_days is None:
            return
        now_ns = self._clock.now_ns()
        if self._looked_ns is None or now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self._looked_ns = now_ns
            for recording in self._recordings.values():
                recording.files.remove_old(self._clock.wall_ns())

    def _tell_removed(self, stream: str, path: Path, why: str) -> None:
        self.segments_removed = (self.segments_removed or 0) + 1
        self._complaints.say(logging.INFO, stream, "segment removed", f"segment removed: {path} ({why})")

    def _tell_kept(self, stream: str, error: SinkError) -> None:
        self._complaints.say(logging.WARNING, stream, "segment kept", str(error))

    def _give_up(self, recording: _Recording) -> None:
        """Leave a file that could not be written further as it is; the next picture begins the next one."""
        file, recording.file = recording.file, None
        recording.timeline.begin_again()
        if file is not None:
            file.abandon()
            recording.files.failed(file.path)


def _clock(result: Result) -> str:
    if result.wall_ns is not None:
        return rfc3339(result.wall_ns)[:-4].replace("T", " ")
    minutes, seconds = divmod(max(result.pts, 0.0), 60)
    return f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{seconds:06.3f}"
