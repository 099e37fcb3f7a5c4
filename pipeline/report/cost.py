# SPDX-License-Identifier: Apache-2.0
"""What the part that limited a run costs: its time for a frame, and the frames that were given up for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.figures import count, milliseconds, percent

GIVEN_UP: Final = ("overflow", "stale")
"""Frames that are dropped for these came faster than they were used."""

_Streams = Mapping[str, Mapping[str, Any]]


def cost(kind: str, who: str, busy_s: float, report: Mapping[str, Any], streams: _Streams) -> str | None:
    """One line for people; None for the sources, which cost nothing.

    Args:
        kind: what limited.
        who: which stream or sink, if it is one of several.
        busy_s: how long it worked, all of its threads together.
        report: of the run, see :func:`pipeline.report.compose`.
        streams: of this run.
    """
    if kind == "source":
        return None
    frames, noun, beside = report["frames"], "a frame", ""
    match kind:
        case "network":
            workers = max(len(report["busy_s"]["workers"]), report["model"].get("workers") or 1)
            beside = f" on each of {workers} workers" if workers > 1 else ""
        case "decode":
            frames = streams[who]["frames"]["decoded"]
        case "sink":
            frames, noun = report["sinks"].get(who, {}).get("written", 0), "a result"
    told = [f"it took {milliseconds(busy_s * 1e3 / frames)} ms {noun}{beside}"] if frames else []
    return "; ".join([*told, *_losses(who if kind == "sink" else "", report, streams)]) or None


def given_up(streams: _Streams) -> int:
    """Frames that were dropped because they came faster than they were used."""
    return sum(stream["frames"]["dropped"].get(reason, 0) for stream in streams.values() for reason in GIVEN_UP)


def wanted(streams: _Streams) -> int:
    """Frames that were to be processed. What ``fps`` and ``stride`` leave out never was: a fifth of the others that is
    lost is not two per cent of all that came."""
    return sum(stream["frames"]["decoded"] - stream["frames"]["decimated"] for stream in streams.values())


def over_budget(streams: _Streams) -> int:
    """Frames over the budget of their stream."""
    return sum(stream["late"]["frames"] for stream in streams.values() if stream["late"]["by"] == "budget")


def held_in_decoder(streams: _Streams) -> int:
    """Those of them to which that happened in the decoder: they waited for frames that are shown before, and came
    after."""
    late = [stream["late"] for stream in streams.values() if stream["late"]["by"] == "budget"]
    return sum(each["parts"].get("decoder", 0) for each in late)


def _losses(sink: str, report: Mapping[str, Any], streams: _Streams) -> list[str]:
    told = []
    if dropped := given_up(streams):
        whole = wanted(streams)
        share = percent(dropped / whole) if dropped >= 0.01 * whole else "less than 1 %"
        told.append(f"{dropped:,} of {count(whole, 'frame')} ({share}) {'was' if dropped == 1 else 'were'} dropped")
    if late := over_budget(streams):
        told.append(f"{count(late, 'frame')} {'was' if late == 1 else 'were'} over budget")
    if lost := report["sinks"].get(sink, {}).get("lost", {}).get("overflow"):
        told.append(f"{count(lost, 'result')} {'was' if lost == 1 else 'were'} lost")
    return told
