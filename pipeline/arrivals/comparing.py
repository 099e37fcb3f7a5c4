# SPDX-License-Identifier: Apache-2.0
"""What became of each frame in a play, beside what became of it in the run that was recorded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from pipeline.arrivals.feed import FrameLog
from pipeline.errors import SinkError
from pipeline.frame import DropReason


class Comparison:
    """One stream. Told of each frame by the follow loop, in order.

    Args:
        recorded: what became of its frames then.

    Attributes:
        frames: those that both had.
        same: those among them of which the same became: a result, or the same loss.
        then: of these frames, what became of them when they were recorded.
    """

    def __init__(self, recorded: FrameLog) -> None:
        self._recorded = recorded
        self.frames = self.same = 0
        self.then: Counter[str] = Counter()

    def outcome(self, known_by: int, reason: DropReason | None) -> str | None:
        """What became then of the frame that the log knows by this; None where it does not."""
        line = self._recorded.find(known_by)
        if line is None:
            return None
        then = str(line["outcome"])
        self.frames += 1
        self.same += then == (reason or "processed")
        self.then[then] += 1
        return then

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {
            "frames": self.frames,
            "same": self.same,
            "agreement": round(self.same / self.frames, 4) if self.frames else None,
            "then": dict(sorted(self.then.items())),
        }


class Decisions:
    """A file with a line for each frame, in the order in which they were decided. One thread writes.

    Raises SinkError where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise self._failure(error) from error

    def write(self, line: dict[str, Any]) -> None:
        """Add a line."""
        try:
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Write what is left; may be called twice."""
        try:
            self._file.close()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> SinkError:
        return SinkError(f"{self._path}: cannot be written: {error.strerror or error}")
