# SPDX-License-Identifier: Apache-2.0
"""What is said again and again becomes a count; how things stand is said all the same."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.timing import SYSTEM, Clock, rfc3339, wall_ns

FOLD_NS = 60_000_000_000
SETTLED_NS = 5_000_000_000
"""A change of state that was only counted and has lasted for so long is said."""
MOST_REMEMBERED = 1024
LOOK_S = 1.0


def _words(record: logging.LogRecord, text: str | None = None) -> logging.LogRecord:
    """What was said, without what it was said about: an exception holds all that its frames know alive."""
    text = record.getMessage() if text is None else text
    words = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, None, None)
    words.stream, words.about = getattr(record, "stream", None), getattr(record, "about", None)
    return words


_Key = str | tuple[int, str]
"""What counts as the same: as the record says, or its level and text."""


@dataclass(slots=True)
class _Said:
    first_ns: int
    record: logging.LogRecord
    more: int = 0
    counted_last: bool = False  # the latest was not handed on


@dataclass(slots=True)
class _Standing:
    """How one thing stands, by the records ``about`` it."""

    now: _Key
    since_ns: int
    record: logging.LogRecord
    said: _Key | None = None  # what a reader of the lines takes it for


class Folding(logging.Handler):
    """Hands records on; one that says the same as another of the last minute is counted instead, unless it is an
    ``event`` of its own (an attribute of the record). An attribute ``same`` tells what counts as the same where the
    numbers in the text differ. An attribute ``ends`` names, as its ``same``, what is over by this: where that was
    handed on, so is this, or a reader would take it that it still goes on.

    The count follows when that minute is over, and at the end. What goes on after its count is counted for another
    minute: a line a minute, however often it happens. At most :data:`MOST_REMEMBERED` different texts are remembered;
    the oldest gives way.

    An attribute ``about`` names the thing whose state a record tells, such as a camera that came or went. Where the
    latest of them was only counted, so that the lines say another state, it is handed on once it has held for
    :data:`SETTLED_NS`: the log is wrong for no longer than that, and what changes faster remains a count.
    """

    def __init__(self, target: logging.Handler, clock: Clock = SYSTEM) -> None:
        super().__init__()
        self._target = target
        self._now = clock.now_ns
        self._said: dict[_Key, _Said] = {}  # the oldest first
        self._standing: dict[str, _Standing] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on, or count."""
        now_ns = self._now()
        self._catch_up(now_ns)
        if getattr(record, "event", False):
            self._target.handle(record)
            return
        key = getattr(record, "same", None) or (record.levelno, record.getMessage())
        standing = self._stands(record, key, now_ns)
        known = self._said.get(key)
        if known is not None:
            known.record = _words(record)  # numbers in the text may differ: the count has the latest
            known.counted_last = not self._ends_something_said(record)
            if known.counted_last:
                known.more += 1
                return
        else:
            if len(self._said) >= MOST_REMEMBERED:
                self._forget(next(iter(self._said)))
            self._said[key] = _Said(now_ns, _words(record))
        if standing is not None:
            standing.said = key
        self._target.handle(record)

    def look(self) -> None:
        """Say what is due, though nothing new was said."""
        with self.lock or threading.RLock():
            self._catch_up(self._now())

    def say_all(self) -> None:
        """Say the counts that were not said yet, and last how things stand."""
        with self.lock or threading.RLock():
            standing = {one.now for one in self._standing.values()}
            for key in sorted(self._said, key=standing.__contains__):
                self._forget(key)
            self._settle(self._now(), 0)

    def close(self) -> None:
        """Say what was not said yet; nothing comes any more."""
        self.say_all()
        super().close()

    def _catch_up(self, now_ns: int) -> None:
        while self._said:
            key, said = next(iter(self._said.items()))
            if now_ns - said.first_ns < FOLD_NS:
                break
            again = self._forget(key)
            if again:
                self._said[key] = _Said(now_ns, said.record)
        self._settle(now_ns, SETTLED_NS)

    def _stands(self, record: logging.LogRecord, key: _Key, now_ns: int) -> _Standing | None:
        about = getattr(record, "about", None)
        if about is None:
            return None
        before = self._standing.pop(about, None)
        if before is None and len(self._standing) >= MOST_REMEMBERED:
            self._standing.pop(next(iter(self._standing)))
        since_ns = now_ns if before is None or before.now != key else before.since_ns
        said = None if before is None else before.said
        self._standing[about] = now = _Standing(key, since_ns, _words(record), said)
        return now

    def _settle(self, now_ns: int, held_ns: int) -> None:
        """Say what has held for so long where the lines say something else."""
        for one in self._standing.values():
            if one.said != one.now and now_ns - one.since_ns >= held_ns:
                one.said = one.now
                counted = self._said.get(one.now)
                if counted is not None and counted.counted_last and counted.more:  # said now, and so not counted
                    counted.more, counted.counted_last = counted.more - 1, False
                self._target.handle(one.record)

    def _ends_something_said(self, record: logging.LogRecord) -> bool:
        ends = getattr(record, "ends", None)
        if ends is None:
            return False
        begun = self._said.get(ends)
        return begun is None or not begun.counted_last

    def _forget(self, key: _Key) -> bool:
        """Say how often it happened again; False where it did not."""
        said = self._said.pop(key)
        if said.more:
            since = rfc3339(wall_ns() - (self._now() - said.first_ns))[11:19]
            times = "once more" if said.more == 1 else f"{said.more} more times"
            text = f"{said.record.getMessage()} (repeated {times} within a minute from {since})"
            self._target.handle(_words(said.record, text))
            standing = self._standing.get(getattr(said.record, "about", None) or "")
            if standing is not None:
                standing.said = key
        return said.more > 0


@contextmanager
def looked_after(folding: Folding) -> Iterator[None]:
    """For as long as the block lasts what is due is said though nobody says anything else."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(LOOK_S):
            folding.look()

    thread = threading.Thread(target=work, name="log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LOOK_S)
