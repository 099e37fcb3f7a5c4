# SPDX-License-Identifier: Apache-2.0
"""Sinks: whether they work, and what they lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.ledger import SinkLedger
from pipeline.metrics.text import Family
from pipeline.redact import scrub

REASONS = ("overflow", "write_error", "failed", "shutdown")


def sink_metrics(sinks: Mapping[str, SinkLedger]) -> Iterator[Family]:
    """``pipeline_sink_info``, ``pipeline_sink_up`` and the counters of every sink."""
    info = Family("gauge", "pipeline_sink_info", "Where the sink writes; always 1", ["sink", "path"])
    up = Family("gauge", "pipeline_sink_up", "1 while the sink keeps what it is given", ["sink"])
    results = Family(
        "counter",
        "pipeline_sink_results",
        "Results that were meant for the sink, and those it kept",
        ["sink", "outcome"],
    )
    lost = Family("counter", "pipeline_sink_lost", "Results that the sink lost", ["sink", "reason"])
    events = Family(
        "counter",
        "pipeline_sink_events",
        "Events of streams that the sink was told, kept and lost",
        ["sink", "outcome"],
    )
    removed = Family(
        "counter", "pipeline_sink_segments_removed", "Segments of video that were removed to keep to limits", ["sink"]
    )
    for name, sink in sinks.items():
        info.add([name, scrub(sink.path)], 1.0)
        up.add([name], float(sink.state == "ok"))
        results.add([name, "received"], sink.received)
        results.add([name, "written"], sink.written)
        events.add([name, "received"], sink.events_received)
        events.add([name, "written"], sink.events_written)
        events.add([name, "lost"], sink.events_lost)
        segments = sink.removed()
        if segments is not None:
            removed.add([name], segments)
        counted = dict(sink.lost)
        for reason in dict.fromkeys((*REASONS, *counted)):
            lost.add([name, reason], counted.get(reason, 0))
    yield from (info, up, results, lost, events, removed)
