# SPDX-License-Identifier: Apache-2.0
"""The log of one stream, read once from its beginning to its end: connection after connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args

from pipeline.errors import Cause, SourceError, SourceInvalid, SourceTimeout, SourceUnavailable

_DOWN: Final = frozenset({"backoff", "auth_failed", "failed"})
_CAUSES: Final = frozenset(get_args(Cause))


class Tape:
    """What happened to a stream, with the next thing in view.

    Attributes:
        name: of the stream, for messages.
        gaps: packets so far that the recorder could not keep.
        torn: packets so far that the log knows and their segment does not hold, as when the process was killed.
    """

    def __init__(self, name: str, lines: Iterator[dict[str, Any]]) -> None:
        self.name = name
        self.gaps = self.torn = 0
        self._lines = lines
        self._next = next(lines, None)

    @property
    def ended(self) -> bool:
        """Nothing more happened."""
        return self._next is None

    def next_attempt(self) -> dict[str, Any] | None:
        """The next connection, or how the attempt at one failed (:meth:`failure` of it); None at the end."""
        while (line := self._take()) is not None:
            if "opened" in line or line.get("state") in _DOWN:
                return line
        return None

    def has_packet(self, connection: int) -> bool:
        """Whether a packet of this connection is next."""
        while self._next is not None and self._next.get("state") == "live":
            self._take()
        return self._next is not None and self._next.get("packet") == connection

    def next_packet(self, connection: int) -> dict[str, Any] | None:
        """The line of the next packet of this connection; None once something else happened."""
        if not self.has_packet(connection):
            return None
        line = self._take()
        assert line is not None, "it was in view"
        self.gaps += line.get("gap", 0)
        return line

    def tear(self, connection: int) -> None:
        """What is left of this connection cannot be had."""
        while self.next_packet(connection) is not None:
            self.torn += 1

    def take_loss(self) -> dict[str, Any] | None:
        """How the connection was lost that has no more packets, where the log says so."""
        return self._take() if self._next is not None and self._next.get("state") in _DOWN else None

    def failure(self, line: dict[str, Any]) -> SourceError:
        """The error that a line stands for."""
        cause: Cause = line["cause"] if line.get("cause") in _CAUSES else "io"
        text = f"lost as it was recorded: {cause}"
        if line.get("state") == "failed" and cause == "invalid_data":
            return SourceInvalid(text, cause=cause)
        return SourceTimeout(text, cause=cause) if cause == "timeout" else SourceUnavailable(text, cause=cause)

    def _take(self) -> dict[str, Any] | None:
        line, self._next = self._next, None
        if line is not None:
            self._next = next(self._lines, None)
        return line
