# SPDX-License-Identifier: Apache-2.0
"""How many pictures one call may hold: halved when memory runs out, raised again after a while."""

from __future__ import annotations

import threading

PATIENCE = 200
"""Calls that must go well at a lowered capacity before twice as many pictures are tried again."""


class Capacity:
    """Shared by all threads that run one network.

    Args:
        most: pictures per call while all is well, at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = most
        self._good = 0
        self._lock = threading.Lock()

    @property
    def now(self) -> int:
        """Pictures per call at this moment."""
        return self._now

    def ran_out(self, size: int) -> int:
        """Memory ran out under a call of ``size`` pictures; returns how many may be tried instead, 0 if none."""
        with self._lock:
            self._good = 0
            self._now = max(1, min(self._now, size // 2))
            return self._now if size > 1 else 0

    def went_well(self) -> bool:
        """Count a call; True when it was the one after which twice as many pictures may be tried again."""
        if self._now == self._most:
            return False
        with self._lock:
            self._good += 1
            if self._good < PATIENCE:
                return False
            self._good = 0
            self._now = min(self._most, 2 * self._now)
            return True
