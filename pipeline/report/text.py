# SPDX-License-Identifier: Apache-2.0
"""The report as tables for a terminal of 80 columns, and its end in a few lines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.report.figures import NOTHING, aligned, count, duration, milliseconds, rate
from pipeline.report.verdict import dropped, findings, reasons

DETAILED = 6
"""Up to so many streams get a table of stages each; more get one row each."""
WIDTH = 80
"""Columns of the narrowest terminal that the tables fit."""
ROWS = 10
"""Of so many streams at most there is a row; the slowest ones are shown."""

_COLUMNS = ("count", "p50_ms", "p95_ms", "p99_ms", "max_ms", "jitter_ms")
_STYLES = {"finished": "green", "failed": "bold red", "truncated": "yellow", "stopped": "yellow"}
_FINDING_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}
_SHOWN_FINDINGS = 12
_SHOWN_FILES = 12


def tables(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Stage tables: per stream where there are few, a row per stream where there are many, and of all together."""
    streams = report["streams"]
    if len(streams) <= DETAILED:
        for name, stream in streams.items():
            yield _heading(name, stream)
            if stream.get("end_to_end"):
                yield _stage_table(stream)
            yield Text()
        if len(streams) == 1:
            return
    else:
        yield from _overview(streams)
        yield Text()
    if report["total"].get("end_to_end"):
        yield Text(f"all {len(streams)} streams", style="bold")
        yield _stage_table(report["total"])
        yield Text()


def ending(report: Mapping[str, Any], files: Sequence[Path] = ()) -> Iterator[RenderableType]:
    """The run in a line, what went wrong, and where the outputs are."""
    found = findings(report)
    for finding in found[:_SHOWN_FINDINGS]:
        yield Text(str(finding), style=_FINDING_STYLES[finding.severity])
    if len(found) > _SHOWN_FINDINGS:
        yield Text(f"and {len(found) - _SHOWN_FINDINGS} more, see report.json", style="dim")
    yield Text(_summary(report), style="bold")
    lost = dropped(report)
    if lost:
        yield Text(f"{count(lost.total(), 'frame')} dropped: {reasons(lost)}")
    if files:
        yield Text(_places(files))


def _summary(report: Mapping[str, Any]) -> str:
    streams = report["streams"].values()
    resumed = sum(1 for stream in streams if stream.get("resumed"))
    ran = len(streams) - resumed
    parts = [f"{count(report['frames'], 'frame')} of {count(ran, 'stream')} in {duration(report['wall_s'])}"]
    if report["frames"]:
        parts.append(f"{rate(report['fps'])} fps")
        first_ms = report["first_result_ms"]
        parts.append(f"first result after {duration(None if first_ms is None else first_ms / 1e3)}")
    size = report["batches"]["mean_size"]
    if size is not None:
        parts.append(f"mean batch {size:.3g}")
    if resumed:
        parts.append(f"{count(resumed, 'stream')} skipped, finished earlier")
    return ", ".join(parts)


def _places(files: Sequence[Path]) -> str:
    folders = {file.parent for file in files}
    if len(folders) != 1:
        return "outputs: " + ", ".join(str(file) for file in files)
    names = [file.name for file in files]
    reports = [name for name in names if name.startswith("report.")]
    others = [name for name in names if name not in reports]
    shown = others[:_SHOWN_FILES] + ([f"{len(others) - _SHOWN_FILES} more"] if len(others) > _SHOWN_FILES else [])
    return f"outputs in {folders.pop()}{os.sep}: {', '.join([*shown, *reports])}"


def _heading(name: str, stream: Mapping[str, Any]) -> Text:
    state = stream["state"]
    text = Text.assemble((name, "bold"), "  ", (state, _STYLES.get(state, "")))
    if stream.get("resumed"):
        return text.append(" earlier, skipped now", "dim")
    frames, jitter = stream["frames"], stream["jitter"]
    facts = [count(frames["processed"], "frame")]
    if stream["fps"] is not None:
        facts.append(f"{rate(stream['fps'])} fps")
    if frames["decimated"]:
        facts.append(f"{frames['decimated']:,} decimated")
    for kind in ("arrival", "departure"):
        if jitter[f"{kind}_ms"] is not None:
            facts.append(f"{kind} jitter {milliseconds(jitter[f'{kind}_ms'])} ms")
    details = ", ".join(facts)
    line_break = "\n" if len(text) + len(details) + 2 > WIDTH else ""
    return text.append(f"{line_break}  {details}", "dim")


def _stage_table(part: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 0), pad_edge=False, header_style="dim")
    table.add_column("  ms per frame", width=16, no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column.removesuffix("_ms"), width=10, justify="right", no_wrap=True)
    for stage, stats in part["stages"].items():
        table.add_row(f"  {stage}", *_cells(stats))
    table.add_row("  end to end", *_cells(part["end_to_end"]), style="bold")
    return table


def _cells(stats: Mapping[str, Any] | None) -> list[str]:
    if stats is None:
        return [NOTHING] * len(_COLUMNS)
    return [f"{stats['count']:,}", *(aligned(stats[column]) for column in _COLUMNS[1:])]


def _overview(streams: Mapping[str, Mapping[str, Any]]) -> Iterator[RenderableType]:
    slowest = sorted(streams.items(), key=_slowness, reverse=True)[:ROWS]
    if len(slowest) < len(streams):
        title = f"the {ROWS} slowest of {len(streams)} streams, by end-to-end p95 in ms (report.html has all)"
    else:
        title = f"{len(streams)} streams, slowest first: end to end in ms (report.html has their stages)"
    yield Text(title, style="bold")
    table = Table(box=None, padding=(0, 0), pad_edge=False, header_style="dim")
    table.add_column("  stream", width=19, no_wrap=True, overflow="ellipsis")
    table.add_column("state", width=10, no_wrap=True)
    for column, width in (("frames", 8), ("fps", 7), ("p50", 8), ("p95", 8), ("p99", 8), ("max", 8)):
        table.add_column(column, width=width, justify="right", no_wrap=True)
    for name, stream in slowest:
        stats = stream.get("end_to_end") or {}
        table.add_row(
            f"  {name}",
            Text(stream["state"], style=_STYLES.get(stream["state"], "")),
            f"{stream['frames']['processed']:,}",
            rate(stream["fps"]),
            *(aligned(stats.get(column)) for column in ("p50_ms", "p95_ms", "p99_ms", "max_ms")),
        )
    yield table


def _slowness(item: tuple[str, Mapping[str, Any]]) -> float:
    stats = item[1].get("end_to_end")
    return float(stats["p95_ms"]) if stats and not item[1].get("resumed") else -1.0
