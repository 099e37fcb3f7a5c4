# SPDX-License-Identifier: Apache-2.0
"""What a decoder may leave out while the asked frame rate still holds."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.sources.opening import Skip


@dataclass(frozen=True, slots=True)
class SkipFacts:
    """What was seen of a stream, in seconds.

    Attributes:
        key_gap_s: longest time between two key frames, or None where fewer than two were seen.
        reference_gap_s: the same between two frames that other frames need.
        saves: share of frames that leaving out the others would save, 0 to 1.
    """

    key_gap_s: float | None = None
    reference_gap_s: float | None = None
    saves: float = 0.0


def decide_skip(facts: SkipFacts, asked_fps: float | None) -> Skip:
    """The mode that decodes least while no gap between two frames grows beyond ``1 / asked_fps``.

    ``nonkey`` decodes key frames only, ``nonref`` leaves out what no other frame needs (where that is anything at all),
    ``none`` decodes everything. Without an asked rate nothing is left out. A camera may change its GOP at any time
    ("smart" codecs do): what was seen is no promise, so this is for feeds of which freshness is asked, not every frame.
    """
    if asked_fps is None or asked_fps <= 0:
        return "none"
    longest = 1.02 / asked_fps  # stamps are rounded, cameras jitter
    if facts.key_gap_s is not None and facts.key_gap_s <= longest:
        return "nonkey"
    if facts.reference_gap_s is not None and facts.saves > 0 and facts.reference_gap_s <= longest:
        return "nonref"
    return "none"
