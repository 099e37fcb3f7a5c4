# SPDX-License-Identifier: Apache-2.0
"""The parents' side of :mod:`pipeline.workshop.tuning.child`: start candidates, ask them, give up on them in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any, Self

from pipeline.errors import PipelineError

MODULE = "pipeline.workshop.tuning.child"

IMPORT_S = 120.0
"""How long importing torch may take on a slow disk."""


class Lost(PipelineError):
    """A candidate crashed, hung or refused.

    Attributes:
        kind: class of the error that it told of; empty where it could not tell.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class Child:
    """A process with one candidate."""

    def __init__(self, nursery: Nursery, pid: int, connection: socket.socket) -> None:
        self._nursery = nursery
        self._pid = pid
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._open = True

    def ask(self, command: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to a command; raises Lost, and then the process is no more."""
        self._connection.settimeout(timeout_s)
        try:
            self._connection.sendall(json.dumps(command).encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError as exc:
            self.close()
            raise Lost(f"it did not answer within {timeout_s:.0f} s and was ended") from exc
        except OSError:
            line = b""
        if not line:
            status = self._ended()
            raise Lost(f"it crashed ({_how(status)})")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            self.close()
            raise Lost(said["error"], said["kind"])
        return said

    def close(self) -> None:
        """End the process."""
        if self._open:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._ended()

    def _ended(self) -> int:
        if not self._open:
            return 0
        self._open = False
        self._lines.close()
        self._connection.close()
        return self._nursery.reap(self._pid)


class Nursery:
    """Starts candidates: a context manager, at whose end all of them are gone."""

    def __init__(self, *, debug: bool = False) -> None:
        ours, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the nursery is
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if debug else self._said,
                pass_fds=[theirs.fileno()],
                # It forks: no library may have threads by then.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"},
            )
        self._asked = ours
        self._asked.settimeout(IMPORT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def child(self) -> Child:
        """A new process; raises PipelineError where none can be had."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                pid = self._request({"start": True}, theirs)["pid"]
        except PipelineError:
            ours.close()
            raise
        return Child(self, int(pid), ours)

    def reap(self, pid: int) -> int:
        """How a process ended: its exit code, or minus the signal."""
        return int(self._request({"reap": pid})["status"])

    def _failure(self, reason: str) -> PipelineError:
        """With what the process wrote last, if anything."""
        self._said.seek(0)
        return PipelineError(f"no process for a candidate can be started: {_last_line(self._said.read()) or reason}")

    def _request(self, request: dict[str, Any], passed: socket.socket | None = None) -> dict[str, Any]:
        try:
            given = [] if passed is None else [passed.fileno()]
            socket.send_fds(self._asked, [json.dumps(request).encode()], given)
            said = self._asked.recv(4096)
        except OSError as exc:
            raise self._failure(str(exc)) from exc
        if not said:
            raise self._failure("the one that imports torch has ended")
        answer: dict[str, Any] = json.loads(said)
        return answer


def _last_line(said: bytes) -> str:
    return said.decode(errors="replace").strip().rpartition("\n")[2]


def _how(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
