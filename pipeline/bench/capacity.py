# SPDX-License-Identifier: Apache-2.0
"""How many frames a second this machine can do with these streams and this model, in the shape of the daemon.

The same Pipeline as ``pipeline run``, with partial batches, as many workers, and its sinks; but each stream is a
recording that is read over and over, as fast as its frames are taken (``pace: asap``, ``policy: every_frame``). Lanes
are always full then, so what comes out in a second is the most that can: every frame of it was decoded, prepared,
detected, followed and written.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline import build
from pipeline.bench.trial import Trial
from pipeline.config import Config
from pipeline.daemon.model import Loaded, Wanted, load
from pipeline.errors import PipelineError
from pipeline.flow import Pipeline
from pipeline.ledger import Ledger
from pipeline.ledger.journal import BatchRun
from pipeline.timing import cpu_ns, now_ns

FREE = {"loop": True, "pace": "asap", "policy": "every_frame", "fps": None, "stride": 1}
"""What a stream is changed to."""
FEWEST_BATCHES = 12
"""From beginning to end within the window, which is longer where a batch takes long: what is under way at its ends is
work without frames, or frames without work, so of few batches the CPU time of a frame would be anything."""
LONGEST_WINDOW_S = 30.0
"""Beyond what was asked for."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was measured, all of it in one window.

    Attributes:
        fps: frames per second, of all streams together.
        read_fps: frames that were decoded per second; more than these only where it was overrun.
        seconds: length of the window.
        mean_batch: network inputs per batch.
        service_ms: by the number of inputs in a batch, the median time from its submission to its detections.
        cpu_ms_per_frame: of the whole process.
        workers, batch_size: detect threads, and inputs per batch at most.
    """

    fps: float
    read_fps: float
    seconds: float
    mean_batch: float
    service_ms: dict[int, float]
    cpu_ms_per_frame: float
    workers: int
    batch_size: int

    @property
    def cores(self) -> float:
        """How many were busy with it."""
        return self.fps * self.cpu_ms_per_frame / 1e3

    @property
    def batch_service_ms(self) -> float:
        """Of the batch that most frames are in."""
        return self.service_ms[min(self.service_ms, key=lambda size: abs(size - self.mean_batch))]

    def as_dict(self) -> dict[str, Any]:
        """The same, fit for JSON."""
        return asdict(self) | {"batch_service_ms": self.batch_service_ms}


def measure_capacity(
    config: Config,
    seconds: float = 8.0,
    warm_s: float = 2.0,
    *,
    overrun: bool = False,
    loaded: Loaded | None = None,
) -> Capacity:
    """Run ``config`` unpaced and look at it for ``seconds``, ``warm_s`` after every stream had its first result.

    Args:
        config: model, batching, sinks, and streams that are recordings: copies of what cameras send. Their rates are
            ignored.
        seconds: length of the window, at least: it lasts until there were :data:`FEWEST_BATCHES`; at most ten seconds
            of batches are remembered.
        warm_s: what is left out before it.
        overrun: frames are read as fast as they can be, and give way to newer ones instead of holding their readers up.
        loaded: the model, which stays the caller's; None: it is loaded for this.

    Raises:
        ModelLoadError, ConfigError: the model cannot be had.
        ModelHung: it does not answer.
        PipelineError: no stream can be read, or nothing was processed.
    """
    if loaded is None:
        own = load(Wanted.of(config))
        try:
            return measure_capacity(config, seconds, warm_s, overrun=overrun, loaded=own)
        finally:
            own.detector.close()
    pipeline = Pipeline(loaded.detector, build.sinks(config.sinks, run_id="capacity"), loaded.options)
    ledger = pipeline.ledger
    with Trial(pipeline, config.model.timeout_s) as trial:
        for stream in config.streams:
            pipeline.add(build.feed(stream.model_copy(update=FREE | ({"policy": "freshest"} if overrun else {}))))
        pipeline.finish()
        trial.go_until_all_have_a_result()
        trial.go(warm_s)
        before, read_before = _processed(ledger), _decoded(ledger)
        began_ns, began_cpu_ns = now_ns(), cpu_ns()
        trial.go(seconds)
        trial.go_while(lambda: len(_batches(ledger, began_ns)) < FEWEST_BATCHES, LONGEST_WINDOW_S)
        frames, spent_s = _processed(ledger) - before, (now_ns() - began_ns) / 1e9
        read = _decoded(ledger) - read_before
        spent_cpu_ms = (cpu_ns() - began_cpu_ns) / 1e6
        batches = _batches(ledger, began_ns)
    if not frames or not batches:
        raise PipelineError(f"no frame was processed within {spent_s:.0f} s{trial.reasons()}")
    service_ms: dict[int, list[float]] = {}
    for batch in batches:
        service_ms.setdefault(batch.items, []).append((batch.parsed_ns - batch.began_ns) / 1e6)
    return Capacity(
        fps=frames / spent_s,
        read_fps=read / spent_s,
        seconds=spent_s,
        mean_batch=statistics.fmean(batch.items for batch in batches),
        service_ms={size: statistics.median(times) for size, times in sorted(service_ms.items())},
        cpu_ms_per_frame=spent_cpu_ms / frames,
        workers=loaded.options.workers,
        batch_size=loaded.options.batch_size,
    )


def capacity_of(settings: Mapping[str, Any], seconds: float, warm_s: float) -> dict[str, Any]:
    """:func:`measure_capacity` of the contents of a streams.yaml with absolute paths, fit for JSON."""
    return measure_capacity(Config.model_validate(settings), seconds, warm_s).as_dict()


def _processed(ledger: Ledger) -> int:
    return sum(account.processed for account in ledger.streams.values())


def _decoded(ledger: Ledger) -> int:
    return sum(account.decoded for account in ledger.streams.values())


def _batches(ledger: Ledger, since_ns: int) -> list[BatchRun]:
    return [batch for batch in ledger.journal(since_ns).batches if batch.began_ns >= since_ns]
