# SPDX-License-Identifier: Apache-2.0
"""Streams: frames, losses, times, jitter, age and state. Labels are names, reasons and causes of closed sets only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.frame import DropReason
from pipeline.ledger import BLAMED, Distribution, Ledger, StreamLedger, StreamState
from pipeline.metrics.exemplars import exemplars
from pipeline.metrics.text import Histograms
from pipeline.metrics.times import add_times, times
from pipeline.timing import Anchor

_STATES: tuple[str, ...] = get_args(StreamState)
_REASONS: tuple[str, ...] = get_args(DropReason)


def stream_metrics(
    ledger: Ledger, waiting: Mapping[str, int], now_ns: int, anchor: Anchor | None = None
) -> Iterator[Metric | Histograms]:
    """Everything with the label ``stream``. Earlier lives of a name (``name~1``) are left out.

    With an ``anchor``, which tells when that was, histograms show frames that were late.
    """
    streams = [account for name, account in list(ledger.streams.items()) if name == account.name]
    yield from _counts(streams)
    yield from _states(streams, waiting, ledger.start_ns, now_ns)
    yield from _times(streams, anchor)


def _counts(streams: list[StreamLedger]) -> Iterator[Metric]:
    frames = CounterMetricFamily(
        "pipeline_frames", "Frames delivered by the decoder, and what came of them", labels=["stream", "outcome"]
    )
    drops = CounterMetricFamily("pipeline_drops", "Frames lost, by reason", labels=["stream", "reason"])
    reconnects = CounterMetricFamily(
        "pipeline_reconnects", "Connections after the first, by what ended the one before", labels=["stream", "cause"]
    )
    errors = CounterMetricFamily("pipeline_decode_errors", "Packets that the decoder refused", labels=["stream"])
    stalls = CounterMetricFamily("pipeline_stalls", "Times that the stream stood still", labels=["stream"])
    params = CounterMetricFamily("pipeline_param_changes", "Changes of picture size or codec", labels=["stream"])
    breaks = CounterMetricFamily("pipeline_discontinuities", "Breaks in the time stamps", labels=["stream"])
    events = CounterMetricFamily(
        "pipeline_stream_events", "Events told of the stream, by kind and cause", labels=["stream", "event", "cause"]
    )
    late = CounterMetricFamily(
        "pipeline_late_frames", "Frames that took too long, by the part that made them late", labels=["stream", "part"]
    )
    for account in streams:
        name = account.name
        for outcome, count in (
            ("decoded", account.decoded),
            ("processed", account.processed),
            ("corrupt", account.corrupt),
            ("decimated", account.decimated),
        ):
            frames.add_metric([name, outcome], count)
        lost = dict(account.dropped)
        for reason in _REASONS:
            drops.add_metric([name, reason], lost.get(reason, 0))
        for cause, count in dict(account.counters.reconnects_by_cause).items():
            reconnects.add_metric([name, cause], count)
        errors.add_metric([name], account.counters.decode_errors)
        stalls.add_metric([name], account.life.stalls)
        params.add_metric([name], account.life.param_changes)
        breaks.add_metric([name], account.counters.discontinuities)
        for (kind, why), count in dict(account.life.told).items():
            events.add_metric([name, kind, why], count)
        blamed = account.times.blamed()
        for part in BLAMED:
            late.add_metric([name, part], blamed[part])
    yield from (frames, drops, reconnects, errors, stalls, params, breaks, events, late)


def _states(streams: list[StreamLedger], waiting: Mapping[str, int], start_ns: int, now_ns: int) -> Iterator[Metric]:
    up = GaugeMetricFamily("pipeline_stream_up", "1 while the stream is live", labels=["stream"])
    state = GaugeMetricFamily(
        "pipeline_stream_state", "1 for the state that the stream is in", labels=["stream", "state"]
    )
    age = GaugeMetricFamily(
        "pipeline_result_age_seconds",
        "Time since the newest result, or without any since the stream was added",
        labels=["stream"],
    )
    still = GaugeMetricFamily(
        "pipeline_picture_still_seconds", "For how long all frames have shown the same picture", labels=["stream"]
    )
    queue = GaugeMetricFamily("pipeline_queue_frames", "Frames that wait for the detector", labels=["stream"])
    for account in streams:
        up.add_metric([account.name], float(account.state == "live"))
        for each in _STATES:
            state.add_metric([account.name, each], float(account.state == each))
        since_ns = account.last_result_ns or max(start_ns, account.awaited_ns)
        age.add_metric([account.name], max(0, now_ns - since_ns) / 1e9)
        still.add_metric([account.name], account.still_ns / 1e9)
        queue.add_metric([account.name], waiting.get(account.name, 0))
    yield from (up, state, age, still, queue)


def _times(streams: list[StreamLedger], anchor: Anchor | None) -> Iterator[Metric | Histograms]:
    stages = times("pipeline_stage_seconds", "Time of a frame in each stage", ("stream", "stage"))
    whole = times("pipeline_end_to_end_seconds", "From the packet's arrival to the last sink", ("stream",))
    jitter = GaugeMetricFamily(
        "pipeline_jitter_seconds",
        "Of arrivals, of the intervals between results, of each stage's duration, p99 - p50 of that (delay_variation); "
        "transit and interval at the exit of each part, and what the part added to those of the exit before",
        labels=["stream", "stage", "kind"],
    )
    for account in streams:
        name = account.name
        if account.arrival_jitter_ns is not None:
            jitter.add_metric([name, "decode", "arrival"], account.arrival_jitter_ns / 1e9)
        if account.departure_jitter_ns is not None:
            jitter.add_metric([name, "follow", "departure"], account.departure_jitter_ns / 1e9)
        for part, figures in account.times.exits().items():
            for kind in ("transit", "transit_added", "interval", "interval_added"):
                if figures[f"{kind}_ms"] is not None:
                    jitter.add_metric([name, part, kind], figures[f"{kind}_ms"] / 1e3)
        latency = account.latency()
        shown = {} if anchor is None else exemplars(account.times.lateness().newest, anchor)
        for stage, told in latency.stages.items():
            add_times(stages, [name, stage], told.histogram, shown.get(stage, ()))
            _unsteady(jitter, name, stage, told)
        if latency.frames:
            add_times(whole, [name], latency.end_to_end.histogram, shown.get("end_to_end", ()))
            _unsteady(jitter, name, "end_to_end", latency.end_to_end)
    yield from (stages, whole, jitter)


def _unsteady(jitter: GaugeMetricFamily, stream: str, stage: str, told: Distribution) -> None:
    p50, p99 = told.histogram.percentiles((50, 99))
    jitter.add_metric([stream, stage, "duration"], told.jitter_ns / 1e9)
    jitter.add_metric([stream, stage, "delay_variation"], (p99 - p50) / 1e9)
