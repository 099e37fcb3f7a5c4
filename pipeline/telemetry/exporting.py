# SPDX-License-Identifier: Apache-2.0
"""The thread that tells a collector. The pipeline never waits for it: what is not taken is lost, and counted."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pipeline.config import TelemetryConfig
from pipeline.errors import ConfigError
from pipeline.ledger import Late, Ledger, StreamLedger
from pipeline.telemetry.choice import hide_headers
from pipeline.telemetry.identity import trace_id
from pipeline.threads import WorkerGroup
from pipeline.timing import Anchor, now_ns

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

log = logging.getLogger("pipeline")
_LIBRARY: Final = logging.getLogger("opentelemetry")

LOOK_S: Final = 1.0
"""Pause between two looks for late frames."""
MOST: Final = 200
"""Late frames that one look tells of: those that are furthest over their limit. The others are lost."""
END_S: Final = 3.0
"""How long the end of the program waits for the last word."""


class Telemetry:
    """Tells of one run.

    Attributes:
        anchor: what wall time a mark was.
        frames, frames_lost: late frames whose traces the collector was told, and was not.
        exports, exports_lost: how often it was told the metrics, and was not.
    """

    def __init__(self, anchor: Anchor) -> None:
        self.anchor = anchor
        self._run = secrets.token_bytes(16)
        self._over = threading.Event()
        self._group = WorkerGroup()
        self._config: TelemetryConfig | None = None
        self._ledger: Callable[[], Ledger | None] = lambda: None
        self._seen: dict[StreamLedger, int] = {}  # late frames kept of each life up to the last look
        self._shutdown: list[Callable[[], None]] = []
        self.frames = 0
        self.frames_lost = 0
        self.exports = 0
        self.exports_lost = 0

    def begin(self, config: TelemetryConfig, ledger: Callable[[], Ledger | None]) -> None:
        """Tell from now on; ``ledger`` says None until something runs. Raises ConfigError where a variable of
        OpenTelemetry's has a value that it does not take."""
        self._ledger = ledger
        hide_headers(os.environ)
        try:
            resource = _resource()
            tell_traces = self._traces(config, resource) if config.traces else None
            tell_metrics = self._metrics(config, resource) if config.metrics else None
        except ValueError as exc:
            raise ConfigError(f"telemetry: {exc}") from exc
        self._config = config
        # What it says of its variables is for the log; of a collector that is away it would say something each time.
        _LIBRARY.setLevel(logging.CRITICAL)
        self._group.start("telemetry", lambda: self._work(config, tell_traces, tell_metrics))

    def end(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Tell what is left, but wait shortly only; not at all once somebody is ``hurried``."""
        self._over.set()
        if not self._ends_within(END_S, hurried):
            for shutdown in self._shutdown:
                shutdown()  # wakes it from the pause before its next try
            if not self._ends_within(END_S / 3, hurried):  # a collector that does not answer: nobody else will look
                self._lose_the_rest()
        _LIBRARY.setLevel(logging.NOTSET)

    def _ends_within(self, seconds: float, hurried: Callable[[], bool]) -> bool:
        deadline_ns = now_ns() + int(seconds * 1e9)
        while self._group.join(min(0.05, seconds)):
            if hurried() or now_ns() >= deadline_ns:
                return False
        return True

    def trace_id(self, late: Late) -> str | None:
        """By which a frame's trace is found, 32 hexadecimal digits; None where none is told."""
        if self._config is None or not self._config.traces:
            return None
        return f"{trace_id(self._run, late):032x}"

    def facts(self) -> dict[str, Any]:
        """``telemetry`` of the report; nothing where nothing was to be told."""
        names = ("frames", "frames_lost", "exports", "exports_lost")
        return {} if self._config is None else {"telemetry": {name: getattr(self, name) for name in names}}

    def _work(
        self,
        config: TelemetryConfig,
        tell_traces: Callable[[Ledger], None] | None,
        tell_metrics: Callable[[], None] | None,
    ) -> None:
        interval_ns = int(config.interval_s * 1e9)
        next_ns = now_ns() + interval_ns
        over = False
        while not over:
            over = self._over.wait(LOOK_S)
            ledger = self._ledger()
            if tell_traces is not None and ledger is not None:
                tell_traces(ledger)
            if tell_metrics is not None and ledger is not None and (over or now_ns() >= next_ns):
                next_ns = now_ns() + interval_ns
                tell_metrics()

    def _traces(self, config: TelemetryConfig, resource: Resource) -> Callable[[Ledger], None]:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        from pipeline.telemetry.spans import Spans

        exporter = OTLPSpanExporter(None if config.endpoint is None else f"{config.endpoint}/v1/traces")
        spans = Spans(self._run, self.anchor, resource)
        self._shutdown.append(exporter.shutdown)

        def tell(ledger: Ledger) -> None:
            frames = self._late(ledger)
            if not frames:
                return
            self.frames_lost += len(frames)  # until they are taken: the program may end before
            if _taken(lambda: exporter.export(spans.of(frames))):
                self.frames_lost -= len(frames)
                self.frames += len(frames)
            else:
                self._complain("traces")

        return tell

    def _metrics(self, config: TelemetryConfig, resource: Resource) -> Callable[[], None]:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        from pipeline.telemetry.instruments import observe

        exporter = OTLPMetricExporter(None if config.endpoint is None else f"{config.endpoint}/v1/metrics")
        # Its own reader waits in a thread of its own; with this one whoever exports is who reads.
        reader = InMemoryMetricReader(exporter._preferred_temporality, exporter._preferred_aggregation)
        meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        observe(meters.get_meter("pipeline"), self._ledger, lambda: self.frames_lost)
        self._shutdown.append(exporter.shutdown)

        def export() -> object:
            found = reader.get_metrics_data()
            assert found is not None, "the number of frames lost is always told"
            return exporter.export(found)

        def tell() -> None:
            self.exports_lost += 1  # until it is taken, as with traces
            if _taken(export):
                self.exports_lost -= 1
                self.exports += 1
            else:
                self._complain("metrics")

        return tell

    def _late(self, ledger: Ledger) -> list[Late]:
        """Frames that were late since the last look. Of an earlier life nothing but their number is left."""
        found: list[Late] = []
        before, self._seen = self._seen, {}
        for account in list(ledger.streams.values()):
            seen = before.get(account, 0)
            kept, newest = account.times.kept_since(seen)
            self._seen[account] = kept
            self.frames_lost += kept - seen - len(newest)
            found += newest
        found.sort(key=lambda late: late.took_ns / late.limit_ns, reverse=True)
        self.frames_lost += len(found[MOST:])
        return found[:MOST]

    def _lose_the_rest(self) -> None:
        ledger = self._ledger()
        if ledger is not None and self._config is not None and self._config.traces:
            untold = self._late(ledger)  # first: it counts what is lost already
            self.frames_lost += len(untold)

    def _complain(self, kind: str) -> None:
        text = "telemetry: the collector did not take %s; traces lost so far: %d"
        log.warning(text, kind, self.frames_lost, extra={"same": f"telemetry: {kind}"})


def _taken(export: Callable[[], Any]) -> bool:
    """Whether a collector took it. Whatever that makes the library raise costs what was told, not the telling."""
    try:
        return str(export().name) == "SUCCESS"
    except Exception:
        log.debug("telemetry: the export failed", exc_info=True)
        return False


def _resource() -> Resource:
    """What all that is told says of the program; what the environment says comes first."""
    from importlib.metadata import version

    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {"service.name": "video-pipeline", "service.version": version("video-pipeline")}
    return Resource.create({**ours, "process.pid": os.getpid(), **OTELResourceDetector().detect().attributes})
