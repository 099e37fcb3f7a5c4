# SPDX-License-Identifier: Apache-2.0
"""The report as tables for a terminal of 80 columns, and its end in a few lines.

The two fit on a screen of some 24 lines, for one stream as for a hundred: the stages of each are in report.html, and in
what ``pipeline report`` shows.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.figures import NOTHING, aligned, count, duration, milliseconds, percent, rate
from pipeline.report import lives
from pipeline.report.verdict import detections, findings, state_in_a_word
from pipeline.report.waiting import waited_in_queue

WHOLE_TABLES = 4
"""With ``details``, of up to so many streams each has a table of its stages; of more, a row."""
EVERY_STREAM = 6
"""Up to so many streams have a row each, in their order."""
SLOWEST = 5
"""Of more streams only so many have a row: those with the greatest end-to-end p95."""
EVERY_DETAIL = 12
SLOWEST_DETAILS = 10
"""The same, with ``details``."""

IDLE_MS = 0.1
"""A ``follow`` below it has no line: without a tracker it hands results on."""

_COLUMNS = ("count", "p50_ms", "p95_ms", "p99_ms", "max_ms", "jitter_ms")
_SHORT = {"preprocess": "prep", "postprocess": "post"}
_STYLES = {"finished": "green", "failed": "bold red", "truncated": "yellow", "stopped": "yellow", "down": "bold red"}
_FINDING_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}
_NAME = 20
_LEAST_NAME = 14
_SHOWN_FINDINGS = 5
_SHOWN_FILES = 4


class _Room(NamedTuple):
    """Columns of a terminal: those of names, and all."""

    names: int
    width: int


def tables(report: Mapping[str, Any], width: int = 80, *, details: bool = False) -> Iterator[RenderableType]:
    """A row per stream, then the stages of all together; report.html has every figure.

    Args:
        report: see :func:`pipeline.report.compose`.
        width: columns of the terminal; what is over 80 goes to the names.
        details: more streams, and where the time of each went, on as many lines as that takes.
    """
    streams = report["streams"]
    shown = dict(streams)
    every, slowest = (EVERY_DETAIL, SLOWEST_DETAILS) if details else (EVERY_STREAM, SLOWEST)
    if len(streams) > every:
        shown = dict(sorted(streams.items(), key=_slowness, reverse=True)[:slowest])
        yield Text(f"the {slowest} slowest of {_how_many(streams)}, by end-to-end p95", style="bold")
    longest = max((cell_len(name) for name in shown), default=0)
    names = min(max(_NAME, longest + len(", ms ")), max(_NAME, _NAME + width - 80))
    room = _Room(names if width >= 80 else max(_LEAST_NAME, _NAME + width - 80), width)
    if shown:
        yield _stream_table(shown, room)
        waited = waited_in_queue(report)
        if waited is not None:
            yield Text(
                f"{percent(waited)} of the mean time is the queue: files are read faster than the model works", "dim"
            )
        yield Text()
    total = report["total"]
    if not total.get("end_to_end"):
        return
    if details:
        yield from _details({name: stream for name, stream in shown.items() if _timed(stream)}, total, room)
    ran = len(lives.names(name for name, stream in streams.items() if _timed(stream)))
    yield _stage_table(total, f"all {ran:,} streams, ms" if ran > 1 else "stages, ms", room)
    yield Text()


def _how_many(streams: Collection[str]) -> str:
    """Each counts once; as many as there are rows, where a reload began some of them anew."""
    names = lives.names(streams)
    known = count(len(names), "stream")
    return known if len(names) == len(streams) else f"{known} ({len(streams):,} with those begun anew)"


def _timed(stream: Mapping[str, Any]) -> bool:
    """Whether this run has times of it."""
    return bool(stream.get("end_to_end")) and not stream.get("resumed")


def _details(timed: Mapping[str, Mapping[str, Any]], total: Mapping[str, Any], room: _Room) -> Iterator[RenderableType]:
    """Where the time of each of several streams went."""
    if 1 < len(timed) <= WHOLE_TABLES:
        for name, stream in timed.items():
            yield _stage_table(stream, f"{name}, ms", room)
            yield Text()
    elif len(timed) > 1:
        yield _share_table(timed, [stage for stage, stats in _worth_a_line(total["stages"]).items() if stats], room)
        yield Text()


def ending(report: Mapping[str, Any], files: Sequence[Path] = (), *, details: bool = False) -> Iterator[RenderableType]:
    """The run in a line, what went wrong, and where the outputs are; unless ``details`` were shown, where they are."""
    found = findings(report)
    for finding in found[:_SHOWN_FINDINGS]:
        yield Text(str(finding), style=_FINDING_STYLES[finding.severity])
    if len(found) > _SHOWN_FINDINGS:
        yield Text(f"and {len(found) - _SHOWN_FINDINGS} more{_where(files)}", style="dim")
    limited = report.get("bottleneck")
    if limited:
        helps = f"what would help: {limited['advice']}" if limited["advice"] else None
        yield Text("; ".join(filter(None, (limited["text"], limited.get("cost"), helps))))
    yield Text(_summary(report), style="bold")
    compared = (report.get("arrivals") or {}).get("streams", {}).values()
    frames = sum(stream["frames"] for stream in compared)
    if frames:
        same = sum(stream["same"] for stream in compared)
        yield Text(f"{same:,} of {count(frames, 'frame')} decided as in the run that was recorded")
    kept = next((file.parent for file in files if file.name == "report.json"), None)
    if kept is not None and not details and sum(map(_timed, report["streams"].values())) > 1:
        yield Text(f"the stages of each stream: pipeline report {shlex.quote(str(kept))}")
    if files:
        yield from (Text(line) for line in _places(files))


def _where(files: Sequence[Path]) -> str:
    """Where all of it stands."""
    kept = next((file for file in files if file.name == "report.html"), None)
    return ", see report.html" if kept is not None else "; --out DIR keeps a report that has all"


def _summary(report: Mapping[str, Any]) -> str:
    streams = report["streams"].values()
    resumed = sum(1 for stream in streams if stream.get("resumed"))
    ran = len(lives.names(report["streams"])) - resumed
    decoded = sum(stream["frames"]["decoded"] for stream in streams if not stream.get("resumed"))
    if decoded == report["frames"]:
        what = f"{count(decoded, 'frame')} of {count(ran, 'stream')}"
    else:
        what = f"{report['frames']:,} of {count(decoded, 'decoded frame')} processed, {count(ran, 'stream')},"
    parts = [f"{what} in {duration(report['wall_s'])}"]
    if report["frames"]:
        parts.append(f"{rate(report['fps'])} fps")
        first_ms = report["first_result_ms"]
        parts.append(f"first result after {duration(None if first_ms is None else first_ms / 1e3)}")
        parts.append(count(detections(report), "detection"))
    size = report["batches"]["mean_size"]
    if size is not None:
        parts.append(f"mean batch {size:.3g}")
    if resumed:
        parts.append(f"{count(resumed, 'stream')} skipped, finished earlier")
    return ", ".join(parts)


def _places(files: Sequence[Path]) -> Iterator[str]:
    """A line per folder."""
    for folder in dict.fromkeys(file.parent for file in files):
        names = [file.name for file in files if file.parent == folder]
        reports = [name for name in names if name.startswith("report.")]
        others = [name for name in names if name not in reports]
        most = _SHOWN_FILES if len(others) > _SHOWN_FILES + 1 else len(others)
        rest = [f"{len(others) - most:,} more"] if len(others) > most else []
        yield f"outputs in {folder}{os.sep}: {', '.join([*others[:most], *rest, *reports])}"


def _stream_table(streams: Mapping[str, Mapping[str, Any]], room: _Room) -> Table:
    """How each stream went; the percentiles are of the whole way, in milliseconds."""
    columns = (("state", 11), ("frames", 9), ("fps", 8), ("p50 ms", 10), ("p95 ms", 10), ("dropped", 9))
    rows: list[tuple[str, list[Text | str]]] = []
    for name, stream in streams.items():
        stats = stream.get("end_to_end") or {}
        state = state_in_a_word(stream)
        cells: list[Text | str] = [
            Text(state, style=_STYLES.get(state, "dim")),
            f"{stream['frames']['processed']:,}",
            rate(stream["fps"]),
            *(aligned(stats.get(column)) for column in ("p50_ms", "p95_ms")),
            f"{sum(stream['frames']['dropped'].values()):,}",
        ]
        rows.append((name, cells))
    return _table("stream", room, columns, rows, ("p50 ms", "fps", "frames"))


def _share_table(streams: Mapping[str, Mapping[str, Any]], stages: Sequence[str], room: _Room) -> Table:
    """Each stage of each stream, p95 in milliseconds."""
    columns = [(_SHORT.get(stage, stage), 8) for stage in stages]
    rows = []
    for name, stream in streams.items():
        stats = [stream["stages"].get(stage) or {} for stage in stages]
        rows.append((name, [milliseconds(each.get("p95_ms")) for each in stats]))
    return _table("stages, p95 ms", room, columns, rows, ("follow", "post", "sink"))


def _stage_table(part: Mapping[str, Any], title: str, room: _Room) -> Table:
    """Each stage of all frames together, in milliseconds."""
    columns = [(column.removesuffix("_ms"), 10) for column in _COLUMNS]
    rows = [(stage, _cells(stats)) for stage, stats in _worth_a_line(part["stages"]).items()]
    table = _table(
        title, room, columns, [*rows, ("end to end", _cells(part["end_to_end"]))], ("count", "p99", "jitter")
    )
    table.rows[-1].style = "bold"
    return table


def _table(
    first: str,
    room: _Room,
    columns: Sequence[tuple[str, int]],
    rows: Iterable[tuple[str, Sequence[Text | str]]],
    spare: Sequence[str],
) -> Table:
    """A table of names, which break where they are longer than the room there is, and figures of fixed widths.

    In a narrow terminal those of ``spare`` are left out, the first one first: a figure cut off is worse than none.
    """
    kept = list(columns)
    for name in spare:
        if room.names + sum(width for _, width in kept) > room.width:
            kept = [column for column in kept if column[0] != name]
    table = Table(box=None, padding=(0, 0), pad_edge=False, header_style="dim")
    table.add_column(first, width=room.names, overflow="fold")
    for name, width in kept:
        table.add_column(name, width=width, justify="right", no_wrap=True)
    for name, cells in rows:
        table.add_row(name, *(cell for column, cell in zip(columns, cells, strict=True) if column in kept))
    return table


def _worth_a_line(stages: Mapping[str, Any]) -> dict[str, Any]:
    """All of them, but for ``follow`` where nothing is done there: no tracker, no stage of one's own."""
    follow = stages.get("follow")
    idle = follow is not None and follow["p99_ms"] < IDLE_MS
    return {stage: stats for stage, stats in stages.items() if stage != "follow" or not idle}


def _cells(stats: Mapping[str, Any] | None) -> list[str]:
    if stats is None:
        return [NOTHING] * len(_COLUMNS)
    return [f"{stats['count']:,}", *(aligned(stats[column]) for column in _COLUMNS[1:])]


def _slowness(item: tuple[str, Mapping[str, Any]]) -> float:
    stats = item[1].get("end_to_end")
    return float(stats["p95_ms"]) if stats and not item[1].get("resumed") else -1.0
