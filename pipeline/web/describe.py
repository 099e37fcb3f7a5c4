# SPDX-License-Identifier: Apache-2.0
"""Streams, model and sinks as the API tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.ledger import FROZEN_NS, Ledger, StreamLedger
from pipeline.redact import scrub
from pipeline.web.history import STEP_S, History

_SHORT = ("p50_ms", "p99_ms", "jitter_ms")


def overview(
    ledger: Ledger | None, facts: Mapping[str, Any], waiting: Mapping[str, int], history: History, now_ns: int
) -> dict[str, Any]:
    """All streams with their most important figures, the model, the sinks: ``/api/streams``."""
    streams: dict[str, Any] = {}
    if ledger is not None:
        for name, account in list(ledger.streams.items()):
            if name == account.name:
                whole = stream(ledger, account, waiting, history, now_ns)
                whole["stages"] = {stage: _short(stats) for stage, stats in whole["stages"].items()}
                whole["end_to_end"] = _short(whole["end_to_end"])
                for span in whole["windows"].values():
                    del span["stages"], span["waits"]
                del whole["jitter"]["exits"], whole["jitter"]["added"]
                del whole["waits"], whole["end_to_end_corrected"], whole["dropped_after"]
                streams[name] = whole
    return {
        "uptime_s": round((now_ns - ledger.start_ns) / 1e9, 1) if ledger is not None and ledger.start_ns else 0.0,
        "model": model(facts),
        "batches": {str(size): count for size, count in ledger.batches().items()} if ledger is not None else {},
        "streams": streams,
        "sinks": {
            name: _scrubbed(sink.as_dict()) for name, sink in (ledger.sinks if ledger is not None else {}).items()
        },
    }


def stream(
    ledger: Ledger, account: StreamLedger, waiting: Mapping[str, int], history: History, now_ns: int
) -> dict[str, Any]:
    """One stream: what the report says of it, and how it is at this moment. ``/api/streams/{name}``."""
    figures = _scrubbed(account.as_dict(ledger.start_ns, final=False, at_ns=now_ns))
    next_ns = account.life.next_try_ns
    age_ns = now_ns - account.last_result_ns if account.last_result_ns else None
    return {
        "name": account.name,
        "state": figures["state"],
        "cause": account.life.cause,
        "detail": figures["error"] or (frozen(account) if account.state == "live" else None),
        "since_s": _seconds(now_ns - account.life.since_ns),
        "attempts": account.life.attempts,
        "next_try_s": None if next_ns is None else _seconds(next_ns - now_ns),
        "live": account.info.live,
        "width": account.info.width,
        "height": account.info.height,
        "codec": account.info.codec,
        "rate_fps": history.rate(account.name),
        "age_s": None if age_ns is None else _seconds(age_ns),
        "still_s": round(account.still_ns / 1e9, 1),
        "waiting": waiting.get(account.name, 0),
        **{
            key: figures[key]
            for key in (
                "source",
                "decoder",
                "frames",
                "reconnects",
                "discontinuities",
                "param_changes",
                "stalls",
                "fps",
                "first_result_ms",
            )
        },
        "stages": {stage: _rounded(stats) for stage, stats in figures["stages"].items()},
        "waits": {place: _rounded(stats) for place, stats in figures["waits"].items()},
        "end_to_end": _rounded(figures["end_to_end"]),
        "end_to_end_corrected": _rounded(figures["end_to_end_corrected"]),
        "windows": {span: _window(window) for span, window in figures["windows"].items()},
        "dropped_after": _rounded(figures["dropped_after"]),
        "jitter": {
            **(_rounded({key: value for key, value in figures["jitter"].items() if not isinstance(value, dict)}) or {}),
            "exits": {part: _rounded(exit_) for part, exit_ in figures["jitter"]["exits"].items()},
            "added": {stage: _rounded(added) for stage, added in figures["jitter"]["added"].items()},
        },
        "history": {"step_s": STEP_S, "fps": history.fps(account.name)},
    }


def frozen(account: StreamLedger) -> str | None:
    """What is to be said of a camera whose picture does not change, or None."""
    if account.still_ns < FROZEN_NS:
        return None
    return f"the picture has not changed for {account.still_ns // 1_000_000_000} s"


def model(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The model with its verdict, as the report has it."""
    told: dict[str, Any] = dict(facts.get("model", {}))
    if isinstance(told.get("path"), str):
        told["path"] = scrub(told["path"])
    return told


def _scrubbed(account: dict[str, Any]) -> dict[str, Any]:
    # Sources and sinks scrub what they say; a plug-in may not.
    return account | {key: scrub(account[key]) for key in ("error", "source") if account.get(key)}


def _seconds(duration_ns: int) -> float:
    return round(max(0, duration_ns) / 1e9, 3)


def _window(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{kind: {name: _rounded(stats) for name, stats in figures[kind].items()} for kind in ("stages", "waits")},
        "end_to_end": _rounded(figures["end_to_end"]),
    }


def _short(stats: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if stats is None else {key: stats[key] for key in _SHORT}


def _rounded(stats: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Microseconds are enough for a page."""
    if stats is None:
        return None
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in stats.items()}
