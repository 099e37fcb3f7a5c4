# SPDX-License-Identifier: Apache-2.0
"""What must hold whatever happens to a stream: others go on, the cause is told, the books balance, nothing leaks."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from tests.faults.watched import Footprint, Metrics, Watched

LEAST_RATE, LEAST_RATE_BUSY = 0.95, 0.75
MOST_P99 = 2.0
NOISE_MS, NOISE_BUSY_MS = 100.0, 1000.0
"""A p99 below this is no worse than another: cores that others use as well cost a frame so much now and then."""
CAUSE_WITHIN_S = 5.0


@dataclass(frozen=True)
class Window:
    """Results of one stream between two moments.

    Attributes:
        fps: results per second.
        p99_ms: of the time from the packet's arrival to the result.
    """

    fps: float
    p99_ms: float


def window(path: Path, since_s: float, until_s: float) -> Window:
    """Results in a JSONL file whose capture lies between two wall times (seconds)."""
    lines = [orjson.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    at = [datetime.fromisoformat(line["time"]).timestamp() for line in lines]
    chosen = [line for line, at_s in zip(lines, at, strict=True) if since_s <= at_s < until_s]
    late = [line["latency_ms"]["end_to_end"] for line in chosen]
    return Window(len(chosen) / (until_s - since_s), float(np.percentile(late, 99)) if late else float("inf"))


def undisturbed(before: Window, during: Window, fps: float, *, busy: bool = False) -> None:
    """(a) Another stream kept 95 % of its rate, and its p99 stayed within twice what it was.

    ``busy``: this machine has other things to do, which cost frames as well.
    """
    assert during.fps >= (LEAST_RATE_BUSY if busy else LEAST_RATE) * min(before.fps, fps), (before, during)
    assert during.p99_ms <= max(MOST_P99 * before.p99_ms, NOISE_BUSY_MS if busy else NOISE_MS), (before, during)


def told_after_s(daemon: Watched, stream: str, since_s: float, *causes: str) -> float:
    """(b) Seconds from ``since_s`` (monotonic) until the API named one of these causes."""
    looks = [look for look in daemon.looks if stream in look.streams and look.at_s >= since_s]
    for look in looks:
        if look.streams[stream]["cause"] in causes:
            return look.at_s - since_s
    told = {look.streams[stream]["cause"] for look in looks}
    raise AssertionError(f"{stream}: none of {causes} was told, but {told}")


def counted(metrics: Metrics, stream: str, *causes: str) -> None:
    """(b) The metrics name one of these causes for a stream that went down."""
    found = {
        dict(labels)["cause"]: value
        for (name, labels), value in metrics.items()
        if name == "pipeline_stream_events_total" and {("stream", stream), ("event", "down")} <= labels
    }
    assert any(found.get(cause) for cause in causes), (stream, found)


def balanced(report: dict[str, Any]) -> None:
    """(c) Every decoded frame was processed, or dropped for a reason, or left out on purpose; sinks lost nothing."""
    for name, stream in report["streams"].items():
        frames = stream["frames"]
        accounted = frames["processed"] + sum(frames["dropped"].values()) + frames["decimated"]
        assert frames["decoded"] == accounted, (name, frames)
    for name, sink in report["sinks"].items():
        assert sink["received"] == sink["written"] + sum(sink["lost"].values()), (name, sink)


def forms(user: str, password: str) -> set[str]:
    """A secret as it may be written somewhere."""
    encoded = {quote(password, safe=""), quote(password), quote(password, safe="").lower(), repr(password)[1:-1]}
    return {password, *encoded, base64.b64encode(f"{user}:{password}".encode()).decode().rstrip("=")}


def no_secret(daemon: Watched, secrets: Iterable[str], *folders: Path) -> None:
    """(d) None of these is in anything that was shown or written."""
    shown = [*daemon.said, *(str(look.streams) for look in daemon.looks)]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    shown += [path.read_bytes().decode(errors="replace") for path in files]
    for secret in secrets:
        for text in shown:
            assert secret not in text, f"...{text[max(0, text.index(secret) - 60) :][:100]}..."


def no_more_than(base: Footprint, now: Footprint) -> None:
    """(e) Threads and file descriptors are back where they were."""
    assert now.threads <= base.threads, (base, now)
    assert now.descriptors <= base.descriptors, (base, now)
