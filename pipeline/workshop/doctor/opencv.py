# SPDX-License-Identifier: Apache-2.0
"""Two builds of OpenCV in one environment: they write into the same folder, and what is imported is a mixture."""

from __future__ import annotations

import importlib.metadata
import re

from pipeline.workshop.doctor.finding import Finding

_BUILDS = re.compile(r"opencv-(contrib-)?python(-headless)?")


def two_builds() -> Finding | None:
    """More than one of the four distributions that contain ``cv2``."""
    names = (
        re.sub(r"[-_.]+", "-", str(found.metadata["Name"])).lower() for found in importlib.metadata.distributions()
    )
    builds = sorted({name for name in names if _BUILDS.fullmatch(name)})
    if len(builds) < 2:
        return None
    return Finding(
        "opencv",
        "fault",
        f"{len(builds)} builds of OpenCV are installed: {', '.join(builds)}; their files overwrite each other",
        f"pip uninstall -y {' '.join(builds)}, then pip install opencv-python",
    )
