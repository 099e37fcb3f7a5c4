# SPDX-License-Identifier: Apache-2.0
"""What a run was limited by: which part of the machinery was busy for most of the time, and what would help most.

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
from typing import Any, Final, Literal, NamedTuple

from pipeline.figures import count, percent
from pipeline.report.cost import cost, given_up, held_in_decoder, over_budget

Kind = Literal["network", "decode", "follow", "sink", "source"]

SATURATED: Final = 0.9
"""Busy for so much of the time: next to nothing more would fit."""
IDLE: Final = 0.25
"""Nothing was busy for more than this: also recordings were waited for, on a slow disk or network."""
DROPPED: Final = 0.01
"""Of the frames so many were given up because they came faster than they were used: something is too slow."""
LATE: Final = 0.1
"""Of the frames so many were over their budget: likewise."""
ONE_BY_ONE: Final = 0.75
"""Of the streams fewer were open in the mean: they waited for each other."""
CORES_LEFT: Final = 0.8
"""Less than this of the cores was in use: another thread would find room."""
SHORTEST_S: Final = 2.0
FEWEST: Final = 20
"""Of a run that was shorter, or had fewer frames, beginning and end are most: its shares say nothing."""
FULL: Final = 0.9
"""With so much of the cores in use, by whomever, nobody gets much more."""
WORTH_A_WORD: Final = 0.1
"""Share of the cores; what others use below that is what any system does beside."""
STARVED: Final = 0.6
"""A network on the CPU takes about as much CPU time as its batches last. With less than this share of it, all other
work of the program included, its threads waited for cores that somebody else had."""


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
    text, advice = _verdict(kind, busiest, report, streams)
    costs = cost(kind, busiest.who, busiest.busy_s, report, streams)
    if wall_s < SHORTEST_S or report["frames"] < FEWEST:
        text, costs, advice = "too short a run to tell what limited it", None, None
    return {
        "kind": kind,
        "share": round(busiest.share, 4),
        "who": busiest.who or None,
        "shares": {each.kind: round(each.share, 4) for each in shares},
        "text": text,
        "cost": costs,
        "advice": advice,
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
    decoded = sum(stream["frames"]["decoded"] for stream in streams.values())
    overrun = any(sink["lost"].get("overflow") for sink in sinks.values())
    late = over_budget(streams) - held_in_decoder(streams)
    kept_up = given_up(streams) <= DROPPED * decoded and late <= LATE * decoded and not overrun
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
        if held <= LATE * sum(stream["frames"]["decoded"] for stream in streams.values()):
            return text, None
        waited = f"{held:,} frames were over budget since frames shown before them came after them"
        return f"{text}; {waited}", "a stream without B-frames, which is a setting of the camera"
    core = starved(report, busiest.busy_s) if kind == "network" else None
    text = f"{kind}-bound: {busy}{_beside(kind, report, core)}"
    if kind != "sink" and _taken(report, streams, core):
        return text, f"less of that work, or a lower {_option(report, '--fps', 'fps')}"
    at_once, skips = (
        _at_once(streams, report["wall_s"]),
        any(each["frames"].get("skipped") for each in streams.values()),
    )
    return text, advice(kind, report, len(streams), busiest.who, at_once, skips)


def _beside(kind: Kind, report: Mapping[str, Any], core: float | None) -> str:
    """That the network had a core for a part of the time only, and that others had them."""
    told = "" if core is None else f", but had a core for at most {percent(core)} of that"
    others, cores = report.get("others_cores"), report["machine"].get("cores") or 1
    if others is None:  # not known
        return f"{told}: the machine had other work" if told else ""
    if kind == "sink" or _is_virtual(report) or not contended(report["cpu_s"] / report["wall_s"], others, cores):
        return told
    return f"{told}{':' if told else ';'} other programs used {others:.1f} of {count(cores, 'core')}"


def contended(own: float, others: float, cores: int) -> bool:
    """Whether hardly a core was left, and others had more than any system needs beside; all in cores."""
    return own + others >= FULL * cores and others >= WORTH_A_WORD * cores


def taken(own: float, others: float, cores: int, lost: float) -> bool:
    """Whether others had what it would have taken not to lose this share of the frames; all in cores."""
    return contended(own, others, cores) and (1 - lost) * others >= lost * own


def _taken(report: Mapping[str, Any], streams: Mapping[str, Mapping[str, Any]], core: float | None) -> bool:
    others = report.get("others_cores")
    if _is_virtual(report) or others is None:
        return core is not None
    lost = given_up(streams) / max(1, sum(stream["frames"]["decoded"] for stream in streams.values()))
    if not all(stream["paced"] for stream in streams.values()):
        lost = max(lost, 0.5)  # as fast as it can be: twice as much is worth other work, less is worth a setting
    return taken(report["cpu_s"] / report["wall_s"], others, report["machine"].get("cores") or 1, lost)


def starved(report: Mapping[str, Any], under_way_s: float) -> float | None:
    """For what part of the time a network on the CPU had a core at most, where others had the cores; else None.

    Args:
        report: of the run, or of it ``machine``, ``model``, ``cpu_s`` and ``wall_s``.
        under_way_s: how long its batches were under way, all workers together.
    """
    if report["model"].get("device") != "cpu" or not _has_cores_left(report):
        return None
    share = report["cpu_s"] / under_way_s if under_way_s else 1.0
    return share if share < STARVED else None


def _at_once(streams: Mapping[str, Mapping[str, Any]], wall_s: float) -> float:
    """How many streams were open, in the mean."""
    return float(sum(each["frames"]["processed"] / each["fps"] for each in streams.values() if each["fps"]) / wall_s)


def advice(
    kind: Kind,
    report: Mapping[str, Any],
    streams: int,
    who: str = "",
    at_once: float | None = None,
    skips: bool = False,
) -> str | None:
    """The setting that helps most where ``kind`` is what limits; None for the sources.

    Args:
        kind: what limits.
        report: of the run, or of it ``command``, ``machine``, ``model``, ``cpu_s`` and ``wall_s``.
        streams: how many there are.
        who: which sink.
        at_once: how many streams were open in the mean; None: all of them.
        skips: whether decoders leave out frames already.
    """
    match kind:
        case "source":
            return None
        case "network":
            return _for_network(report)
        case "decode":
            return _for_decoding(report, streams, streams if at_once is None else at_once, skips)
        case "follow":
            return f"a lower {_option(report, '--fps', 'fps')}, or less to follow"
        case "sink":
            leaner = (
                f"{_option(report, '--save', 'sinks')} without video" if who.startswith("video") else "a faster disk"
            )
            return f"{leaner}, or a lower {_option(report, '--fps', 'fps')}"


def _for_network(report: Mapping[str, Any]) -> str:
    model = report["model"]
    cores, workers = report["machine"].get("cores") or 1, model.get("workers") or 1
    if model.get("device") == "cpu" and workers < cores and _has_cores_left(report):
        return f"{_option(report, '--workers', 'batch.workers:')} {cores}, as many as there are cores"
    if model.get("path") and not model.get("tuned") and model.get("use_tuned", True):
        return f"`pipeline model tune {model['path']}`, once"
    return f"a smaller model.input, or a lower {_option(report, '--fps', 'fps')}"


def _for_decoding(report: Mapping[str, Any], streams: int, at_once: float, skips: bool) -> str:
    if report["command"] == "replay":
        if at_once < ONE_BY_ONE * streams and _has_cores_left(report):
            return f"--parallel {streams}, so that more files are decoded at once"
        hardware = "--hwaccel auto, where there is a decoder in hardware"
        return hardware if skips else f"`skip: nonref` in a --config, where frames may be left out, or {hardware}"
    return f"a smaller stream of the camera, {'' if skips else '`skip: nonref`, '}or `hwaccel: auto`"


def _has_cores_left(report: Mapping[str, Any]) -> bool:
    cores = report["machine"].get("cores") or 1
    return not _is_virtual(report) and bool(report["cpu_s"] < CORES_LEFT * report["wall_s"] * cores)


def _is_virtual(report: Mapping[str, Any]) -> bool:
    """Whether its times are those of another run, and only its CPU time is of this machine: the two do not compare."""
    return bool(report.get("arrivals", {}).get("pace") == "virtual")


def _option(report: Mapping[str, Any], replay: str, run: str) -> str:
    """What it is called on the command line, or in the file."""
    return replay if report["command"] == "replay" else run
