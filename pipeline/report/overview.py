# SPDX-License-Identifier: Apache-2.0
"""Many streams on one look: a row for each, before their cards."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pipeline.figures import milliseconds, rate
from pipeline.report.bars import stage_bar
from pipeline.report.markup import pill, scrolling
from pipeline.report.verdict import state_in_a_word

_COLUMNS = ("where the time goes", "frames", "fps", "p50, ms", "p95, ms", "p99, ms", "dropped", "reconnects")


def overview(streams: Mapping[str, Mapping[str, Any]]) -> str:
    """A table with a row per stream, in their order; the percentiles are of the whole way."""
    head = "".join(f"<th scope=col>{name}</th>" for name in ("stream", *_COLUMNS))
    rows = "".join(_row(name, stream) for name, stream in streams.items())
    table = f'<table class="overview"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="panel">{scrolling(table)}</div>'


def _row(name: str, stream: Mapping[str, Any]) -> str:
    frames, whole = stream["frames"], stream.get("end_to_end") or {}
    figures = [
        f"{frames['processed']:,}",
        rate(stream["fps"]),
        *(milliseconds(whole.get(column)) for column in ("p50_ms", "p95_ms", "p99_ms")),
        f"{sum(frames['dropped'].values()):,}",
        f"{stream.get('reconnects') or 0:,}",
    ]
    bar = stage_bar(stream["stages"]) if whole else ""
    shown = "".join(f"<td>{escape(figure)}</td>" for figure in figures)
    return f"<tr><th scope=row>{escape(name)} {pill(state_in_a_word(stream))}</th><td>{bar}</td>{shown}</tr>"
