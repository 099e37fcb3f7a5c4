# SPDX-License-Identifier: Apache-2.0
"""What limited a run, as a part of ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pipeline.figures import percent
from pipeline.report.markup import facts

_NAMES = {
    "network": "network, all workers",
    "decode": "decoding and preparing, the busiest stream",
    "follow": "following",
    "sink": "the busiest sink",
}


def limit_panel(report: Mapping[str, Any]) -> str:
    """The bottleneck, and how busy everything was."""
    limited = report.get("bottleneck")
    if not limited:
        return ""
    advice = f" What would help most: {limited['advice']}." if limited["advice"] else ""
    shares = facts([(_NAMES[kind], f"{percent(share)}") for kind, share in limited["shares"].items()])
    lead = f'<p class="lead">{escape(limited["text"])}.{escape(advice)}</p>'
    return f'<section><h2>What limited it</h2><div class="panel">{lead}{shares}</div></section>'
