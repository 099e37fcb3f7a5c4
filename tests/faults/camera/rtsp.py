# SPDX-License-Identifier: Apache-2.0
"""Cameras behind one port: an RTSP server (RFC 2326) for loopback, over TCP and UDP."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterable

from tests.faults.camera.camera import Camera
from tests.faults.camera.faults import Fault
from tests.faults.camera.rtp import Sender
from tests.faults.camera.sdp import describe
from tests.faults.camera.wire import Datagrams, Interleaved, Route, Wire

HOST = "127.0.0.1"
_METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 459: "Aggregate Not Allowed",
            461: "Unsupported Transport", 501: "Not Implemented", 503: "Service Unavailable"}  # fmt: skip


class RtspServer:
    """Serves cameras until :meth:`close`. To be used in one event loop.

    Attributes:
        port: where it listens; it stays over :meth:`vanish` and :meth:`come_back`.
        cameras: by name.
    """

    def __init__(self, cameras: Iterable[Camera], port: int = 0) -> None:
        self.cameras = {camera.name: camera for camera in cameras}
        self.port = port
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._datagrams: tuple[asyncio.DatagramTransport, asyncio.DatagramTransport] | None = None

    async def start(self) -> None:
        """Listen, and begin to send: the cameras take turns, so that their frames are spread over an interval."""
        await self.come_back()
        for index, camera in enumerate(self.cameras.values()):
            camera.start(index / len(self.cameras))

    async def come_back(self) -> None:
        """Listen."""
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), HOST, self.port, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        self._server = server

    def vanish(self) -> None:
        """Listen no more and reset all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.abort()

    def close(self) -> None:
        """End it all."""
        self.vanish()
        for camera in self.cameras.values():
            camera.stop()
        for transport in self._datagrams or ():
            transport.close()

    def joined(self, connection: _Connection) -> None:
        """A client is there."""
        self._connections.add(connection)

    def left(self, connection: _Connection) -> None:
        """A client is gone."""
        self._connections.discard(connection)

    async def datagrams(self) -> tuple[asyncio.DatagramTransport, asyncio.DatagramTransport]:
        """The sockets for RTP, on an even port, and for RTCP on the next one."""
        while self._datagrams is None:
            loop = asyncio.get_running_loop()
            first, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (HOST, 0))
            port = first.get_extra_info("sockname")[1]
            try:
                if port % 2:
                    raise OSError("an odd port")
                second, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (HOST, port + 1))
            except OSError:
                first.close()
            else:
                self._datagrams = first, second
        return self._datagrams


