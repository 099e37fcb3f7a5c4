# SPDX-License-Identifier: Apache-2.0
"""Who answers, who refuses, and who does not answer at all."""

from __future__ import annotations

import socket
import time

import pytest

from pipeline.errors import SourceTimeout, SourceUnavailable
from pipeline.redact import SourceUrl
from pipeline.sources import knock


def url(port: int) -> SourceUrl:
    return SourceUrl.parse(f"rtsp://viewer:hunter2@127.0.0.1:{port}/1")


def test_somebody_answers_or_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        knock(url(port), 5.0)
    with pytest.raises(SourceUnavailable, match="connection refused") as caught:
        knock(url(port), 5.0)
    assert caught.value.cause == "refused"
    assert "hunter2" not in str(caught.value)


def test_nobody_answers() -> None:
    """A listener whose queue is full drops what comes, as a camera does that is switched off."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            began = time.monotonic()
            with pytest.raises(SourceTimeout) as caught:
                knock(url(port), 0.3)
            assert time.monotonic() - began < 3.0
        finally:
            for filler in fillers:
                filler.close()
    assert caught.value.cause == "timeout"
    assert "hunter2" not in str(caught.value)
