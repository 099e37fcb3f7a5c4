# SPDX-License-Identifier: Apache-2.0
"""How many pictures one call of the network holds: what fits the cache, and what fits into memory."""

from __future__ import annotations

import threading

CALL_PIXELS = 5 << 16
"""Most pixels that one call shows the network on a CPU in fp32, per intra-op thread, where nobody measured it.

More of them push each other's activations out of the cache: a MobileNet at 640 x 640 takes 1.4 times as long per
picture in batches of 4, and 1.8 times in batches of 8, as it does alone (``python -m benchmarks.network --sides``).
"""


def pictures_per_call(height: int, width: int, threads: int, *, halved: bool = False) -> int:
    """Pictures of ``height`` x ``width`` pixels that one call on a CPU takes, with ``threads`` intra-op threads,
    without becoming slower per picture; at least 1.

    ``halved``: activations have two bytes instead of four (bf16, fp16), so twice as many fit.
    """
    return max(1, CALL_PIXELS * (2 if halved else 1) * threads // (height * width))


def parts(size: int, most: int) -> list[int]:
    """``size`` pictures in as few calls of at most ``most`` as there can be, about equally large: 5 by 2 is 2, 2, 1."""
    calls = -(-size // most)
    each = -(-size // calls)
    return [min(each, size - at) for at in range(0, size, each)]


PATIENCE = 200
"""Calls that must go well at a lowered capacity before twice as many pictures are tried again."""

MOST_PATIENCE = PATIENCE << 8
"""Where memory stays short, each attempt that fails doubles the wait for the next, up to so many calls."""


class Capacity:
    """Shared by all threads that run one network.

    Args:
        most: pictures per call while all is well, at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = most
        self._good = 0
        self._patience = PATIENCE
        self._raised = False  # more than before is being tried
        self._lock = threading.Lock()

    @property
    def now(self) -> int:
        """Pictures per call at this moment."""
        return self._now

    def ran_out(self, size: int) -> int:
        """Memory ran out under a call of ``size`` pictures; returns how many may be tried instead, 0 if none."""
        with self._lock:
            if self._raised:  # a relapse, or a new shortage after long
                relapse = self._good < self._patience
                self._patience = min(MOST_PATIENCE, 2 * self._patience) if relapse else PATIENCE
            self._good, self._raised = 0, False
            self._now = max(1, min(self._now, size // 2))
            return self._now if size > 1 else 0

    def went_well(self) -> bool:
        """Count a call; True when it was the one after which twice as many pictures may be tried again."""
        if self._now == self._most:
            self._good += 1  # without the lock: roughly is enough
            return False
        with self._lock:
            self._good += 1
            if self._good < self._patience:
                return False
            self._good, self._raised = 0, True
            self._now = min(self._most, 2 * self._now)
            return True
