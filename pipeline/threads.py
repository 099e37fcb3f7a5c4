# SPDX-License-Identifier: Apache-2.0
"""What threads meet at: a stop flag, a bounded channel, and the group that owns the threads."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, Literal, Protocol, TypeVar

from pipeline.timing import now_ns

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Policy = Literal["every_frame", "freshest"]
"""What a full meeting point does: block the producer, or drop the oldest."""

FIRST: Final = 10
"""Steps of the nice value by which a thread goes before the others; ten are nine times the weight of a thread."""


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


class Closed(Exception):
    """A meeting point will deliver nothing more, or takes nothing more. Private to the flow."""


class Put(Protocol[T_contra]):
    """Hands on what belongs together, in this order: to a channel, or to whoever takes it here and now."""

    def __call__(self, *items: T_contra) -> object:
        """Raises Closed when nobody will take them any more."""


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
        Whoever has patience waits for its end also where nothing will come any more. None: for ever.
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


def show_name() -> None:
    """Let the kernel know the name of this thread, of which it keeps 15 bytes: ``top -H`` and ``ps -L`` show it."""
    with suppress(OSError), open("/proc/thread-self/comm", "wb") as comm:  # Linux only, and not in every sandbox
        comm.write(threading.current_thread().name.encode())


def go_first() -> None:
    """Let this thread run before the others where it wants a core, if the system allows that; else it stays as it is.

    For a thread that wants little and that somebody waits for. On Linux each thread has a nice value of its own; to
    lower it takes ``CAP_SYS_NICE`` or a resource limit (``LimitNICE=`` of systemd, ``--ulimit nice=`` of Docker). To
    raise everybody else's needs no right, but then any other program on the machine would go before all of them.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            # Of the main thread: whoever calls this may have been started by a thread that goes first already.
            usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual - FIRST)


class WorkerGroup:
    """Owns named threads. None outlives the ``with``, but those that are stuck in native code after the deadline."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, name: str, body: Callable[[], None]) -> threading.Thread:
        """Run ``body`` in a new daemon thread called ``name``; raises RuntimeError where the system gives no more."""

        def run() -> None:
            show_name()
            body()

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:  # so that whoever joins meanwhile waits for this one, too
            thread.start()
            self._threads = [*(known for known in self._threads if known.is_alive()), thread]
        return thread

    def adopt(self, other: WorkerGroup) -> None:
        """Own the threads of another group from now on."""
        with other._lock:
            threads, other._threads = other._threads, []
        with self._lock:
            self._threads += threads

    def alive(self) -> list[str]:
        """Names of the threads that still run."""
        with self._lock:
            return [thread.name for thread in self._threads if thread.is_alive()]

    def join(self, timeout_s: float | None = None) -> list[str]:
        """Wait for all threads, also those that are started meanwhile; returns the names of those still running."""
        deadline = None if timeout_s is None else now_ns() + int(timeout_s * 1e9)
        while True:
            with self._lock:
                running = [thread for thread in self._threads if thread.is_alive()]
            if not running:
                return []
            left = None if deadline is None else (deadline - now_ns()) / 1e9
            if left is not None and left <= 0:
                return [thread.name for thread in running]
            # A bounded wait, so that the main thread keeps handling signals.
            running[0].join(0.2 if left is None else min(left, 0.2))
