# SPDX-License-Identifier: Apache-2.0
"""What sinks share that write one file of records per stream: when the files open, sync and close."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipeline.errors import SinkError
from pipeline.frame import StreamInfo
from pipeline.sinks.paths import StreamPaths
from pipeline.sinks.record_file import RecordFile, Rotate
from pipeline.timing import SYSTEM, Clock

Mode = Literal["replace", "append"]
"""What becomes of a file from an earlier run: emptied at the stream's first use, or repaired and continued."""

Fsync = Literal["never", "interval", "always"]
"""When records are made safe against a power loss: left to the operating system; once a second and at the end; each."""

_INTERVAL_NS = 1_000_000_000


class StreamFiles:
    """One :class:`RecordFile` per stream, or per path where streams share one. Bounded: ``end`` closes.

    With ``interval`` all files are synced by the first record that comes a second after the last sync, whichever
    stream it belongs to: no thread waits for it, so the last records before a silence of *all* streams are safe
    at the next record or at the end.

    Args:
        template: of the files' paths; ``{stream}`` stands for the name of a stream.
        mode, fsync: see :data:`Mode` and :data:`Fsync`.
        header: first bytes of every file.
        opening: how every record begins, see :func:`pipeline.sinks.record_file.repair_tail`.
        rotate: when to start a new file, or None.
        clock: where time comes from.
    """

    def __init__(
        self,
        template: str | Path,
        *,
        mode: Mode = "replace",
        header: bytes = b"",
        opening: bytes = b"",
        rotate: Rotate | None = None,
        fsync: Fsync = "never",
        clock: Clock = SYSTEM,
    ) -> None:
        self._paths = StreamPaths(template)
        self.path = self._paths.absolute
        self._mode = mode
        self._header = header
        self._opening = opening
        self._rotate = rotate
        self._fsync = fsync
        self._clock = clock
        self._of_stream: dict[str, RecordFile] = {}
        self._replaced: set[Path] = set()
        self._synced_ns = 0

    def open(self) -> None:
        """Make the folder; raises SinkError where no file could ever be made."""
        self._paths.prepare()
        self._synced_ns = self._clock.now_ns()

    def begin(self, stream: str) -> None:
        """Make the stream's file, so that a stream without frames leaves an empty one; raises SinkError."""
        self._file(stream).open()

    def append(self, stream: str, record: bytes) -> None:
        """Append one record; after a SinkError the next one tries again."""
        file = self._of_stream.get(stream) or self._file(stream)
        file.append(record)
        if self._fsync == "always":
            file.sync()
        elif self._fsync == "interval":
            now = self._clock.now_ns()
            if now - self._synced_ns >= _INTERVAL_NS:
                self._synced_ns = now
                for each in set(self._of_stream.values()):
                    each.sync()

    def end(self, stream: str) -> None:
        """Close the stream's file, unless others share it; raises SinkError."""
        file = self._of_stream.pop(stream, None)
        if file is not None and file not in self._of_stream.values():
            file.close()

    def close(self) -> None:
        """Close all files; raises the first SinkError after all of them were tried."""
        failure: SinkError | None = None
        for stream in list(self._of_stream):
            try:
                self.end(stream)
            except SinkError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _file(self, stream: str) -> RecordFile:
        path = self._paths.of(stream)
        for known in self._of_stream.values():
            if known.path == path:
                self._of_stream[stream] = known
                return known
        file = RecordFile(
            path,
            replace=self._mode == "replace" and path not in self._replaced,
            header=self._header,
            opening=self._opening,
            rotate=self._rotate,
            durable=self._fsync != "never",
        )
        self._replaced.add(path)
        self._of_stream[stream] = file
        return file


class StreamFilesSink:
    """All of such a sink but what it writes: see :class:`pipeline.protocols.Sink`."""

    wants_pictures = False

    def __init__(self, name: str, files: StreamFiles) -> None:
        self.name = name
        self.path = files.path
        self._files = files

    def open(self) -> None:
        """Make the folder; raises SinkError where it cannot be written to."""
        self._files.open()

    def begin(self, stream: StreamInfo) -> None:
        """Make the stream's file; raises SinkError."""
        self._files.begin(stream.name)

    def end(self, stream: str) -> None:
        """Close the stream's file; raises SinkError."""
        self._files.end(stream)

    def close(self) -> None:
        """Close all files, synced as asked for; raises SinkError."""
        self._files.close()
