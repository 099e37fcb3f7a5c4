# SPDX-License-Identifier: Apache-2.0
"""One H.264 file that can be played at any moment: fragmented MP4, every fragment on the disk once it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from pipeline.errors import SinkError
from pipeline.frame import Matrix, Uint8Array
from pipeline.sinks.paths import sink_error

TICKS_PER_SECOND = 90_000
TIME_BASE = Fraction(1, TICKS_PER_SECOND)

_KEY_INTERVAL = 2 * TICKS_PER_SECOND
_FRAGMENT_US = 1_000_000

# ITU-T H.273: colour primaries, transfer characteristics and matrix coefficients; 1 is BT.709, 6 is BT.601 (525 lines).
_COLOUR_CODE = {"bt601": 6, "bt709": 1}
_LIMITED_RANGE = 1


class _WholeWrites:
    """What libav writes to: unbuffered, and a short write is continued instead of forgotten. Not seekable on purpose:
    a fragmented file is never gone back into, so what was written stays as it is."""

    def __init__(self, path: Path, *, new: bool) -> None:
        found = os.O_EXCL if new else os.O_TRUNC
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | found, 0o666)
        if new:  # whoever removes old segments sees by the lock that this one is being written
            with contextlib.suppress(OSError):  # there are file systems without locks
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.failure: OSError | None = None
        self.written = 0

    def write(self, data: bytes) -> int:
        if self._fd < 0:  # libav ends a file even where nothing more can be written
            return len(data)
        done = 0
        view = memoryview(data)
        try:
            while done < len(view):
                done += os.write(self._fd, view[done:])
        except OSError as error:
            self.failure = error
            raise
        self.written += done
        return done

    def sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self.failure = error
            raise

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Mp4File:
    """Encodes pictures of one size with libx264 (High profile, yuv420p, no B-frames, so dts equals pts).

    A key frame at least every 2 s, a fragment at least every second: a killed process loses one fragment and the
    encoder's look-ahead of 5 frames. Memory is bounded by that look-ahead. Constructed by the thread that uses it.

    Args:
        path: replaced when it exists.
        width, height: even.
        fps: about how many frames a second will come; only a hint, the time stamps count.
        matrix: which YUV matrix the pictures are in; written into the file. Range is limited.
        crf, preset, threads: as x264 knows them.
        segment: one file of many. It refuses a path where something is, also a link, instead of replacing it; its last
            frame lasts as long as it was told; it is locked (flock) while it is written; and it is made safe against a
            power loss when it is closed.

    Raises SinkError from every method.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        fps: float | None = None,
        matrix: Matrix = "bt709",
        crf: float = 23,
        preset: str = "veryfast",
        threads: int = 1,
        segment: bool = False,
    ) -> None:
        self.path = path
        self._segment = segment
        self._duration = 0
        self.width = width
        self.height = height
        self._last_key: int | None = None
        try:
            self._out = _WholeWrites(path, new=segment)
        except OSError as error:
            raise sink_error("open", path, error) from error
        try:
            self._container = av.open(
                self._out,
                "w",
                format="mp4",
                options={
                    # frag_discont, and avoid_negative_ts below: a first time stamp other than 0 is kept, not moved to 0
                    "movflags": "frag_keyframe+empty_moov+default_base_moof+frag_discont",
                    "frag_duration": str(_FRAGMENT_US),
                    "flush_packets": "1",
                    "avoid_negative_ts": "disabled",
                },
            )
            rate = Fraction(fps if fps and 0.1 <= fps <= 1000 else 25).limit_denominator(1001)
            self._stream: Any = self._container.add_stream(
                "libx264",
                rate=rate,
                options={
                    "preset": preset,
                    "crf": str(crf),
                    "profile": "high",
                    "bf": "0",
                    "g": "100000",  # key frames are placed by time, in write()
                    "x264-params": "rc-lookahead=5:sync-lookahead=0",
                },
            )
            context = self._stream.codec_context
            context.width, context.height, context.pix_fmt = width, height, "yuv420p"
            context.time_base = self._stream.time_base = TIME_BASE
            context.thread_count = threads
            context.color_primaries = context.color_trc = context.colorspace = _COLOUR_CODE[matrix]
            context.color_range = _LIMITED_RANGE
            self._container.start_encoding()
        except (OSError, ValueError, av.error.FFmpegError) as error:
            self._out.close()
            raise self._explained(error) from error

    @property
    def bytes_written(self) -> int:
        """Size of the file so far."""
        return self._out.written

    def blank(self) -> tuple[av.VideoFrame, tuple[Uint8Array, Uint8Array, Uint8Array]]:
        """A frame for :meth:`write` and its Y, U and V planes, writable, contents undefined."""
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        y, u, v = (
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            for plane in frame.planes
        )
        return frame, (y, u, v)

    def write(self, frame: av.VideoFrame, ticks: int, duration: int) -> None:
        """Encode ``frame``, shown from ``ticks`` (1/90000 s, greater than the last one's) for about ``duration``."""
        frame.pts, frame.time_base, frame.duration = ticks, TIME_BASE, duration
        self._duration = duration
        if self._last_key is None or ticks - self._last_key >= _KEY_INTERVAL:
            frame.pict_type = av.video.frame.PictureType.I
            self._last_key = ticks
        self._mux(frame)

    def close(self) -> None:
        """Write what the encoder still holds and close the file."""
        try:
            self._mux(None)
            self._container.close()
            if self._segment:
                self._out.sync()
        except (OSError, av.error.FFmpegError) as error:
            raise self._explained(error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is, and free the encoder; after an error nothing more gets into it."""
        self._out.close()
        with contextlib.suppress(OSError, av.error.FFmpegError):
            self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                if self._segment:  # libx264 has 1 / fps there, which is not how often results of a thinned stream come
                    packet.duration = self._duration
                self._container.mux(packet)
        except (OSError, ValueError, av.error.FFmpegError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> SinkError:
        cause = self._out.failure or error
        if isinstance(cause, OSError) and not isinstance(cause, av.error.FFmpegError):
            return sink_error("write", self.path, cause)
        return SinkError(f"cannot encode {self.path} ({self.width}x{self.height}, H.264): {cause}")


def is_bare(path: Path) -> bool:
    """Whether a file of ours was cut off before one fragment was whole, so that it holds no picture; raises OSError.

    ISO/IEC 14496-12, 4.2: a box begins with its size (32 bits, big-endian; 1: 64 bits follow the type) and its type.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:], "big")
            kind = head[4:8]
            if length < 8 or (at == 0 and kind != b"ftyp"):
                return False  # damaged, or another's: nobody can say
            at += length
            if kind == b"mdat" and at <= size:
                return False
    return True
