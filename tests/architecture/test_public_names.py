# SPDX-License-Identifier: Apache-2.0
"""The public names: all there, sorted, and loaded only when used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pipeline


def test_public_names_exist_and_are_sorted() -> None:
    assert pipeline.__all__ == sorted(pipeline.__all__)
    assert set(pipeline._HOMES) == set(pipeline.__all__)
    for name in pipeline.__all__:
        assert getattr(pipeline, name).__name__ == name


def test_replay_is_a_function_also_after_its_module_was_imported() -> None:
    import pipeline.replaying

    assert callable(pipeline.replay)


@pytest.mark.parametrize("module", ["pipeline", "pipeline.cli"])
def test_what_every_command_imports_is_not_heavy(module: str) -> None:
    heavy = ("torch", "cv2", "av", "numpy", "pydantic")
    script = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"
