# SPDX-License-Identifier: Apache-2.0
"""The parts of the page that hold pictures, and the slowest frames."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from pipeline.figures import milliseconds
from pipeline.report.charts import distributions, jitter_added, over_time, waterfall
from pipeline.report.markup import scrolling

PICTURED: Final = 8
"""So many streams have pictures: of more, those with the greatest end-to-end p95. Every one has its tables."""

_COURSE: Final = (
    ("accent", "p50"),
    ("band", "up to p99"),
    ("queue", "frames per second"),
    ("bad", "dropped"),
    ("warning", "reconnect"),
)


def pictured(streams: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The names of the streams that have pictures."""
    if len(streams) <= PICTURED:
        return set(streams)

    def slowness(name: str) -> float:
        return float((streams[name].get("end_to_end") or {}).get("p95_ms", 0.0))

    return set(sorted(streams, key=slowness, reverse=True)[:PICTURED])


def of_all(total: Mapping[str, Any]) -> str:
    """The mean journey and the distributions of all streams together."""
    return _grid(
        _picture("The mean journey", waterfall(total), "mean of every part; waits are grey"),
        _picture("Distributions", _distributions(total), _HALVES),
    )


def course_of_all(report: Mapping[str, Any], limits: str) -> str:
    """What limited the run beside how it went over time, and below them, with room for the reasons, the frames that
    took longest."""
    course = _picture("", over_time(report["total"].get("over_time")))
    slow = _slow_frames(report.get("slow_frames") or [])
    over = f"{course}{_legend(report['total']['over_time'])}" if course else ""
    return f'<div class="columns">{limits}{_section("Over time", over)}</div>{_section("Slowest frames", slow)}'


def _section(title: str, content: str) -> str:
    return f'<section><h2>{title}</h2><div class="panel">{content}</div></section>' if content else ""


def of_stream(stream: Mapping[str, Any], is_open: bool) -> str:
    """The pictures of one stream, behind a click where there are many streams."""
    course = stream.get("over_time")
    over = _picture("Over time", over_time(course))
    parts = [
        f"<div>{over}{_legend(course)}</div>" if over and course else "",
        _picture("Distributions", _distributions(stream), _HALVES),
        _picture(
            "Jitter added by each stage", jitter_added(stream["jitter"].get("added") or {}), "deviation of intervals"
        ),
    ]
    shown = _grid(*parts)
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>pictures</summary>{shown}</details>" if shown else ""


_HALVES: Final = "log scale; long line p50, short line p99"


def _distributions(part: Mapping[str, Any]) -> str:
    return distributions(part.get("distributions") or {}, list(part["stages"]))


def _picture(title: str, svg: str, remark: str = "") -> str:
    if not svg:
        return ""
    remark = f" <span>{escape(remark)}</span>" if remark else ""
    caption = f"<figcaption>{escape(title)}{remark}</figcaption>" if title else ""
    return f"<figure>{caption}{svg}</figure>"


def _grid(*pictures: str) -> str:
    shown = "".join(pictures)
    return f'<div class="pictures">{shown}</div>' if shown else ""


def _legend(course: Mapping[str, Any]) -> str:
    """What the colours mean, of those that are to be seen."""
    absent = {key for key, count in (("bad", course["dropped"]), ("warning", course["reconnects"])) if not any(count)}
    names = "".join(f'<li><i class="key {key}"></i>{escape(text)}</li>' for key, text in _COURSE if key not in absent)
    return f'<ul class="legend">{names}</ul>'


def _slow_frames(slow: list[Mapping[str, Any]]) -> str:
    """The frames that took longest, and why."""
    if not slow:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(str(frame['stream']))}</th><td>{frame['frame']:,}</td>"
        f"<td>{escape(milliseconds(frame['end_to_end_ms']))}</td><td>{escape(str(frame['verdict']))}</td></tr>"
        for frame in slow
    )
    head = "".join(f"<th scope=col>{name}</th>" for name in ("stream", "frame", "ms", "why"))
    return scrolling(f'<table class="slow"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>')
