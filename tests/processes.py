# SPDX-License-Identifier: Apache-2.0
"""``pipeline run`` in a process of its own: what it says, what it serves, what it takes of the system."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from pipeline.host.orphans import no_orphan
from pipeline.timing import now_ns

PATIENCE_S = 60.0
"""For a machine that is busy with other tests; nothing here waits as long when all is well."""
TRACES = ("Traceback", "unaccounted", "please report")
"""What no log of a sound run holds."""


def hurried(status_every_s: float = 0.2, grace_s: float = 10.0) -> str:
    """The command with a shorter pause between status lines, as a ``program`` of :class:`Running`.

    Args:
        status_every_s: seconds between two of them.
        grace_s: how long a stop may take to serve what is under way.
    """
    return (
        "import sys; from functools import partial; from pipeline import daemon; from pipeline.cli import main\n"
        f"daemon.Daemon = partial(daemon.Daemon, status_every_s={status_every_s}, grace_s={grace_s})\n"
        "sys.argv.insert(1, 'run')\n"
        "sys.exit(main())"
    )


def awaited(condition: Callable[[], Any], what: str | Callable[[], str], patience_s: float = PATIENCE_S) -> Any:
    """The first true value of ``condition``; fails when there is none in time. ``what`` is asked only then."""
    pause = threading.Event()
    deadline_ns = now_ns() + int(patience_s * 1e9)
    while not (value := condition()):
        late = now_ns() >= deadline_ns
        assert not late, f"{what if isinstance(what, str) else what()} did not happen within {patience_s:g} s"
        pause.wait(0.02)
    return value


class Running:
    """A daemon. Its log is read by a thread, so that a full pipe never holds it up.

    Args:
        path: its streams.yaml.
        options: more arguments of ``pipeline run``.
        program: other Python code to run instead of the command, with the path as its first argument.
        env: what is to be different in its environment.

    Attributes:
        lines: of its log so far.
    """

    def __init__(
        self, path: Path, *options: str, program: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        what = ["-m", "pipeline", "run"] if program is None else ["-c", program]
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", *what, str(path), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            start_new_session=True,
            preexec_fn=no_orphan(),
        )
        self.lines: list[str] = []
        self._out: list[str] = []
        self._read = 0
        self._more = threading.Condition()
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        self._listening = [
            threading.Thread(target=self._listen, args=(pipe, into), daemon=True)
            for pipe, into in ((self.process.stderr, self.lines), (self.process.stdout, self._out))
        ]
        for thread in self._listening:
            thread.start()
        self._web: httpx.Client | None = None

    def _listen(self, pipe: IO[str], into: list[str]) -> None:
        with pipe:
            for line in pipe:
                with self._more:
                    into.append(line)
                    self._more.notify_all()
        with self._more:
            self._more.notify_all()

    @property
    def out(self) -> str:
        """What it wrote to standard output so far."""
        with self._more:
            return "".join(self._out)

    @property
    def log(self) -> str:
        """Everything that was said so far."""
        with self._more:
            return "".join(self.lines)

    def until(self, pattern: str, patience_s: float = PATIENCE_S) -> re.Match[str]:
        """The next line, after those that were waited for before, in which ``pattern`` is found."""
        deadline_ns = now_ns() + int(patience_s * 1e9)
        with self._more:
            while True:
                while self._read < len(self.lines):
                    self._read += 1
                    found = re.search(pattern, self.lines[self._read - 1])
                    if found is not None:
                        return found
                left_s = (deadline_ns - now_ns()) / 1e9
                assert left_s > 0, f"{pattern!r} was not said in time: {''.join(self.lines)}"
                assert self._listening[0].is_alive(), f"{pattern!r} was never said: {''.join(self.lines)}"
                self._more.wait(min(left_s, 0.5))

    def send(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, number: int | None = signal.SIGTERM, patience_s: float = PATIENCE_S) -> tuple[int, str]:
        """Send ``number`` and wait for the end; exit code and whole log."""
        if number is not None:
            self.send(number)
        self._gone(patience_s)
        return self.process.returncode, self.log

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self._gone(PATIENCE_S)

    def _gone(self, patience_s: float) -> None:
        self.process.wait(patience_s)
        for thread in self._listening:
            thread.join(patience_s)
        if self._web is not None:
            self._web.close()

    # What it serves

    @property
    def address(self) -> str:
        """Where it serves, which its log says."""
        found = awaited(
            lambda: re.search(r"serving (http://\S+/)", self.log) or self.process.poll() is not None, "a server"
        )
        assert isinstance(found, re.Match), f"it ended: {self.log}"
        return found[1]

    @property
    def web(self) -> httpx.Client:
        """A client of its server."""
        if self._web is None:
            self._web = httpx.Client(base_url=self.address, trust_env=False, timeout=20)
        return self._web

    def streams(self) -> dict[str, dict[str, Any]]:
        """``/api/streams`` by name."""
        found: dict[str, dict[str, Any]] = self.web.get("/api/streams").json()["streams"]
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that have these labels."""
        total = 0.0
        for line in self.web.get("/metrics").text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
                total += float(found[2])
        return total

    # What it takes

    def threads(self) -> Counter[str]:
        """Threads of the process by name."""
        return self._listed("task", lambda thread: (thread / "comm").read_text().strip())

    def descriptors(self) -> Counter[str]:
        """Open file descriptors of the process by what they lead to."""
        return self._listed("fd", os.readlink)

    def _listed(self, folder: str, what: Callable[[Path], str]) -> Counter[str]:
        found: Counter[str] = Counter()
        for entry in Path(f"/proc/{self.process.pid}/{folder}").iterdir():
            with suppress(OSError):  # gone meanwhile
                found[what(entry)] += 1
        return found

    def resident_bytes(self) -> int:
        """Memory that it holds for itself; pages of libraries that it has touched are not counted."""
        resident, shared = map(int, Path(f"/proc/{self.process.pid}/statm").read_text().split()[1:3])
        return (resident - shared) * resource.getpagesize()

    def files_up_to(self, size: int) -> None:
        """From now on none of its files may grow beyond ``size`` bytes (-1: no limit): a full disk, as it sees it."""
        hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (hard if size < 0 else size, hard))


@pytest.fixture
def daemon() -> Iterator[Callable[..., Running]]:
    """Start daemons that do not outlive the test."""
    running: list[Running] = []

    def start(path: Path, *options: str, **more: Any) -> Running:
        running.append(Running(path, *options, **more))
        return running[-1]

    yield start
    for one in running:
        one.kill()
