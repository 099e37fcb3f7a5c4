# SPDX-License-Identifier: Apache-2.0
"""The figures as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.bench import wording


def tables(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Candidates, floors, and what follows from them."""
    yield Text(wording.machine(report), style="dim")
    yield Text(wording.work(report), style="dim")
    yield Text()
    yield _table("the same work, the same detections", report["candidates"], highlighted="pipeline")
    yield Text()
    yield _floors(report["floors"])
    yield Text()
    yield from _conclusions(report)


def _table(title: str, rows: Mapping[str, Mapping[str, float]], highlighted: str = "") -> Table:
    table = _columns(title)
    for candidate, figures in rows.items():
        table.add_row(
            f"  {wording.name(candidate)}", *_cells(figures), style="bold" if candidate == highlighted else ""
        )
    return table


def _floors(floors: Mapping[str, Mapping[str, float]]) -> Table:
    table = _columns("its floor: all cores on one kind of work", memory=False)
    for floor, figures in floors.items():
        table.add_row(f"  {wording.name(floor)}", *_cells(figures)[:2])
    # One after another: the times of a frame add up.
    fps = 1 / sum(1 / figures["fps"] for figures in floors.values())
    cpu_ms = sum(figures["cpu_ms_per_frame"] for figures in floors.values())
    table.add_row("  all three", f"{fps:,.1f}", f"{cpu_ms:.2f}", style="bold")
    return table


def _columns(title: str, *, memory: bool = True) -> Table:
    table = Table(box=None, padding=(0, 0), pad_edge=False, header_style="dim")
    table.add_column(title, width=46, no_wrap=True)
    table.add_column("fps", width=9, justify="right")
    table.add_column("CPU ms/frame", width=13, justify="right", no_wrap=True)
    if memory:
        table.add_column("MiB", width=8, justify="right")
    return table


def _cells(figures: Mapping[str, float]) -> list[str]:
    return [f"{figures['fps']:,.1f}", f"{figures['cpu_ms_per_frame']:.2f}", f"{figures['peak_mb']:,.0f}"]


def _conclusions(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    warning = wording.busy(report)
    if warning is not None:
        yield Text(warning, style="yellow")
    yield _line("efficiency", f"{report['efficiency']:.2f}", "of what the floors allow")
    yield _line("CPU", f"{report['cpu_over_floors']:.2f} x", "that of the floors")
    for candidate, ratio in report["speedup"].items():
        yield _line("speed", f"{ratio:.2f} x", f"that of {wording.name(candidate)}")
    for candidate, found in report["agreement"].items():
        agreed = f"{found['matched']:,} of {found['ours']:,}"
        yield _line("same", agreed, f"detections with {wording.name(candidate)}")
    yield _line("memory", f"{report['peak_above_idle_mb']:,.0f} MiB", "above an idle process that has loaded the model")
    yield _line("first", f"{report['first_result_ms']:,.0f} ms", "from the first opening to the first result")


def _line(what: str, figure: str, meaning: str) -> Text:
    return Text.assemble((f"{what:<11}", "dim"), (f"{figure:<15}", "bold"), (meaning, "dim"))
