# SPDX-License-Identifier: Apache-2.0
"""Annotated videos: every processed frame with its boxes, at its own time, as H.264 that browsers play."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

import av
import cv2

from pipeline.errors import SinkError
from pipeline.frame import Matrix, Picture, Result, StreamInfo
from pipeline.sinks.canvas import YuvCanvas
from pipeline.sinks.drawing import caption, paint
from pipeline.sinks.mp4 import TICKS_PER_SECOND, Mp4File
from pipeline.sinks.paths import StreamPaths, sink_error
from pipeline.sinks.planes import even, fill_planes
from pipeline.sinks.stream_files import Mode
from pipeline.timing import rfc3339

_LONGEST_GAP = 3600 * TICKS_PER_SECOND
_SLOWEST = TICKS_PER_SECOND  # a frame's assumed duration where nothing is known is at most this


@dataclass(slots=True)
class _Recording:
    """What is written of one stream.

    Attributes:
        info: the stream.
        part: number of the current file.
        file: the current file, or None before the first picture and after an error.
        shape: displayed width and height and matrix of the pictures in ``file``.
        shift: what is added to a frame's ticks; not 0 after a break in the time stamps and in later parts.
        last: ticks of the last frame in ``file``, or None.
        interval: ticks between the last two frames.
    """

    info: StreamInfo
    part: int = 1
    file: Mp4File | None = None
    shape: tuple[int, int, Matrix] | None = None
    shift: int = 0
    last: int | None = None
    interval: int = TICKS_PER_SECOND // 25

    def place(self, pts_s: float) -> int:
        """Ticks for the next frame: its own pts, unless that does not advance or leaps by more than an hour."""
        ticks = round(pts_s * TICKS_PER_SECOND)
        if self.last is None:
            self.shift = 0 if self.part == 1 and ticks >= 0 else -ticks
        elif not 0 < ticks + self.shift - self.last <= _LONGEST_GAP:
            self.shift = self.last + self.interval - ticks
        else:
            self.interval = min(ticks + self.shift - self.last, _SLOWEST)
        self.last = ticks + self.shift
        return self.last


class VideoSink:
    """Writes ``<stream>.mp4`` (libx264 of the PyAV wheel), boxes and labels drawn.

    - pts are the results' own, to 1/90000 s. Where they do not advance (a reconnect) it goes on one interval later.
    - A change of picture size starts another file, ``<stream>.2.mp4``, whose time starts at 0; so does the first frame
      after a failed write. A dot cannot be part of a stream's name, so no other stream is in the way.
    - Drawn straight into the YUV planes: the picture is not converted unless it is RGB. The odd pixel of an odd size is
      repeated. Full range becomes limited range.
    - A killed process leaves a file that plays up to its last complete fragment: see :class:`Mp4File`.

    Args:
        path: template such as ``out/{stream}.mp4``.
        mode: ``replace`` removes what an earlier run left, ``append`` begins with the first part number that is free.
        crf, preset, threads: quality, effort and threads of each encoder.
        captions: write the stream's name and the time into the lower left corner.
    """

    wants_pictures = True

    def __init__(
        self,
        path: str | Path,
        *,
        mode: Mode = "replace",
        crf: float = 23,
        preset: str = "veryfast",
        threads: int = 1,
        captions: bool = False,
        name: str = "video",
    ) -> None:
        self.name = name
        self._paths = StreamPaths(path)
        self._mode = mode
        self._crf = crf
        self._preset = preset
        self._threads = threads
        self._captions = captions
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
        recording = _Recording(stream)
        if stream.fps:
            recording.interval = max(1, min(round(TICKS_PER_SECOND / stream.fps), _SLOWEST))
        first = self._paths.of(stream.name)
        if self._mode == "replace" and stream.name not in self._begun:
            self._remove_parts(first)
        self._begun.add(stream.name)
        self._recordings[stream.name] = recording

    def write(self, result: Result) -> None:
        """Draw and encode one frame; raises SinkError."""
        if result.picture is None:
            raise SinkError(f"{result.stream} frame {result.frame} came without its picture, so it is not in the video")
        if result.stream not in self._recordings:
            self.begin(StreamInfo(result.stream))
        recording = self._recordings[result.stream]
        file = self._file_for(recording, result.picture)
        frame, planes = file.blank()
        try:
            fill_planes(result.picture, *planes)
        except (cv2.error, ValueError) as error:
            raise SinkError(f"{result.stream} frame {result.frame}: the picture is malformed: {error}") from error
        canvas = YuvCanvas(*planes, result.picture.matrix)
        paint(canvas, result.detections, result.labels)
        if self._captions:
            caption(canvas, f"{result.stream}  {_clock(result)}")
        ticks = recording.place(result.pts)
        try:
            file.write(frame, ticks, recording.interval)
        except SinkError:
            self._give_up(recording)
            raise

    def end(self, stream: str) -> None:
        """Finish the stream's file; raises SinkError."""
        recording = self._recordings.pop(stream, None)
        if recording is not None and recording.file is not None:
            recording.file.close()

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

    def _file_for(self, recording: _Recording, picture: Picture) -> Mp4File:
        shape = (picture.width, picture.height, picture.matrix)
        if recording.file is not None and recording.shape != shape:
            file, recording.file = recording.file, None
            recording.last = None
            file.close()
        if recording.file is None:
            first = self._paths.of(recording.info.name)
            # Whatever has something in it stays: an earlier part, or an earlier run's in the mode append.
            while _has_content(_part(first, recording.part)):
                recording.part += 1
            recording.file = Mp4File(
                _part(first, recording.part),
                even(picture.width),
                even(picture.height),
                fps=recording.info.fps,
                matrix=picture.matrix,
                crf=self._crf,
                preset=self._preset,
                threads=self._threads,
            )
            recording.shape = shape
        return recording.file

    def _remove_parts(self, first: Path) -> None:
        try:
            first.unlink(missing_ok=True)
            for later in first.parent.glob(f"{glob.escape(first.stem)}.*{first.suffix}"):
                if later.name[len(first.stem) + 1 : -len(first.suffix) or None].isdigit():
                    later.unlink()
        except OSError as error:
            raise sink_error("replace", first, error) from error

    def _give_up(self, recording: _Recording) -> None:
        """Leave a file that could not be written further as it is; the next picture begins the next part."""
        file, recording.file = recording.file, None
        recording.last = None
        if file is not None:
            file.abandon()


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _part(first: Path, number: int) -> Path:
    return first if number == 1 else first.with_name(f"{first.stem}.{number}{first.suffix}")


def _clock(result: Result) -> str:
    if result.wall_ns is not None:
        return rfc3339(result.wall_ns)[:-4].replace("T", " ")
    minutes, seconds = divmod(max(result.pts, 0.0), 60)
    return f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{seconds:06.3f}"
