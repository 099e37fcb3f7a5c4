# SPDX-License-Identifier: Apache-2.0
"""The text that Prometheus scrapes, made from the ledger at each scrape: there is no second set of books."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from pipeline.ledger import Ledger
from pipeline.metrics.exemplars import Shown
from pipeline.metrics.model import model_metrics
from pipeline.metrics.sinks import sink_metrics
from pipeline.metrics.streams import stream_metrics
from pipeline.metrics.text import Family, Histograms, text
from pipeline.metrics.times import batch_metrics


class Watched(Protocol):
    """What is exported of a running daemon."""

    @property
    def ledger(self) -> Ledger | None:
        """The accounts, or None while nothing runs yet."""
        ...

    @property
    def reload_succeeded(self) -> bool:
        """Whether the configuration that was read last is the one that runs."""
        ...

    @property
    def reloads(self) -> Mapping[str, int]:
        """How often the configuration was read again, by outcome."""
        ...

    def facts(self) -> dict[str, Any]:
        """``model``: the one in use, and the attempts to swap it."""
        ...

    def waiting(self) -> dict[str, int]:
        """Network inputs that wait for the detector, per stream."""
        ...


def exposition(watched: Watched, now_ns: int, late: Shown | None = None) -> bytes:
    """All metrics in Prometheus' text format 0.0.4, UTF-8; with ``late`` in OpenMetrics 1.0.0, with exemplars.

    ``now_ns``: monotonic, for ages. ``late``: how late frames are shown, which are the exemplars.
    """
    return text(_families(watched, now_ns, late), openmetrics=late is not None)


def _families(watched: Watched, now_ns: int, late: Shown | None) -> Iterator[Family | Histograms]:
    yield _build_info()
    reload = Family(
        "gauge",
        "pipeline_config_last_reload_success",
        "1: the configuration read last is the one that runs; 0: it was refused",
    )
    reload.add([], float(watched.reload_succeeded))
    yield reload
    reloads = Family(
        "counter",
        "pipeline_config_reloads",
        "Times that the configuration was read again while it runs: taken, or refused as a whole",
        ["outcome"],
    )
    for outcome, times in watched.reloads.items():
        reloads.add([outcome], times)
    yield reloads
    yield from model_metrics(watched.facts().get("model", {}))
    ledger = watched.ledger
    if ledger is None:
        return
    yield from stream_metrics(ledger, watched.waiting(), now_ns, late)
    yield batch_metrics(ledger.batches())
    yield from sink_metrics(ledger.sinks)


def _build_info() -> Family:
    labels = {"version": _version("video-pipeline"), "torch": _version("torch"), "av": _version("av")}
    labels["python"] = platform.python_version()
    info = Family("gauge", "pipeline_build_info", "Versions of what runs; always 1", list(labels))
    info.add(list(labels.values()), 1.0)
    return info


@cache
def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
