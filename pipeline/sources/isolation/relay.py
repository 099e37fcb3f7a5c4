# SPDX-License-Identifier: Apache-2.0
"""Packets of an isolated camera on their way to whoever records them: a line of their own, beside the one of pictures.

The process sends what its parent has room for, and keeps a bounded rest; it never waits for that. What finds no room is
left out and counted. The parent believes nothing, as in :mod:`pipeline.sources.isolation.wire`, and parses no video.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from pipeline.sources.isolation.nonsense import Nonsense
from pipeline.sources.opening import FILE_CODECS
from pipeline.timing import now_ns

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

    from pipeline.sources.libav import Opened

ROOM: Final = 4 << 20
"""Bytes that are asked for between the two; systems give less (a quarter of a megabyte is usual)."""
REST: Final = 8 << 20
"""Bytes that the process keeps at most where its parent does not read."""
LARGEST: Final = 32 << 20
"""Bytes of a packet: more than a picture of 8192 x 4320 pixels in MJPEG."""
MOST_LEFT_OUT: Final = 1_000_000
"""Packets that a process may say were left out."""
_LONGEST_FACTS: Final = 1 << 16
_AT_A_TIME: Final = 8 << 20
_TRACK, _PACKET = b"T", b"P"
_HEAD = struct.Struct("<cIIq?q?")  # kind, bytes that follow, left out before it, read_ns, has pts, pts, key


@dataclass(frozen=True, slots=True)
class Track:
    """What a container says of its video.

    Attributes:
        time_base: unit of the packets' time stamps, in seconds.
        fps: declared, or None.
        width, height: pixels, 0 where not known.
        tag: of raw video, whose layout it names; else empty.
        extradata: what a decoder has to know beforehand, such as parameter sets.
    """

    codec: str
    time_base: Fraction
    fps: float | None
    width: int
    height: int
    tag: str = ""
    extradata: bytes = b""

    @classmethod
    def of(cls, opened: Opened) -> Track:
        """Of a container that is open."""
        context = opened.stream.codec_context
        # The layout of raw video is in the tag alone, and NUT has tags of its own.
        tag = context.codec_tag if opened.codec == "rawvideo" and context.codec_tag.isprintable() else ""
        return cls(
            opened.codec, opened.time_base, opened.fps, context.width, context.height, tag, context.extradata or b""
        )

    def pack(self) -> bytes:
        """As JSON."""
        base = [self.time_base.numerator, self.time_base.denominator]
        facts = [self.codec, base, self.fps, self.width, self.height, self.tag, self.extradata.hex()]
        return orjson.dumps(facts)

    @classmethod
    def parse(cls, packed: bytes) -> Track:
        """Of :meth:`pack`; raises Nonsense."""
        try:
            codec, (unit, units), fps, width, height, tag, extradata = orjson.loads(packed)
            extra = bytes.fromhex(extradata)
        except (ValueError, TypeError) as exc:
            raise Nonsense("a track that cannot be read") from exc
        sides = all(type(side) is int and 0 <= side <= 1 << 16 for side in (width, height))
        timed = all(type(part) is int and 0 < part < 1 << 31 for part in (unit, units))
        rated = fps is None or (isinstance(fps, float | int) and 0 < fps < 1000)
        named = isinstance(codec, str) and codec in FILE_CODECS  # libav knows others that are no video
        if not (sides and timed and rated and named) or not (tag == "" or _is_tag(tag)):
            raise Nonsense("a track that cannot be")
        return cls(codec, Fraction(unit, units), fps, width, height, tag, extra)


def _is_tag(tag: Any) -> bool:
    return isinstance(tag, str) and len(tag) == 4 and tag.isascii() and tag.isprintable()


class Receiver(Protocol):
    """Somebody who is given the packets, in their order, by the thread that reads the stream."""

    def track(self, track: Track) -> None:
        """A connection is open."""
        ...

    def passed(self, data: bytes, pts: int | None, read_ns: int, *, key: bool) -> None:
        """A packet was read."""
        ...

    def missed(self, packets: int) -> None:
        """So many were read before the next one, and will never come."""
        ...


class Relay:
    """The process's end. Watches a source (:class:`pipeline.sources.reader.PacketWatcher`), in the thread that reads
    it."""

    def __init__(self, line: socket.socket, rest: int = REST) -> None:
        self._line = line
        self._most = rest
        self._waiting: deque[memoryview] = deque()
        self._held = 0  # bytes in it
        self._left_out = 0
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)

    def begin(self, opened: Opened) -> None:
        """A connection is open."""
        facts = Track.of(opened).pack()
        self._put(_HEAD.pack(_TRACK, len(facts), 0, 0, False, 0, False), facts)

    def packet(self, packet: Packet[VideoStream], read_ns: int) -> None:
        """A packet was read."""
        if self._held + packet.size > self._most or packet.size > LARGEST:
            self._left_out += 1
            self._send()
            return
        pts, left_out = packet.pts, self._left_out
        self._left_out = 0
        head = _HEAD.pack(
            _PACKET, packet.size, left_out, read_ns, pts is not None, pts or 0, packet.is_keyframe
        )  # fmt: skip
        self._put(head, bytes(packet))

    def flush(self, patience_s: float) -> None:
        """Send the rest, if that is possible within some time."""
        until_ns = now_ns() + int(patience_s * 1e9)
        self._send()
        while self._waiting and (left_ns := until_ns - now_ns()) > 0:
            select.select([], [self._line], [], left_ns / 1e9)
            self._send()

    def _put(self, *parts: bytes) -> None:
        self._waiting.extend(memoryview(part) for part in parts)
        self._held += sum(len(part) for part in parts)
        self._send()

    def _send(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            try:
                sent = self._line.send(first, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._waiting.appendleft(first)
                return
            except OSError:  # the parent is gone, and this process goes with it
                return
            self._held -= sent
            if sent < len(first):
                self._waiting.appendleft(first[sent:])


class Listener:
    """The parent's end, of one process; used by the thread that reads the stream.

    Attributes:
        heard: connections and packets so far, those that were left out included.
    """

    def __init__(self, line: socket.socket, receiver: Receiver) -> None:
        self._line = line
        self._receiver = receiver
        self._buffer = bytearray()
        self.heard = 0

    def fileno(self) -> int:
        """To wait for it."""
        return self._line.fileno()

    def take(self) -> bool:
        """Hand on what is there now; False once nothing more can come. Raises Nonsense."""
        taken = 0
        while taken < _AT_A_TIME:
            try:
                data = self._line.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                data = b""
            if not data:
                return False
            taken += len(data)
            self._buffer += data
            self._hand_on()
        return True

    def end(self, told: int) -> None:
        """The process is gone: hand on what it had sent. It had met ``told`` connections and packets by then; those
        that did not come are lost."""
        # What is there is still read. A process that was taken over may have started another, which holds the line yet:
        # that sends no more.
        with suppress(OSError):  # it has ended before
            self._line.shutdown(socket.SHUT_RD)
        try:
            while self.take():
                pass
        except Nonsense:
            pass  # what it said at its end is of no use, and it has ended already
        self._line.close()
        if told > self.heard:
            self._receiver.missed(min(told - self.heard, MOST_LEFT_OUT))

    def _hand_on(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= _HEAD.size:
            kind, size, left_out, read_ns, stamped, pts, key = _HEAD.unpack_from(buffer, at)
            if size > (LARGEST if kind == _PACKET else _LONGEST_FACTS) or left_out > MOST_LEFT_OUT:
                raise Nonsense("packets that cannot be")
            end = at + _HEAD.size + size
            if len(buffer) < end:
                break
            data = bytes(memoryview(buffer)[at + _HEAD.size : end])
            at = end
            self.heard += 1 + left_out
            if kind == _TRACK:
                self._receiver.track(Track.parse(data))
            elif kind == _PACKET and 0 <= read_ns <= now_ns() and abs(pts) < 1 << 62:
                if left_out:
                    self._receiver.missed(left_out)
                self._receiver.passed(data, pts if stamped else None, read_ns, key=key)
            else:
                raise Nonsense("packets that cannot be")
        del buffer[:at]
