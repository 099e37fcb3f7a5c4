# SPDX-License-Identifier: Apache-2.0
"""A recording: every frame of a file (or of a finite file behind a URL), and whether the recording is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from pipeline.errors import SourceInvalid, SourceUnavailable
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.redact import SourceUrl
from pipeline.sources import structure
from pipeline.sources.auto_skip import AutoSkip
from pipeline.sources.libav import Opened, open_video
from pipeline.sources.opening import FILE_CODECS, MAX_PIXELS, Limits, Skip, Target, file_target, local_path, url_target
from pipeline.sources.reader import PacketWatcher, StreamReader, info_of
from pipeline.threads import StopFlag

# Containers whose header says how long the recording is. Others (MPEG-TS, elementary streams) only estimate it.
_DECLARING: Final = ("matroska", "flv", "avi")


class FileSource:
    """Frames of a recording in presentation order.

    The first frame is decoded in :meth:`open`: a file that opens can be decoded, and its size as displayed is known.

    Args:
        path: a path, ``file:`` URL, or a :class:`pipeline.redact.SourceUrl` of a finite file.
        skip: what the decoder leaves out; with anything but ``none`` a frame's index is not its index in the file.
        threads: decoder threads. More than one are frame threads: less wall time for a file by itself, a little more
            CPU in total.
        max_pixels, codecs, hwaccel: see :class:`pipeline.sources.opening.Limits`.
        open_timeout_s, read_timeout_s: for URLs only.
    """

    def __init__(
        self,
        path: str | Path | SourceUrl,
        *,
        skip: Skip | AutoSkip = "none",
        threads: int = 1,
        max_pixels: int = MAX_PIXELS,
        codecs: frozenset[str] = FILE_CODECS,
        hwaccel: str = "none",
        open_timeout_s: float = 10.0,
        read_timeout_s: float = 10.0,
    ) -> None:
        self.counters = SourceCounters()
        self._source = path
        self._limits = Limits(max_pixels, codecs, threads, hwaccel)
        self._skip = skip
        self._timeouts = (open_timeout_s, read_timeout_s)
        self._path: Path | None = None
        self._opened: Opened | None = None
        self._reader: StreamReader | None = None
        self._watcher: PacketWatcher | None = None
        self._stop = StopFlag()
        self._first: Capture | None = None
        self._info = StreamInfo("")
        self._indexed = 0
        self._truncation: str | None = None

    def watch(self, watcher: PacketWatcher) -> None:
        """Let somebody see each packet; to be called before :meth:`open`."""
        self._watcher = watcher

    def open(self, stop: StopFlag) -> StreamInfo:
        """Open and decode the first frame; see :meth:`pipeline.protocols.Source.open`."""
        self._stop = stop
        target = self._target()
        try:
            self._opened = opened = open_video(target, self._limits)
        except SourceInvalid as exc:
            if self._path is None or exc.__cause__ is None:
                raise
            raise SourceInvalid(f"{self._path}: {structure.describe(self._path)}") from exc.__cause__
        # In an MP4 the index is the list of packets that will come, edits applied; elsewhere it is a mere seek table.
        self._indexed = len(opened.stream.index_entries) if opened.format.startswith("mov") else 0
        self._info = info_of(opened, live=False)
        self._reader = StreamReader(opened, target, self.counters, skip=self._skip, watcher=self._watcher)
        self._first = first = self._reader.read(stop)
        if first is None:
            if stop.is_set():
                return self._info
            raise self._nothing_decoded(target)
        self._info = replace(self._info, width=first.picture.width, height=first.picture.height)
        return self._info

    def read(self) -> Capture | None:
        """The next frame, or None at the end or once stop is set."""
        first = self._first
        if first is not None:
            self._first = None
            return first
        reader = self._reader
        if reader is None:
            return None
        capture = reader.read(self._stop)
        if capture is None and reader.ended and self._truncation is None:
            self._truncation = self._judge(reader)
        return capture

    @property
    def truncation(self) -> str | None:
        """After the end: why the recording is known to be cut short, or None."""
        return self._truncation

    def close(self) -> None:
        """Release decoder and file; may be called twice."""
        if self._reader is not None:
            self._reader.close()
        elif self._opened is not None:
            self._opened.container.close()
        self._reader = self._opened = self._first = None

    def _target(self) -> Target:
        if isinstance(self._source, SourceUrl):
            open_s, read_s = self._timeouts
            return url_target(self._source, live=False, open_timeout_s=open_s, read_timeout_s=read_s)
        self._path = local_path(self._source)
        structure.inspect(self._path)
        return replace(file_target(self._path), format=structure.forced_format(self._path))

    def _nothing_decoded(self, target: Target) -> SourceInvalid | SourceUnavailable:
        reader, counters = self._reader, self.counters
        packets = 0 if reader is None else reader.packets
        if reader is not None and reader.failure is not None and not packets:
            if isinstance(reader.failure, SourceInvalid):
                return SourceInvalid(f"{reader.failure}")
            return SourceUnavailable(f"{reader.failure}", cause=reader.failure.cause)
        if not packets:
            return SourceInvalid(f"{target.shown}: a video track without a single frame")
        return SourceInvalid(
            f"{target.shown}: none of {packets} video packets could be decoded ({counters.decode_errors} errors); "
            f"damaged, or pictures above {self._limits.max_pixels} pixels",
            cause="decode",
        )

    def _judge(self, reader: StreamReader) -> str | None:
        """Whether the recording is whole. Evidence first (a read error, missing bytes, missing index entries); the
        declared duration only where the bytes prove nothing, since recorders round it and last frames may be long."""
        opened = self._opened
        if opened is None:
            return None
        ended = "" if reader.end_s is None else f"; the video ends at {reader.end_s:.2f} s"
        if self._info.duration_s:
            ended += f" of {self._info.duration_s:.2f} s"
        if reader.failure is not None:
            return f"{reader.failure}{ended}"
        missing_packets = self._indexed - reader.packets - reader.empty_packets
        if missing_packets > 0:
            return f"{missing_packets} of {self._indexed} frames are missing{ended}"
        if self._path is not None:
            missing = structure.shortfall(self._path, opened.format)
            if missing is not None:
                return f"{missing}{ended}"
            if structure.is_complete(self._path, opened.format) and not self.counters.decode_errors:
                return None
        declared = self._declared_end_s(opened)
        if declared is not None and reader.end_s is not None:
            tolerance = max(1.0, 5 * reader.interval_s, 0.02 * declared)
            if declared - reader.end_s > tolerance:
                return f"its header promises {declared:.2f} s{ended}"
        return None

    def _declared_end_s(self, opened: Opened) -> float | None:
        """End of the video track by the header, in container time, or None where no such promise is made."""
        if not opened.format.startswith(_DECLARING):
            return None
        clock = opened.stream.metadata.get("DURATION")  # what Matroska writers note per track: HH:MM:SS.nnnnnnnnn
        if clock:
            try:
                hours, minutes, seconds = clock.split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            except ValueError:
                return None
        streams = [stream for stream in opened.container.streams if stream.type in ("video", "audio", "subtitle")]
        # A sound track may outlast the video, so the length of the whole container then proves nothing.
        return self._info.duration_s if len(streams) == 1 else None
