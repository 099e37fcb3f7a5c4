# SPDX-License-Identifier: Apache-2.0
"""What was measured: the CPU time of every step on the way of a frame."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.frame import InputSpec


@dataclass(frozen=True, slots=True)
class FrameCost:
    """One decoded frame.

    Attributes:
        pts_s: presentation time from the beginning of the copy, seconds.
        decode_ns: CPU time of the read that delivered it.
        lag: reads between the one that read its packet and the one that delivered it: the decoder kept it (B-frames).
        prepare_ns: CPU time of its preprocessing; None where it was thinned out.
        stalled_ns: for how long the preparing thread did not get on meanwhile.
    """

    pts_s: float
    decode_ns: int
    lag: int
    prepare_ns: int | None
    stalled_ns: int = 0


@dataclass(frozen=True, slots=True)
class StreamCosts:
    """The frames of one stream, in order.

    Attributes:
        frames: those that were looked at, at least one.
        lap_ns: CPU time of beginning the copy anew; None where its end was not reached.
        spec: what the network is given.
        width, height: pixels as displayed.
        codec, decoder: as libav calls them; what decoded.
        isolation_ms: CPU time more per decoded frame where it is read in a process of its own; both sides together.
        isolation_mb: memory of that process, MiB; what it shares with others does not count.
    """

    frames: tuple[FrameCost, ...]
    lap_ns: int | None
    spec: InputSpec
    width: int
    height: int
    codec: str
    decoder: str = ""
    isolation_ms: float = 0.0
    isolation_mb: float = 0.0

    @property
    def interval_s(self) -> float:
        """Mean time between two frames; a usual one where their time stamps say nothing."""
        frames = self.frames
        span_s = frames[-1].pts_s - frames[0].pts_s
        return span_s / (len(frames) - 1) if span_s > 0 else 0.04

    @property
    def lap_s(self) -> float:
        """How long these frames last; then they begin anew."""
        return max(self.frames[-1].pts_s - self.frames[0].pts_s, 0.0) + self.interval_s

    @property
    def fps(self) -> float:
        """Frames per second that come out of the decoder."""
        return 1.0 / self.interval_s

    @property
    def kept(self) -> float:
        """Share of these frames that is to be processed."""
        return sum(frame.prepare_ns is not None for frame in self.frames) / len(self.frames)

    @property
    def decode_ms(self) -> float:
        """Mean per decoded frame."""
        return statistics.fmean(frame.decode_ns for frame in self.frames) / 1e6

    @property
    def prepare_ms(self) -> float:
        """Mean per frame that is processed."""
        known = [frame.prepare_ns for frame in self.frames if frame.prepare_ns is not None]
        return statistics.fmean(known) / 1e6 if known else 0.0


@dataclass(frozen=True, slots=True)
class BatchCost:
    """One batch: CPU time of the thread that ran it, what it waited for a device, and for how long it did not get on
    meanwhile: another thread or program had its core, or the interpreter."""

    cpu_ns: int
    away_ns: int = 0
    stalled_ns: int = 0


@dataclass(slots=True)
class NetworkCosts:
    """Batches by what the network was given and by how many pictures: pictures to detections, post-processing included.

    Attributes:
        samples: of each kind and size.
        threads: intra-op threads of a batch; its CPU time is of each of them.
    """

    samples: dict[InputSpec, dict[int, list[BatchCost]]] = field(default_factory=dict)
    threads: int = 1

    def add(self, spec: InputSpec, size: int, cost: BatchCost) -> None:
        """One more."""
        self.samples.setdefault(spec, {}).setdefault(size, []).append(cost)

    def mean_ms(self, spec: InputSpec, size: int) -> float:
        """CPU and device time of a batch; sizes between two that were measured lie on the line between them."""
        return (self._mean(spec, size, "cpu_ns") + self._mean(spec, size, "away_ns")) / 1e6

    def cpu_ms(self, spec: InputSpec, size: int) -> float:
        """The CPU time alone."""
        return self._mean(spec, size, "cpu_ns") / 1e6

    def draw(self, spec: InputSpec, size: int, rng: random.Random) -> BatchCost:
        """A batch that might have been: a measured one of the nearest size, in proportion to the mean of this size."""
        known = self.samples[spec]
        nearest = min(known, key=lambda each: abs(each - size))
        sample = rng.choice(known[nearest])
        if nearest == size:
            return sample
        ratio = self.mean_ms(spec, size) / self.mean_ms(spec, nearest)
        return BatchCost(round(sample.cpu_ns * ratio), round(sample.away_ns * ratio), round(sample.stalled_ns * ratio))

    def _mean(self, spec: InputSpec, size: int, what: str) -> float:
        known = self.samples[spec]
        if size in known:
            return statistics.fmean(getattr(cost, what) for cost in known[size])
        below = max((each for each in known if each < size), default=None)
        above = min((each for each in known if each > size), default=None)
        if below is None or above is None:  # beyond what was measured: in proportion
            nearest = below or above
            assert nearest is not None, "at least one size was measured"
            return self._mean(spec, nearest, what) * size / nearest
        low, high = self._mean(spec, below, what), self._mean(spec, above, what)
        return low + (high - low) * (size - below) / (above - below)

    def as_dict(self) -> list[dict[str, Any]]:
        """For JSON: a row per kind and size."""
        return [
            {
                "input": [spec.height, spec.width],
                "batch": size,
                "samples": len(costs),
                "cpu_ms": round(self.cpu_ms(spec, size), 4),
                "device_ms": round(self._mean(spec, size, "away_ns") / 1e6, 4),
                "ms_per_frame": round(self.mean_ms(spec, size) / size, 4),
            }
            for spec, sizes in self.samples.items()
            for size, costs in sorted(sizes.items())
        ]


@dataclass(frozen=True, slots=True)
class Costs:
    """All that a prediction is made of.

    Attributes:
        streams: by name.
        network: of the model.
        sinks: by sink, then by stream: CPU milliseconds per result.
        overhead_ms: CPU time per processed frame that is in none of the parts: queues, order, accounts.
        lost_ms: what a frame costs beside that which gives way to newer ones: threads that stand in each other's way.
        cores: how many this program really gets when it wants all.
        allowed: how many it may use.
        free: share of these that was free while it was measured.
        measured_s: how long measuring took.
        memory_mb: of this process with all that it takes for the streams, MiB.
        memory_limit_mb: what the machine, or the container, has; None: not known.
    """

    streams: Mapping[str, StreamCosts]
    network: NetworkCosts
    sinks: Mapping[str, Mapping[str, float]]
    overhead_ms: float
    cores: float
    allowed: int
    free: float
    measured_s: float
    lost_ms: float = 0.0
    memory_mb: float = 0.0
    memory_limit_mb: float | None = None
