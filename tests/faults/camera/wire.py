# SPDX-License-Identifier: Apache-2.0
"""The way to one receiver: access units in, packets out, over the RTSP connection itself or as datagrams."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.faults.camera.clip import Clip, Unit
from tests.faults.camera.rtp import Sender

MOST_WAITING = 4 << 20
"""Bytes that a slow receiver may leave unread before it loses access units."""
REPORT_EVERY_NS = 2_000_000_000


class Route(Protocol):
    """How packets leave."""

    def send(self, packets: Sequence[bytes], *, control: bool = False) -> None:
        """RTP packets, or RTCP packets where ``control``."""
        ...


class Interleaved:
    """Between the answers on the connection (RFC 2326 10.12)."""

    def __init__(self, transport: asyncio.Transport, channel: int) -> None:
        self._transport = transport
        self._channel = channel

    def send(self, packets: Sequence[bytes], *, control: bool = False) -> None:
        channel = self._channel + control
        framed: list[bytes] = []
        for packet in packets:
            framed += (struct.pack(">cBH", b"$", channel, len(packet)), packet)
        self._transport.write(b"".join(framed))


class Datagrams:
    """To a pair of ports of the receiver."""

    def __init__(
        self, rtp: asyncio.DatagramTransport, rtcp: asyncio.DatagramTransport, host: str, ports: tuple[int, int]
    ) -> None:
        self._media = (rtp, (host, ports[0]))
        self._control = (rtcp, (host, ports[1]))

    def send(self, packets: Sequence[bytes], *, control: bool = False) -> None:
        transport, address = self._control if control else self._media
        for packet in packets:
            transport.sendto(packet, address)


class Wire:
    """What one receiver gets, and what can be done to it.

    Args:
        transport: the RTSP connection.
        route: how packets leave.
        sender: numbers them.
        codec: of the camera when it was looked at.
        show: makes the camera show another clip.
        clock_ns: by how much the camera's clock is ahead.

    Attributes:
        sent: access units so far.
        lost: access units that were not sent since the receiver is slow.
        late_ns: by how much the next access unit is sent after it was due; that is when the camera took it.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        route: Route,
        sender: Sender,
        codec: str,
        show: Callable[[Clip], None],
        clock_ns: int = 0,
    ) -> None:
        self._clock_ns = clock_ns
        self.transport = transport
        self.sender = sender
        self.codec = codec
        self.show = show
        self.sent = 0
        self.lost = 0
        self.late_ns = 0
        self._route = route
        self._wants_key = True
        self._reported_ns = 0

    def send(self, unit: Unit, stamp: int, payloads: Sequence[bytes] | None = None) -> None:
        """An access unit, or these payloads in its place. The first is a key frame, as is the first after a loss."""
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() > MOST_WAITING:
            self._wants_key = True
            self.lost += 1
            return
        if self._wants_key and not unit.key:
            return
        self._wants_key = False
        now_ns = time.monotonic_ns()
        packets = self.sender.packets(unit.payloads if payloads is None else payloads, stamp)
        if now_ns - self._reported_ns > REPORT_EVERY_NS:
            self._reported_ns = now_ns
            self._route.send([self.sender.report(time.time_ns() - self.late_ns + self._clock_ns, stamp)], control=True)
        self._route.send(packets)
        self.sent += 1

    def raw(self, data: bytes) -> None:
        """Bytes that belong to nothing, on the connection."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def goodbye(self) -> None:
        """RTCP BYE; the connection stays."""
        self._route.send([self.sender.goodbye()], control=True)

    def close(self) -> None:
        """FIN, once what waits has left."""
        self.transport.close()

    def reset(self) -> None:
        """RST."""
        connection: socket.socket | None = self.transport.get_extra_info("socket")
        if connection is not None and not self.transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
