# SPDX-License-Identifier: Apache-2.0
"""Sinks: whether they work, and what they lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.ledger import SinkLedger

REASONS = ("overflow", "write_error", "failed", "shutdown")


def sink_metrics(sinks: Mapping[str, SinkLedger]) -> Iterator[Metric]:
    """``pipeline_sink_up`` and the counters of every sink."""
    up = GaugeMetricFamily("pipeline_sink_up", "1 while the sink keeps what it is given", labels=["sink"])
    results = CounterMetricFamily(
        "pipeline_sink_results", "Results that were meant for the sink, and those it kept", labels=["sink", "outcome"]
    )
    lost = CounterMetricFamily("pipeline_sink_lost", "Results that the sink lost", labels=["sink", "reason"])
    events = CounterMetricFamily(
        "pipeline_sink_events", "Events of streams that the sink was told, kept and lost", labels=["sink", "outcome"]
    )
    for name, sink in sinks.items():
        up.add_metric([name], float(sink.state == "ok"))
        results.add_metric([name, "received"], sink.received)
        results.add_metric([name, "written"], sink.written)
        events.add_metric([name, "received"], sink.events_received)
        events.add_metric([name, "written"], sink.events_written)
        events.add_metric([name, "lost"], sink.events_lost)
        counted = dict(sink.lost)
        for reason in dict.fromkeys((*REASONS, *counted)):
            lost.add_metric([name, reason], counted.get(reason, 0))
    yield from (up, results, lost, events)
