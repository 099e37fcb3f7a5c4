# SPDX-License-Identifier: Apache-2.0
"""Set-up: make sure that OpenCV loads, with the headless build where the system has no libGL."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version


def loads() -> str | None:
    """None when ``import cv2`` works in a fresh interpreter, else the reason why not."""
    done = subprocess.run([sys.executable, "-c", "import cv2"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


def pip(*arguments: str) -> None:
    """Run pip in this environment."""
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def main() -> int:
    """Swap the wheel where it must be; returns the exit code."""
    reason = loads()
    if reason is None:
        return 0
    if "libGL" not in reason and "libgthread" not in reason and "libglib" not in reason:
        print(f"OpenCV does not load: {reason}", file=sys.stderr)
        return 1
    wanted = version("opencv-python")
    print(f"OpenCV needs libGL, which this system lacks ({reason}).", file=sys.stderr)
    print(f"Putting opencv-python-headless {wanted} in its place (no windows: --show will not work).", file=sys.stderr)
    pip("uninstall", "--yes", "opencv-python")
    pip("install", "--no-deps", f"opencv-python-headless=={wanted}")
    reason = loads()
    if reason is not None:
        print(f"The headless build does not load either: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
