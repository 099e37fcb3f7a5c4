# SPDX-License-Identifier: Apache-2.0
"""From what was seen of a run to the figures of ``benchmarks.schedule``. Plain arithmetic, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Window = tuple[float, float]
"""From when to when frames were due, in seconds of the monotonic clock."""

WAITING = "queue"
RECOVERED = 0.95
"""A stream is served again when so large a share of what it offers is processed, over one second."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What an observer saw of one stream; arrays of one element per line, but for ``offered_s``.

    Attributes:
        fps: frames offered per second.
        offered_s: when each frame was due; what it counts as captured at.
        index: of the frames that have a line.
        captured_s: when the pipeline says it got them.
        seen_s: when their lines could be read.
        parts_ms: by stage, and ``end_to_end``: what their lines say.
        share: weight of the stream.
        agreement: share of the detections that are in the frames.
    """

    fps: float
    offered_s: Floats
    index: NDArray[np.int64]
    captured_s: Floats
    seen_s: Floats
    parts_ms: Mapping[str, Floats]
    share: float = 1.0
    agreement: float = 1.0

    def within(self, window: Window) -> NDArray[np.bool_]:
        """Which lines are of frames that were due then."""
        due = self.offered_s[self.index]
        return np.asarray((due >= window[0]) & (due < window[1]))

    def offered(self, window: Window) -> int:
        """Frames that were due then."""
        return int(np.count_nonzero((self.offered_s >= window[0]) & (self.offered_s < window[1])))

    def ages_ms(self) -> Floats:
        """From the packet to the line: a paced frame is due when it has been decoded, so that comes on top."""
        return (self.seen_s - self.offered_s[self.index]) * 1e3 + self.parts_ms["decode"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A run.

    Attributes:
        streams: by name.
        report: its report.json.
        cpu_s: CPU time of the daemon from its first line on.
        floor_jitter_ms: see :class:`benchmarks.schedule_run.Metronome`.
    """

    streams: Mapping[str, Sight]
    report: Mapping[str, Any]
    cpu_s: float = 0.0
    floor_jitter_ms: float = 0.0

    def window(self, warm_s: float, seconds: float) -> Window:
        """``seconds`` from ``warm_s`` after the last stream's beginning on."""
        begin = max(float(sight.offered_s[0]) for sight in self.streams.values()) + warm_s
        return begin, begin + seconds


def faults(seen: Seen) -> list[str]:
    """Why this run proves nothing."""
    found = []
    for name, sight in seen.streams.items():
        if sight.agreement < 0.99:
            found.append(f"{name}: its detections are not those of the frames ({sight.agreement:.3f} agree)")
        if len(np.unique(sight.index)) < len(sight.index):
            found.append(f"{name}: a frame has two lines")
        counts = seen.report["streams"][name]["frames"]
        if counts["processed"] != len(sight.index):
            found.append(f"{name}: {len(sight.index)} lines of {counts['processed']} processed frames")
        if counts["decoded"] != counts["processed"] + sum(counts["dropped"].values()) + counts["decimated"]:
            found.append(f"{name}: its report does not balance")
        if counts["decoded"] != len(sight.offered_s):
            found.append(f"{name}: {counts['decoded']} of {len(sight.offered_s)} frames were decoded")
    return found


def live(seen: Seen, window: Window) -> dict[str, float]:
    """Figures of streams that the detector can serve.

    - ``p99_over_stages``: 99th percentile of the ages / sum of the medians of all stages, waiting included.
    - ``p99_over_work``: the same / sum of those that are work.
    - ``jitter``: standard deviation of the intervals between a stream's lines less that between its captures, over all
      streams (the root of the mean variance); ``jitter_worst``: of the stream where that is most.
    - ``jitter_delay``: standard deviation of the ages, of the stream where it is most.
    """
    ages, parts, variances, delays, offered, processed = [], [], [], [], 0, 0
    for sight in seen.streams.values():
        chosen = sight.within(window)
        ages.append(sight.ages_ms()[chosen])
        own = {stage: spent[chosen] for stage, spent in sight.parts_ms.items() if stage != "end_to_end"}
        published = sum(own.values())
        parts.append(own | {"sink": ages[-1] - published})
        out, captured = np.diff(sight.seen_s[chosen]), np.diff(sight.captured_s[chosen])
        variances.append((np.var(out), np.var(captured)))
        delays.append(float(np.std(ages[-1])))
        offered += sight.offered(window)
        processed += int(np.count_nonzero(chosen))
    whole = np.concatenate(ages)
    medians = {stage: float(np.median(np.concatenate([own[stage] for own in parts]))) for stage in parts[0]}
    p50, p99 = np.percentile(whole, [50, 99])
    stages = sum(medians.values())
    return {
        "processed": processed / offered,
        "fps": processed / (window[1] - window[0]),
        "p50": float(p50),
        "p99": float(p99),
        "max": float(whole.max()),
        "stages": stages,
        "p99_over_stages": float(p99) / stages,
        "p99_over_work": float(p99) / (stages - medians.get(WAITING, 0.0)),
        "jitter": float(np.subtract(*np.sqrt(np.mean(variances, axis=0)))) * 1e3,
        "jitter_worst": max(float(np.sqrt(out) - np.sqrt(captured)) * 1e3 for out, captured in variances),
        "jitter_delay": max(delays),
        "floor_jitter": seen.floor_jitter_ms,
        **{f"median_{stage}": median for stage, median in medians.items()},
    }


