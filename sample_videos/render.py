# SPDX-License-Identifier: Apache-2.0
"""Render the sample clips and their truth: `python -m sample_videos.render`."""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2

from . import gate, lobby, plaza
from .clip import Clip
from .encode import write_clip

PLANS = {"plaza": plaza.clip, "lobby": lobby.clip, "gate": gate.clip}


def load(name: str) -> Clip:
    """The plan of a clip by its name. Raises KeyError for any other name."""
    return PLANS[name]()


def render(name: str, folder: Path) -> str:
    """Render one clip into `folder`; returns a line that says what was written."""
    cv2.setNumThreads(1)  # one process per clip is the parallelism
    clip = load(name)
    video, truth = write_clip(clip, folder)
    size = video.stat().st_size / 1e6
    return f"{video} ({len(clip.times)} frames, {size:.2f} MB) and {truth.name}"


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sample_videos.render", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"clips to render (default: {' '.join(PLANS)})")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: here)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="clips rendered at once")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(PLANS))
    if unknown:
        parser.error(f"no clip named {', '.join(unknown)}; there are {', '.join(PLANS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.names or list(PLANS)
    with ProcessPoolExecutor(max(1, min(options.jobs, len(names)))) as pool:
        for line in pool.map(render, names, [options.out] * len(names)):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
