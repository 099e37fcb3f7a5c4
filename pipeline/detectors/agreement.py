# SPDX-License-Identifier: Apache-2.0
"""How far two detectors agree on the same frames: matched boxes, and average precision of one against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.frame import Detections, FloatArray

Floats = npt.NDArray[np.float64]

MATCH_AT: Final = (0.9, 0.75, 0.5)
"""IoU from which two boxes count as the same."""

_COCO_IOU: Final = np.linspace(0.5, 0.95, 10)
_RECALLS: Final = np.linspace(0.0, 1.0, 101)
_MAX_DETECTIONS: Final = 100  # per frame and class, as COCO counts


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """One class. Attributes as of :class:`Agreement`; the average precisions are None where A never found it."""

    class_id: int
    count_a: int
    count_b: int
    matched: dict[float, float]
    ap50: float | None
    ap: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two runs over the same frames have in common.

    Attributes:
        frames: how many were looked at.
        count_a, count_b: detections in all.
        matched: IoU threshold -> pairs of one class and frame that overlap by at least that much, as a share of the
            larger count; 1.0 where neither found anything.
        map50, map: mean average precision of B with A's detections as the truth, at IoU 0.5 and averaged over 0.5 to
            0.95 (COCO's definition: 101 recall points, 100 detections per frame and class); None where A found nothing.
        classes: the same per class, in order of class id.
        per_frame: share matched at IoU 0.75, per frame.
    """

    frames: int
    count_a: int
    count_b: int
    matched: dict[float, float]
    map50: float | None
    map: float | None
    classes: tuple[ClassAgreement, ...]
    per_frame: tuple[float, ...]

    def worst(self, count: int) -> list[int]:
        """Indices of the frames that agree least, the worst first; frames that agree wholly are not among them."""
        order = sorted(range(self.frames), key=lambda index: (self.per_frame[index], index))
        return [index for index in order if self.per_frame[index] < 1.0][:count]

    def as_dict(self, labels: dict[int, str]) -> dict[str, Any]:
        """For JSON."""
        return {
            "frames": self.frames,
            "detections": {"a": self.count_a, "b": self.count_b},
            "matched": {f"{threshold:g}": round(share, 6) for threshold, share in self.matched.items()},
            "map50": _rounded(self.map50),
            "map": _rounded(self.map),
            "classes": [
                {
                    "class_id": row.class_id,
                    "label": labels.get(row.class_id, str(row.class_id)),
                    "detections": {"a": row.count_a, "b": row.count_b},
                    "matched": {f"{threshold:g}": round(share, 6) for threshold, share in row.matched.items()},
                    "ap50": _rounded(row.ap50),
                    "ap": _rounded(row.ap),
                }
                for row in self.classes
            ],
        }


