# SPDX-License-Identifier: Apache-2.0
"""What limited a run, as a part of ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pipeline.figures import percent
from pipeline.report.bars import share_bar
from pipeline.report.markup import prose

_NAMES = {
    "network": "network, all workers",
    "decode": "decoding and preparing, the busiest stream",
    "follow": "following",
    "sink": "the busiest sink",
}
_COLOURS = {"network": "infer"}


def limit_panel(report: Mapping[str, Any]) -> str:
    """The bottleneck, and how busy everything was."""
    limited = report.get("bottleneck")
    if not limited:
        return ""
    advice = f" What would help most: {limited['advice']}." if limited["advice"] else ""
    rows = "".join(
        f"<tr><th scope=row>{escape(_NAMES[kind])}</th><td>{share_bar(_COLOURS.get(kind, kind), share)}</td>"
        f"<td>{percent(share)}</td></tr>"
        for kind, share in limited["shares"].items()
    )
    costs = f"; {limited['cost']}" if limited.get("cost") else ""  # earlier versions had none
    lead = f'<p class="lead">{prose(limited["text"])}{prose(costs)}.{prose(advice)}</p>'
    table = f'<table class="limits"><tbody>{rows}</tbody></table>'
    return f'<section><h2>What limited it</h2><div class="panel">{lead}{table}</div></section>'
