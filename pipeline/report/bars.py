# SPDX-License-Identifier: Apache-2.0
"""Bars in the middle of tables and cards: where the time of a frame goes, at a glance and at no cost."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pipeline.figures import milliseconds, percent

_WIDTH = 1000


def stage_bar(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """One bar, split by the mean time of a frame in each stage.

    Segments are per frame of the end-to-end count, so that together they are the mean end-to-end time even where some
    frames did not pass every stage.
    """
    sums = {stage: stats["mean_ms"] * stats["count"] for stage, stats in stages.items() if stats}
    whole = sum(sums.values())
    if whole <= 0:
        return ""
    label = ", ".join(f"{stage} {percent(sums[stage] / whole)}" for stage in sums)
    parts = []
    left = 0.0
    for stage, part in sums.items():
        width = part / whole * _WIDTH
        title = f"{stage}: {milliseconds(stages[stage]['mean_ms'])} ms, {percent(part / whole, 1)}"
        parts.append(
            f'<rect class="{escape(stage)}" x="{left:.2f}" y="0" width="{width:.2f}" height="20">'
            f"<title>{escape(title)}</title></rect>"
        )
        left += width
    return _drawing("bar", 20, f"mean time per frame: {label}", "".join(parts))


def share_bar(stage: str, share: float) -> str:
    """A small bar that fills ``share`` (0 to 1) of its width."""
    width = min(max(share, 0.0), 1.0) * _WIDTH
    bar = (
        f'<rect class="track" x="0" y="0" width="{_WIDTH}" height="8"></rect>'
        f'<rect class="{escape(stage)}" x="0" y="0" width="{width:.2f}" height="8"></rect>'
    )
    return _drawing("share", 8, f"{percent(share, 1)} of the time", bar)


def _drawing(kind: str, height: int, label: str, content: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{content}</svg>'
    )
