# SPDX-License-Identifier: Apache-2.0
"""How log records look on stderr: a line for people or a JSON document, and what is said again and again as a count."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from pipeline.timing import SYSTEM, Clock, rfc3339, wall_ns

FOLD_NS = 60_000_000_000
MOST_REMEMBERED = 1024


class OneLine(logging.Formatter):
    """``pipeline: warning: text``; ``timed``: after the time, RFC 3339 in UTC."""

    def __init__(self, *, timed: bool = False) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for tracebacks."""
        text = super().format(record)
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        time = f"{rfc3339(int(record.created * 1e9))} " if self._timed else ""
        return f"{time}pipeline: {level}{text}"


def wants_time(file: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether lines in ``file`` need the time: not where somebody watches them come, nor in systemd's journal, which
    notes it itself (``JOURNAL_STREAM`` names the device and inode of its pipe; systemd.exec(5))."""
    try:
        if file is None or file.isatty():
            return False
        told = os.fstat(file.fileno())
    except (OSError, ValueError):  # no file of the system
        return True
    return environ.get("JOURNAL_STREAM") != f"{told.st_dev}:{told.st_ino}"


class AsJson(logging.Formatter):
    """One document per line: ``time`` (RFC 3339), ``level``, ``message``; ``stream`` where it is about one, ``trace``
    where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """In ASCII, so that a line is a line everywhere."""
        document: dict[str, Any] = {
            "time": rfc3339(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        stream = getattr(record, "stream", None)
        if stream is not None:
            document["stream"] = stream
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            document["trace"] = record.exc_text
        return json.dumps(document)


def _words(record: logging.LogRecord, text: str | None = None) -> logging.LogRecord:
    """What was said, without what it was said about: an exception holds all that its frames know alive."""
    text = record.getMessage() if text is None else text
    words = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, None, None)
    words.stream = getattr(record, "stream", None)
    return words


_Key = str | tuple[int, str]
"""What counts as the same: as the record says, or its level and text."""


@dataclass(slots=True)
class _Said:
    first_ns: int
    record: logging.LogRecord
    more: int = 0
    counted_last: bool = False  # the latest was not handed on


class Folding(logging.Handler):
    """Hands records on; one that says the same as another of the last minute is counted instead, unless it is an
    ``event`` of its own (an attribute of the record). An attribute ``same`` tells what counts as the same where the
    numbers in the text differ. An attribute ``ends`` names, as its ``same``, what is over by this: where that was
    handed on, so is this, or a reader would take it that it still goes on.

    The count follows with the first record after that minute, and at the end. What goes on after its count is counted
    for another minute: a line a minute, however often it happens. At most :data:`MOST_REMEMBERED` different texts are
    remembered; the oldest gives way.
    """

    def __init__(self, target: logging.Handler, clock: Clock = SYSTEM) -> None:
        super().__init__()
        self._target = target
        self._now = clock.now_ns
        self._said: dict[_Key, _Said] = {}  # the oldest first

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on, or count."""
        now_ns = self._now()
        while self._said:
            key, said = next(iter(self._said.items()))
            if now_ns - said.first_ns < FOLD_NS:
                break
            again = self._forget(key)
            if again:
                self._said[key] = _Said(now_ns, said.record)
        if getattr(record, "event", False):
            self._target.handle(record)
            return
        key = getattr(record, "same", None) or (record.levelno, record.getMessage())
        known = self._said.get(key)
        if known is not None:
            known.counted_last = not self._ends_something_said(record)
            if known.counted_last:
                known.more += 1
            else:
                self._target.handle(record)
            return
        if len(self._said) >= MOST_REMEMBERED:
            self._forget(next(iter(self._said)))
        self._said[key] = _Said(now_ns, _words(record))
        self._target.handle(record)

    def _ends_something_said(self, record: logging.LogRecord) -> bool:
        ends = getattr(record, "ends", None)
        if ends is None:
            return False
        begun = self._said.get(ends)
        return begun is None or not begun.counted_last

    def close(self) -> None:
        """Say the counts that were not said yet."""
        for key in list(self._said):
            self._forget(key)
        super().close()

    def _forget(self, key: _Key) -> bool:
        """Say how often it happened again; False where it did not."""
        said = self._said.pop(key)
        if said.more:
            since = rfc3339(wall_ns() - (self._now() - said.first_ns))[11:19]
            times = "once more" if said.more == 1 else f"{said.more} more times"
            text = f"{said.record.getMessage()} (repeated {times} within a minute from {since})"
            self._target.handle(_words(said.record, text))
        return said.more > 0
