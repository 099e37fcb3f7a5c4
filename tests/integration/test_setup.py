# SPDX-License-Identifier: Apache-2.0
"""Set-up on a system without libGL: the headless wheel of the same version takes OpenCV's place, and it is said."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_cv2.py"
NO_LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"


def system(folder: Path, reason: str, *, mended: bool = True) -> dict[str, str]:
    """An environment whose cv2 fails to load for ``reason`` and whose pip only notes what it was asked for."""
    (folder / "cv2.py").write_text(f"raise ImportError({reason!r})\n")
    (folder / "pip").mkdir()
    (folder / "pip" / "__init__.py").touch()
    cure = "os.remove(here / 'cv2.py')" if mended else "pass"
    (folder / "pip" / "__main__.py").write_text(
        "import os, sys\nfrom pathlib import Path\nhere = Path(__file__).parents[1]\n"
        "with open(here / 'asked', 'a') as asked:\n    print(*sys.argv[3:], file=asked)\n"
        f"if 'install' in sys.argv:\n    {cure}\n"
    )
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def check(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


def test_where_opencv_loads_nothing_happens() -> None:
    done = check(dict(os.environ))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("mended", [True, False])
def test_without_libgl_the_headless_wheel_of_the_same_version_is_put_in_its_place(tmp_path: Path, mended: bool) -> None:
    done = check(system(tmp_path, NO_LIBGL, mended=mended))
    assert done.returncode == (0 if mended else 1), done.stderr
    assert (tmp_path / "asked").read_text().splitlines() == [
        "uninstall --yes opencv-python",
        f"install --no-deps opencv-python-headless=={version('opencv-python')}",
    ]
    assert "lacks (ImportError: libGL.so.1" in done.stderr
    assert ("does not load either" in done.stderr) != mended


def test_another_fault_is_told_and_nothing_is_replaced(tmp_path: Path) -> None:
    done = check(system(tmp_path, "numpy.core.multiarray failed to import"))
    assert done.returncode == 1
    assert "OpenCV does not load: ImportError: numpy.core.multiarray" in done.stderr
    assert not (tmp_path / "asked").exists()
