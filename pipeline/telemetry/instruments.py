# SPDX-License-Identifier: Apache-2.0
"""The main metrics as observable instruments: they are read from the ledger whenever they are exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from pipeline.frame import DropReason
from pipeline.ledger import BLAMED, Ledger, StreamLedger
from pipeline.timing import now_ns

Look = Callable[[Ledger, StreamLedger], Iterable[tuple[float, dict[str, Any]]]]
"""What one stream has to say: values with their attributes."""


def observe(meter: Meter, ledger: Callable[[], Ledger | None], lost: Callable[[], int]) -> None:
    """Make all instruments.

    Args:
        meter: of OpenTelemetry.
        ledger: the accounts, or None while nothing runs yet.
        lost: late frames whose traces were lost.
    """

    def of_streams(look: Look) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def told(options: CallbackOptions) -> Iterator[Observation]:
            found = ledger()
            for name, account in [] if found is None else list(found.streams.items()):
                if found is not None and name == account.name:  # no earlier life
                    for value, facts in look(found, account):
                        yield Observation(value, {"stream": name, **facts})

        return told

    counters: tuple[tuple[str, str, str, Look], ...] = (
        ("pipeline.frames", "{frame}", "Frames delivered by the decoder, and what came of them", _frames),
        ("pipeline.drops", "{frame}", "Frames dropped, by reason", _drops),
        ("pipeline.late_frames", "{frame}", "Frames that took too long, by the part that made them late", _late),
        ("pipeline.reconnects", "{connection}", "Connections after the first, by what ended the one before", _again),
    )
    for name, unit, text, look in counters:
        meter.create_observable_counter(name, [of_streams(look)], unit, text)
    gauges: tuple[tuple[str, str, str, Look], ...] = (
        ("pipeline.stream.up", "1", "1 while the stream is live", _up),
        ("pipeline.result.age", "s", "Time since the newest result", _age),
        ("pipeline.end_to_end", "s", "Of the last minute: quantiles of the time from packet to last sink", _quantiles),
    )
    for name, unit, text, look in gauges:
        meter.create_observable_gauge(name, [of_streams(look)], unit, text)

    def of_sinks(options: CallbackOptions) -> Iterator[Observation]:
        found = ledger()
        for name, sink in () if found is None else list(found.sinks.items()):
            for reason, count in dict(sink.lost).items():
                yield Observation(count, {"sink": name, "reason": reason})

    meter.create_observable_counter("pipeline.sink.lost", [of_sinks], "{result}", "Results that a sink lost")
    text = "Late frames kept with their journey of which the collector was not told"
    meter.create_observable_counter("pipeline.telemetry.lost", [lambda options: [Observation(lost())]], "{frame}", text)


def _frames(ledger: Ledger, account: StreamLedger) -> Iterator[tuple[float, dict[str, Any]]]:
    for outcome in ("decoded", "processed", "corrupt", "decimated"):
        yield getattr(account, outcome), {"outcome": outcome}


def _drops(ledger: Ledger, account: StreamLedger) -> Iterator[tuple[float, dict[str, Any]]]:
    lost = account.dropped
    for reason in get_args(DropReason):
        yield lost[reason], {"reason": reason}


def _late(ledger: Ledger, account: StreamLedger) -> Iterator[tuple[float, dict[str, Any]]]:
    blamed = account.times.blamed()
    for part in BLAMED:
        yield blamed[part], {"part": part}


def _again(ledger: Ledger, account: StreamLedger) -> Iterator[tuple[float, dict[str, Any]]]:
    for cause, count in dict(account.counters.reconnects_by_cause).items():
        yield count, {"cause": cause}


def _up(ledger: Ledger, account: StreamLedger) -> Iterator[tuple[float, dict[str, Any]]]:
    yield float(account.state == "live"), {}


def _age(ledger: Ledger, account: StreamLedger) -> Iterator[tuple[float, dict[str, Any]]]:
    since_ns = account.last_result_ns or max(ledger.start_ns, account.awaited_ns)
    yield max(0, now_ns() - since_ns) / 1e9, {}


def _quantiles(ledger: Ledger, account: StreamLedger) -> Iterator[tuple[float, dict[str, Any]]]:
    lately = account.times.recent(60, now_ns()).histogram("end_to_end")
    if lately.count:
        for percent, value_ns in zip((50, 99), lately.percentiles((50, 99)), strict=True):
            yield value_ns / 1e9, {"quantile": percent / 100}
