# SPDX-License-Identifier: Apache-2.0
"""A page drawn from ``bench.json``: bars of frames per second, CPU time and memory, in one file without scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pipeline.bench import wording

_STYLE = """
:root { --ground: #f6f7f9; --surface: #fff; --line: #e1e5ea; --ink: #161b22; --soft: #5b6673; --ours: #2f6fde;
  --theirs: #b8c1cc; --decode: #2f6fde; --resize: #14a3a8; --network: #f08c2e; --rest: #e0559b; }
@media (prefers-color-scheme: dark) { :root { --ground: #0e1217; --surface: #161c24; --line: #29323d; --ink: #e8edf3;
  --soft: #97a3b2; --ours: #5b93f5; --theirs: #4b5866; --decode: #5b93f5; --resize: #2cbfc4; --network: #f59f4c;
  --rest: #ee77b0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto,
  "Noto Sans", sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 960px; margin: 0 auto; padding: 36px 20px; }
h1 { font-size: 28px; letter-spacing: -0.02em; margin: 0 0 4px; } h2 { font-size: 17px; margin: 32px 0 10px; }
p { margin: 0 0 4px; color: var(--soft); } .warning { color: #b25b00; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 24px; }
.tile, .panel { background: var(--surface); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.tile p { font-size: 13px; } .tile b { font-size: 26px; letter-spacing: -0.02em; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 14px; }
svg .figure { font-weight: 650; } svg .inside { fill: #fff; font-weight: 600; font-size: 13px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 8px; font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 7px; }
"""
_WIDTH, _LABEL, _ROW = 920, 260, 34
_SPAN = _WIDTH - _LABEL - 70  # of the longest bar; the rest is for its figure

Parts = Sequence[tuple[str, float]]
"""Lengths with the style variables that colour them."""


def chart(report: Mapping[str, Any]) -> str:
    """The report of ``pipeline bench`` as an HTML document."""
    candidates = report["candidates"]
    speed = [(wording.name(key), [(_colour(key), row["fps"])], f"{row['fps']:,.1f}") for key, row in candidates.items()]
    memory = [
        (wording.name(key), [(_colour(key), row["peak_mb"])], f"{row['peak_mb']:,.0f}")
        for key, row in candidates.items()
    ]
    warning = wording.busy(report)
    parts = [
        f"<h1>pipeline bench: {candidates['pipeline']['fps']:,.0f} frames per second</h1>",
        f"<p>{escape(wording.machine(report))}</p><p>{escape(wording.work(report))}</p>",
        f'<p class="warning">{escape(warning)}</p>' if warning else "",
        _tiles(report),
        f"<h2>Frames per second, the same detections</h2>{_bars(speed)}",
        f"<h2>CPU milliseconds per frame, on top of what the work itself costs</h2>{_cpu(report)}",
        f"<h2>Peak memory in MiB</h2>{_bars(memory)}",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>pipeline bench</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _tiles(report: Mapping[str, Any]) -> str:
    tiles = [
        (f"{report['efficiency']:.2f}", "efficiency: floors / cores / wall time"),
        (f"{report['cpu_over_floors']:.2f} x", "CPU time of the floors"),
        *[(f"{ratio:.2f} x", f"as fast as {wording.name(key)}") for key, ratio in report["speedup"].items()],
        (f"{report['peak_above_idle_mb']:,.0f} MiB", "above an idle process"),
        (f"{report['first_result_ms']:,.0f} ms", "until the first result"),
    ]
    shown = "".join(f'<div class="tile"><b>{value}</b><p>{escape(label)}</p></div>' for value, label in tiles)
    return f'<div class="tiles">{shown}</div>'


def _cpu(report: Mapping[str, Any]) -> str:
    floors = {key: row["cpu_ms_per_frame"] for key, row in report["floors"].items()}
    whole = sum(floors.values())
    rows = []
    for key, figures in report["candidates"].items():
        cost = figures["cpu_ms_per_frame"]
        parts = [*floors.items(), ("rest", cost - whole)] if cost > whole else [(_colour(key), cost)]
        rows.append((wording.name(key), parts, f"{cost:.1f}"))
    rows.append(("the floors together", list(floors.items()), f"{whole:.1f}"))
    keys = {**{key: wording.name(key) for key in floors}, "rest": "everything else"}
    legend = "".join(
        f'<span><i style="background: var(--{key})"></i>{escape(text)}</span>' for key, text in keys.items()
    )
    return _bars(rows, f'<div class="legend">{legend}</div>')


def _bars(rows: Sequence[tuple[str, Parts, str]], below: str = "") -> str:
    longest = max(sum(length for _, length in parts) for _, parts, _ in rows)
    shapes = []
    for number, (label, parts, figure) in enumerate(rows):
        top, left = number * _ROW, float(_LABEL)
        middle = top + _ROW / 2 + 5
        shapes.append(f'<text x="{_LABEL - 12}" y="{middle}" text-anchor="end">{escape(label)}</text>')
        for colour, length in parts:
            width = length / longest * _SPAN
            shapes.append(
                f'<rect x="{left:.1f}" y="{top + 5}" width="{width:.1f}" height="{_ROW - 10}" fill="var(--{colour})">'
                f"<title>{escape(wording.name(colour))}: {length:,.2f}</title></rect>"
            )
            left += width
        shapes.append(f'<text class="figure" x="{left + 8:.1f}" y="{middle}">{escape(figure)}</text>')
    described = "; ".join(f"{label}: {figure}" for label, _, figure in rows)
    return (
        f'<div class="panel"><svg viewBox="0 0 {_WIDTH} {len(rows) * _ROW}" role="img" '
        f'aria-label="{escape(described)}">{"".join(shapes)}</svg>{below}</div>'
    )


def _colour(candidate: str) -> str:
    return "ours" if candidate == "pipeline" else "theirs"


if __name__ == "__main__":
    sys.stdout.write(chart(json.loads(Path(sys.argv[1]).read_text())))
