# SPDX-License-Identifier: Apache-2.0
"""Recall and precision of detections against truth with regions that do not count. Pure: arrays in, counts out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truth:
    """Ground truth of one frame: `required` (n, 4) must be found, `ignored` (m, 4) may be; xyxy in pixels."""

    required: Boxes
    ignored: Boxes


@dataclass(frozen=True, slots=True)
class Score:
    """Counts over any number of frames; they add."""

    hits: int = 0
    misses: int = 0
    false_alarms: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.hits + other.hits, self.misses + other.misses, self.false_alarms + other.false_alarms)

    @property
    def recall(self) -> float:
        """Share of required people that were found; 1 where none was required."""
        wanted = self.hits + self.misses
        return self.hits / wanted if wanted else 1.0

    @property
    def precision(self) -> float:
        """Share of counting detections that are right; 1 where there was none."""
        given = self.hits + self.false_alarms
        return self.hits / given if given else 1.0


def iou(first: Boxes, second: Boxes) -> Boxes:
    """Intersection over union of every pair; (n, 4) and (m, 4) xyxy to (n, m)."""
    overlap = _overlap(first, second)
    total = _area(first)[:, None] + _area(second)[None] - overlap
    return np.divide(overlap, total, out=np.zeros_like(overlap), where=total > 0)


def score_frame(found: Boxes, confidence: NDArray[np.float64], truth: Truth, threshold: float = 0.5) -> Score:
    """Match detections with the truth of one frame.

    As in the Caltech pedestrian benchmark (Dollar et al., 2012): the surest detection chooses first and takes the free
    required person that it overlaps most, if IoU >= `threshold`. One that finds none but lies on an ignored person (IoU
    >= `threshold`, or at least half of the detection inside it) counts neither for nor against; the rest are
    false alarms, and required people left over are misses. `found` (n, 4) xyxy, `confidence` (n,).
    """
    order = np.argsort(-confidence, kind="stable")
    found = found.reshape(-1, 4)[order]
    overlaps = iou(found, truth.required)
    beside = iou(found, truth.ignored)
    inside = _overlap(found, truth.ignored) / np.maximum(_area(found), 1e-9)[:, None]
    taken: set[int] = set()
    false_alarms = 0
    for index in range(len(found)):
        free = [(overlap, person) for person, overlap in enumerate(overlaps[index]) if person not in taken]
        best, person = max(free, default=(0.0, -1))
        if best >= threshold:
            taken.add(person)
        elif not ((beside[index] >= threshold) | (inside[index] >= 0.5)).any():
            false_alarms += 1
    return Score(len(taken), len(truth.required) - len(taken), false_alarms)


def score(frames: Iterable[tuple[Boxes, NDArray[np.float64], Truth]], threshold: float = 0.5) -> Score:
    """The sum over frames of (boxes, confidence, truth)."""
    return sum((score_frame(*frame, threshold) for frame in frames), Score())


def read_truth(path: Path) -> dict[int, Truth]:
    """A MOTChallenge ground-truth file: frame (from 0) -> truth.

    Columns frame, id, left, top, width, height, counts, class, visibility; frames and pixels are numbered from 1 there.
    Raises ValueError with the line's number where a line has fewer than seven numbers.
    """
    required: dict[int, list[list[float]]] = {}
    ignored: dict[int, list[list[float]]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        values = [float(value) for value in line.split(",")] if line.strip() else []
        if not values:
            continue
        if len(values) < 7:
            raise ValueError(f"{path}:{number}: {len(values)} columns, expected frame,id,left,top,width,height,counts")
        target = required if values[6] else ignored
        target.setdefault(int(values[0]) - 1, []).append(_xyxy(values))
    frames = sorted({*required, *ignored})
    return {frame: Truth(_boxes(required.get(frame, [])), _boxes(ignored.get(frame, []))) for frame in frames}


def read_detections(path: Path) -> dict[int, tuple[Boxes, NDArray[np.float64]]]:
    """A MOTChallenge detections or results file: frame (from 0) -> (xyxy (n, 4), confidence (n,))."""
    rows: dict[int, list[list[float]]] = {}
    for line in path.read_text().splitlines():
        if line.strip():
            values = [float(value) for value in line.split(",")]
            rows.setdefault(int(values[0]) - 1, []).append([*_xyxy(values), values[6]])
    result = {}
    for frame, lines in rows.items():
        table = np.asarray(lines, np.float64)
        result[frame] = (table[:, :4], table[:, 4])
    return result


EMPTY = Truth(np.zeros((0, 4)), np.zeros((0, 4)))
"""The truth of a frame in which nobody is."""


def _xyxy(values: list[float]) -> list[float]:
    left, top, width, height = values[2] - 1, values[3] - 1, values[4], values[5]
    return [left, top, left + width, top + height]


def _boxes(rows: list[list[float]]) -> Boxes:
    return np.asarray(rows, np.float64).reshape(-1, 4)


def _area(boxes: Boxes) -> Boxes:
    return np.clip(boxes[:, 2] - boxes[:, 0], 0, None) * np.clip(boxes[:, 3] - boxes[:, 1], 0, None)


def _overlap(first: Boxes, second: Boxes) -> Boxes:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))
