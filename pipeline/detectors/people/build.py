# SPDX-License-Identifier: Apache-2.0
"""The people detector as the product uses it: its levels, its threshold, compiled."""

import warnings

import torch

from pipeline.detectors.people.hog import HogPeople

INPUT_WIDTH = 640
INPUT_HEIGHT = 360
"""Size of picture that the levels are chosen for: people from 80 pixels to the full height are found there. Keep the
aspect ratio; other sizes work as well, down to one window."""

THRESHOLD = -0.3
"""Least margin of a window; it still supports a better one, and its own confidence is 0.03."""

FINEST, LARGEST = 0.85, 16.0


def levels() -> list[tuple[float, int]]:
    """Scale and padding of each level, finest first; pictures use as many as fit them (15 of 640 x 360).

    The finest level enlarges the picture, so that a person of 80 pixels fills a window. Windows hold 16 pixels of
    surroundings above and below a person, which is the padding; coarse levels get 24, because a person who nearly fills
    the picture may fall between two levels, and there the surplus costs little.
    """
    found = []
    scale = FINEST
    while scale < LARGEST:
        found.append((scale, 16 if scale < 1.6 else 24))
        scale *= 1.15 if scale < 2.0 else 1.10
    return found


def build_people() -> torch.jit.ScriptModule:
    """Compile the detector (about a second). See `HogPeople.forward` for what it takes and returns."""
    with warnings.catch_warnings():
        # TorchScript announces its own deprecation on every call; the project's answer is in design/people.md.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        module: torch.jit.ScriptModule = torch.jit.script(HogPeople(levels(), THRESHOLD).eval())
    return module
