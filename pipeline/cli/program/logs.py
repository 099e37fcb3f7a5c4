# SPDX-License-Identifier: Apache-2.0
"""How log records look on stderr: a line for people or a JSON document."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any, Literal, TextIO

from pipeline.timing import rfc3339

Times = Literal["none", "clock", "full"]
"""``clock``: ``15:24:05Z``; ``full``: RFC 3339."""


class OneLine(logging.Formatter):
    """``pipeline: warning: text``, after the time in UTC where ``times`` wants one."""

    def __init__(self, times: Times = "none") -> None:
        super().__init__()
        self._times = times

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for tracebacks."""
        text = super().format(record)
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        at = rfc3339(int(record.created * 1e9))
        time = {"none": "", "clock": f"{at[11:19]}Z ", "full": f"{at} "}[self._times]
        return f"{time}pipeline: {level}{text}"


def times_for(file: TextIO | None, environ: Mapping[str, str]) -> Times:
    """How lines in ``file`` have the time: not in systemd's journal, which notes it itself (``JOURNAL_STREAM`` names
    the device and inode of its pipe; systemd.exec(5)), and short in a terminal, whose lines have little room."""
    try:
        if file is None:
            return "none"
        if file.isatty():
            return "clock"
        told = os.fstat(file.fileno())
    except (OSError, ValueError):  # no file of the system
        return "full"
    return "none" if environ.get("JOURNAL_STREAM") == f"{told.st_dev}:{told.st_ino}" else "full"


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
