# SPDX-License-Identifier: Apache-2.0
"""A comparison of runs as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.figures import NOTHING, aligned, duration, listed, memory, rate
from pipeline.report.comparison import FIGURES, RUN_FIGURES
from pipeline.report.model import in_words
from pipeline.timing import WAITS

MOST: Final = len(ascii_uppercase)
"""Runs that have a letter."""
ACROSS: Final = 4
"""Up to so many runs have a column each; more would not fit."""
WHOLE_TABLES: Final = 4
"""Of up to so many streams each has a table of its stages; of more, its end-to-end time."""

_NAMES: Final = {
    "wall_s": "wall time",
    "first_result_ms": "first result",
    "steady_fps": "fps, steady",
    "cpu_ms_per_frame": "CPU per frame",
    "peak_rss_mb": "peak memory",
}


def comparison(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What :func:`pipeline.report.comparison.compare` found."""
    runs = found["runs"]
    for letter, run in zip(ascii_uppercase, runs, strict=False):
        created = str(run["created"] or "")[:19].replace("T", " ")
        yield Text(f"{letter}  {run['folder']}: {run['command']}, {run['verdict']}, {created}".rstrip(", "))
    for key, values in found["differences"].items():
        shown = ", ".join(f"{letter} {_short(value)}" for letter, value in zip(ascii_uppercase, values, strict=False))
        yield Text(f"not alike: {key}: {shown}", style="yellow")
    streams = found["streams"]
    if found["paired"]:
        yield Text(f"one stream each, compared though their names differ: {next(iter(streams))}", style="yellow")
    elif not streams:
        yield Text("no stream in common (streams are paired by name), so only the whole runs are compared:")
        yield from (Text(f"  {letter} has {names}", style="yellow") for letter, names in _by_run(found["only_in"]))
    elif missing := _only_in(found["only_in"]):
        yield Text(f"not in all runs, so only in the figures of whole runs: {missing}", style="yellow")
    yield Text()
    yield _runs_table(runs)
    yield Text()
    if empty := [letter for letter, run in zip(ascii_uppercase, runs, strict=False) if not run["frames"]]:
        left = "A" not in empty and len(runs) - len(empty) > 1
        why = "they have no times" if left else "there are no times to compare"
        yield Text(f"no frame was processed in {' and '.join(empty)}: {why}", style="yellow")
        if not left:
            return
        yield Text()
    if len(streams) == 1:  # the whole runs may hold others, which are not to be compared with it
        ((name, parts),) = streams.items()
        yield _parts_table(f"{name}, ms" if found["only_in"] else "stages, ms", parts)
        return
    yield _parts_table("all, ms", found["total"])
    if 1 < len(streams) <= WHOLE_TABLES:
        for name, parts in streams.items():
            yield Text()
            yield _parts_table(f"{name}, ms", {series: runs for series, runs in parts.items() if series not in WAITS})
    elif len(streams) > 1:
        yield Text()
        yield _parts_table(
            "end to end, ms", {name: parts["end_to_end"] for name, parts in streams.items() if "end_to_end" in parts}
        )


def _runs_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    return _runs_across(runs) if len(runs) <= ACROSS else _runs_down(runs)


def _runs_across(runs: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("run")
    for letter in ascii_uppercase[: len(runs)]:
        table.add_column(letter, justify="right", no_wrap=True, min_width=9)
        if letter != "A":
            table.add_column(f"{letter} / A", justify="right", no_wrap=True, min_width=7, style="bold")
    for key in RUN_FIGURES:
        cells = []
        for number, run in enumerate(runs):
            cells.append(_run_figure(key, run[key]))
            if number:
                cells.append(_ratio(run["ratio"][key]))
        table.add_row(_NAMES.get(key, key), *cells)
    return table


def _runs_down(runs: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("run")
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True, min_width=9)
    table.add_column("x A", justify="right", no_wrap=True, min_width=7, style="bold")
    for key in RUN_FIGURES:
        for number, run in enumerate(runs):
            first = "" if number else _NAMES.get(key, key)
            ratio = _ratio(run["ratio"][key]) if number else ""
            table.add_row(first, ascii_uppercase[number], _run_figure(key, run[key]), ratio)
    return table


def _parts_table(title: str, parts: Mapping[str, Sequence[Mapping[str, Any] | None]]) -> Table:
    """A row per series and run; figures, their ratios to the first run, and whether they are spread alike."""
    table = _table(title)
    table.add_column("", no_wrap=True)
    for name in FIGURES:
        table.add_column(name.removesuffix("_ms"), justify="right", no_wrap=True, min_width=8)
    for name in FIGURES:
        table.add_column(f"x {name.removesuffix('_ms')}", justify="right", no_wrap=True, min_width=6, style="bold")
    table.add_column("distribution", no_wrap=True)
    for series, runs in parts.items():
        for number, run in enumerate(runs):
            name = series.replace("_", " ") if series not in WAITS else f"  {series}"
            first = name if number == 0 else ""
            if run is None:
                table.add_row(first, ascii_uppercase[number], *[NOTHING] * len(FIGURES))
                continue
            ratios = [_ratio(run["ratio"][name]) if number else "" for name in FIGURES]
            likeness = run["likeness"] or {}
            differs = "differs" in likeness.get("verdict", "")
            text = Text(likeness.get("text", NOTHING if number else ""), style="yellow" if differs else "")
            table.add_row(first, ascii_uppercase[number], *(aligned(run[name]) for name in FIGURES), *ratios, text)
    return table


def _table(first: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first, min_width=11, max_width=20, overflow="fold")
    return table


def _run_figure(key: str, value: float | None) -> str:
    match key:
        case "wall_s":
            return duration(value)
        case "first_result_ms":
            return duration(None if value is None else value / 1e3)
        case "fps" | "steady_fps":
            return rate(value)
        case "cpu_ms_per_frame":
            return NOTHING if value is None else f"{value:.2f} ms"
        case "peak_rss_mb":
            return memory(value)
    return NOTHING if value is None else f"{value:,}"


def _ratio(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}" if value < 99.5 else f"{value:,.0f}"


def _short(value: Any) -> str:
    text = in_words(value) or "none"
    return text if len(text) <= 40 else f"{text[:39]}\N{HORIZONTAL ELLIPSIS}"


def _by_run(found: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, str]]:
    """Each run's letter and streams."""
    for number in sorted({number for runs in found.values() for number in runs}):
        yield ascii_uppercase[number], listed([name for name, runs in found.items() if number in runs], 12)


def _only_in(found: Mapping[str, Sequence[int]]) -> str:
    names = [f"{name} ({', '.join(ascii_uppercase[number] for number in runs)})" for name, runs in found.items()]
    return listed(names, 12)
