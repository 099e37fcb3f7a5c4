# SPDX-License-Identifier: Apache-2.0
"""What the documentation names is there: files that it links to, and the commands and options that it shows."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

from pipeline.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "design", ROOT / "sample_videos")
    for path in folder.glob("*.md")
)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
_COMMAND = re.compile(r"^(?:[a-z -]*\$ )?pipeline ([a-z]+(?: [a-z]+)?)(.*)$", re.MULTILINE)
_WORKSHOP = "model"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    missing = [link for link in _LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert not missing, f"{page} links to {missing}"


@cache
def _help(command: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    assert said.getvalue(), f"there is no command {command!r}"
    return said.getvalue()


@pytest.mark.parametrize("page", [page for page in PAGES if page == "README.md" or page.startswith("docs/")])
def test_commands_and_options_exist(page: str) -> None:
    wrong = []
    for words, rest in _COMMAND.findall((ROOT / page).read_text()):
        command = words if words.startswith(f"{_WORKSHOP} ") else words.split()[0]
        known = _help(command)
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest.split("#")[0]):
            if not re.search(rf"{option}\b", known):
                wrong.append(f"pipeline {command} {option}")
    assert not wrong, f"{page} shows {wrong}"
