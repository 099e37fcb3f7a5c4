# SPDX-License-Identifier: Apache-2.0
"""One connection as it was recorded: its packets, when they came, through the reader and decoder of every source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.arrivals.layout import CONTAINER, segment
from pipeline.arrivals.play_clock import PlayClock
from pipeline.arrivals.tape import Tape
from pipeline.errors import SourceInvalid, SourceUnavailable
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.sources.auto_skip import AutoSkip
from pipeline.sources.libav import Opened, Played, open_video
from pipeline.sources.opening import Limits, Skip, Target
from pipeline.sources.reader import StreamReader
from pipeline.threads import StopFlag

_MAX_BAD_PACKETS, _FRAME_TIMEOUT_S = 100, 15.0
"""Of cameras, as :class:`pipeline.sources.CameraSource` has them."""


class RecordedConnection:
    """Frames of one connection to a camera, or of one lap of a recording.

    Args:
        folder: of the stream.
        tape: its log, at the beginning of this connection.
        opened: the line that says so.
        clock: what it waits for.
        over: called when there is nothing after it.
        limits, skip: of the decoder, as in the run.
    """

    truncation = None

    def __init__(
        self,
        folder: Path,
        tape: Tape,
        opened: dict[str, Any],
        clock: PlayClock,
        over: Callable[[], None],
        limits: Limits,
        skip: Skip | AutoSkip,
    ) -> None:
        self.counters = SourceCounters()
        self._path = segment(folder, opened["opened"])
        self._tape = tape
        self._line = opened
        self._live = opened["kind"] == "camera"
        self._clock = clock
        self._over = over
        self._limits = limits
        self._skip = skip
        self._reader: StreamReader | None = None
        self._stop = StopFlag()

    def open(self, stop: StopFlag) -> StreamInfo:
        """Be there when it was opened; raises SourceInvalid where its packets cannot be read.

        One that never brought a packet was lost before it was open, as far as its reader could tell.
        """
        self._stop = stop
        line = self._line
        info = StreamInfo("", line["width"], line["height"], line["fps"], live=self._live, codec=line["codec"])
        if not self._clock.reach(line["at"], stop):
            return info
        if not self._tape.has_packet(line["opened"]):
            self._go_on()
            return info
        options = {"protocol_whitelist": "file", "format_whitelist": CONTAINER, "fflags": "+noparse+nofillin"}
        address = f"file:{self._path.absolute()}"
        target = Target(address, self._tape.name, options, live=self._live, format=CONTAINER)
        try:
            if not self._path.is_file():
                raise SourceUnavailable(f"{self._tape.name}: {self._path.name} is not there", cause="not_found")
            opened = open_video(target, self._limits)
        except (SourceUnavailable, SourceInvalid):
            self._tape.tear(line["opened"])
            raise
        if "tag" in line:
            opened.stream.codec_context.codec_tag = line["tag"]
        base = Fraction(*line["time_base"])
        played = replace(opened, played=Played(self._packets(opened), base, line["fps"], self._clock))
        self._reader = StreamReader(
            played,
            target,
            self.counters,
            skip=self._skip,
            max_bad_packets=_MAX_BAD_PACKETS if self._live else None,
            frame_timeout_s=_FRAME_TIMEOUT_S if self._live else None,
        )
        return info

    def read(self) -> Capture | None:
        """The next frame, or None at the end of a lap or once stop is set; raises what the connection was lost by."""
        return None if self._reader is None else self._reader.read(self._stop)

    def close(self) -> None:
        """Let go of file and decoder; may be called twice."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _packets(self, opened: Opened) -> Iterator[Packet[VideoStream]]:
        tape, number = self._tape, self._line["opened"]
        base = Fraction(*self._line["time_base"])
        kept = (packet for packet in opened.container.demux(opened.stream) if packet.size)
        while (line := tape.next_packet(number)) is not None:
            packet = _next(kept)
            if packet is None or packet.size != line["size"]:
                tape.torn += 1
                tape.tear(number)
                break
            if not self._clock.reach(line["at"], self._stop):
                return
            packet.time_base = base
            packet.pts, packet.dts, packet.is_keyframe = line["pts"], None, line["key"]
            yield packet
        self._go_on()

    def _go_on(self) -> None:
        """After the last packet: raise what it was lost by, when it was, or say that nothing comes any more."""
        tape = self._tape
        loss = tape.take_loss()
        if loss is not None:
            if self._clock.reach(loss["at"], self._stop):
                raise tape.failure(loss)
        elif tape.ended:
            self._over()
        elif self._live:
            raise SourceUnavailable("hung up as it was recorded", cause="eof")


def _next(packets: Iterator[Packet[VideoStream]]) -> Packet[VideoStream] | None:
    try:
        return next(packets, None)
    except av.FFmpegError:  # the torn end of a file
        return None


class FailedConnection:
    """An attempt that failed, at the time at which it did."""

    truncation = None

    def __init__(self, tape: Tape, line: dict[str, Any], clock: PlayClock) -> None:
        self.counters = SourceCounters()
        self._tape = tape
        self._line = line
        self._clock = clock

    def open(self, stop: StopFlag) -> StreamInfo:
        """Fail, unless stop comes first."""
        if self._clock.reach(self._line["at"], stop):
            raise self._tape.failure(self._line)
        return StreamInfo("", live=True)

    def read(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing to let go of."""
