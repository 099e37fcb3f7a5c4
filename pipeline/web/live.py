# SPDX-License-Identifier: Apache-2.0
"""The live view: pictures of the streams that somebody looks at right now, and of no others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress

from pipeline.frame import Picture, Result

MOST_VIEWERS = 16
"""Of all streams together; further ones are refused."""

Draw = Callable[[Result, Picture, int | None], bytes]


class TooManyViewers(Exception):
    """No further viewer is taken."""


class _Feed:
    """The newest result of one stream, for as long as it has viewers."""

    def __init__(self) -> None:
        self.viewers = 0
        self.result: Result | None = None
        self.number = 0  # of results seen so far
        self.changed = asyncio.Event()
        self.drawn: dict[int | None, tuple[int, bytes]] = {}  # side -> (number, JPEG)
        self.drawing = asyncio.Lock()


class LiveView:
    """A :class:`pipeline.protocols.Tap`: keeps a reference to the newest result, which costs the follow loop nothing.

    Only viewers make it draw and encode, once for all viewers of a stream and size, in ``executor``. Who looks slowly
    sees fewer pictures: each viewer asks for the newest one when it is done with the last.

    Attributes:
        counts: ``taken`` results, ``drawn`` pictures; both stand still while nobody looks.
    """

    def __init__(self, draw: Draw, executor: Executor | None = None) -> None:
        self._draw = draw
        self._executor = executor
        self._feeds: dict[str, _Feed] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self.counts: Counter[str] = Counter()

    def wants(self, stream: str) -> bool:
        """Whether somebody looks at this stream now."""
        return stream in self._feeds

    def show(self, result: Result) -> None:
        """Keep it until the next one comes; from the follow loop."""
        feed, loop = self._feeds.get(result.stream), self._loop
        if feed is None or loop is None or loop.is_closed():
            return
        feed.result = result
        feed.number += 1
        self.counts["taken"] += 1
        with suppress(RuntimeError):  # closed since: the server's thread may end at any moment, and results go on
            loop.call_soon_threadsafe(_wake, feed)

    def close(self) -> None:
        """Send all viewers home; in the server's loop."""
        self._closed = True
        for feed in self._feeds.values():
            _wake(feed)

    @asynccontextmanager
    async def viewer(self, stream: str) -> AsyncIterator[Viewer]:
        """Look at a stream for as long as the block lasts. Raises TooManyViewers."""
        if sum(feed.viewers for feed in self._feeds.values()) >= MOST_VIEWERS:
            raise TooManyViewers
        self._loop = asyncio.get_running_loop()
        feed = self._feeds.get(stream)
        if feed is None:
            feed = self._feeds[stream] = _Feed()
        feed.viewers += 1
        try:
            yield Viewer(self, feed)
        finally:
            feed.viewers -= 1
            if not feed.viewers:
                del self._feeds[stream]

    async def _picture(self, feed: _Feed, most: int | None) -> tuple[int, bytes] | None:
        async with feed.drawing:
            known, result, number = feed.drawn.get(most), feed.result, feed.number
            if known is not None and known[0] == number:
                return known
            if result is None or result.picture is None:
                return None
            loop = asyncio.get_running_loop()
            jpeg = await loop.run_in_executor(self._executor, self._draw, result, result.picture, most)
            self.counts["drawn"] += 1
            feed.drawn[most] = (number, jpeg)
            return feed.drawn[most]


class Viewer:
    """One who looks at one stream."""

    def __init__(self, view: LiveView, feed: _Feed) -> None:
        self._view = view
        self._feed = feed
        self._seen = 0

    async def next(self, most: int | None = None) -> bytes | None:
        """JPEG of the newest result, once there is one that this viewer has not seen; None when the view closes.

        ``most``: pixels of the longer side at most.
        """
        while not self._view._closed:
            changed = self._feed.changed
            if self._feed.number > self._seen:
                found = await self._view._picture(self._feed, most)
                if found is not None:
                    self._seen = found[0]
                    return found[1]
            await changed.wait()
        return None


def _wake(feed: _Feed) -> None:
    changed, feed.changed = feed.changed, asyncio.Event()
    changed.set()
