# SPDX-License-Identifier: Apache-2.0
"""What streams ask of the network, and what it takes alone: a second's measurement that shows what can never fit.

Nothing else is measured, and a batch of blank pictures finds nothing to suppress: what comes out is less than what a
run needs. So it can say that streams are too many, and never that they fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pipeline.config import StreamConfig
from pipeline.frame import InputSpec, Uint8Array
from pipeline.frame.buffers import aligned
from pipeline.plan.measuring import batch_of
from pipeline.protocols import Detector
from pipeline.sources import SourceReport, looks_live
from pipeline.stages import Region
from pipeline.timing import cpu_ns

BLANK: Final = 114
"""Grey level of the pictures."""
_LEAST: Final = 2
"""Batches of each size, after one that warms up."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Attributes:
    fps: frames that the streams ask to have processed per second.
    frame_ms: CPU milliseconds that the network takes for one of them, in the size of batch that takes least.
    allowed: cores that there are.
    """

    fps: float
    frame_ms: float
    allowed: int

    @property
    def cores(self) -> float:
        """That the network alone would keep busy."""
        return self.fps * self.frame_ms / 1e3


def wanted_fps(stream: StreamConfig, found: SourceReport) -> float | None:
    """Frames per second that are to be processed of a stream; None where it has no pace of its own, or none is known.

    Of what a source declares and what was seen of it, the lower.
    """
    if stream.skip in ("nonref", "nonkey"):  # some of them
        return None
    if stream.source.scheme != "pattern" and not looks_live(stream.source.reveal()) and stream.pace == "asap":
        return None
    rates = [rate for rate in (found.declared_fps, found.measured_fps) if rate]
    if not rates:
        return None
    fps = min(rates) / stream.stride
    return fps if stream.fps is None else min(fps, stream.fps)


def shown(stream: StreamConfig, found: SourceReport, spec: InputSpec) -> InputSpec:
    """What the network is given of a stream; ``spec``: what it wants to be given."""
    width, height = found.width, found.height
    if stream.region is not None:
        left, top, right, bottom = Region.of(stream.region).pixels(width, height)
        width, height = right - left, bottom - top
    return spec.trimmed(width, height)


def demand(wanted: Iterable[tuple[InputSpec, float]], detector: Detector, most: int, allowed: int) -> Demand | None:
    """Measure the network on blank pictures, in batches of one and of ``most``, on the CPU.

    Args:
        wanted: of each stream what the network is given, and frames per second.
        detector: ready; nobody else uses it or the CPU time of this process meanwhile.
        most: pictures in a batch.
        allowed: cores.

    Returns None where nothing is wanted. Raises ModelError.
    """
    rates: dict[InputSpec, float] = {}
    for spec, fps in wanted:
        rates[spec] = rates.get(spec, 0.0) + fps
    whole = sum(rates.values())
    if not whole:
        return None
    sizes = sorted({1, most})
    detector.warm(sizes)
    used_ms = sum(fps * min(_frame_ms(detector, spec, size) for size in sizes) for spec, fps in rates.items())
    return Demand(whole, used_ms / whole, allowed)


def _frame_ms(detector: Detector, spec: InputSpec, size: int) -> float:
    """Of some batches the quickest: whoever else uses the machine makes others slower, and none quicker."""
    allocate = getattr(detector, "allocate", aligned)
    pictures: list[Uint8Array] = [allocate(spec.shape) for _ in range(size)]
    for pixels in pictures:
        pixels.fill(BLANK)
    found = []
    for _ in range(1 + _LEAST):
        before_ns = cpu_ns()
        detector.submit(batch_of(spec, pictures)).result()
        found.append((cpu_ns() - before_ns) / 1e6 / size)
    return min(found[1:])
