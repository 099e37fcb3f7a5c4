# SPDX-License-Identifier: Apache-2.0
"""The model in use, and what came of attempts to put another one in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from pipeline.metrics.text import Family
from pipeline.redact import scrub

OUTCOMES = ("done", "unchanged", "refused", "superseded", "stopped")


def model_metrics(model: Mapping[str, Any]) -> Iterator[Family]:
    """``pipeline_model_info`` and ``pipeline_model_swaps_total``; nothing while no model is loaded."""
    if not model:
        return
    digest = str(model.get("sha256") or "")[:12]
    labels = {"model": scrub(PurePath(str(model.get("path") or "")).name), "sha256": digest}
    labels |= {key: str(model.get(key) or "") for key in ("adapter", "device", "precision")}
    info = Family("gauge", "pipeline_model_info", "The model in use; always 1", list(labels))
    info.add(list(labels.values()), 1.0)
    swaps = Family("counter", "pipeline_model_swaps", "Attempts to put another model in while it runs", ["outcome"])
    counted = model.get("swaps_by_outcome", {})
    for outcome in OUTCOMES:
        swaps.add([outcome], counted.get(outcome, 0))
    yield from (info, swaps)
