# SPDX-License-Identifier: Apache-2.0
"""One HTML file: everything is in it, no script runs, nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Final

from pipeline.redact import scrub
from pipeline.report.plotting import why_not

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
"""


def document(title: str, parts: Iterable[str]) -> str:
    """The parts of a page, below each other, as a document; empty ones are left out."""
    style = files("pipeline.report").joinpath("style.css").read_text(encoding="utf-8")
    head = _HEAD.format(title=escape(title), style=style)
    return head + "\n".join(part for part in parts if part) + "\n</main>\n</body>\n</html>\n"


def no_pictures() -> str:
    """A remark where nothing could be drawn."""
    return f"<p>There are no pictures: {escape(scrub(why_not()))}.</p>" if why_not() else ""