def overload(seen: Seen, window: Window) -> dict[str, float]:
    """Figures of equal streams that offer more than can be served.

    - ``p95_over_bound``: 95th percentile of the ages / (2 x (service time of a batch + interval between frames)), with
      the service time that the frames' own batches had at the median.
    - ``growth``: median age in the last third of the window / that in the first.
    - ``fairness``: Jain's index of the processed frames of all streams; ``shares``: largest relative deviation of a
      stream's share from that of its weight.
    """
    counts, weights, ages, due, service, intervals = [], [], [], [], [], []
    for sight in seen.streams.values():
        chosen = sight.within(window)
        counts.append(int(np.count_nonzero(chosen)))
        weights.append(sight.share)
        ages.append(sight.ages_ms()[chosen])
        due.append(sight.offered_s[sight.index][chosen])
        service.append((sight.parts_ms["infer"] + sight.parts_ms["postprocess"])[chosen])
        intervals.append(1e3 / sight.fps)
    whole, at = np.concatenate(ages), np.concatenate(due)
    third = (window[1] - window[0]) / 3
    first, last = whole[at < window[0] + third], whole[at >= window[1] - third]
    p50, p95, p99 = np.percentile(whole, [50, 95, 99])
    batch_ms, interval_ms = float(np.median(np.concatenate(service))), float(np.mean(intervals))
    seconds = window[1] - window[0]
    return {
        "offered": sum(sight.offered(window) for sight in seen.streams.values()) / seconds,
        "fps": sum(counts) / seconds,
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "batch": batch_ms,
        "interval": interval_ms,
        "p95_over_bound": float(p95) / (2 * (batch_ms + interval_ms)),
        "growth": float(np.median(last) / np.median(first)),
        "fairness": jain(counts),
        "shares": unfairness(counts, weights),
        "cores": seen.cpu_s / (max(float(s.offered_s[-1] - s.offered_s[0]) for s in seen.streams.values())),
    }


def jain(counts: Sequence[float]) -> float:
    """Jain's index: 1.0 where all are equal, 1/n where one has everything."""
    squares = sum(count**2 for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0


def unfairness(counts: Sequence[float], weights: Sequence[float]) -> float:
    """Largest relative deviation of a share of ``counts`` from the share of its weight."""
    total, sum_of_weights = sum(counts), sum(weights)
    if not total:
        return 1.0
    return max(
        abs(count / total / (weight / sum_of_weights) - 1) for count, weight in zip(counts, weights, strict=True)
    )


def recovery_s(sight: Sight, fell_s: float) -> float:
    """Seconds after ``fell_s`` until the frames that were due from then on are served again: from some moment on, of
    those of every later second at least :data:`RECOVERED`. Infinite where that never is."""
    has_line = np.zeros(len(sight.offered_s), bool)
    has_line[sight.index] = True
    after = np.flatnonzero(sight.offered_s >= fell_s)
    span = max(1, round(sight.fps))
    if len(after) < span:
        return float("inf")
    served = has_line[after].astype(float)
    shares = np.convolve(served, np.ones(span) / span, "valid")  # of the second that begins with each frame
    bad = np.flatnonzero(shares < RECOVERED)
    first_good = 0 if not len(bad) else int(bad[-1]) + 1
    if first_good >= len(shares):
        return float("inf")
    return float(sight.offered_s[after[first_good]] - fell_s)
