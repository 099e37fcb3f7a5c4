# SPDX-License-Identifier: Apache-2.0
"""Recall and precision of the built-in people detector on sample_videos/, at IoU 0.5.

Run it with ``python -m benchmarks.accuracy``. Without arguments the product detects through its Python interface; with
``--results DIR`` the files of an earlier ``pipeline replay --out DIR`` are scored (``<stream>.jsonl``, else
``<stream>.mot.txt``). A person counts who is at least 80 px tall in a picture 360 px high (in proportion in larger
ones) and at most 40 % hidden; detections on others count neither way.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring import EMPTY, Boxes, Score, Truth, read_detections, read_truth, score_frame

CLIPS = Path(__file__).resolve().parent.parent / "sample_videos"
Found = tuple[str, int, Boxes, Boxes]
"""Stream, frame from 0, xyxy (n, 4), confidence (n,)."""


def detect(videos: list[Path], model: str, fps: float | None = None, **options: Any) -> Iterator[Found]:
    """Replay the videos through the product; ``fps`` thins them."""
    import pipeline

    for result in pipeline.replay(videos, model=model, fps=fps, **options):
        found = result.detections
        yield result.stream, result.frame, np.asarray(found.xyxy, float), np.asarray(found.confidence, float)


def read(folder: Path, names: list[str]) -> Iterator[Found]:
    """Results that a replay left in a folder. Raises FileNotFoundError where a stream has none."""
    for name in names:
        lines, table = folder / f"{name}.jsonl", folder / f"{name}.mot.txt"
        if lines.exists():
            for line in lines.read_text().splitlines():
                record = json.loads(line)
                boxes = np.array([one["box"] for one in record["detections"]], float).reshape(-1, 4)
                yield name, record["frame"], boxes, np.array([one["confidence"] for one in record["detections"]])
        elif table.exists():
            for frame, (boxes, confidence) in read_detections(table).items():
                yield name, frame, boxes, confidence
        else:
            raise FileNotFoundError(f"{folder} holds neither {lines.name} nor {table.name}")


def measure(found: Iterator[Found], truths: dict[str, dict[int, Truth]], threshold: float = 0.5) -> dict[str, Score]:
    """Score per stream. Every frame that was processed counts; people in frames that are absent are not missed."""
    scores = {name: Score() for name in truths}
    for stream, frame, boxes, confidence in found:
        scores[stream] += score_frame(boxes, confidence, truths[stream].get(frame, EMPTY), threshold)
    return scores


def every_frame(found: Iterator[Found], truths: dict[str, dict[int, Truth]]) -> Iterator[Found]:
    """Results on file with the frames added in which nothing was found and which a MOT file therefore leaves out."""
    missing = {(stream, frame) for stream, frames in truths.items() for frame in frames}
    for one in found:
        missing.discard(one[:2])
        yield one
    for stream, frame in sorted(missing):
        yield stream, frame, np.zeros((0, 4)), np.zeros(0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, help="folder of an earlier replay; default: detect now")
    parser.add_argument("--model", default="builtin:people", help="what detects (default: %(default)s)")
    parser.add_argument("--fps", type=float, help="thin the clips to this rate (default: every frame)")
    parser.add_argument("--iou", type=float, default=0.5, help="least overlap of a hit (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    videos = sorted(CLIPS.glob("*.mp4"))
    truths = {video.stem: read_truth(video.with_suffix(".truth.txt")) for video in videos}
    if options.results is not None:
        found = every_frame(read(options.results, list(truths)), truths)
    else:
        found = detect(videos, options.model, options.fps)
    scores = measure(found, truths, options.iou)
    rows = {**scores, "total": sum(scores.values(), Score())}
    if options.json:
        facts = {
            name: {"recall": round(one.recall, 4), "precision": round(one.precision, 4)} for name, one in rows.items()
        }
        print(json.dumps({"iou": options.iou, "model": options.model, "streams": facts}))
    else:
        print(f"{'stream':<10}{'required':>9}{'found':>8}{'false':>8}{'recall':>9}{'precision':>11}")
        for name, one in rows.items():
            wanted = one.hits + one.misses
            print(f"{name:<10}{wanted:>9}{one.hits:>8}{one.false_alarms:>8}{one.recall:>9.3f}{one.precision:>11.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
