# SPDX-License-Identifier: Apache-2.0
"""From the camera's lens to the result, where the camera says when it took its pictures."""

from __future__ import annotations

from typing import Any

from pipeline.ledger.blocks import Block
from pipeline.ledger.stats import milliseconds
from pipeline.measures import Histogram
from pipeline.timing import MOST_AGE_NS, Mark


class CaptureTimes:
    """Of one stream: how old frames were when they were read, and when their result was published. Not locked.

    Two clocks are compared, the camera's and this machine's. Both have to be set by NTP or PTP; where a frame comes
    from the future or is older than :data:`pipeline.timing.MOST_AGE_NS` they are not, and nothing is told of it.

    Attributes:
        histogram: nanoseconds from capture to publication.
        apart: frames of which the clocks disagree.
        delay_ns: how old the newest frame was when it was read; negative where the camera's clock is ahead.
    """

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.apart = 0
        self.delay_ns: int | None = None

    def add(self, block: Block, stream: int = 0) -> None:
        """Add frames of one of the block's streams; those of which the camera says nothing are passed over."""
        rows = block.rows(stream)
        ages_ns, marks = block.ages_ns[rows], block.marks[rows]
        told = ages_ns != 0
        if not told.any():
            return
        believed = told & (ages_ns > 0) & (ages_ns <= MOST_AGE_NS)
        took_ns = block.published_ns[rows] - marks[:, Mark.READ]
        self.histogram.record_all((ages_ns + took_ns)[believed])
        self.apart += int((told & ~believed).sum())
        self.delay_ns = int(ages_ns[told][-1])

    def as_dict(self, capture_to_result: dict[str, Any] | None) -> dict[str, Any]:
        """``{"delay_ms", "clocks_apart", "capture_to_result"}``, see :class:`CaptureTimes`; STATS of ``histogram`` are
        given."""
        return {
            "delay_ms": None if self.delay_ns is None else milliseconds(self.delay_ns),
            "clocks_apart": self.apart,
            "capture_to_result": capture_to_result,
        }
