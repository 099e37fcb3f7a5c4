# SPDX-License-Identifier: Apache-2.0
"""The model as a streams.yaml asks for it, and as it is once it has been loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.config.detection import BatchConfig, ModelConfig
from pipeline.daemon.watched import Signature

if TYPE_CHECKING:
    from pipeline.detectors.engine import TorchScriptDetector
    from pipeline.flow.stream import FlowOptions

LIMITS = frozenset({"confidence", "iou", "classes", "max_detections"})
"""Keys that say what counts as a detection: they apply to the detector that runs."""
BESIDE = frozenset({"timeout_s", "swap"})
"""Keys that say how a model is watched: they change nothing about it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the file asks for.

    Attributes:
        model, batch: its sections.
        file: tells one content of the model's file from another; None where there is no file.
    """

    model: ModelConfig
    batch: BatchConfig
    file: Signature | None

    @classmethod
    def of(cls, config: Config) -> Wanted:
        """By a configuration, and by the model's file as it is now."""
        try:
            stat = os.stat(config.model.path)
        except OSError:  # built in, or missing: loading it will say so
            return cls(config.model, config.batch, None)
        return cls(config.model, config.batch, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))

    def changed(self, other: Wanted) -> frozenset[str]:
        """Keys of the model that differ, but for those that change nothing about it; ``batch`` for that section."""
        keys = {key for key in ModelConfig.model_fields if getattr(self.model, key) != getattr(other.model, key)}
        return frozenset(keys - BESIDE | ({"batch"} if self.batch != other.batch else set()))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that was loaded and tried.

    Attributes:
        detector: not warm yet.
        options: how many frames go through it together, in how many workers.
        facts: the section of a report.
    """

    detector: TorchScriptDetector
    options: FlowOptions
    facts: dict[str, Any]


def load(wanted: Wanted) -> Loaded:
    """Load and try a model; raises ModelLoadError or ConfigError. A batch never holds more than the model takes."""
    from pipeline import build
    from pipeline.flow.stream import FlowOptions

    model, batch = wanted.model, wanted.batch
    tuned = build.tuned(model, batch=batch.max_size, workers=batch.workers)
    size = build.batch_size(batch.max_size, tuned, build.USUAL_BATCH)
    detector = build.detector(model, max_batch=size, tuned=tuned)
    facts = detector.model_info()
    size = min(size, detector.max_batch)
    workers = build.workers(batch.workers, facts["device"], tuned)
    return Loaded(
        detector,
        FlowOptions(batch_size=size, fixed_batch=False, max_wait_ms=batch.max_wait_ms, workers=workers),
        facts | {"max_batch": size, "workers": workers} | build.tuned_facts(model, tuned),
    )
