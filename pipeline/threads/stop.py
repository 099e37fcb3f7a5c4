# SPDX-License-Identifier: Apache-2.0
"""A request to stop that everybody who waits can hear."""

from __future__ import annotations

import threading
import weakref


class StopFlag:
    """A request to stop that everybody who waits can hear."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._children: weakref.WeakSet[StopFlag] = weakref.WeakSet()
        self._lock = threading.Lock()

    def child(self) -> StopFlag:
        """A flag that is set with this one, or by itself alone. Known for only as long as somebody holds it."""
        child = StopFlag()
        with self._lock:
            self._children.add(child)
        if self.is_set():
            child.set()
        return child

    def set(self) -> None:
        """Ask everybody to stop. Cannot be taken back."""
        self._event.set()
        with self._lock:
            children = list(self._children)
        for child in children:
            child.set()

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Pause for at most ``seconds``; True at once when a stop is or was asked for."""
        return self._event.wait(seconds)
