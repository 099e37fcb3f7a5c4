# SPDX-License-Identifier: Apache-2.0
"""Do two programs find the same? Checked before anything is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Found = Sequence[Sequence[Sequence[Sequence[float]]]]
"""Per clip, per frame, per detection: x1, y1, x2, y2 in source pixels, class id."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Attributes:
    frames: whether both have as many frames, clip by clip.
    ours, theirs: detections in all.
    matched: pairs of one class whose corners all lie within the tolerance, each detection used once.
    """

    frames: bool
    ours: int
    theirs: int
    matched: int

    @property
    def share(self) -> float:
        """Matched detections as a share of the larger count; 1.0 when neither found anything."""
        most = max(self.ours, self.theirs)
        return self.matched / most if most else 1.0


def compare(ours: Found, theirs: Found, tolerance_px: float = 1.5) -> Agreement:
    """Match detections frame by frame."""
    same_frames = [len(clip) for clip in ours] == [len(clip) for clip in theirs]
    matched = 0
    for our_clip, their_clip in zip(ours, theirs, strict=False):
        for our_frame, their_frame in zip(our_clip, their_clip, strict=False):
            free = list(their_frame)
            for box in our_frame:
                for other in free:
                    near = all(abs(a - b) <= tolerance_px for a, b in zip(box[:4], other[:4], strict=True))
                    if near and box[4] == other[4]:
                        free.remove(other)
                        matched += 1
                        break
    return Agreement(
        same_frames,
        sum(len(frame) for clip in ours for frame in clip),
        sum(len(frame) for clip in theirs for frame in clip),
        matched,
    )
