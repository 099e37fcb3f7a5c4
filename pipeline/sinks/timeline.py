# SPDX-License-Identifier: Apache-2.0
"""When a video shows a frame: its own time stamp, as far as time stamps advance."""

from __future__ import annotations

from typing import Final

from pipeline.sinks.mp4 import TICKS_PER_SECOND

LONGEST_GAP: Final = 3600 * TICKS_PER_SECOND
_SLOWEST: Final = TICKS_PER_SECOND  # a frame's assumed duration where nothing is known is at most this


class Timeline:
    """Ticks (1/90000 s) of frames in the file that is being written, by their pts in seconds.

    Args:
        fps: declared frame rate, or None.

    Attributes:
        last: ticks of the last frame in the file, or None before the first.
        interval: ticks between the last two frames.
    """

    def __init__(self, fps: float | None) -> None:
        self.last: int | None = None
        self.interval = TICKS_PER_SECOND // 25
        if fps:
            self.interval = max(1, min(round(TICKS_PER_SECOND / fps), _SLOWEST))
        self._shift = 0  # added to a frame's own ticks; not 0 after a break in the time stamps and in later files

    def begin_again(self) -> None:
        """The next frame is the first of a file."""
        self.last = None

    def leaps(self, pts_s: float) -> bool:
        """Whether more than an hour passed since the last frame."""
        return self.last is not None and self._own(pts_s) + self._shift - self.last > LONGEST_GAP

    def following(self, pts_s: float) -> int:
        """Ticks that the next frame would have in this file: its own, unless they do not advance or leap."""
        if self.last is None:
            return 0
        ticks = self._own(pts_s) + self._shift
        return ticks if 0 < ticks - self.last <= LONGEST_GAP else self.last + self.interval

    def place(self, pts_s: float, own_start: bool) -> int:
        """Ticks for the next frame.

        Args:
            pts_s: its time stamp.
            own_start: the first frame of a file keeps its time stamp; else it is shown at 0.
        """
        own = self._own(pts_s)
        if self.last is None:
            self._shift = 0 if own_start and own >= 0 else -own
        else:
            ticks = self.following(pts_s)
            if ticks == own + self._shift:
                self.interval = min(ticks - self.last, _SLOWEST)
            self._shift = ticks - own
        self.last = own + self._shift
        return self.last

    def _own(self, pts_s: float) -> int:
        return round(pts_s * TICKS_PER_SECOND)
