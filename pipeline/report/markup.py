# SPDX-License-Identifier: Apache-2.0
"""The parts that the page of a report is made of. Every text that comes from outside is escaped here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from pipeline.figures import NOTHING, aligned, duration, memory, milliseconds, signed
from pipeline.report.bars import share_bar

COLUMNS = ("mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms", "jitter_ms")
_NARROW_COLUMNS = ("p50_ms", "p95_ms", "p99_ms", "max_ms", "jitter_ms")
_HEADS = {"p999_ms": "p99.9"}
_TONES = {
    "complete": "good",
    "finished": "good",
    "live": "good",
    "ok": "good",
    "sustainable": "good",
    "not sustainable": "bad",
    "not confirmed": "warning",
    "partial": "warning",
    "truncated": "warning",
    "stopped": "warning",
    "degraded": "warning",
    "failed": "bad",
    "down": "bad",
}


def pill(word: str) -> str:
    """A state as a coloured label."""
    return f'<span class="pill {_TONES.get(word, "plain")}">{escape(word)}</span>'


def tile(name: str, value: str, unit: str = "", note: str = "") -> str:
    """One figure, large, with its name above and a remark below."""
    unit = f" <small>{escape(unit)}</small>" if unit and value != NOTHING else ""
    note = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<div class="tile"><h3>{escape(name)}</h3><p class="value">{escape(value)}{unit}</p>{note}</div>'


def prose(text: str) -> str:
    """A sentence for people; what stands in backticks is a command or a setting."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def facts(pairs: Sequence[tuple[str, Any]]) -> str:
    """A list of names and values; those without a value are left out."""
    rows = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in pairs
        if value not in (None, "", [])
    )
    return f"<dl>{''.join(rows)}</dl>"


def machine_panel(report: Mapping[str, Any]) -> str:
    """A section about the machine, and how long starting took where the report says it."""
    machine = dict(report["machine"])
    if machine.get("memory_mb"):
        machine["memory"] = memory(machine.pop("memory_mb"))
    gpus = machine.pop("gpus", [])
    pairs: list[tuple[str, Any]] = [*machine.items(), ("gpu", ", ".join(gpus))]
    took = report.get("startup_s", {})
    start = ", ".join(f"{step} {duration(seconds)}" for step, seconds in took.items() if seconds)
    return f'<section><h2>Machine</h2><div class="panel">{facts([*pairs, ("start", start)])}</div></section>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first column names the row."""
    header = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope=row>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return scrolling(f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>")


def stage_table(part: Mapping[str, Any]) -> str:
    """Every stage with its share of the time, all its statistics, and the whole way in the last row. p99.9 has a column
    where there were frames enough for it."""
    known = [column for column in COLUMNS if part["end_to_end"].get(column) is not None]
    return _stage_table(part, known, aligned)


def jitter_table(exits: Mapping[str, Mapping[str, Any]]) -> str:
    """Jitter at the exit of each part of the way, and what the part added to it (``jitter.exits`` of a stream)."""
    columns = ("transit_ms", "transit_added_ms", "interval_ms", "interval_added_ms", "largest_gap_ms")
    head = ("ms at the exit of", "transit", "added", "interval", "added", "largest gap", "freezes")
    rows = [
        [part, *(signed(figures[column], "added" in column) for column in columns), f"{figures['freezes']:,}"]
        for part, figures in exits.items()
    ]
    return table(head, rows)


def narrow_stage_table(part: Mapping[str, Any]) -> str:
    """The same for half the width: fewer statistics, and no more than three digits that count."""
    return _stage_table(part, _NARROW_COLUMNS, milliseconds)


def _stage_table(part: Mapping[str, Any], columns: Sequence[str], figure: Callable[[float | None], str]) -> str:
    stages: Mapping[str, Mapping[str, Any]] = {stage: stats for stage, stats in part["stages"].items() if stats}
    whole = sum(stats["mean_ms"] * stats["count"] for stats in stages.values()) or 1.0
    rows = []
    for stage, stats in stages.items():
        share = stats["mean_ms"] * stats["count"] / whole
        name = f'<i class="key {escape(stage)}"></i>{escape(stage)}'
        rows.append(
            f"<tr><th scope=row>{name}</th><td>{share_bar(stage, share)}</td>{_cells(stats, columns, figure)}</tr>"
        )
    rows.append(
        f'<tr class="whole"><th scope=row>end to end</th><td></td>{_cells(part["end_to_end"], columns, figure)}</tr>'
    )
    names = "".join(f"<th scope=col>{_HEADS.get(column, column.removesuffix('_ms'))}</th>" for column in columns)
    head = f"<tr><th scope=col>ms per frame</th><th scope=col>share</th><th scope=col>count</th>{names}</tr>"
    return scrolling(f'<table class="stages"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>')


def scrolling(content: str) -> str:
    """What may be wider than the page; with a tab stop, so that the keyboard can scroll it."""
    return f'<div class="scroll" tabindex="0">{content}</div>'


def _cells(stats: Mapping[str, Any], columns: Sequence[str], figure: Callable[[float | None], str]) -> str:
    cells = [f"{stats['count']:,}", *(figure(stats.get(column)) for column in columns)]
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)
