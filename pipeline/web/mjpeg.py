# SPDX-License-Identifier: Apache-2.0
"""The live view of one stream as Motion JPEG, which every browser shows as a picture that moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipeline.errors import StageError
from pipeline.web.answers import refusal, undrawable
from pipeline.web.live import LiveView, TooManyViewers, Viewer

BOUNDARY: Final = b"frame"
MOST_FPS: Final = 12.0
SIDE: Final = 960
"""Pixels of the longer side at most: what a page shows, at a tenth of the cost of a 4K picture."""
_LOOK_S: Final = 5.0


class Mjpeg:
    """An answer that goes on until the client hangs up or no picture is to be expected any more.

    It begins with the first picture, so that who asks for a stream that has none is told why.

    Args:
        refuses: the answer to whoever waits for a picture in vain, or None where one may come still.
    """

    def __init__(self, view: LiveView, stream: str, refuses: Callable[[], Response | None]) -> None:
        self._view = view
        self._stream = stream
        self._refuses = refuses
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send pictures as fast as the client takes them, at most :data:`MOST_FPS` a second."""
        try:
            async with self._view.viewer(self._stream) as viewer:
                refused = None if scope["method"] == "HEAD" else await self._pictures(viewer, receive, send)
                if refused is not None and not self._begun:
                    await refused(scope, receive, send)
                    return
                await self._begin(send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TooManyViewers:
            answer = refusal(503, "TooManyViewers", "too many live views are open", {"retry-after": "10"})
            await answer(scope, receive, send)

    async def _begin(self, send: Send) -> None:
        if not self._begun:
            self._begun = True
            kind = b"multipart/x-mixed-replace; boundary=" + BOUNDARY
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})

    async def _pictures(self, viewer: Viewer, receive: Receive, send: Send) -> Response | None:
        """Returns why there are no more, where it is not the client or the server that has enough."""
        gone = asyncio.create_task(_disconnect(receive))
        picture: asyncio.Task[bytes | None] | None = None
        loop = asyncio.get_running_loop()
        try:
            while not gone.done():
                picture = picture or asyncio.create_task(viewer.next(SIDE))
                await asyncio.wait((picture, gone), timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if not picture.done():
                    refused = self._refuses()
                    if refused is not None:
                        return refused
                    continue
                try:
                    jpeg, picture = picture.result(), None
                except StageError:
                    return undrawable()
                if jpeg is None:
                    return None
                await self._begin(send)
                sent_s = loop.time()
                await send({"type": "http.response.body", "body": _part(jpeg), "more_body": True})
                await asyncio.wait({gone}, timeout=max(0.0, sent_s + 1 / MOST_FPS - loop.time()))
            return None
        finally:
            gone.cancel()
            if picture is not None:
                picture.cancel()
            await asyncio.gather(gone, *([picture] if picture else []), return_exceptions=True)


def _part(jpeg: bytes) -> bytes:
    head = b"--%b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (BOUNDARY, len(jpeg))
    return head + jpeg + b"\r\n"


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
