# SPDX-License-Identifier: Apache-2.0
"""What a run was limited by: which part of the machinery was busy for most of the time.

Each share is time at work over time that there was, from the report's own sums:

- **network**: batches under way in the detect workers, over the workers' wall time;
- **decode**: decoding and preparing (mean per frame times frames), over the wall time for the busiest stream, or over
  the time for which all streams were open, whichever is more;
- **follow**: the tracker and what else runs per stream in the one thread of that loop;
- **sink**: writing, for the busiest sink.

Recordings that are read as fast as they are used are limited by the busiest of these. Streams with a pace of their own
are limited by that pace, as it should be, unless something was busy nearly all the time, or frames had to be dropped,
or were over their budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pipeline.figures import count, percent
from pipeline.report.advice import Decoding, Kind, advice, option
from pipeline.report.cores import are_to_blame, contended, is_virtual, starved
from pipeline.report.cost import cost, given_up, held_in_decoder, over_budget, wanted

SATURATED: Final = 0.9
"""Busy for so much of the time: next to nothing more would fit."""
IDLE: Final = 0.25
"""Nothing was busy for more than this: also recordings were waited for, on a slow disk or network."""
DROPPED: Final = 0.01
"""Of the frames that were to be processed so many were given up because they came faster than they were used: something
is too slow."""
LATE: Final = 0.1
"""Of the frames so many were over their budget: likewise."""
SHORTEST_S: Final = 2.0
FEWEST: Final = 20
"""Of a run that was shorter, or had fewer frames, beginning and end are most: its shares say nothing."""


class Share(NamedTuple):
    """How busy something was: ``share`` of the time, 0 to 1; ``busy_s``: how long it worked, all threads together;
    ``who``: the stream or sink, if it is one of several."""

    kind: Kind
    share: float
    busy_s: float
    who: str = ""


def bottleneck(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """``bottleneck`` of ``report.json``: ``{"kind", "share", "who", "shares", "text", "cost", "advice"}``; None where
    no frame was processed. ``text``, ``cost`` and ``advice`` are for people, one line each; the latter two are None
    where all is well, or the run was too short to tell."""
    wall_s = report["wall_s"]
    streams = {name: each for name, each in report["streams"].items() if not each.get("resumed")}
    if not wall_s or not report["frames"]:
        return None
    shares = [
        _network(report),
        _decode(streams, wall_s),
        _follow(streams, wall_s),
        _sink(report["busy_s"]["sinks"], wall_s),
    ]
    busiest = max(shares, key=lambda each: each.share)
    kind = "source" if _waits_for_sources(streams, report["sinks"], busiest) else busiest.kind
    text, helps = _verdict(kind, busiest, report, streams)
    costs = cost(kind, busiest.who, busiest.busy_s, report, streams)
    if wall_s < SHORTEST_S or report["frames"] < FEWEST:
        text, costs, helps = "too short a run to tell what limited it", None, None
    return {
        "kind": kind,
        "share": round(busiest.share, 4),
        "who": busiest.who or None,
        "shares": {each.kind: round(each.share, 4) for each in shares},
        "text": text,
        "cost": costs,
        "advice": helps,
    }


def _network(report: Mapping[str, Any]) -> Share:
    busy_s = report["busy_s"]["workers"].values()
    workers = max(len(busy_s), report["model"].get("workers") or 1)  # one that had nothing to do is not listed
    return Share("network", min(1.0, sum(busy_s) / workers / report["wall_s"]), sum(busy_s))


def _decode(streams: Mapping[str, Mapping[str, Any]], wall_s: float) -> Share:
    busy_s = {name: _reading_s(stream) for name, stream in streams.items()}
    name = max(busy_s, key=lambda each: busy_s[each])
    open_s = sum(each["frames"]["processed"] / each["fps"] for each in streams.values() if each["fps"])
    together = sum(busy_s.values()) / open_s if open_s else 0.0
    return Share("decode", min(1.0, max(busy_s[name] / wall_s, together)), busy_s[name], name)


def _reading_s(stream: Mapping[str, Any]) -> float:
    """What its reader worked: every frame was decoded, and those that were not thinned out were prepared."""
    frames = stream["frames"]
    decoding_ms = _mean_ms(stream, "decode") * frames["decoded"]
    preparing_ms = _mean_ms(stream, "preprocess") * (frames["decoded"] - frames["decimated"])
    return float(decoding_ms + preparing_ms) / 1e3


def _follow(streams: Mapping[str, Mapping[str, Any]], wall_s: float) -> Share:
    spent_ms = sum(_mean_ms(stream, "follow") * stream["frames"]["processed"] for stream in streams.values())
    return Share("follow", min(1.0, spent_ms / 1e3 / wall_s), spent_ms / 1e3)


def _sink(busy_s: Mapping[str, float], wall_s: float) -> Share:
    name = max(busy_s, key=lambda each: busy_s[each], default="")
    spent_s = busy_s[name] if name else 0.0
    return Share("sink", min(1.0, spent_s / wall_s), spent_s, name)


def _mean_ms(stream: Mapping[str, Any], stage: str) -> float:
    return float((stream["stages"].get(stage) or {"mean_ms": 0.0})["mean_ms"])


def _waits_for_sources(
    streams: Mapping[str, Mapping[str, Any]], sinks: Mapping[str, Mapping[str, Any]], busiest: Share
) -> bool:
    if not all(stream["paced"] for stream in streams.values()):
        return busiest.share < IDLE
    whole = wanted(streams)
    overrun = any(sink["lost"].get("overflow") for sink in sinks.values())
    late = over_budget(streams) - held_in_decoder(streams)
    kept_up = given_up(streams) <= DROPPED * whole and late <= LATE * whole and not overrun
    return busiest.share < SATURATED and kept_up


def _verdict(
    kind: Kind, busiest: Share, report: Mapping[str, Any], streams: Mapping[str, Mapping[str, Any]]
) -> tuple[str, str | None]:
    names = {
        "network": "the network",
        "decode": f"the decoder of {busiest.who}" if len(streams) > 1 else "the decoder",
        "follow": "following",
        "sink": f"sink {busiest.who}",
    }
    busy = f"{names[busiest.kind]} was busy {percent(busiest.share)} of the time"
    if kind == "source":
        text = f"source-bound: frames come no faster; {busy}"
        held = held_in_decoder(streams)
        if held <= LATE * wanted(streams):
            return text, None
        waited = f"{held:,} frames were over budget since frames shown before them came after them"
        return f"{text}; {waited}", "a stream without B-frames, which is a setting of the camera"
    core = starved(report, busiest.busy_s) if kind == "network" else None
    text = f"{kind}-bound: {busy}{_beside(kind, report, core)}"
    if kind != "sink" and _taken(report, streams, core):
        return text, f"less of that work, or a lower {option(report, '--fps', 'fps')}"
    return text, advice(kind, report, len(streams), busiest.who, _decoding(report, streams, busiest.who))


def _beside(kind: Kind, report: Mapping[str, Any], core: float | None) -> str:
    """That the network had a core for a part of the time only, and that others had them."""
    told = "" if core is None else f", but had a core for at most {percent(core)} of that"
    others, cores = report.get("others_cores"), report["machine"].get("cores") or 1
    if others is None:  # not known
        return f"{told}: the machine had other work" if told else ""
    if kind == "sink" or is_virtual(report) or not contended(report["cpu_s"] / report["wall_s"], others, cores):
        return told
    return f"{told}{':' if told else ';'} other programs used {others:.1f} of {count(cores, 'core')}"


def _taken(report: Mapping[str, Any], streams: Mapping[str, Mapping[str, Any]], core: float | None) -> bool:
    if is_virtual(report):
        return core is not None
    lost = given_up(streams) / max(1, wanted(streams))
    if not all(stream["paced"] for stream in streams.values()):
        lost = max(lost, 0.5)  # as fast as it can be: twice as much is worth other work, less is worth a setting
    own, cores = report["cpu_s"] / report["wall_s"], report["machine"].get("cores") or 1
    return are_to_blame(own, report.get("others_cores"), cores, lost, core)


def _decoding(report: Mapping[str, Any], streams: Mapping[str, Mapping[str, Any]], who: str) -> Decoding:
    decoder = streams.get(who, {}).get("decoder") or "cpu"
    return Decoding(
        at_once=sum(each["frames"]["processed"] / each["fps"] for each in streams.values() if each["fps"])
        / report["wall_s"],
        skips=any(each["frames"].get("skipped") for each in streams.values()),
        hardware=decoder != "cpu" or report.get("hwaccel", "none") != "none",
    )
