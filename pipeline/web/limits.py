# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 with bounds: the time that a request may take to arrive, and clients that do not read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, or all of them, may take.

    Attributes:
        connections: open at once from other machines, and as many from this one; further ones are reset.
        connections_each: open at once from one other address.
        request_s: from the connection, or the answer before, to a complete request.
        stall_s: how long a client may leave what was sent to it unread.
        head_bytes: request line and headers.
        check_s: how often a connection is looked at.
    """

    connections: int = 128
    connections_each: int = 32
    request_s: float = 10.0
    stall_s: float = 20.0
    head_bytes: int = 16_384
    check_s: float = 2.0


def bounded(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1 protocol with ``limits``: by itself it waits for ever for what a client does not send."""

    class Bounded(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._unread_since: float | None = None
            self._asked_since: float | None = self.loop.time()
            self._seen: Any = None
            self._check = self.loop.call_later(limits.check_s, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            self._check.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            self._unread_since = self.loop.time()
            super().pause_writing()

        def resume_writing(self) -> None:
            self._unread_since = None
            super().resume_writing()

        def on_response_complete(self) -> None:
            self._asked_since = self.loop.time()
            super().on_response_complete()

        def _look(self) -> None:
            now = self.loop.time()
            if self.cycle is not None and self.cycle is not self._seen:  # a request began to be answered
                self._seen, self._asked_since = self.cycle, now
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering and not self.cycle.more_body:
                self._asked_since = None
            if self.transport.is_closing() and self._unread_since is None:
                self._unread_since = now
            too_slow = self._asked_since is not None and now - self._asked_since > limits.request_s
            unread = self._unread_since is not None and now - self._unread_since > limits.stall_s
            if too_slow or unread:
                self.transport.abort()
            else:
                self._check = self.loop.call_later(limits.check_s, self._look)

    return Bounded
