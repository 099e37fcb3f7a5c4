# SPDX-License-Identifier: Apache-2.0
"""The table of ``pipeline top``: what ``/api/streams`` says, fitted to a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.cli.live.client import is_loading
from pipeline.events import state_in_words
from pipeline.figures import NOTHING, count, duration, rate

Stream = Mapping[str, Any]

_STYLES: Final = {"live": "green", "connecting": "yellow", "paused": "yellow", "finished": "dim", "stopped": "dim"}
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_SPARK: Final = 20
"""Points of a sparkline: of the ten minutes that the daemon keeps, each is half a minute."""
_ROOM_FOR: Final = {"fps": 64, "p50 ms": 80, "jitter ms": 112, "waiting": 112, "10 minutes": 140}
"""Columns of a terminal from which on there is room for a figure beside the cause."""
_ROOM_FOR_REASONS: Final = 80
_SPARE: Final = ("p50 ms", "fps", "p99 ms", "age")
"""What gives way to a cause, the first one first."""
_LEAST_CAUSE: Final = 24
_LEAST_NAME: Final = 10
_BETWEEN: Final = 2
_ENDED: Final = frozenset({"finished", "truncated", "stopped"})


def _lost(stream: Stream) -> int:
    return sum(stream["frames"]["dropped"].values())


def _recent(stream: Stream) -> Mapping[str, Any]:
    """Times of the last minute, as the dashboard shows them; empty where nothing came."""
    return stream["windows"]["60s"]["end_to_end"] or {}


def _by_name(stream: Stream) -> tuple[Any, ...]:
    """As people count: ``cam2`` before ``cam10``, upper and lower case alike."""
    letters_and_digits = re.split(r"(\d+)", str(stream["name"]).lower())
    return tuple(int(part) if number % 2 else part for number, part in enumerate(letters_and_digits))


@dataclass(frozen=True, slots=True)
class Order:
    """A way to sort the streams: the worst first, but names from A."""

    word: str
    of: Callable[[Stream], Any]


ORDERS: Final = (
    Order("name", _by_name),
    Order("state", lambda stream: (stream["state"] == "live", stream["state"])),
    Order("rate", lambda stream: stream["rate_fps"] or 0.0),
    Order("age", lambda stream: -(stream["age_s"] if stream["age_s"] is not None else float("inf"))),
    Order("p99", lambda stream: -_recent(stream).get("p99_ms", 0.0)),
    Order("dropped", lambda stream: -_lost(stream)),
)


def table(
    answer: Mapping[str, Any],
    order: Order,
    *,
    width: int,
    rows: int | None = None,
    trouble: str = "",
    foot: str = "",
) -> RenderableType:
    """The picture at one moment.

    Args:
        answer: what ``/api/streams`` said last.
        order: how streams are sorted.
        width: columns of the terminal; what matters least is left out where it is narrow.
        rows: lines of the terminal, or None for all streams.
        trouble: why nothing newer could be had; what is shown is old then.
        foot: the last line, for whoever sits before it.
    """
    streams = sorted(answer["streams"].values(), key=lambda stream: (order.of(stream), _by_name(stream)))
    shown = streams if rows is None else streams[: max(1, rows - 6 - bool(foot))]
    rows_of_cells = [_cells(stream, width) for stream in shown]
    columns = _columns(width, rows_of_cells)
    grid = Table(box=None, padding=(0, _BETWEEN, 0, 0), header_style="bold", expand=True)
    for name, widest in columns.items():  # the last one takes what is left: only it, and long names, are ever cut
        side: Literal["left", "right"] = "left" if name in _LEFT else "right"
        grid.add_column(name, justify=side, no_wrap=True, max_width=widest, ratio=1 if name == "cause" else None)
    for cells in rows_of_cells:
        grid.add_row(*(cells[name] for name in columns), style="dim" if trouble else "")
    parts: list[RenderableType] = [_head(answer, streams), grid]
    if len(shown) < len(streams):
        parts.append(Text(f"and {len(streams) - len(shown)} more", style="dim"))
    parts += _sinks(answer)
    if trouble:
        parts.append(Text(trouble, style="bold red", no_wrap=True, overflow="ellipsis"))
    if foot:
        parts.append(Text(foot, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _cells(stream: Stream, width: int) -> dict[str, Text | str]:
    cells = {name: cell(stream) for name, cell in _CELLS.items() if width >= _ROOM_FOR.get(name, 0)}
    if width < _ROOM_FOR_REASONS:
        cells["dropped"] = f"{_lost(stream):,}"
    return cells


def _columns(width: int, rows: Sequence[Mapping[str, Text | str]]) -> dict[str, int | None]:
    """What is shown, and how wide at most: figures give way to a cause, and then names do."""
    longest = {
        name: max(cell_len(name), *(cell_len(str(cells[name])) for cells in rows)) for name in (rows[0] if rows else ())
    }
    cause = max((cell_len(str(cells["cause"])) for cells in rows), default=0)
    left = width - min(_LEAST_CAUSE, cause) - sum(wide + _BETWEEN for name, wide in longest.items() if name != "cause")
    for name in _SPARE:
        if left < 0 and name in longest:
            left += longest.pop(name) + _BETWEEN
    shown: dict[str, int | None] = dict.fromkeys(longest or _CELLS)
    if left < 0 and "stream" in longest:
        shown["stream"] = max(_LEAST_NAME, longest["stream"] + left)
    return shown


def _head(answer: Mapping[str, Any], streams: Sequence[Stream]) -> Text:
    live = sum(stream["state"] == "live" for stream in streams)
    together = sum(stream["rate_fps"] or 0.0 for stream in streams)
    batches = {int(size): number for size, number in answer.get("batches", {}).items()}
    items = sum(size * number for size, number in batches.items())
    model = answer.get("model", {})
    if is_loading(answer):
        return Text("starting: the model is being loaded", style="bold")
    parts = [
        f"up {duration(answer.get('uptime_s'))}",
        f"{live} of {count(len(streams), 'stream')} live",
        f"{rate(together)} fps",
        f"batches of {items / sum(batches.values()):.1f}" if batches else "",
        f"{model['path']} on {model.get('device', '?')}" if model.get("path") else "",
    ]
    return Text(", ".join(filter(None, parts)), style="bold", no_wrap=True, overflow="ellipsis")


def _sinks(answer: Mapping[str, Any]) -> list[RenderableType]:
    """Only those that are not well: all is well is no news."""
    lines: list[RenderableType] = []
    for name, sink in answer.get("sinks", {}).items():
        lost = sum(sink.get("lost", {}).values())
        if sink.get("state") != "ok" or lost:
            where = f" ({sink['path']})" if sink.get("path") else ""
            trouble = f": {sink['error']}" if sink.get("error") else ""
            why = f" before{trouble}" if trouble and sink.get("state") == "ok" else trouble
            lines.append(
                Text(f"sink {name}{where} is {sink.get('state')}, {count(lost, 'result')} lost{why}", style="red")
            )
    return lines


def _state(stream: Stream) -> Text:
    state = str(stream["state"])
    return Text(state_in_words(state), style=_STYLES.get(state, "bold red"))


def _milliseconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}"


def _jitter(stream: Stream) -> str:
    return _milliseconds(stream["end_to_end"]["jitter_ms"] if _recent(stream) else None)


def spark(points: Sequence[float], width: int = _SPARK) -> str:
    """Rates over time as blocks, the newest at the right; each block is the mean of as many points as it stands for."""
    if not points:
        return ""
    each = max(1, -(-len(points) // width))
    chunks = [points[max(0, end - each) : end] for end in range(len(points), 0, -each)][::-1]
    means = [sum(chunk) / len(chunk) for chunk in chunks]
    highest = max(means)
    steps = len(_BLOCKS) - 1
    return "".join(_BLOCKS[-(-mean * steps // highest).__trunc__() if highest else 0] for mean in means)


def _cause(stream: Stream) -> str:
    """Why it is away first, since the end of it is cut off; for how long, and where, come after that."""
    cause, next_s, detail = str(stream["cause"] or ""), stream["next_try_s"], stream["detail"] or ""
    if stream["state"] == "live" or stream["state"] in _ENDED:
        return ": ".join(filter(None, (cause.replace("_", " "), detail)))
    address, reason = _split(detail)
    word = "" if stream["state"].startswith(cause) else cause.replace("_", " ")  # auth_failed
    if word and word in reason:
        reason = word  # "refused" for "connection refused": it has few columns
    parts = [
        f"{reason or word} for {duration(stream['since_s'])}".strip(),
        f"next try in {duration(next_s)}" if next_s else "",
    ]
    return ", ".join(filter(None, parts)) + (f" ({address})" if address else "")


def _split(detail: str) -> tuple[str, str]:
    """``rtsp://10.0.0.5/x: cannot open: refused`` as its address and its reason; the address may be missing."""
    address, colon, reason = detail.partition(": ")
    if not colon or "://" not in address:
        return "", detail
    return address, reason.removeprefix("cannot open: ")


def _losses(stream: Stream) -> str:
    lost = stream["frames"]["dropped"]
    worst = max(lost, key=lost.__getitem__, default="")
    return f"{sum(lost.values()):,} {worst.replace('_', ' ')}" if worst and lost[worst] else "0"


_LEFT: Final = frozenset({"stream", "state", "10 minutes", "cause"})
_CELLS: Final[Mapping[str, Callable[[Stream], Text | str]]] = {
    "stream": lambda stream: Text(str(stream["name"])),
    "state": _state,
    "fps": lambda stream: rate(stream["rate_fps"]),
    "age": lambda stream: duration(stream["age_s"]),
    "p50 ms": lambda stream: _milliseconds(_recent(stream).get("p50_ms")),
    "p99 ms": lambda stream: _milliseconds(_recent(stream).get("p99_ms")),
    "jitter ms": _jitter,
    "waiting": lambda stream: str(stream.get("waiting", 0)),
    "dropped": _losses,
    "10 minutes": lambda stream: Text(spark(stream.get("history", {}).get("fps", [])), style="cyan"),
    "cause": lambda stream: Text(_cause(stream), style="yellow"),
}
