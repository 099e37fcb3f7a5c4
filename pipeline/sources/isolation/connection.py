# SPDX-License-Identifier: Apache-2.0
"""One connection of a decoding process to its camera, and the sign of life of whoever reads it."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.errors import SourceError, SourceUnavailable
from pipeline.frame import Capture
from pipeline.protocols import Source
from pipeline.sources.isolation.relay import Relay
from pipeline.sources.isolation.segment import SLOTS, Segment
from pipeline.sources.isolation.wire import Sent, pack_decoder, pack_error, pack_info, pack_memory
from pipeline.threads import StopFlag

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

    from pipeline.sources.libav import Opened

_NO_SPACE = ("can't start new thread", "failed to map segment", "annot allocate memory")
_LAST_WORD_S = 2.0
"""How long the thread of a connection that has failed may take to hang up."""


class Beat:
    """A counter in shared memory that grows with each packet: the sign of life of whoever reads the camera.

    Args:
        fd: of the memory.
        relay: is given the packets after that, where they are wanted.
    """

    def __init__(self, fd: int, relay: Relay | None = None) -> None:
        self._memory = mmap.mmap(fd, 8)
        self._count = 0
        self._relay = relay

    def begin(self, opened: Opened) -> None:
        """See :class:`pipeline.sources.reader.PacketWatcher`."""
        self._tick()
        if self._relay is not None:
            self._relay.begin(opened)

    def packet(self, packet: Packet[VideoStream], read_ns: int) -> None:
        """See :class:`pipeline.sources.reader.PacketWatcher`."""
        self._tick()
        if self._relay is not None:
            self._relay.packet(packet, read_ns)

    def flush(self) -> None:
        """What is told next comes after the packets so far."""
        if self._relay is not None:
            self._relay.flush(_LAST_WORD_S / 2)

    def _tick(self) -> None:
        self._count += 1
        self._memory[:8] = self._count.to_bytes(8, "little")


@dataclass(slots=True)
class _Ready:
    sent: Sent
    segment: Segment
    slot: int


class Connection:
    """One connection to the camera, read in a thread of its own.

    Args:
        number: told with everything that comes of it.
        source: not open yet.
        line: to the parent.
        beat: of whoever reads the camera.
    """

    def __init__(self, number: int, source: Source, line: socket.socket, beat: Beat) -> None:
        self.number = number
        self._source = source
        self._line = line
        self._beat = beat
        self._stop = StopFlag()
        self._lock = threading.Lock()
        self._ready: deque[_Ready] = deque()
        self._free: set[int] = set()
        self._segment: Segment | None = None
        self._missed = 0
        self._decoder = ""  # as it was told
        self._wanted = False
        self._last: bytes | None = None  # why it is over
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self) -> None:
        """Connect."""
        self._thread.start()

    def give(self, freed: list[tuple[int, int]]) -> None:
        """The parent wants the next frame, and has done with some slots."""
        with self._lock:
            if self._segment is not None:
                self._free.update(slot for segment, slot in freed if segment == self._segment.number)
            self._wanted = True
            self._answer()

    def hang_up(self) -> bool:
        """End it; False where its thread cannot be ended."""
        self._stop.set()
        self._thread.join(_LAST_WORD_S)
        return not self._thread.is_alive()

    def _answer(self) -> None:
        if not self._wanted or not (self._ready or self._last):
            return
        self._wanted = False
        if self._ready:
            one = self._ready.popleft()
            self._line.send(replace(one.sent, segment=one.segment.number, slot=one.slot).pack())
        elif self._last is not None:
            self._line.send(self._last)

    def _run(self) -> None:
        source = self._source
        try:
            info = source.open(self._stop)
            self._beat.flush()
            self._line.send(pack_info(self.number, info))
            while (capture := source.read()) is not None:
                self._deliver(capture)
        except SourceError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours; told, and the connection is made anew
            if wants_memory(error):
                self._fail(SourceUnavailable("its process has no more memory", cause="memory"))
            else:
                self._fail(SourceUnavailable(f"its process: {type(error).__name__}: {error}", cause="crash"))
        else:
            self._beat.flush()
        finally:
            source.close()

    def _deliver(self, capture: Capture) -> None:
        decoder = self._source.counters.decoder
        if decoder != self._decoder:
            self._decoder = decoder
            self._line.send(pack_decoder(self.number, decoder))
        sent = Sent.of(self.number, capture, self._counted())
        with self._lock:
            segment, slot = self._room(sum(sent.sizes))
        segment.fill(slot, capture.picture.planes)
        with self._lock:
            missed, self._missed = self._missed, 0
            self._ready.append(_Ready(replace(sent, missed=missed), segment, slot))
            self._answer()

    def _room(self, size: int) -> tuple[Segment, int]:
        """A slot to write to: a free one, or that of the oldest frame that nobody has taken."""
        segment = self._segment
        if segment is None or size > segment.slot_bytes:
            number = 0 if segment is None else segment.number + 1
            self._missed += sum(one.sent.missed + 1 for one in self._ready)  # larger pictures: those before give way
            self._ready.clear()
            segment, fd = Segment.make(number, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
            try:
                socket.send_fds(self._line, [pack_memory(self.number, segment)], [fd])
            finally:
                os.close(fd)
            self._segment, self._free = segment, set(range(SLOTS))
        if self._free:
            slot = min(self._free)  # the same few again and again: pages that were never touched cost nothing
            self._free.remove(slot)
            return segment, slot
        gone = self._ready.popleft()
        missed = gone.sent.missed + 1
        if self._ready:
            self._ready[0].sent = replace(self._ready[0].sent, missed=self._ready[0].sent.missed + missed)
        else:
            self._missed += missed
        return segment, gone.slot

    def _counted(self) -> tuple[int, int, int]:
        counters = self._source.counters
        return counters.decode_errors, counters.skipped, counters.discontinuities

    def _fail(self, error: SourceError) -> None:
        self._beat.flush()
        with self._lock:
            self._last = pack_error(self.number, error, self._counted())
            self._wanted = True if self._segment is None else self._wanted  # nobody asks before it is open
            self._answer()


def wants_memory(error: Exception) -> bool:
    """Whether this process has met its limit of memory: a thread or a library needs address space as well."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, (RuntimeError, ImportError)) and any(sign in str(error) for sign in _NO_SPACE)
