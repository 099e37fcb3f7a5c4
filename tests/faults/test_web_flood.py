# SPDX-License-Identifier: Apache-2.0
"""A thousand clients of ``/metrics`` and slow senders at a daemon that works: its streams do not notice."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.orphans import no_orphan
from tests.daemons import JSONL, config, records
from tests.models import Cells, save

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
FPS = 15
NAMES = ("s0", "s1", "s2", "s3")
SECONDS = 6.0


class Daemon:
    """A running one with four patterns."""

    def __init__(self, process: subprocess.Popen[bytes], host: str) -> None:
        self.process = process
        self.host = host
        self.address = (host.partition(":")[0], int(host.partition(":")[2]))

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection(self.host, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status == 200, body
        return body

    def files(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def daemon(folder: Path) -> Iterator[Daemon]:
    model = save(Cells(), folder / "cells.pt")
    streams = [f"name: {name}, source: 'pattern:?size=128x96&fps={FPS}', pace: realtime" for name in NAMES]
    path = config(folder, model, streams, [JSONL])
    path.write_text(path.read_text() + "server: {listen: '127.0.0.1:0'}\n")
    log = folder / "log"
    with log.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(path)], stderr=err, preexec_fn=no_orphan()
        )
    pause, until = threading.Event(), time.monotonic() + 60
    try:
        while (found := re.search(r"serving http://(\S+)/", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until
            pause.wait(0.05)
        running = Daemon(process, found[1])
        while True:
            with suppress(AssertionError):
                running.get("/ready")
                break
            assert time.monotonic() < until, log.read_text()
            pause.wait(0.05)
        yield running
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
        assert "unaccounted" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def results(folder: Path) -> dict[str, int]:
    return {name: (folder / "out" / f"{name}.jsonl").read_bytes().count(b"\n") for name in NAMES}


@pytest.mark.slow
def test_analytics_do_not_notice_a_flood(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        pause = threading.Event()
        pause.wait(1.0)
        before, since = results(tmp_path), time.monotonic()
        pause.wait(SECONDS)
        calm = results(tmp_path)
        calm_s = time.monotonic() - since

        idle_files = running.files()
        slow = []
        for number in range(60):  # each has sent a part of its request, and sends no more
            slow.append(socket.create_connection(running.address, timeout=10))
            slow[-1].sendall(REQUEST[: number % 50])
        answers: list[bytes] = []
        most_files = 0
        flood_since = time.monotonic()
        for _ in range(20):
            clients = []
            for _ in range(50):
                connected = socket.create_connection(running.address, timeout=10)
                with suppress(ConnectionError):
                    connected.sendall(REQUEST)
                clients.append(connected)
            most_files = max(most_files, running.files())
            for connected in clients:
                try:
                    answers.append(connected.recv(12))
                except ConnectionError:
                    answers.append(b"")
                connected.close()
        pause.wait(max(0.0, SECONDS - (time.monotonic() - flood_since)))
        flooded = results(tmp_path)
        flooded_s = time.monotonic() - flood_since
        assert running.get("/live") == b"live\n"
        for each in slow:
            each.close()
        told = json.loads(running.get("/api/streams"))["streams"]
    assert len(answers) == 1000
    assert set(answers) <= {b"HTTP/1.1 200", b""}
    assert answers.count(b"HTTP/1.1 200") >= 500
    assert most_files <= idle_files + 128, "sockets are bounded"
    for name in calm:
        rate = (calm[name] - before[name]) / calm_s
        assert (flooded[name] - calm[name]) / flooded_s >= 0.95 * rate, name
    assert all(stream["state"] == "live" for stream in told.values())
    for name in calm:
        latencies = [line["latency_ms"]["end_to_end"] for line in records(tmp_path / "out" / f"{name}.jsonl")]
        quiet = sorted(latencies[before[name] : calm[name]])
        loud = sorted(latencies[calm[name] : flooded[name]])
        assert loud[int(0.99 * len(loud))] <= max(100.0, 2 * quiet[int(0.99 * len(quiet))]), name
