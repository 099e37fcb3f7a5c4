# SPDX-License-Identifier: Apache-2.0
"""What the built-in people detector costs beside OpenCV's on the same work; scores are compared before timing anything.

Run it with ``python -m benchmarks.people [--rounds N] [--json]``. One thread each, pictures of 640x360, taken from
sample_videos/ (drawn noise and boxes where it is empty). Ours and OpenCV's take turns in every round, so that the
machine's moods hit both alike; the least time of the rounds is reported, and the median beside it. OpenCV does the same
levels with the same padding (resize and ``HOGDescriptor.detect`` each), and once more its own ``detectMultiScale`` on a
plain geometric pyramid, which ours then does as well. The times are those that the thread had a core (CPU time): other
programs still cost cache and memory bandwidth, so on a busy machine only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from pipeline.detectors.people import INPUT_HEIGHT, INPUT_WIDTH, build_people, decode_people
from pipeline.detectors.people.build import THRESHOLD, levels
from pipeline.detectors.people.hog import HogPeople

CLIPS = Path(__file__).resolve().parent.parent / "sample_videos"
COUNT, STEP = 4, 1.15


def pictures() -> list[np.ndarray]:
    """Four RGB pictures (360, 640, 3)."""
    found = []
    for clip in sorted(CLIPS.glob("*.mp4"))[:COUNT]:
        capture = cv2.VideoCapture(str(clip))
        for _ in range(60):
            capture.grab()
        grabbed, frame = capture.retrieve()
        if grabbed:
            small = cv2.resize(frame, (INPUT_WIDTH, INPUT_HEIGHT), interpolation=cv2.INTER_AREA)
            found.append(np.ascontiguousarray(small[:, :, ::-1]))
    for seed in range(COUNT - len(found)):
        rng = np.random.default_rng(seed)
        image = cv2.GaussianBlur(rng.normal(128, 60, (INPUT_HEIGHT, INPUT_WIDTH, 3)), (15, 15), 5) * 3 - 256
        for _ in range(20):
            left, top = int(rng.integers(0, INPUT_WIDTH)), int(rng.integers(0, INPUT_HEIGHT))
            corner = (left + int(rng.integers(9, 90)), top + int(rng.integers(9, 200)))
            cv2.rectangle(image, (left, top), corner, [int(v) for v in rng.integers(0, 255, 3)], -1)
        found.append(np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8))
    return found


def opencv() -> cv2.HOGDescriptor:
    descriptor = cv2.HOGDescriptor()
    descriptor.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
    return descriptor


def disagreement(descriptor: cv2.HOGDescriptor, images: list[np.ndarray]) -> tuple[float, float]:
    """Median and largest difference of the scores of all windows, over pictures and levels."""
    model = HogPeople([(1.0, 16)], like_opencv=True)
    apart = []
    for image in images:
        for scale, padding in fitting(levels()):
            level = cv2.resize(image, None, fx=1 / scale, fy=1 / scale)
            theirs = descriptor.detect(
                np.ascontiguousarray(level[:, :, ::-1]), hitThreshold=-100, winStride=(8, 8), padding=(padding, padding)
            )[1]
            with torch.inference_mode():
                ours = model.score_map(torch.from_numpy(level).permute(2, 0, 1)[None], padding)
            apart.append(np.abs(ours.numpy().ravel() - np.ravel(theirs)))
    values = np.concatenate(apart)
    return float(np.median(values)), float(values.max())


def fitting(pyramid: list[tuple[float, int]]) -> list[tuple[float, int]]:
    return [(scale, pad) for scale, pad in pyramid if round(INPUT_HEIGHT / scale) + 2 * pad >= 128]


def level_by_level(descriptor: cv2.HOGDescriptor, image: np.ndarray) -> None:
    for scale, padding in fitting(levels()):
        size = (round(INPUT_WIDTH / scale), round(INPUT_HEIGHT / scale))
        level = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)
        descriptor.detect(level, hitThreshold=THRESHOLD, winStride=(8, 8), padding=(padding, padding))


def multiscale(descriptor: cv2.HOGDescriptor, image: np.ndarray) -> None:
    descriptor.detectMultiScale(
        image, hitThreshold=0.0, winStride=(8, 8), padding=(16, 16), scale=STEP, groupThreshold=2
    )


def measure(images: list[np.ndarray], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds per picture of each way: least and median."""
    descriptor = opencv()
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    model = build_people()
    plain = torch.jit.script(HogPeople([(STEP**k, 16) for k in range(8)], 0.0).eval())  # detectMultiScale stops there
    rows = model(batch)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "ours_batch_1": (1, lambda: model(batch[:1])),
        "opencv_same_levels": (1, lambda: level_by_level(descriptor, images[0])),
        "ours_batch_4": (4, lambda: model(batch)),
        "ours_plain_pyramid": (1, lambda: plain(batch[:1])),
        "opencv_detect_multi_scale": (1, lambda: multiscale(descriptor, images[0])),
        "ours_decode": (4, lambda: decode_people(rows, 0.4, 0.5)),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 3):
        for name, (count, way) in ways.items():
            began = time.thread_time_ns()
            way()
            if number >= 3:  # TorchScript settles in its first calls
                taken[name].append((time.thread_time_ns() - began) / 1e6 / count)
    return {name: {"least": min(values), "median": statistics.median(values)} for name, values in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.people", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    images = pictures()
    middle, largest = disagreement(opencv(), images)
    if middle > 1e-3 or largest > 0.03:
        print(f"scores differ from OpenCV's: median {middle:.2g}, largest {largest:.2g}; not timed", file=sys.stderr)
        return 1
    with torch.inference_mode():
        times = measure(images, options.rounds)
    least = {name: value["least"] for name, value in times.items()}
    ratios = {
        "same_levels": least["opencv_same_levels"] / least["ours_batch_1"],
        "plain_pyramid": least["opencv_detect_multi_scale"] / least["ours_plain_pyramid"],
    }
    if options.json:
        facts = {
            "picture": [INPUT_WIDTH, INPUT_HEIGHT],
            "levels": len(fitting(levels())),
            "agreement": {"median": middle, "largest": largest},
            "ms_per_picture": {name: {k: round(v, 2) for k, v in value.items()} for name, value in times.items()},
            "opencv_over_ours": {name: round(value, 2) for name, value in ratios.items()},
        }
        print(json.dumps(facts))
        return 0
    print(f"scores differ from OpenCV's by {middle:.1g} in the median, {largest:.1g} at most")
    for name, value in times.items():
        print(f"{name:<28}{value['least']:>8.2f} ms per picture (median {value['median']:.2f})")
    for name, value in ratios.items():
        print(f"OpenCV / ours, {name:<13}{value:>8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
