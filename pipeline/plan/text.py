# SPDX-License-Identifier: Apache-2.0
"""A plan as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.figures import NOTHING, aligned, memory, milliseconds, rate
from pipeline.plan.wording import busy_line, growth_line, headline, limit_line, more_line, proof_line

SHOWN_STREAMS = 20
"""Rows of streams; the page and ``plan.json`` have all."""
_NAME = 20


def tables(plan: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Streams, the network, and what follows from them."""
    planned = {name: stream for name, stream in plan["streams"].items() if stream["state"] == "planned"}
    yield _streams(dict(list(planned.items())[:SHOWN_STREAMS]))
    if len(planned) > SHOWN_STREAMS:
        yield Text(f"and {len(planned) - SHOWN_STREAMS} more, see plan.json", style="dim")
    yield Text()
    yield _network(plan["measured"]["network"])
    yield Text()
    yield _figures(plan)
    yield Text()


def ending(plan: Mapping[str, Any]) -> Iterator[Text]:
    """The plan in a few lines, the answer last."""
    for name, stream in plan["streams"].items():
        if stream["state"] == "unreachable":
            yield Text(f"{name}: left out: {stream['error']}", style="red")
    if (line := busy_line(plan)) is not None:
        yield Text(line, style="yellow")
    yield Text(limit_line(plan))
    if (line := more_line(plan)) is not None:
        yield Text(line)
    proven = plan["verdict"]["borne_out"]
    yield Text(proof_line(plan), style="dim" if proven is None else "" if proven else "yellow")
    if (line := growth_line(plan)) is not None:
        yield Text(line, style="" if plan["headroom"]["proof"]["kept_up"] else "yellow")
    good = plan["verdict"]["sustainable"]
    yield Text(headline(plan), style="bold yellow" if proven is False else "bold green" if good else "bold red")


def _streams(streams: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table(
        "stream", ("picture", 11), ("fps", 7), ("asked", 7), ("decode", 8), ("prep", 7), ("fps", 8), ("p99 ms", 9)
    )
    for name, stream in streams.items():
        predicted = stream["predicted"]
        table.add_row(
            name,
            f"{stream['width']}x{stream['height']}",
            rate(stream["fps"]),
            rate(stream["wanted_fps"]),
            milliseconds(stream["decode_ms"] + stream["isolation_ms"]),
            milliseconds(stream["preprocess_ms"]),
            Text(rate(predicted["fps"]), style="red" if predicted["missing"] > 0.01 else ""),
            milliseconds(predicted["p99_ms"]),
        )
    return table


def _network(rows: list[Mapping[str, Any]]) -> Table:
    table = _table("network, CPU ms", ("batch", 8), ("a batch", 10), ("a frame", 10))
    for row in rows:
        height, width = row["input"]
        took = row["cpu_ms"] + row["device_ms"]
        table.add_row(f"{width} x {height}", str(row["batch"]), aligned(took), aligned(row["ms_per_frame"]))
    return table


def _figures(plan: Mapping[str, Any]) -> Table:
    predicted, proof = plan["predicted"], plan["proof"]
    table = _table("all streams", ("predicted", 12), ("measured", 12), ("ratio", 8))
    rows = [("frames per second", "fps", rate), *((f"p{p}, ms", f"p{p}_ms", milliseconds) for p in (50, 95, 99))]
    for label, key, write in (*rows, ("cores busy", "cores", rate), ("memory", "memory_mb", memory)):
        measured = None if proof is None else proof[key]
        ratio = f"{predicted[key] / measured:.2f}" if measured and predicted[key] else NOTHING
        table.add_row(label, write(predicted[key]), write(measured), ratio)
    table.add_row("could be, frames per second", rate(predicted["sustainable_fps"] or None), "", "")
    return table


def _table(first: str, *columns: tuple[str, int]) -> Table:
    table = Table(box=None, padding=(0, 0), pad_edge=False, header_style="dim")
    table.add_column(first, min_width=_NAME, overflow="fold")
    for name, width in columns:
        table.add_column(name, width=width, justify="right", no_wrap=True)
    return table
