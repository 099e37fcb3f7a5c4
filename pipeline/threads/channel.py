# SPDX-License-Identifier: Apache-2.0
"""A bounded queue between threads, closable from both ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Policy = Literal["every_frame", "freshest"]
"""What a full meeting point does: block the producer, or drop the oldest."""


class Closed(Exception):
    """A meeting point will deliver nothing more, or takes nothing more. Private to the flow."""


class Put(Protocol[T_contra]):
    """Hands on what belongs together, in this order: to a channel, or to whoever takes it here and now."""

    def __call__(self, *items: T_contra) -> object:
        """Raises Closed when nobody will take them."""


class Channel(Generic[T]):
    """A bounded queue with one policy, closable from both ends.

    ``close`` is the producer's word: what is inside is still delivered, then ``get`` raises Closed. ``abort`` is
    anybody's word: both ends raise Closed at once, and what is inside is handed to whoever calls :meth:`drain`.
    """

    def __init__(
        self, capacity: int, policy: Policy = "every_frame", *, spare: Callable[[T], bool] = lambda item: True
    ) -> None:
        """``spare`` says which elements ``freshest`` may push out; the others are always kept, even above capacity."""
        if capacity < 1:
            raise ValueError(f"a channel holds at least one element, not {capacity}")
        self.capacity = capacity
        self._spare = spare
        self.policy = policy
        self._items: deque[T] = deque()
        self._closed = False
        self._aborted = False
        lock = threading.Lock()
        self._readable = threading.Condition(lock)
        self._writable = threading.Condition(lock)

    def put(self, item: T) -> T | None:
        """Add an element. Returns the oldest one when ``freshest`` pushed it out; raises Closed when nobody will
        take it any more."""
        with self._writable:
            if self.policy == "every_frame":
                while len(self._items) >= self.capacity and not (self._aborted or self._closed):
                    self._writable.wait()
            if self._aborted or self._closed:
                raise Closed
            pushed_out = self._push_out() if len(self._items) >= self.capacity else None
            self._items.append(item)
            self._readable.notify()
            return pushed_out

    def put_all(self, *items: T) -> None:
        """Add elements that belong together, all at once: whoever reads wakes up once for them. Waits, whatever the
        policy, until there is room for one; the others go above capacity. Raises Closed as ``put`` does."""
        with self._writable:
            while len(self._items) >= self.capacity and not (self._aborted or self._closed):
                self._writable.wait()
            if self._aborted or self._closed:
                raise Closed
            self._items.extend(items)
            self._readable.notify()

    def put_now(self, item: T) -> None:
        """Add an element without waiting, even above capacity: for what is rare. Raises Closed as ``put`` does."""
        with self._readable:
            if self._aborted or self._closed:
                raise Closed
            self._items.append(item)
            self._readable.notify()

    def take_out(self, wanted: Callable[[T], bool]) -> T | None:
        """Remove the oldest element for which ``wanted`` says yes, and return it."""
        with self._readable:
            return self._remove(wanted)

    def _push_out(self) -> T | None:
        return self._remove(self._spare)

    def _remove(self, wanted: Callable[[T], bool]) -> T | None:
        for index, item in enumerate(self._items):
            if wanted(item):
                del self._items[index]
                return item
        return None

    def get(self, timeout_s: float | None = None) -> T:
        """Take the oldest element; waits for one. Raises Closed at the end, TimeoutError after ``timeout_s``."""
        with self._readable:
            while not self._items and not self._closed and not self._aborted:
                if not self._readable.wait(timeout_s):
                    raise TimeoutError
            if self._aborted or not self._items:
                raise Closed
            self._writable.notify()
            return self._items.popleft()

    def get_all(self, patience_s: Callable[[], float | None] = lambda: None) -> list[T]:
        """Take all that is there, the oldest first; waits for one. Raises Closed at the end.

        ``patience_s``: how long to wait for one, asked again at each waking; nothing is returned when that is over.
        Who has patience waits until it is over, even where nothing more will come. None: for ever.
        """
        with self._readable:
            while not self._items and not self._aborted:
                left_s = patience_s()
                if left_s is not None and left_s <= 0:
                    return []
                if left_s is None and self._closed:
                    break
                self._readable.wait(left_s)
            if self._aborted or not self._items:
                raise Closed
            items = list(self._items)
            self._items.clear()
            self._writable.notify_all()
            return items

    def wake(self) -> None:
        """Have whoever reads look at its patience again."""
        with self._readable:
            self._readable.notify_all()

    def close(self) -> None:
        """No more elements will come."""
        with self._readable:
            self._closed = True
            self._readable.notify_all()
            self._writable.notify_all()

    def abort(self) -> None:
        """Nothing more will be delivered or taken."""
        with self._readable:
            self._aborted = True
            self._readable.notify_all()
            self._writable.notify_all()

    def drain(self) -> list[T]:
        """Take everything that is left, to account for it."""
        with self._readable:
            left = list(self._items)
            self._items.clear()
            self._writable.notify_all()
            return left

    def __len__(self) -> int:
        return len(self._items)
