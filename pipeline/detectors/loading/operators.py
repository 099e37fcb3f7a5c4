# SPDX-License-Identifier: Apache-2.0
"""torchvision's compiled operators: detectors contain them, and suppression of overlaps uses one of them."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.detectors.torch_messages import one_line
from pipeline.frame import IntArray

_log = logging.getLogger(__name__)

Suppress = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


@functools.cache
def suppress_operator() -> Suppress:
    """Register torchvision's operators, once per process, and return its non-maximum suppression.

    Only the library with the operators is loaded. ``import torchvision`` would load the same one, and TorchDynamo
    besides: 1.8 s of CPU time that no TorchScript file needs. It is the way out where the library is not found. Where
    torchvision does not fit torch at all, NumPy suppresses, and models that contain its operators cannot be loaded.

    Returns:
        a function of boxes (k, 4), scores (k,) and the largest overlap that gives the indices that stay, int64 (n,).
    """
    if not _registered() and not _load_library():
        try:
            importlib.import_module("torchvision")
        except (ImportError, RuntimeError, AttributeError) as exc:
            _log.warning("torchvision does not work with torch %s: %s", torch.__version__, one_line(exc))
    if _registered():
        operator: Suppress = torch.ops.torchvision.nms
        return operator
    return lambda boxes, scores, iou: torch.from_numpy(greedy(boxes.numpy(), scores.numpy(), iou))


def _registered() -> bool:
    return hasattr(torch.ops.torchvision, "nms")


def _load_library() -> bool:
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in sorted(Path(folder).glob("_C*.so")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except (OSError, RuntimeError) as exc:
                _log.debug("%s: %s", library, one_line(exc))
            else:
                return _registered()
    return False


def greedy(boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], iou: float) -> IntArray:
    """The same in NumPy; time grows with boxes times kept boxes."""
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        corner = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.clip(corner, 0.0, None).prod(1)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= iou]
    return np.array(kept, np.int64)
