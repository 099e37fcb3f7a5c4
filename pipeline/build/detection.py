# SPDX-License-Identifier: Apache-2.0
"""The detector that the configuration asks for, and how many batches and threads it gets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import cv2

from pipeline.config.detection import ModelConfig
from pipeline.detectors import build_detector
from pipeline.detectors.adapter import Limits
from pipeline.detectors.engine import TorchScriptDetector
from pipeline.detectors.names import choose_classes
from pipeline.detectors.tuned import Fixed, Tuned, recall
from pipeline.host.cores import allowed_cores

_log = logging.getLogger(__name__)

USUAL_BATCH = 8
"""Most frames in one batch of the daemon, where nobody set or measured it."""


def detector(model: ModelConfig, *, max_batch: int, tuned: Tuned | None = None) -> TorchScriptDetector:
    """Load the model and make it ready to be warmed, as was measured to be fastest where that is given.

    Raises ModelLoadError or ConfigError.
    """
    # The pipeline's own threads are the parallelism: OpenCV's pool would fight with them for the cores.
    cv2.setNumThreads(1)
    return build_detector(
        model.path,
        **detector_arguments(model),
        device=model.device,
        precision=model.precision if tuned is None else tuned.recipe.precision,
        max_batch=max_batch,
        recipe=None if tuned is None else tuned.recipe,
        whole_batches=tuned is not None,
        threads=1 if tuned is None else tuned.threads,
    )


def detector_arguments(model: ModelConfig) -> dict[str, Any]:
    """What the configuration says of the model, but for how it is to be run; fit for JSON."""
    return {
        "adapter": model.adapter,
        "adapter_options": model.adapter_options,
        "input_spec": None if model.input_spec is None else model.input_spec.model_dump(exclude_none=True),
        "input_size": model.input,
        "trim": model.trim,
        "confidence": model.confidence,
        "iou": model.iou,
        "classes": model.classes,
        "names": model.names,
        "sha256": model.sha256,
        "max_detections": model.max_detections,
    }


def limits(model: ModelConfig, labels: Mapping[int, str]) -> Limits:
    """What counts as a detection; raises ConfigError for a class that is not among ``labels``."""
    return Limits(model.confidence, model.iou, choose_classes(model.classes, labels), model.max_detections)


def tuned_key(model: ModelConfig) -> dict[str, Any]:
    """Of the configuration, what a measurement depends on."""
    names = ("adapter", "adapter_options", "input_spec", "input_size", "trim")
    arguments = detector_arguments(model)
    return {name: arguments[name] for name in names}


def tuned(model: ModelConfig, *, batch: int | str, workers: int | str) -> Tuned | None:
    """What ``model tune`` found to be fastest here, within what is set explicitly; None where nobody measured.

    Raises ModelLoadError where there is no such device.
    """
    if not model.tuned:
        return None
    fixed = Fixed(
        None if model.precision == "auto" else model.precision,
        batch if isinstance(batch, int) else None,
        workers if isinstance(workers, int) else None,
    )
    found = recall(model.path, model.device, tuned_key(model), fixed)
    if found is not None:
        _log.info("%s: run as measured on %s: %s (%s)", model.path, found.created, found.name, found.entry)
    return found


def tuned_facts(model: ModelConfig, tuned: Tuned | None) -> dict[str, Any]:
    """For the model's section of a report: whether a measured choice was to be used, and which one changed what."""
    return {"use_tuned": model.tuned, "tuned": None if tuned is None else tuned.as_dict()}


def batch_size(wanted: int | str, tuned: Tuned | None, usual: int) -> int:
    """Frames per batch: as set, else as measured, else ``usual``."""
    if isinstance(wanted, int):
        return wanted
    return usual if tuned is None else tuned.batch


def workers(wanted: int | str, device: str, tuned: Tuned | None = None) -> int:
    """Detect threads: as measured, else on a CPU one per core with one intra-op thread each, on a GPU one."""
    if isinstance(wanted, int):
        return wanted
    if tuned is not None:
        return tuned.workers
    return allowed_cores() if device == "cpu" else 1
