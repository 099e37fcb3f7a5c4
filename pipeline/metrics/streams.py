# SPDX-License-Identifier: Apache-2.0
"""Streams: frames, losses, times, jitter, age and state. Labels are names, reasons and causes of closed sets only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, get_args

from pipeline.frame import DropReason
from pipeline.ledger import BLAMED, SERIES, Latency, Ledger, Snapshot, StreamLedger, StreamState, StreamTimes
from pipeline.metrics.exemplars import Shown, exemplars
from pipeline.metrics.text import Family, Histograms
from pipeline.metrics.times import BOUNDS_NS, times
from pipeline.timing import WAITS

_OUTCOMES: Final = (("decoded",), ("processed",), ("corrupt",), ("decimated",))
_STATES: Final[list[tuple[str]]] = [(state,) for state in get_args(StreamState)]
_REASONS: Final[list[tuple[str]]] = [(reason,) for reason in get_args(DropReason)]
_BLAMED: Final = [(part,) for part in BLAMED]


def stream_metrics(
    ledger: Ledger, waiting: Mapping[str, int], now_ns: int, late: Shown | None = None
) -> Iterator[Family | Histograms]:
    """Everything with the label ``stream``. Earlier lives of a name (``name~1``) are left out.

    With ``late``, histograms show frames that were late.
    """
    streams = [account for name, account in list(ledger.streams.items()) if name == account.name]
    with ledger.held(streams, now_ns):
        yield from _counts(streams)
        yield from _states(streams, waiting, ledger.start_ns, now_ns)
        yield from _times(streams, late)


def _counts(streams: list[StreamLedger]) -> Iterator[Family]:
    frames = Family(
        "counter", "pipeline_frames", "Frames delivered by the decoder, and what came of them", ["stream", "outcome"]
    )
    found = Family("counter", "pipeline_detections", "Detections in all results", ["stream"])
    drops = Family("counter", "pipeline_drops", "Frames dropped, by reason", ["stream", "reason"])
    reconnects = Family(
        "counter",
        "pipeline_reconnects",
        "Connections after the first, by what ended the one before",
        ["stream", "cause"],
    )
    errors = Family("counter", "pipeline_decode_errors", "Packets that the decoder refused", ["stream"])
    stalls = Family("counter", "pipeline_stalls", "Times that the stream stood still", ["stream"])
    params = Family("counter", "pipeline_param_changes", "Changes of picture size or codec", ["stream"])
    breaks = Family("counter", "pipeline_discontinuities", "Breaks in the time stamps", ["stream"])
    again = Family("counter", "pipeline_duplicate_pictures", "Pictures identical to the one before", ["stream"])
    events = Family(
        "counter",
        "pipeline_stream_events",
        "Events told of the stream, by kind and cause",
        ["stream", "event", "cause"],
    )
    late = Family(
        "counter",
        "pipeline_late_frames",
        "Frames that took too long, by the part that made them late",
        ["stream", "part"],
    )
    held = Family("gauge", "pipeline_playout_delay_seconds", "How long results are held at the moment", ["stream"])
    missed = Family("counter", "pipeline_playout_late", "Results that were ready after their time", ["stream"])
    for account in streams:
        name = account.name
        if account.playout.delay is not None:
            held.add([name], account.playout.delay.delay_ns / 1e9)
            missed.add([name], account.playout.late)
        frames.add_all(name, _OUTCOMES, (account.decoded, account.processed, account.corrupt, account.decimated))
        found.add([name], account.detections)
        lost = account.dropped
        drops.add_all(name, _REASONS, [lost[reason] for (reason,) in _REASONS])
        for cause, count in dict(account.counters.reconnects_by_cause).items():
            reconnects.add([name, cause], count)
        errors.add([name], account.counters.decode_errors)
        stalls.add([name], account.life.stalls)
        params.add([name], account.life.param_changes)
        breaks.add([name], account.counters.discontinuities)
        again.add([name], account.counters.duplicates)
        for (kind, why), count in dict(account.life.told).items():
            events.add([name, kind, why], count)
        blamed = account.times.blamed()
        late.add_all(name, _BLAMED, [blamed[part] for (part,) in _BLAMED])
    yield from (frames, found, drops, reconnects, errors, stalls, params, breaks, again, events, late, held, missed)


def _states(streams: list[StreamLedger], waiting: Mapping[str, int], start_ns: int, now_ns: int) -> Iterator[Family]:
    up = Family("gauge", "pipeline_stream_up", "1 while the stream is live", ["stream"])
    state = Family("gauge", "pipeline_stream_state", "1 for the state that the stream is in", ["stream", "state"])
    age = Family(
        "gauge",
        "pipeline_result_age_seconds",
        "Time since the newest result, or without any since the stream was added",
        ["stream"],
    )
    still = Family(
        "gauge", "pipeline_picture_still_seconds", "For how long all frames have shown the same picture", ["stream"]
    )
    queue = Family("gauge", "pipeline_queue_frames", "Frames that wait for the detector", ["stream"])
    for account in streams:
        up.add([account.name], float(account.state == "live"))
        now = account.state
        state.add_all(account.name, _STATES, [float(now == each) for (each,) in _STATES])
        since_ns = account.last_result_ns or max(start_ns, account.awaited_ns)
        age.add([account.name], max(0, now_ns - since_ns) / 1e9)
        still.add([account.name], account.still_ns / 1e9)
        queue.add([account.name], waiting.get(account.name, 0))
    yield from (up, state, age, still, queue)


def _times(streams: list[StreamLedger], late: Shown | None) -> Iterator[Family | Histograms]:
    stages = times("pipeline_stage_seconds", "Time of a frame in each stage", ("stream", "stage"))
    whole = times("pipeline_end_to_end_seconds", "From the packet's arrival to the last sink", ("stream",))
    glass_to_result = times(
        "pipeline_capture_to_result_seconds", "From capture, by the camera's own clock, to the result", ("stream",)
    )
    jitter = Family(
        "gauge",
        "pipeline_jitter_seconds",
        "Of arrivals, of the intervals between results, of each stage's duration, p99 - p50 of that (delay_variation); "
        "transit and interval at the exit of each part, and what the part added to those of the exit before",
        ["stream", "stage", "kind"],
    )
    asked = [account.times for account in streams]
    all_told = StreamTimes.ask_all(asked, _told) if streams else []
    for account, each, exits in zip(streams, all_told, StreamTimes.exits_of(asked), strict=True):
        name = account.name
        kinds: list[tuple[str, str]] = []
        values_s: list[float] = []
        arrival_ns, departure_ns = account.arrival_jitter_ns, account.departure_jitter_ns
        if arrival_ns is not None:
            kinds.append(("decode", "arrival"))
            values_s.append(arrival_ns / 1e9)
        if departure_ns is not None:
            kinds.append(("follow", "departure"))
            values_s.append(departure_ns / 1e9)
        for part, figures in exits.items():
            for kind in ("transit", "transit_added", "interval", "interval_added"):
                value_ms = figures[f"{kind}_ms"]
                if value_ms is not None:
                    kinds.append((part, kind))
                    values_s.append(value_ms / 1e3)
        shown = {} if late is None else exemplars(account.times.lateness().newest, late)
        for told in each:
            if told.frames and told.series not in WAITS:
                family, labels = (whole, [name]) if told.series == "end_to_end" else (stages, [name, told.series])
                family.add(labels, told.at_most, told.frames, told.total_ns / 1e9, shown.get(told.series, ()))
                kinds += ((told.series, "duration"), (told.series, "delay_variation"))
                values_s += (told.jitter_ns / 1e9, (told.p50_p99_ns[1] - told.p50_p99_ns[0]) / 1e9)
        jitter.add_all(name, kinds, values_s)
        glass = account.times.capture_to_result()
        if glass.count:
            glass_to_result.add([name], glass.at_most(BOUNDS_NS), glass.count, glass.total / 1e9)
    yield from (stages, whole, glass_to_result, jitter)


class _Told(NamedTuple):
    """What is told of the durations of one series."""

    series: str
    frames: int
    total_ns: int
    at_most: list[int]
    p50_p99_ns: list[int]
    jitter_ns: float


def _told(latencies: Sequence[Latency]) -> list[list[_Told]]:
    """By stream and series."""
    snapshot = Snapshot([each.histograms for each in latencies])
    by_stream = zip(
        latencies,
        snapshot.counts.tolist(),
        snapshot.at_most(BOUNDS_NS).tolist(),
        snapshot.percentiles((50, 99)).tolist(),
        strict=True,
    )
    return [
        [
            _Told(*one)
            for one in zip(
                SERIES, counts, each.histograms.totals, at_most, percentiles, each.jitter_ns.tolist(), strict=True
            )
        ]
        for each, counts, at_most, percentiles in by_stream
    ]
