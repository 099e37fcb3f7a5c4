# SPDX-License-Identifier: Apache-2.0
"""OpenCV that cannot be imported, mostly for want of a system library in a small container."""

from __future__ import annotations

import importlib

from pipeline.workshop.doctor.finding import Finding

_PACKAGES = {"libGL.so": "libgl1", "libgthread": "libglib2.0-0", "libglib": "libglib2.0-0", "libxcb": "libxcb1"}


def missing_library() -> Finding | None:
    """``import cv2`` fails."""
    try:
        importlib.import_module("cv2")
    except (ImportError, AttributeError) as error:
        text = str(error)
        package = next((package for library, package in _PACKAGES.items() if library in text), None)
        if package is None:
            return Finding("libgl", "fault", f"OpenCV cannot be imported: {text}", "reinstall opencv-python")
        return Finding(
            "libgl",
            "fault",
            f"OpenCV cannot be imported: {text}",
            f"apt-get install {package}, or install opencv-python-headless instead of opencv-python (then without "
            "--show)",
        )
    return None
