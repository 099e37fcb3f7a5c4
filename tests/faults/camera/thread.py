# SPDX-License-Identifier: Apache-2.0
"""Cameras in a thread of their own, for tests that go on beside them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.faults.camera.camera import Camera
from tests.faults.camera.rtsp import HOST, RtspServer

T = TypeVar("T")
DEADLINE_S = 30.0


class Cameras:
    """A server in a thread. Cameras may only be touched by :meth:`do`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: RtspServer) -> None:
        self._loop = loop
        self._server = server
        self.port = server.port

    def url(self, name: str, user_info: str = "") -> str:
        """Address of a camera."""
        return f"rtsp://{user_info}{'@' if user_info else ''}{HOST}:{self.port}/{name}"

    def do(self, call: Callable[[dict[str, Camera]], T]) -> T:
        """Something to the cameras, by name, in their thread."""

        async def work() -> T:
            return call(self._server.cameras)

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(DEADLINE_S)

    def vanish(self) -> None:
        """The port is closed, connections are reset."""

        async def work() -> None:
            self._server.vanish()

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(DEADLINE_S)

    def come_back(self) -> None:
        """They are there again, at the same port."""
        asyncio.run_coroutine_threadsafe(self._server.come_back(), self._loop).result(DEADLINE_S)


@contextmanager
def serving(*cameras: Camera, port: int = 0) -> Iterator[Cameras]:
    """These cameras, for the length of a block."""
    loop = asyncio.new_event_loop()
    server = RtspServer(cameras, port)
    thread = threading.Thread(target=loop.run_forever, name="cameras", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(DEADLINE_S)
        try:
            yield Cameras(loop, server)
        finally:
            asyncio.run_coroutine_threadsafe(_end(server), loop).result(DEADLINE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()


async def _end(server: RtspServer) -> None:
    """Close it, and let what hung on its connections end."""
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=DEADLINE_S / 2)
