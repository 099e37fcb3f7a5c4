# SPDX-License-Identifier: Apache-2.0
"""A source that is known not to exist, so that it is reported among the others."""

from __future__ import annotations

from pipeline.errors import SourceUnavailable
from pipeline.frame import Capture, SourceCounters, StreamInfo
from pipeline.threads import StopFlag


class Absent:
    """Fails when opened, with the reason that it was given."""

    truncation = None

    def __init__(self, reason: str) -> None:
        self.counters = SourceCounters()
        self._reason = reason

    def open(self, stop: StopFlag) -> StreamInfo:
        """Raises SourceUnavailable."""
        raise SourceUnavailable(self._reason, cause="not_found")

    def read(self) -> Capture | None:
        """Nothing."""
        return None

    def close(self) -> None:
        """Nothing to do."""
