# SPDX-License-Identifier: Apache-2.0
"""``pipeline run`` as a process that is looked at from outside: its log, its API and metrics, its files, and /proc."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import Running

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


class Watched(Running):
    """A daemon with a server on loopback that is looked at all the time. Everything it says is kept.

    Attributes:
        looks: what ``/api/streams`` said, every :data:`LOOK_S`.
        said: everything else that it ever showed to anybody, for the search for secrets.
    """

    def __init__(
        self,
        config: Path,
        *,
        env: Mapping[str, str] | None = None,
        program: str | None = None,
        looks: bool = True,
    ) -> None:
        super().__init__(config, "--json", program=program, env=env)
        self.looks: list[Look] = []
        self.said: set[str] = set()
        self._over = threading.Event()
        try:
            self._looking = threading.Thread(target=self._look, args=(self.address,), daemon=True)
        except AssertionError:
            super().kill()
            raise
        if looks:  # it costs the daemon two hundredths of a core when it has fifty streams
            self._looking.start()

    def wait(self, condition: Callable[[], object], timeout_s: float, what: str) -> float:
        """Until ``condition`` holds, which is asked with each line of the log and each look; returns the seconds."""
        began_s = time.monotonic()
        with self._more:
            if not self._more.wait_for(lambda: bool(condition()) or self.process.poll() is not None, timeout_s):
                last = self.looks[-1].streams if self.looks else {}
                states = {name: (told["state"], told["detail"], told["frames"]) for name, told in last.items()}
                raise AssertionError(f"no {what} in {timeout_s:g} s: {states}\n{self.log}")
        assert condition(), f"no {what}; it ended: {self.log}"
        return time.monotonic() - began_s

    def wait_for(self, stream: str, good: Callable[[dict[str, Any]], object], timeout_s: float, what: str) -> float:
        """Until the API says of a stream what is wanted; returns the seconds."""

        def there() -> bool:
            told = self.looks[-1].streams.get(stream) if self.looks else None
            return told is not None and bool(good(told))

        return self.wait(there, timeout_s, f"{what} of {stream}")

    def metrics(self) -> Metrics:
        """As ``/metrics`` says now."""
        text = self.web.get("/metrics").text
        self.said.add(text)
        families = text_string_to_metric_families(text)
        return {(each.name, frozenset(each.labels.items())): each.value for one in families for each in one.samples}

    def footprint(self) -> Footprint:
        """What it holds now."""
        proc = Path(f"/proc/{self.process.pid}")
        sockets = (line.split() for line in (proc / "net/tcp").read_text().splitlines()[1:])
        port = f":{self.web.base_url.port:04X}"
        own = {f"socket:[{fields[9]}]" for fields in sockets if fields[1].endswith(port) and fields[3] == "01"}
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        return Footprint(
            threads=int(fields[17]),
            descriptors=sum(count for what, count in self.descriptors().items() if what not in own),
            rss_mb=int((proc / "statm").read_text().split()[1]) * PAGE / 2**20,
            cpu_s=(int(fields[11]) + int(fields[12])) / TICK,
        )

    def see_all(self) -> None:
        """Keep what every page, every stream and every command line shows."""
        pages = ["/", "/metrics", "/api/streams", "/api/report", *(f"/api/streams/{name}" for name in self.streams())]
        self.said.update(self.web.get(page).text for page in pages)
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if os.getpgid(int(command.parent.name)) == self.process.pid:
                    self.said.add(command.read_bytes().decode(errors="replace"))

    def stop(self, timeout_s: float = 40.0) -> tuple[int, dict[str, Any]]:
        """SIGTERM; exit code and report."""
        self._look_away()
        code, log = self.end(None if self.process.poll() is not None else signal.SIGTERM, timeout_s)
        self.said.update((log, self.out))
        return code, json.loads(self.out or "{}")

    def kill(self) -> None:
        self._look_away()
        super().kill()

    def _look_away(self) -> None:
        self._over.set()
        if self._looking.ident is not None:
            self._looking.join(30)

    def _look(self, url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as http:
            while not self._over.wait(LOOK_S):
                with suppress(httpx.HTTPError):  # it may have ended, or be stopped on purpose
                    text = http.get("/api/streams").text
                    look = Look(time.monotonic(), json.loads(text)["streams"])
                    with self._more:
                        self.looks.append(look)
                        self._more.notify_all()


@contextmanager
def watching(config: Path, **options: Any) -> Iterator[Watched]:
    """A daemon for the length of a block; whatever happens, it is gone afterwards."""
    daemon = Watched(config, **options)
    try:
        yield daemon
    finally:
        daemon.kill()
