# SPDX-License-Identifier: Apache-2.0
"""The whole report of a run: what the ledger measured, what the run was, and on which machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.redact import scrub
from pipeline.report.bottleneck import bottleneck
from pipeline.report.machine import describe_machine, package_version, peak_rss_mb
from pipeline.timing import cpu_ns, rfc3339, wall_ns

SLOW_FRAMES = 10
"""So many of all streams are listed; each stream has its own beside."""
_OWN_FACTS = ("command", "model", "startup_s", "resumed")


def compose(
    measured: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    order: Sequence[str] = (),
    error: str | None = None,
) -> dict[str, Any]:
    """``report.json`` as a dict.

    Args:
        measured: :meth:`pipeline.ledger.Ledger.as_dict`.
        facts: ``command``, ``model``, ``startup_s``; ``resumed``: reports of streams that an earlier run finished and
            that this one skipped; further keys are passed on.
        order: names of the streams in the order wanted; others follow.
        error: what ended the run although no stream or sink is to blame for it.

    ``cpu_s`` spans what ``wall_s`` spans; ``cpu_process_s`` is everything since the process began, imports and loading
    included; ``others_cores``: of its cores those that other programs took on average, or None. ``frames``, ``fps``,
    ``batches`` and ``total`` are of this run only; resumed streams have ``"resumed": true``.
    """
    streams = {name: {**stream, "resumed": True} for name, stream in facts.get("resumed", {}).items()}
    streams.update(measured["streams"])
    names = [*(name for name in order if name in streams), *(name for name in streams if name not in order)]
    report: dict[str, Any] = {
        "version": package_version(),
        "command": facts["command"],
        "created": rfc3339(wall_ns()),
        "error": None if error is None else scrub(error),
        "machine": describe_machine(),
        "model": facts.get("model", {}),
        "startup_s": facts.get("startup_s", {}),
        "wall_s": measured["wall_s"],
        "cpu_s": measured["cpu_s"],
        "others_cores": measured["others_cores"],
        "cpu_process_s": round(cpu_ns() / 1e9, 3),
        "peak_rss_mb": peak_rss_mb(),
        "frames": measured["frames"],
        "fps": measured["fps"],
        "steady_fps": measured["steady_fps"],
        "first_result_ms": measured["first_result_ms"],
        "batches": measured["batches"],
        "busy_s": measured["busy_s"],
        "streams": {name: _scrubbed(streams[name]) for name in names},
        "sinks": {name: _scrubbed(sink) for name, sink in measured["sinks"].items()},
        "total": measured["total"],
        "tracker": measured["tracker"],
        "slow_frames": slow_frames(measured["streams"]),
        **{key: value for key, value in facts.items() if key not in _OWN_FACTS},
    }
    return {**report, "bottleneck": bottleneck(report)}


def slow_frames(streams: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The slowest of the late frames of all streams of this run, slowest first."""
    late = [frame for stream in streams.values() for frame in stream["slow_frames"]]
    return sorted(late, key=lambda frame: -frame["end_to_end_ms"])[:SLOW_FRAMES]


def _scrubbed(account: Mapping[str, Any]) -> dict[str, Any]:
    # Sources and sinks scrub what they say; a plug-in may not.
    return {**account, "error": scrub(account["error"])} if account.get("error") else dict(account)
