# SPDX-License-Identifier: Apache-2.0
"""Streams, model and sinks as the API tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from pipeline.ledger import SERIES, Latency, Ledger, Snapshot, StreamLedger, StreamTimes, of_whole
from pipeline.redact import scrub
from pipeline.timing import STAGES
from pipeline.web.history import STEP_S, History
from pipeline.web.trouble import cause, detail

SPAN_S: Final = 60
"""What the overview looks back on."""
_COUNTS: Final = (
    "source",
    "decoder",
    "frames",
    "detections",
    "reconnects",
    "discontinuities",
    "param_changes",
    "stalls",
    "fps",
    "first_result_ms",
)
_BRIEF: Final = ("p50_ms", "p99_ms", "jitter_ms")


def overview(
    ledger: Ledger | None, facts: Mapping[str, Any], waiting: Mapping[str, int], history: History, now_ns: int
) -> dict[str, Any]:
    """All streams with their most important figures, the model, the sinks: ``/api/streams``.

    Of the last minute it has the whole way only; stage by stage that is in :func:`stream`: of 50 streams it would take
    five times as long.
    """
    streams: dict[str, Any] = {}
    if ledger is not None:
        present = [account for name, account in list(ledger.streams.items()) if name == account.name]
        with ledger.held(present, now_ns):
            times = [account.times for account in present]
            so_far = StreamTimes.ask_all(times, _so_far) if times else []
            lately = of_whole([each.recent_whole(SPAN_S, now_ns) for each in times])
            streams = {
                account.name: _brief(ledger, account, figures, window, waiting, history, now_ns)
                for account, figures, window in zip(present, so_far, lately, strict=True)
            }
    return {
        "uptime_s": round((now_ns - ledger.start_ns) / 1e9, 1) if ledger is not None and ledger.start_ns else 0.0,
        "model": model(facts),
        "batches": {str(size): count for size, count in ledger.batches().items()} if ledger is not None else {},
        "streams": streams,
        "sinks": {
            name: _scrubbed({"path": sink.path or None, **sink.as_dict()})
            for name, sink in (ledger.sinks if ledger is not None else {}).items()
        },
    }


def stream(
    ledger: Ledger, account: StreamLedger, waiting: Mapping[str, int], history: History, now_ns: int
) -> dict[str, Any]:
    """One stream: what the report says of it, and how it is at this moment. ``/api/streams/{name}``."""
    with ledger.held([account], now_ns):
        figures = account.as_dict(ledger.start_ns, final=False, at_ns=now_ns)
        _, newest, slowest = account.times.lateness()
    return {
        **_present(account, figures, waiting, history, ledger.start_ns, now_ns),
        "stages": {stage: _rounded(stats) for stage, stats in figures["stages"].items()},
        "waits": {place: _rounded(stats) for place, stats in figures["waits"].items()},
        "end_to_end": _rounded(figures["end_to_end"]),
        "end_to_end_corrected": _rounded(figures["end_to_end_corrected"]),
        "windows": {span: _window(window) for span, window in figures["windows"].items()},
        "dropped_after": _rounded(figures["dropped_after"]),
        "late": figures["late"],
        "slow_frames": [
            {**late.as_dict(ledger.start_ns), "age_s": _seconds(now_ns - late.ended_ns)} for late in newest or slowest
        ],
        "steady_fps": figures["steady_fps"],
        "camera": figures["camera"],
        "jitter": {
            **(_rounded({key: value for key, value in figures["jitter"].items() if not isinstance(value, dict)}) or {}),
            "exits": {part: _rounded(exit_) for part, exit_ in figures["jitter"]["exits"].items()},
            "added": {stage: _rounded(added) for stage, added in figures["jitter"]["added"].items()},
        },
    }


def _brief(
    ledger: Ledger,
    account: StreamLedger,
    so_far: Mapping[str, Any],
    lately: Mapping[str, Any] | None,
    waiting: Mapping[str, int],
    history: History,
    now_ns: int,
) -> dict[str, Any]:
    told = _settled(account.settled) or so_far
    jitter = {"arrival_ms": account.arrival_jitter_ns, "departure_ms": account.departure_jitter_ns}
    return {
        **_present(account, account.counts(ledger.start_ns, final=False), waiting, history, ledger.start_ns, now_ns),
        "stages": {stage: told[stage] for stage in STAGES if stage in told},
        "end_to_end": told.get("end_to_end"),
        "windows": {f"{SPAN_S}s": {"end_to_end": _rounded(lately)}},
        "jitter": {key: None if value is None else round(value / 1e6, 3) for key, value in jitter.items()},
    }


def _present(
    account: StreamLedger,
    figures: dict[str, Any],
    waiting: Mapping[str, int],
    history: History,
    start_ns: int,
    now_ns: int,
) -> dict[str, Any]:
    """How it is at this moment, and its counts. ``since_s`` is at most ``uptime_s``: both count from the
    beginning of the run, not of the loading."""
    figures = _scrubbed(figures)
    info, next_ns = account.info, account.life.next_try_ns
    age_ns = now_ns - account.last_result_ns if account.last_result_ns else None
    return {
        "name": account.name,
        "state": figures["state"],
        "cause": cause(account, now_ns),
        "detail": detail(account, now_ns),
        "since_s": _seconds(now_ns - max(account.life.since_ns, start_ns)),
        "attempts": account.life.attempts,
        "next_try_s": None if next_ns is None else _seconds(next_ns - now_ns),
        "live": info.live,
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "rate_fps": history.rate(account.name),
        "age_s": None if age_ns is None else _seconds(age_ns),
        "still_s": round(account.still_ns / 1e9, 1),
        "waiting": waiting.get(account.name, 0),
        **{key: figures[key] for key in _COUNTS},
        "history": {"step_s": STEP_S, "fps": history.fps(account.name)},
    }


def model(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The model with its verdict, as the report has it."""
    told: dict[str, Any] = dict(facts.get("model", {}))
    if isinstance(told.get("path"), str):
        told["path"] = scrub(told["path"])
    return told


def _scrubbed(account: dict[str, Any]) -> dict[str, Any]:
    # Sources and sinks scrub what they say; a plug-in may not.
    return account | {key: scrub(account[key]) for key in ("error", "path", "source") if account.get(key)}


def _seconds(duration_ns: int) -> float:
    return round(max(0, duration_ns) / 1e9, 3)


def _window(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{kind: {name: _rounded(stats) for name, stats in figures[kind].items()} for kind in ("stages", "waits")},
        "end_to_end": _rounded(figures["end_to_end"]),
    }


def _so_far(latencies: Sequence[Latency]) -> list[dict[str, Any]]:
    """Of each stream the brief figures of each series that has any."""
    snapshot = Snapshot([each.histograms for each in latencies])
    jitter_ns = np.array([each.jitter_ns for each in latencies])
    figures = np.round(np.dstack([snapshot.percentiles((50, 99)), jitter_ns]) / 1e6, 3).tolist()
    return [
        {
            series: dict(zip(_BRIEF, values, strict=True))
            for series, count, values in zip(SERIES, counts, own, strict=True)
            if count
        }
        for counts, own in zip(snapshot.counts.tolist(), figures, strict=True)
    ]


def _settled(figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same of a stream that is over."""
    if figures is None:
        return {}
    told = {**figures["stages"], "end_to_end": figures["end_to_end"]}
    return {series: _rounded({key: stats[key] for key in _BRIEF}) for series, stats in told.items() if stats}


def _rounded(stats: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Microseconds are enough for a page."""
    if stats is None:
        return None
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in stats.items()}
