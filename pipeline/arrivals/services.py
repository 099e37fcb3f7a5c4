# SPDX-License-Identifier: Apache-2.0
"""How long batches of each size took: measured in a run, and looked up when that run is played on a virtual clock."""

from __future__ import annotations

import threading
from bisect import bisect_left
from statistics import median
from typing import Any, Final, NamedTuple

MOST_SAMPLES: Final = 512
"""Of each batch size; when there are more, every second one is kept from then on, over the whole run."""


_LONGEST_NS: Final = 3_600_000_000_000
"""No batch takes longer: ``model.timeout_s`` ends a run before."""


class Service(NamedTuple):
    """Nanoseconds that one batch took: in the network, and for making detections of its outputs."""

    infer_ns: int
    parse_ns: int

    @property
    def total_ns(self) -> int:
        """Both together."""
        return self.infer_ns + self.parse_ns


class _Samples:
    """An evenly thinned sample of a series of any length, in its order."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: list[Service] = []
        self._stride = 1

    def add(self, service: Service) -> None:
        if self.count % self._stride == 0:
            if len(self.kept) == MOST_SAMPLES:
                self.kept = self.kept[::2]
                self._stride *= 2
            if self.count % self._stride == 0:
                self.kept.append(service)
        self.count += 1


class ServiceLog:
    """Collects them, by batch size. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[int, _Samples] = {}

    def add(self, size: int, infer_ns: int, parse_ns: int) -> None:
        """A batch of ``size`` went through."""
        with self._lock:
            self._sizes.setdefault(size, _Samples()).add(Service(infer_ns, parse_ns))

    def as_dict(self) -> dict[str, Any]:
        """``{size: {"count", "median_ns", "samples_ns": [[infer, parse], ...]}}`` for :class:`ServiceTimes`."""
        with self._lock:
            return {
                str(size): {
                    "count": samples.count,
                    "median_ns": round(median(sample.total_ns for sample in samples.kept)),
                    "samples_ns": [list(sample) for sample in samples.kept],
                }
                for size, samples in sorted(self._sizes.items())
            }


class ServiceTimes:
    """Gives them out again: the samples of a size in the order in which they were taken, over and over.

    A size that was not measured takes what the sizes around it suggest: between two measured ones it lies on the line
    through their medians, beyond them a picture costs what it does in the nearest.

    Raises ValueError, TypeError, KeyError or OverflowError where ``measured`` is not what :meth:`ServiceLog.as_dict`
    gave.
    """

    def __init__(self, measured: dict[str, Any]) -> None:
        self._samples = {
            int(size): [Service(int(infer), int(parse)) for infer, parse in entry["samples_ns"]]
            for size, entry in measured.items()
            if entry["samples_ns"]
        }
        self._sizes = sorted(self._samples)
        if any(size < 1 for size in self._sizes) or any(
            not 0 <= part <= _LONGEST_NS for samples in self._samples.values() for sample in samples for part in sample
        ):
            raise ValueError("a batch of no frames, or one that took less than no time, or for ever")
        self._medians = {
            size: Service(round(median(s.infer_ns for s in samples)), round(median(s.parse_ns for s in samples)))
            for size, samples in self._samples.items()
        }
        self._given: dict[int, int] = {}

    @property
    def known(self) -> bool:
        """At least one batch was measured."""
        return bool(self._sizes)

    def next(self, size: int) -> Service:
        """How long the next batch of ``size`` takes."""
        samples = self._samples.get(size)
        if samples is None:
            return self._guessed(size)
        given = self._given.get(size, 0)
        self._given[size] = given + 1
        return samples[given % len(samples)]

    def _guessed(self, size: int) -> Service:
        place = bisect_left(self._sizes, size)
        if 0 < place < len(self._sizes):
            low, high = self._sizes[place - 1], self._sizes[place]
            share = (size - low) / (high - low)
            between = zip(self._medians[low], self._medians[high], strict=True)
            return Service(*(round(less + share * (more - less)) for less, more in between))
        nearest = self._sizes[min(place, len(self._sizes) - 1)]
        return Service(*(round(part * size / nearest) for part in self._medians[nearest]))