def agreement(a: Sequence[Detections], b: Sequence[Detections]) -> Agreement:
    """Compare two runs over the same frames; raises ValueError where their lengths differ."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} frames against {len(b)}; the same frames were expected")
    ids = sorted({int(class_id) for found in (*a, *b) for class_id in np.unique(found.class_id)})
    classes = []
    pairs = {threshold: np.zeros(len(a), np.int64) for threshold in MATCH_AT}
    for class_id in ids:
        ours, theirs = [_of(found, class_id) for found in a], [_of(found, class_id) for found in b]
        overlaps = [iou_of_pairs(one.xyxy, other.xyxy) for one, other in zip(ours, theirs, strict=True)]
        count_a, count_b = sum(map(len, ours)), sum(map(len, theirs))
        matched = {}
        for threshold in MATCH_AT:
            found = np.array([_pairs(overlap, threshold) for overlap in overlaps], np.int64)
            pairs[threshold] += found
            matched[threshold] = _share(int(found.sum()), count_a, count_b)
        precisions = _average_precisions(ours, theirs)
        classes.append(
            ClassAgreement(
                class_id,
                count_a,
                count_b,
                matched,
                None if precisions is None else float(precisions[0]),
                None if precisions is None else float(precisions.mean()),
            )
        )
    count_a, count_b = sum(map(len, a)), sum(map(len, b))
    known = [row for row in classes if row.ap is not None and row.ap50 is not None]
    return Agreement(
        len(a),
        count_a,
        count_b,
        {threshold: _share(int(found.sum()), count_a, count_b) for threshold, found in pairs.items()},
        float(np.mean([row.ap50 for row in known])) if known else None,
        float(np.mean([row.ap for row in known])) if known else None,
        tuple(classes),
        tuple(_share(int(count), len(one), len(other)) for count, one, other in zip(pairs[0.75], a, b, strict=True)),
    )


def renamed(found: Sequence[Detections], labels: Mapping[int, str], wanted: Mapping[int, str]) -> list[Detections]:
    """The detections with the class ids of another model, where both name their classes but number them otherwise.

    A class whose name the other model does not have gets an id that it does not use.
    """
    if not labels or not wanted or dict(labels) == dict(wanted):
        return list(found)
    ids = {name: class_id for class_id, name in wanted.items()}
    free = max(wanted) + 1
    table = {class_id: ids.get(name, free + class_id) for class_id, name in labels.items()}
    return [
        replace(one, class_id=np.array([table.get(c, free + c) for c in one.class_id.tolist()], np.int64))
        for one in found
    ]


def _share(matched: int, count_a: int, count_b: int) -> float:
    most = max(count_a, count_b)
    return matched / most if most else 1.0


def _pairs(overlap: Floats, threshold: float) -> int:
    """Greedy: the pair that overlaps most is matched first; each box is used once."""
    free = overlap.copy()
    count = 0
    while free.size:
        row, column = np.unravel_index(int(free.argmax()), free.shape)
        if free[row, column] < threshold:
            break
        free[row, :] = free[:, column] = -1.0
        count += 1
    return count


def _average_precisions(truth: Sequence[Detections], found: Sequence[Detections]) -> Floats | None:
    """Average precision of one class at ten IoU thresholds, (10,), as pycocotools' ``COCOeval`` computes it."""
    total = sum(map(len, truth))
    if not total:
        return None
    scores: list[FloatArray] = []
    hits: list[npt.NDArray[np.bool_]] = []
    for true, seen in zip(truth, found, strict=True):
        order = np.argsort(-seen.confidence, kind="mergesort")[:_MAX_DETECTIONS]
        overlap = iou_of_pairs(seen.xyxy[order], true.xyxy)
        scores.append(seen.confidence[order])
        hits.append(np.stack([_claims(overlap, threshold) for threshold in _COCO_IOU]))
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    right = np.concatenate(hits, axis=1)[:, order]
    result = np.zeros(len(_COCO_IOU))
    for index, row in enumerate(right):
        true_positives = np.cumsum(row)
        recall = true_positives / total
        precision = true_positives / np.arange(1, len(row) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(recall, _RECALLS, side="left")
        result[index] = np.append(envelope, 0.0)[np.minimum(reached, len(envelope))].mean()
    return result


def _claims(overlap: Floats, threshold: float) -> npt.NDArray[np.bool_]:
    """Each detection, surest first, claims the free true box that it overlaps most, if by enough: which ones did."""
    claimed = np.zeros(overlap.shape[0], np.bool_)
    free = overlap.copy()
    for row in range(overlap.shape[0] if overlap.shape[1] else 0):
        # Of equal overlaps COCO takes the last one.
        best = overlap.shape[1] - 1 - int(free[row, ::-1].argmax())
        if free[row, best] >= min(threshold, 1 - 1e-10):
            free[:, best] = -1.0
            claimed[row] = True
    return claimed


def _of(found: Detections, class_id: int) -> Detections:
    keep = found.class_id == class_id
    return Detections(found.xyxy[keep], found.confidence[keep], found.class_id[keep])


def iou_of_pairs(a: FloatArray, b: FloatArray) -> Floats:
    """Intersection over union of all pairs of boxes (n, 4) and (m, 4), xyxy: (n, m)."""
    one, other = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.clip(sides, 0.0, None).prod(-1)
    areas = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - shared
    result: Floats = np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)
    return result


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
