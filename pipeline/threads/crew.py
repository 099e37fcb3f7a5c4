# SPDX-License-Identifier: Apache-2.0
"""Threads that do what they are handed, for somebody who goes on meanwhile, and who can leave one that hangs behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from pipeline.errors import ModelHung
from pipeline.threads.channel import Channel, Closed
from pipeline.threads.workers import WorkerGroup

REST_S = 5.0
"""How long the threads are waited for at the end."""

T = TypeVar("T")


class Handed(Generic[T]):
    """Something that was handed to a crew, and what comes of it: its result, or the first error."""

    def __init__(self, job: Callable[[], T]) -> None:
        self._job = job
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._found: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """In one of the crew's threads."""
        try:
            self._settle(self._job(), None)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self._settle(None, error)

    def give_up(self) -> None:
        """Whoever waits gets Closed."""
        self._settle(None, Closed())

    def result(self, limit_s: float | None = None) -> T:
        """Wait for it; raises what it raised, Closed once it was given up, and ModelHung after ``limit_s``."""
        if not self._done.wait(limit_s):
            raise ModelHung(f"the model has not answered for {limit_s:g} s (model.timeout_s)")
        if self._error is not None:
            raise self._error
        return cast("T", self._found)

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done, or was given up, within ``timeout_s``."""
        return self._done.wait(timeout_s)

    @property
    def over(self) -> bool:
        """Nobody need wait."""
        return self._done.is_set()

    def _settle(self, found: T | None, error: BaseException | None) -> None:
        with self._lock:
            if not self._done.is_set():
                self._found, self._error = found, error
                self._done.set()


class Crew(Generic[T]):
    """Threads that do what they are handed, each time whoever is free first. One thread hands; any may give up.

    Args:
        names: of the threads.
        get_ready: what each of them does first.
        waiting: what may wait to be begun; as much as there are threads, by default.
    """

    def __init__(
        self, names: Sequence[str], get_ready: Callable[[], None] = lambda: None, waiting: int | None = None
    ) -> None:
        self._names = names
        self._get_ready = get_ready
        self._group = WorkerGroup()
        self._jobs: Channel[Handed[T]] = Channel(waiting or len(names))
        self._handed: list[Handed[Any]] = []
        self._given_up = False

    def start(self) -> None:
        """Start, and return when all are ready; raises what getting ready raised, and Closed once it is given up."""
        ready: list[Handed[None]] = [Handed(self._get_ready) for _ in self._names]
        self._handed = [*ready]
        if self._given_up:
            raise Closed
        for name, first in zip(self._names, ready, strict=True):
            self._group.start(name, lambda first=first: self._work(first))  # type: ignore[misc]
        try:
            for first in ready:
                first.result()
        except BaseException:
            self.rest()
            raise

    def hand(self, job: Callable[[], T]) -> Handed[T]:
        """Have something done; waits where as much as may wait does. Raises Closed after :meth:`give_up`."""
        handed = Handed(job)
        self._handed = [*(known for known in self._handed if not known.over), handed]
        self._jobs.put(handed)
        return handed

    def give_up(self) -> None:
        """Nobody waits any longer, and nothing more is begun."""
        self._given_up = True  # before the look at what was handed: whoever hands looks at this after it
        self._jobs.abort()
        for handed in self._handed:
            handed.give_up()

    def rest(self) -> bool:
        """Send them home; what they were handed is done before. False where one hangs, and is left behind."""
        self._jobs.close()
        return not self._group.join(REST_S)

    def _work(self, first: Handed[None]) -> None:
        first.run()
        with suppress(Closed):
            while True:
                self._jobs.get().run()
