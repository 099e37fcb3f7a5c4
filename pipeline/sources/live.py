# SPDX-License-Identifier: Apache-2.0
"""What cameras share, on the network and on this machine: one reader for one connection, and no end of their own."""

from __future__ import annotations

from pipeline.frame import Capture, SourceCounters
from pipeline.sources.reader import PacketWatcher, StreamReader
from pipeline.threads import StopFlag


class LiveSource:
    """All of such a source but its opening: see :class:`pipeline.protocols.Source`."""

    def __init__(self) -> None:
        self.counters = SourceCounters()
        self._reader: StreamReader | None = None
        self._watcher: PacketWatcher | None = None
        self._stop = StopFlag()

    def watch(self, watcher: PacketWatcher) -> None:
        """Let somebody see each packet; to be called before :meth:`open`."""
        self._watcher = watcher

    def read(self) -> Capture | None:
        """The next frame, or None once stop is set; raises SourceUnavailable, SourceTimeout or DecodeError."""
        return None if self._reader is None else self._reader.read(self._stop)

    @property
    def truncation(self) -> str | None:
        """None: a feed has no length."""
        return None

    def close(self) -> None:
        """Hang up; may be called twice."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
