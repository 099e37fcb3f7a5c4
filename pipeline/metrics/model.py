# SPDX-License-Identifier: Apache-2.0
"""The model in use, and what came of attempts to put another one in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.redact import scrub

OUTCOMES = ("done", "unchanged", "refused", "superseded", "stopped")


def model_metrics(model: Mapping[str, Any]) -> Iterator[Metric]:
    """``pipeline_model_info`` and ``pipeline_model_swaps_total``; nothing while no model is loaded."""
    if not model:
        return
    digest = str(model.get("sha256") or "")[:12]
    labels = {"model": scrub(PurePath(str(model.get("path") or "")).name), "sha256": digest}
    labels |= {key: str(model.get(key) or "") for key in ("adapter", "device", "precision")}
    info = GaugeMetricFamily("pipeline_model_info", "The model in use; always 1", labels=list(labels))
    info.add_metric(list(labels.values()), 1.0)
    swaps = CounterMetricFamily(
        "pipeline_model_swaps", "Attempts to put another model in while it runs", labels=["outcome"]
    )
    counted = model.get("swaps_by_outcome", {})
    for outcome in OUTCOMES:
        swaps.add_metric([outcome], counted.get(outcome, 0))
    yield from (info, swaps)
