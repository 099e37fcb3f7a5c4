# SPDX-License-Identifier: Apache-2.0
"""Thinning: which of the decoded frames are processed where fewer are asked for."""

from __future__ import annotations

from pipeline.frame import Capture


class Thinner:
    """Keeps the frames nearest to a grid of ``fps`` points a second, and of those that ``stride`` leaves.

    The grid lies on the stream's own time axis (pts 0, 1/fps, 2/fps, ...), not on frame numbers: no drift, no more than
    one frame per grid point, and the same choice for the same time stamps however uneven they are. A frame also counts
    as being on a grid point if it comes early by less than 45 % of the interval before it, which absorbs stamps rounded
    to milliseconds and the jitter of cameras. Asking for more than the stream has keeps everything.

    Args:
        fps: frames a second to keep, or None for all.
        stride: of the delivered frames (by index), keep every ``stride``-th.
    """

    __slots__ = ("_fps", "_last_s", "_slot", "_stride")

    def __init__(self, fps: float | None = None, stride: int = 1) -> None:
        if fps is not None and not 0 < fps < float("inf"):
            raise ValueError(f"fps must be positive, not {fps}")
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        self._fps = fps
        self._stride = stride
        self._slot = 0  # the next grid point, in units of 1/fps
        self._last_s: float | None = None

    def keep(self, capture: Capture) -> bool:
        """Whether this frame is to be processed. To be asked once per frame, in order."""
        if self._stride > 1 and capture.index % self._stride:
            return False
        fps = self._fps
        if fps is None:
            return True
        at = capture.pts_s
        last = self._last_s
        self._last_s = at
        if last is None or at < last:  # the first frame, or a source that started anew
            self._slot = int(at * fps) + 1
            return True
        at += 0.45 * min(at - last, 1.0 / fps)
        if at * fps < self._slot:
            return False
        self._slot = int(at * fps) + 1
        return True
