# SPDX-License-Identifier: Apache-2.0
"""N feeds from a streams.yaml through one detector until somebody stops it."""

from __future__ import annotations

import logging
import os
import secrets
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.config import load_config_quarantining
from pipeline.errors import ConfigError
from pipeline.ledger import StreamLedger
from pipeline.timing import SYSTEM, Clock

if TYPE_CHECKING:
    from pipeline.config import LoadedConfig
    from pipeline.flow import Pipeline

log = logging.getLogger("pipeline")

STATUS_EVERY_S = 60.0
GRACE_S = 10.0
"""How long a stop may take to serve what is under way before it is given up."""


class Daemon:
    """One run of ``pipeline run``. The calling thread only waits and listens to signals."""

    def __init__(self, config_path: Path, *, clock: Clock = SYSTEM) -> None:
        self._path = config_path
        self._clock = clock
        self._signals: list[int] = []
        self._pipeline: Pipeline | None = None
        self._last_count: dict[str, int] = {}

    def run(self) -> int:
        """Run until a signal, or until the last stream has ended; returns the exit code.

        Raises ConfigError for a global fault or when no stream is left, ModelLoadError and SinkError when it cannot
        start.
        """
        loaded = load_config_quarantining(self._path)
        for text in (*loaded.warnings, *(fault for stream in loaded.quarantined for fault in stream.faults)):
            log.warning("%s", text)
        wanted = [stream for stream in loaded.config.streams if stream.enabled]
        if not wanted:
            raise ConfigError(f"{self._path}: no stream to run: all are faulty, disabled or missing")
        if loaded.config.server is not None:
            log.warning("server: this version serves nothing yet; the section is checked and otherwise ignored")
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self._run(loaded)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run(self, loaded: LoadedConfig) -> int:
        from pipeline import build
        from pipeline.flow import Pipeline
        from pipeline.stream import FlowOptions

        config = loaded.config
        streams = []
        for stream in config.streams:
            if stream.enabled:
                try:
                    streams.append(build.feed(stream))
                except ConfigError as error:
                    log.error("%s; the other streams run", error)
        if not streams:
            raise ConfigError(f"{self._path}: no stream to run")
        detector = build.detector(config.model, max_batch=config.batch.max_size)
        device = detector.model_info()["device"]
        sinks = build.sinks(config.sinks, run_id=secrets.token_hex(8))
        self._pipeline = pipeline = Pipeline(
            detector,
            sinks,
            FlowOptions(
                batch_size=min(config.batch.max_size, detector.max_batch),
                fixed_batch=False,
                max_wait_ms=config.batch.max_wait_ms,
                workers=build.workers(config.batch.workers, device),
                outlet_policy="freshest",
                # Pictures are large: a slow video sink may hold a few, records may wait in larger numbers.
                outlet_capacity=8 if any(sink.wants_pictures for sink in sinks) else 256,
            ),
        )
        pipeline.start()
        log.info("detector ready: %s on %s; starting %d streams", config.model.path, device, len(streams))
        for ready in streams:
            pipeline.add(ready)
        pipeline.finish()
        return self._watch(pipeline)

    def _watch(self, pipeline: Pipeline) -> int:
        next_status_ns = self._clock.now_ns() + int(STATUS_EVERY_S * 1e9)
        deadline_ns: int | None = None
        while not pipeline.join(0.2):
            now_ns = self._clock.now_ns()
            if self._signals and deadline_ns is None:
                log.info("%s: stopping; once more to leave at once", signal.Signals(self._signals[0]).name)
                pipeline.stop()
                deadline_ns = now_ns + int(GRACE_S * 1e9)
            if deadline_ns is not None and now_ns >= deadline_ns:
                log.error("not drained within %g s; giving up on: %s", GRACE_S, ", ".join(pipeline.alive()))
                return self._abandon(pipeline, 1)
            if len(self._signals) > 1:
                return self._abandon(pipeline, 128 + self._signals[1])
            if now_ns >= next_status_ns:
                self._say_status(pipeline)
                next_status_ns += int(STATUS_EVERY_S * 1e9)
        self._say_status(pipeline)
        pipeline.detector.close()
        return self._verdict(pipeline)

    def _abandon(self, pipeline: Pipeline, code: int) -> int:
        """Give up what is under way; a thread stuck in native code does not keep the process."""
        pipeline.abort()
        if not pipeline.join(1.0):
            logging.shutdown()
            os._exit(code)
        return code

    def _verdict(self, pipeline: Pipeline) -> int:
        lost = [sink for sink in pipeline.ledger.sinks.values() if sink.lost or sink.state == "failed"]
        for sink in lost:
            log.error("sink %s lost results: %s", sink.name, dict(sink.lost) or sink.error)
        if self._signals:
            return 0
        states = [account.state for account in pipeline.ledger.streams.values()]
        if lost or all(state == "failed" for state in states):
            return 1
        return 3 if any(state in ("failed", "truncated") for state in states) else 0

    def _say_status(self, pipeline: Pipeline) -> None:
        for account in pipeline.ledger.streams.values():
            log.info("%s", self._status(account))

    def _status(self, account: StreamLedger) -> str:
        new = account.processed - self._last_count.get(account.name, 0)
        self._last_count[account.name] = account.processed
        parts = [f"{account.name}: {account.state}", f"{new} results", f"{account.processed} in all"]
        if account.last_result_ns:
            parts.append(f"last {(self._clock.now_ns() - account.last_result_ns) / 1e9:.1f} s ago")
        latency = account.latency().end_to_end.histogram
        if latency.count:
            p50, p99 = latency.percentiles((50, 99))
            parts.append(f"latency p50 {p50 / 1e6:.0f} ms, p99 {p99 / 1e6:.0f} ms")
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(account.dropped.items()))
        parts += [f"dropped {dropped}"] if dropped else []
        parts += [f"{account.counters.reconnects} reconnects"] if account.counters.reconnects else []
        parts += [account.error] if account.error else []
        return ", ".join(parts)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
