# SPDX-License-Identifier: Apache-2.0
"""Commands that run in the process of the test, in a folder of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.cli import main


class Run(NamedTuple):
    """One call of ``main``."""

    code: int
    out: str
    err: str


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports as where matplotlib cannot be used: drawing takes longer than the run of a tiny clip."""
    monkeypatch.setattr("pipeline.report.plotting.why_not", lambda: "nobody looks at them here")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``cli("check", path)``, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Run:
        code = main([str(argument) for argument in arguments])
        return Run(code, *capsys.readouterr())

    return run
