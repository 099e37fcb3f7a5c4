# SPDX-License-Identifier: Apache-2.0
"""One file per family of detectors."""

from pipeline.detectors.adapter import BYTES, UNIT, UNIT_LIST, Encoding
from pipeline.detectors.adapters.rows import Rows
from pipeline.detectors.adapters.torchvision import Torchvision
from pipeline.detectors.adapters.ultralytics import Ultralytics
from pipeline.detectors.adapters.yolov5 import Yolov5

ADAPTERS: dict[str, Encoding] = {
    "ultralytics": UNIT,
    "yolov5": UNIT,
    "rows": UNIT,
    "torchvision": UNIT_LIST,
    "people": BYTES,
}
"""Names for ``model.adapter``, and how each is fed."""

__all__ = ["ADAPTERS", "Rows", "Torchvision", "Ultralytics", "Yolov5"]
