# SPDX-License-Identifier: Apache-2.0
"""How log records look on stderr: a line for people or a JSON document, and what is said again and again as a count."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from pipeline.timing import SYSTEM, Clock, rfc3339, wall_ns

FOLD_NS = 60_000_000_000
MOST_REMEMBERED = 1024


class OneLine(logging.Formatter):
    """``pipeline: warning: text``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for tracebacks."""
        text = super().format(record)
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"pipeline: {level}{text}"


class AsJson(logging.Formatter):
    """One document per line: ``time`` (RFC 3339), ``level``, ``message``; ``trace`` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """In ASCII, so that a line is a line everywhere."""
        document: dict[str, Any] = {
            "time": rfc3339(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            document["trace"] = record.exc_text
        return json.dumps(document)


def _words(record: logging.LogRecord, text: str | None = None) -> logging.LogRecord:
    """What was said, without what it was said about: an exception holds all that its frames know alive."""
    text = record.getMessage() if text is None else text
    return logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, None, None)


@dataclass(slots=True)
class _Said:
    first_ns: int
    record: logging.LogRecord
    more: int = 0


class Folding(logging.Handler):
    """Hands records on; one that says the same as another of the last minute is counted instead, unless it is an
    ``event`` of its own (an attribute of the record). An attribute ``same`` tells what counts as the same where the
    numbers in the text differ.

    The count follows with the first record after that minute, and at the end. What goes on after its count is counted
    for another minute: a line a minute, however often it happens. At most :data:`MOST_REMEMBERED` different texts are
    remembered; the oldest gives way.
    """

    def __init__(self, target: logging.Handler, clock: Clock = SYSTEM) -> None:
        super().__init__()
        self._target = target
        self._now = clock.now_ns
        self._said: dict[tuple[int, str], _Said] = {}  # the oldest first

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
        key = (record.levelno, getattr(record, "same", None) or record.getMessage())
        known = self._said.get(key)
        if known is not None:
            known.more += 1
            return
        if len(self._said) >= MOST_REMEMBERED:
            self._forget(next(iter(self._said)))
        self._said[key] = _Said(now_ns, _words(record))
        self._target.handle(record)

    def close(self) -> None:
        """Say the counts that were not said yet."""
        for key in list(self._said):
            self._forget(key)
        super().close()

    def _forget(self, key: tuple[int, str]) -> bool:
        """Say how often it happened again; False where it did not."""
        said = self._said.pop(key)
        if said.more:
            since = rfc3339(wall_ns() - (self._now() - said.first_ns))[11:19]
            times = "once more" if said.more == 1 else f"{said.more} more times"
            text = f"{said.record.getMessage()} (repeated {times} within a minute from {since})"
            self._target.handle(_words(said.record, text))
        return said.more > 0
