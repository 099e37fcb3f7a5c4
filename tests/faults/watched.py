# SPDX-License-Identifier: Apache-2.0
"""``pipeline run`` as a process that is looked at from outside: its log, its API and metrics, its files, and /proc."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

LOOK_S = 0.25
"""Between two looks; the API itself is at most a second old."""
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
Metrics = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Look:
    """What the API said of all streams, and when (monotonic seconds)."""

    at_s: float
    streams: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Footprint:
    """What a process holds. Connections to its server are not counted: they are the watcher's own."""

    threads: int
    descriptors: int
    rss_mb: float
    cpu_s: float


class Watched:
    """A daemon with a server on loopback. Everything it says is kept.

    Attributes:
        pid: of the process.
        log: lines of standard error so far.
        looks: what ``/api/streams`` said, every :data:`LOOK_S`.
        said: everything else that it ever showed to anybody, for the search for secrets.
    """

    def __init__(
        self,
        config: Path,
        *,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = ("-m", "pipeline"),
        looks: bool = True,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command, "run", str(config), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(env or {}),
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.log: list[str] = []
        self.looks: list[Look] = []
        self.said: set[str] = set()
        self._out: list[str] = []
        self._told = threading.Condition()
        self._over = threading.Event()
        assert self._process.stderr is not None
        assert self._process.stdout is not None
        self._threads = [
            threading.Thread(target=self._listen, args=(pipe, into), daemon=True)
            for pipe, into in ((self._process.stderr, self.log), (self._process.stdout, self._out))
        ]
        for thread in self._threads:
            thread.start()
        url = self.until(r"serving (http://\S+/)", 60)[1]
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=20)
        self._looking = threading.Thread(target=self._look, args=(url,), daemon=True)
        if looks:  # it costs the daemon two hundredths of a core when it has fifty streams
            self._looking.start()

    def until(self, pattern: str, timeout_s: float = 30.0) -> re.Match[str]:
        """The first line of the log with this pattern, waited for."""
        found: list[re.Match[str]] = []

        def there() -> bool:
            matches = (re.search(pattern, line) for line in list(self.log))
            found.extend(match for match in matches if match)
            return bool(found)

        self.wait(there, timeout_s, f"{pattern!r} in the log")
        return found[0]

    def wait(self, condition: Callable[[], object], timeout_s: float, what: str) -> float:
        """Until ``condition`` holds, which is asked with each line of the log and each look; returns the seconds."""
        began_s = time.monotonic()
        with self._told:
            if not self._told.wait_for(lambda: bool(condition()) or self._process.poll() is not None, timeout_s):
                last = self.looks[-1].streams if self.looks else {}
                states = {name: (told["state"], told["detail"], told["frames"]) for name, told in last.items()}
                raise AssertionError(f"no {what} in {timeout_s:g} s: {states}\n{''.join(self.log)}")
        assert condition(), f"no {what}; it ended: {''.join(self.log)}"
        return time.monotonic() - began_s

    def wait_for(self, stream: str, good: Callable[[dict[str, Any]], object], timeout_s: float, what: str) -> float:
        """Until the API says of a stream what is wanted; returns the seconds."""

        def there() -> bool:
            told = self.looks[-1].streams.get(stream) if self.looks else None
            return told is not None and bool(good(told))

        return self.wait(there, timeout_s, f"{what} of {stream}")

    def streams(self) -> dict[str, dict[str, Any]]:
        """As ``/api/streams`` says now."""
        found: dict[str, dict[str, Any]] = self.http.get("/api/streams").json()["streams"]
        return found

    def metrics(self) -> Metrics:
        """As ``/metrics`` says now."""
        text = self.http.get("/metrics").text
        self.said.add(text)
        families = text_string_to_metric_families(text)
        return {(each.name, frozenset(each.labels.items())): each.value for one in families for each in one.samples}

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def footprint(self) -> Footprint:
        proc = Path(f"/proc/{self.pid}")
        held = set()
        for descriptor in (proc / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                held.add((descriptor.name, os.readlink(descriptor)))
        sockets = (line.split() for line in (proc / "net/tcp").read_text().splitlines()[1:])
        port = f":{self.http.base_url.port:04X}"
        own = {f"socket:[{fields[9]}]" for fields in sockets if fields[1].endswith(port) and fields[3] == "01"}
        held = {each for each in held if each[1] not in own}
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        return Footprint(
            threads=int(fields[17]),
            descriptors=len(held),
            rss_mb=int((proc / "statm").read_text().split()[1]) * PAGE / 2**20,
            cpu_s=(int(fields[11]) + int(fields[12])) / TICK,
        )

    def see_all(self) -> None:
        """Keep what every page, every stream and every command line shows."""
        pages = ["/", "/metrics", "/api/streams", "/api/report", *(f"/api/streams/{name}" for name in self.streams())]
        self.said.update(self.http.get(page).text for page in pages)
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if os.getpgid(int(command.parent.name)) == self.pid:
                    self.said.add(command.read_bytes().decode(errors="replace"))

    def stop(self, timeout_s: float = 40.0) -> tuple[int, dict[str, Any]]:
        """SIGTERM; exit code and report."""
        self._over.set()
        if self._looking.ident is not None:
            self._looking.join(30)
        self.http.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout_s)
        for thread in self._threads:
            thread.join(10)
        self.said.update(("".join(self.log), "".join(self._out)))
        return code, json.loads("".join(self._out) or "{}")

    def kill(self) -> None:
        self._over.set()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        for thread in (*self._threads, self._looking):
            if thread.ident is not None:
                thread.join(10)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        self.http.close()

    def _listen(self, pipe: IO[str], into: list[str]) -> None:
        for line in pipe:
            with self._told:
                into.append(line)
                self._told.notify_all()

    def _look(self, url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as http:
            while not self._over.wait(LOOK_S):
                with suppress(httpx.HTTPError):  # it may have ended, or be stopped on purpose
                    text = http.get("/api/streams").text
                    look = Look(time.monotonic(), json.loads(text)["streams"])
                    with self._told:
                        self.looks.append(look)
                        self._told.notify_all()


@contextmanager
def watching(config: Path, **options: Any) -> Iterator[Watched]:
    """A daemon for the length of a block; whatever happens, it is gone afterwards."""
    daemon = Watched(config, **options)
    try:
        yield daemon
    finally:
        daemon.kill()
