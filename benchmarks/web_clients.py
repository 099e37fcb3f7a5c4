# SPDX-License-Identifier: Apache-2.0
"""Clients of ``benchmarks.web``, in a process of their own: they note how long each answer takes.

python -m benchmarks.web_clients HOST SECONDS RATE
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import time

from pipeline.web.fresh import LOOKING_S

FIGURES = ("/api/streams", "/api/streams/s0", "/api/report", "/metrics")
PAUSES_S = (2.1, 2.9, 3.9)
"""Longer than an answer counts as new; no two are so much alike that they would be taken for a rhythm."""
SILENCE_S = LOOKING_S + 3.0
"""After which nothing is kept for anybody."""
ROUTES = ("/live", "/ready", "/api/streams", "/api/streams/s0", "/api/report", "/metrics", "/")


class Asked:
    """One connection that is kept open, as a browser or Prometheus keeps it."""

    def __init__(self, host: str) -> None:
        self._connection = http.client.HTTPConnection(host, timeout=20)

    def get(self, path: str) -> bytes:
        """The body of an answer that must be 200."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, f"{path}: {answer.status} {body[:200]!r}"
        return body


def ask(host: str, seconds: float, rate: float) -> dict[str, list[float]]:
    """Milliseconds of each answer, one route after the other, ``rate`` requests a second."""
    asked = Asked(host)
    took: dict[str, list[float]] = {route: [] for route in ROUTES}
    start = time.monotonic()
    for number in range(round(seconds * rate)):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        route = ROUTES[number % len(ROUTES)]
        since = time.perf_counter()
        asked.get(route)
        took[route].append((time.perf_counter() - since) * 1e3)
    return took


def ask_at_odd_times(host: str, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each answer of routes with figures; no two pauses between requests for one are alike."""
    asked, rng = Asked(host), random.Random(1)
    took: dict[str, list[float]] = {route: [] for route in FIGURES}
    pauses = dict.fromkeys(FIGURES, PAUSES_S[0])
    start = time.monotonic()
    due = {route: start + number for number, route in enumerate(FIGURES, 2)}
    while (at := min(due.values())) < start + seconds:
        time.sleep(max(0.0, at - time.monotonic()))
        route = min(due, key=lambda each: due[each])
        since = time.perf_counter()
        asked.get(route)
        took[route].append((time.perf_counter() - since) * 1e3)
        pauses[route] = rng.choice([pause for pause in PAUSES_S if pause != pauses[route]])
        due[route] = time.monotonic() + pauses[route]
    return took


def ask_after_silence(host: str, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each answer of routes with figures, each route in its turn the only one in more than a minute."""
    took: dict[str, list[float]] = {route: [] for route in FIGURES}
    for number in range(max(len(FIGURES), round(seconds / SILENCE_S))):
        time.sleep(SILENCE_S)
        route, asked = FIGURES[number % len(FIGURES)], Asked(host)
        since = time.perf_counter()
        asked.get(route)
        took[route].append((time.perf_counter() - since) * 1e3)
    return took


def asked_elsewhere(host: str, seconds: float, rate: float) -> dict[str, list[float]]:
    """:func:`ask` in a process of its own; rate 0: :func:`ask_at_odd_times`, -1: :func:`ask_after_silence`."""
    command = [sys.executable, "-m", "benchmarks.web_clients", host, str(seconds), str(rate)]
    told: dict[str, list[float]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return told


if __name__ == "__main__":
    host, seconds, rate = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    if rate > 0:
        print(json.dumps(ask(host, seconds, rate)))
    else:
        print(json.dumps((ask_after_silence if rate else ask_at_odd_times)(host, seconds)))
