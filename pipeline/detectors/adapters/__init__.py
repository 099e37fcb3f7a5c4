# SPDX-License-Identifier: Apache-2.0
"""One file per family of detectors."""

from typing import Any

from pipeline.detectors.adapter import Adapter
from pipeline.detectors.adapters.family import Family, Options
from pipeline.detectors.adapters.heatmap import HEATMAP, Heatmap
from pipeline.detectors.adapters.nanodet import NANODET, Nanodet
from pipeline.detectors.adapters.queries import DETR, RFDETR, RTDETR, Queries, Rtdetr
from pipeline.detectors.adapters.rows import ROWS, Rows
from pipeline.detectors.adapters.torchvision import TORCHVISION, Torchvision
from pipeline.detectors.adapters.ultralytics import ULTRALYTICS, Ultralytics
from pipeline.detectors.adapters.yolov5 import YOLOV5, Yolov5
from pipeline.detectors.adapters.yolox import YOLOX, Yolox
from pipeline.detectors.preprocessing import BYTES
from pipeline.frame import InputSpec


def _people(outputs: Any, spec: InputSpec, options: Options) -> Adapter:
    from pipeline.detectors.adapters.people import People  # its tables are not needed for any other model

    return People()


ADAPTERS: dict[str, Family] = {
    family.name: family
    for family in (
        ULTRALYTICS, YOLOV5, YOLOX, NANODET, ROWS, TORCHVISION, RTDETR, RFDETR, DETR, HEATMAP,
        Family("people", BYTES, _people),
    )
}  # fmt: skip
"""By their names in ``model.adapter``."""

__all__ = [
    "ADAPTERS",
    "Family",
    "Heatmap",
    "Nanodet",
    "Queries",
    "Rows",
    "Rtdetr",
    "Torchvision",
    "Ultralytics",
    "Yolov5",
    "Yolox",
]
