# SPDX-License-Identifier: Apache-2.0
"""The public names: all there, sorted, and loaded only when used."""

from __future__ import annotations

import subprocess
import sys

import pipeline


def test_public_names_exist_and_are_sorted() -> None:
    assert pipeline.__all__ == sorted(pipeline.__all__)
    assert set(pipeline._HOMES) == set(pipeline.__all__)
    for name in pipeline.__all__:
        assert getattr(pipeline, name).__name__ == name


def test_replay_is_a_function_also_after_its_module_was_imported() -> None:
    import pipeline.replaying

    assert callable(pipeline.replay)


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import sys, pipeline; print([m for m in ('torch', 'cv2', 'av', 'numpy', 'pydantic') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"
