# SPDX-License-Identifier: Apache-2.0
"""How a connection in a decoding process ends: what was read is passed on, once, before anybody hears of the end."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from pipeline.errors import SourceError, SourceUnavailable
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.sources.isolation import wire
from pipeline.sources.isolation.connection import Connection
from pipeline.threads import StopFlag


class Ending:
    """A source that opens and ends at once, by ``error`` or without one."""

    truncation = None

    def __init__(self, done: list[str], error: Exception | None) -> None:
        self.counters = SourceCounters()
        self._done = done
        self._error = error

    def open(self, stop: StopFlag) -> StreamInfo:
        self._done.clear()
        return StreamInfo("", live=True)

    def read(self) -> Capture | None:
        self._done.clear()
        if self._error is not None:
            raise self._error
        return None

    def close(self) -> None:
        self._done.append("closed")


class Flushing:
    """The sign of life, of which only this is asked here."""

    def __init__(self, done: list[str]) -> None:
        self._done = done

    def flush(self) -> None:
        self._done.append("flushed")


@pytest.mark.parametrize(
    ("error", "cause"),
    [(SourceUnavailable("gone", cause="io"), "io"), (ValueError("a fault of ours"), "crash"), (None, None)],
    ids=["lost", "fault", "stopped"],
)
def test_what_was_read_is_passed_on_once(error: Exception | None, cause: str | None) -> None:
    done: list[str] = []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(10.0)
        connection = Connection(1, Ending(done, error), theirs, cast("Any", Flushing(done)))
        connection.start()
        assert ours.recv(wire.LARGEST)[:1] == wire.INFO
        if cause is not None:
            failed = ours.recv(wire.LARGEST)
            assert failed[:1] == wire.FAILED
            told = wire.error_of(wire.parse_json(failed)[1])
            assert isinstance(told, SourceError)
            assert told.cause == cause
        assert connection.hang_up()
    assert done == ["flushed", "closed"]
