# SPDX-License-Identifier: Apache-2.0
"""How far the reading of a stream is behind the stream itself."""

from __future__ import annotations

from typing import Final

_LEAK: Final = 1 / 4096
"""The least delay is forgotten slowly: it grows by this share of the time that passes. A camera whose clock is slow by
less (240 ppm) never seems to fall behind."""


class Lag:
    """The delay of frames against their time stamps, less the least delay that any of them had.

    A reader that keeps up has a lag of nearly nothing. One that needs longer for a frame than the time until the next
    falls behind, wherever its frames wait meanwhile: in a socket, or in a recording that plays a camera. Take away its
    lag, and a frame is where it belongs on the stream's own time line: a playout delay counts from there. A new epoch
    begins anew. Not locked.

    Attributes:
        interval_ns: between the time stamps of the newest frame and the one before; 0 at the beginning of an epoch.
        fallen_ns: how far it is behind by now: the lags with which epochs ended, where it was behind, and that of the
            newest frame.
    """

    __slots__ = ("_epoch", "_last_ns", "_least_ns", "_pts_ns", "_until_ns", "fallen_ns", "interval_ns")

    def __init__(self) -> None:
        self.interval_ns = self.fallen_ns = 0
        self._until_ns = 0  # how far it had fallen behind in earlier epochs
        self._epoch: int | None = None
        self._least_ns = self._last_ns = self._pts_ns = 0

    def at(self, now_ns: int, pts_ns: int, epoch: int) -> int:
        """Nanoseconds by which a frame with time stamp ``pts_ns`` is behind, met at ``now_ns`` (monotonic)."""
        delay_ns = now_ns - pts_ns
        if epoch != self._epoch:
            if self.is_behind(self.fallen_ns - self._until_ns):
                self._until_ns = self.fallen_ns
            self._epoch, self._least_ns, self.interval_ns = epoch, delay_ns, 0
        else:
            self.interval_ns = max(0, pts_ns - self._pts_ns)
            self._least_ns = min(delay_ns, self._least_ns + int((now_ns - self._last_ns) * _LEAK))
        self._last_ns, self._pts_ns = now_ns, pts_ns
        lag_ns = delay_ns - self._least_ns
        self.fallen_ns = self._until_ns + lag_ns
        return lag_ns

    def is_behind(self, lag_ns: int) -> bool:
        """Whether the newest frame, with this lag, is late by more than an interval: the next is there already, or
        should be."""
        return lag_ns > self.interval_ns > 0