class _Connection(asyncio.Protocol):
    """One client; it may look at one camera."""

    def __init__(self, server: RtspServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._requests: asyncio.Queue[tuple[str, str, dict[str, str]] | None] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None
        self._camera: Camera | None = None
        self._fault: Fault | None = None
        self._route: tuple[Route, str] | None = None
        self._wire: Wire | None = None
        self._session = secrets.token_hex(4)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.joined(self)
        self._worker = asyncio.get_running_loop().create_task(self._work(transport))

    def connection_lost(self, error: Exception | None) -> None:
        self._server.left(self)
        self._hang_up()
        self._requests.put_nowait(None)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while received:
            if received[0] == 0x24:  # RTCP of the receiver
                size = 4 + int.from_bytes(received[2:4])
                if len(received) < 4 or len(received) < size:
                    return
                del received[:size]
                continue
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            first, *lines = received[:end].decode("latin-1").split("\r\n")
            del received[: end + 4]
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            del received[: int(headers.get("content-length", 0))]
            method, address, *_ = (*first.split(" "), "", "")
            self._requests.put_nowait((method, address, headers))

    def abort(self) -> None:
        """Reset."""
        if self._transport is not None:
            self._transport.abort()

    def _hang_up(self) -> None:
        if self._wire is not None and self._camera is not None:
            self._camera.leave(self._wire)
            self._wire = None

    async def _work(self, transport: asyncio.Transport) -> None:
        while (request := await self._requests.get()) is not None:
            method, address, headers = request
            status, extra, body = await self._answer(transport, method, address, headers)
            if status is None or transport.is_closing():
                continue
            lines = [f"RTSP/1.0 {status} {_REASONS[status]}", f"CSeq: {headers.get('cseq', '0')}", *extra]
            if body:
                lines.append(f"Content-Length: {len(body)}")
            transport.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            if method == "PLAY" and status == 200 and self._wire is not None and self._camera is not None:
                assert self._fault is not None
                self._camera.look(self._wire, self._fault)
            elif method == "TEARDOWN":
                self._hang_up()

    async def _answer(
        self, transport: asyncio.Transport, method: str, address: str, headers: dict[str, str]
    ) -> tuple[int | None, list[str], str]:
        """Status (None: no answer), headers and body."""
        if method == "OPTIONS" and self._camera is None and not self._find(address):
            return 200, [f"Public: {_METHODS}"], ""
        if not self._find(address):
            return 404, [], ""
        camera, fault = self._camera, self._fault
        assert camera is not None
        assert fault is not None
        camera.requests.append(method)
        status = fault.status(method)
        if status is None:
            return None, [], ""
        if method == "OPTIONS":
            return status, [f"Public: {_METHODS}"], ""
        access = camera.access
        if status == 401 or (access is not None and not access.allows(method, headers.get("authorization"))):
            challenge = 'Basic realm="camera"' if access is None else access.challenge
            return 401, [f"WWW-Authenticate: {challenge}"], ""
        if status != 200:
            return status, [], ""
        session = f"Session: {self._session};timeout=60"
        if method == "DESCRIBE":
            return 200, ["Content-Type: application/sdp", f"Content-Base: {address}/"], describe(camera.clip)
        if method == "SETUP":
            return await self._set_up(transport, headers.get("transport", ""), session)
        if method == "PLAY" and self._route is not None:
            sender = Sender(secrets.randbits(32), secrets.randbits(16))
            clock_ns = int(camera.clock_s * 1e9)
            self._wire = Wire(transport, self._route[0], sender, camera.clip.codec, camera.show, clock_ns)
            place = f"seq={sender.sequence};rtptime={camera.stamp & 0xFFFFFFFF}"
            return 200, [session, "Range: npt=0.000-", f"RTP-Info: url={address.rstrip('/')}/track1;{place}"], ""
        if method in ("GET_PARAMETER", "TEARDOWN"):
            return 200, [session], ""
        return 501, [], ""

    async def _set_up(self, transport: asyncio.Transport, wanted: str, session: str) -> tuple[int, list[str], str]:
        if "TCP" in wanted:
            channels = re.search(r"interleaved=(\d+)", wanted)
            channel = int(channels[1]) if channels else 0
            chosen = f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
            self._route = Interleaved(transport, channel), chosen
        else:
            ports = re.search(r"client_port=(\d+)-(\d+)", wanted)
            if ports is None:
                return 461, [], ""
            rtp, rtcp = await self._server.datagrams()
            host = transport.get_extra_info("peername")[0]
            own = rtp.get_extra_info("sockname")[1]
            chosen = f"RTP/AVP;unicast;client_port={ports[1]}-{ports[2]};server_port={own}-{own + 1}"
            self._route = Datagrams(rtp, rtcp, host, (int(ports[1]), int(ports[2]))), chosen
        return 200, [f"Transport: {chosen}", session], ""

    def _find(self, address: str) -> bool:
        """The camera of this address; its fault of this connection is chosen with the first request for it."""
        if self._camera is None:
            path = re.sub(r"^rtsp://[^/]*/?", "", address).split("/")[0].split("?")[0]
            self._camera = self._server.cameras.get(path)
            if self._camera is not None:
                self._fault = self._camera.connect()
        return self._camera is not None
