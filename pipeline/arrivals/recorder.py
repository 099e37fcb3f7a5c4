# SPDX-License-Identifier: Apache-2.0
"""Records what a run is given and how it decides: packets and when they came, drops, reconnects, service times.

Readers hand everything to one thread through a bounded backlog and never wait for the disk: what finds no room is lost
and counted, and the packet after it says how many are missing. A disk that refuses, or a limit that is reached, ends
the recording, with one line; the run goes on. What was still waiting then is lost and counted, too.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import av
import orjson

from pipeline.arrivals.about import settings_of, without_secrets
from pipeline.arrivals.backlog import Backlog, Job
from pipeline.arrivals.layout import ABOUT, FORMAT, SERVICES
from pipeline.arrivals.services import ServiceLog
from pipeline.arrivals.stream_files import StreamFiles
from pipeline.arrivals.stream_recorder import StreamRecorder
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.host.replacing import replacing
from pipeline.ledger import BatchRun, Ledger
from pipeline.redact import scrub
from pipeline.threads import show_name
from pipeline.timing import SYSTEM, Clock, rfc3339

log = logging.getLogger("pipeline")

LIMIT_MB: Final = 20_000
"""Megabytes that a recording may take where nobody says otherwise: an hour of ten cameras of 4 Mbit/s."""
RESERVE_BYTES: Final = 256 << 20
"""Left free on the disk: the results of the run are often on the same one."""
BACKLOG_BYTES: Final = 64 << 20
BACKLOG_JOBS: Final = 20_000
"""What may wait for the disk: some seconds of many cameras."""
_LOOK_NS: Final = 1_000_000_000
_SAVE_NS: Final = 5_000_000_000
"""How often service times are saved: a run that is killed leaves those."""
_CLOSING_S: Final = 10.0
"""How long the end of a run waits for what is still to be written."""


class Recorder:
    """One recording. ``open``, then ``begin`` when the settings are known, ``stream`` for each stream, ``close``.

    Args:
        folder: is made if need be; must be empty.
        limit_mb: megabytes on the disk at which it ends.
        reserve_bytes: free space at which it ends.
        clock: where time comes from.

    Attributes:
        lost: packets that were not written.
        lines_lost: lines on conditions and frames that were not, and all those that were in a file's buffer when the
            disk refused that.
        ended: why it ended before the run did, or None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_mb: int = LIMIT_MB,
        reserve_bytes: int = RESERVE_BYTES,
        backlog_bytes: int = BACKLOG_BYTES,
        clock: Clock = SYSTEM,
    ) -> None:
        self.folder = folder
        self.origin_ns = clock.now_ns()
        self.now_ns = clock.now_ns
        self.lost = self.lines_lost = 0
        self.ended: str | None = None
        self._limit = limit_mb * 1_000_000
        self._limit_mb = limit_mb
        self._reserve = reserve_bytes
        self._services = ServiceLog()
        self._backlog = Backlog(backlog_bytes, BACKLOG_JOBS)
        self._lock = threading.Lock()
        self._streams: dict[str, StreamFiles] = {}
        self._about: dict[str, Any] = {"format": FORMAT, "began": rfc3339(clock.wall_ns()), "wall_ns": clock.wall_ns()}
        self._thread = threading.Thread(target=self._work, name="record", daemon=True)
        self._left_alone = False
        self._next_look_ns = self._next_save_ns = 0

    def open(self) -> None:
        """Make the folder and begin to write. Raises UsageError where it is not empty, or cannot be written to."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(self.folder.iterdir()):
                raise UsageError(f"{self.folder}: is not empty; --record-arrivals needs a new folder")
            self._save(ABOUT, self._about)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{self.folder}: is not a folder") from error
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be written to: {error.strerror or error}") from error
        self._thread.start()

    def begin(self, config: Config, model: dict[str, Any], run: str, ledger: Ledger) -> None:
        """Keep what the run is like, without its secrets, and time its batches from now on.

        Args:
            config: as it begins; what a reload changes is not kept.
            model: the report's section on the model.
            run: the id of the run, as its results have it.
            ledger: of the run.
        """
        facts = without_secrets({key: model.get(key) for key in ("path", "sha256", "device", "max_batch", "workers")})
        self._about |= {"run": run, "model": facts, "settings": settings_of(config)}
        self.put(lambda: self._save(ABOUT, self._about))
        ledger.on_batch = self._batch

    def stream(self, name: str, kind: str) -> StreamRecorder:
        """The recorder of a stream, or of its next life. ``kind``: see :class:`StreamRecorder`."""
        with self._lock:
            files = self._streams.get(name)
            if files is None:
                files = self._streams[name] = StreamFiles(self.folder / name, self)
        return StreamRecorder(files, self, kind)

    def _batch(self, run: BatchRun) -> None:
        self._services.add(run.items, run.inferred_ns - run.taken_ns, run.parsed_ns - run.inferred_ns)

    def put(self, job: Callable[[], None], size: int = 0, packets: int = 0, lines: int = 0) -> bool:
        """See :class:`pipeline.arrivals.stream_recorder.Desk`."""
        if self.ended is None and self._backlog.put(Job(job, size, packets, lines)):
            return True
        self.lose(packets, lines)
        return False

    def lose(self, packets: int, lines: int = 0) -> None:
        """Count packets and lines that nobody will write."""
        with self._lock:
            self.lost += packets
            self.lines_lost += lines

    def close(self) -> None:
        """Write what waits, say how it ended, close everything. A disk that hangs is left alone after some seconds."""
        self._backlog.close()
        if self._thread.ident is None or self._left_alone:
            return
        self._left_alone = True  # also where a signal ends the wait
        self._thread.join(_CLOSING_S)
        self._left_alone = self._thread.is_alive()
        if self._left_alone:
            self._say_ended(f"its disk did not take what was left within {_CLOSING_S:g} s")
            self._give_up()

    def facts(self) -> dict[str, Any]:
        """For reports: ``folder``, ``state`` (``complete`` or ``ended``), ``reason``, ``packets``, ``bytes``,
        ``lost`` (packets), ``lines_lost``."""
        with self._lock:
            streams = list(self._streams.values())
        return {
            "folder": str(self.folder),
            "state": "complete" if self.ended is None else "ended",
            "reason": self.ended,
            "packets": sum(stream.packets for stream in streams),
            "bytes": sum(stream.size for stream in streams),
            "lost": self.lost,
            "lines_lost": self.lines_lost,
        }

    # The writing thread

    def _work(self) -> None:
        show_name()
        for part in (self._write, self._finish):
            try:
                part()
            except Exception as error:
                self._end(_words(error))
                log.debug("the recording failed", exc_info=True)

    def _write(self) -> None:
        look = Job(self._look)
        try:
            while not self._backlog.over:
                for job in self._backlog.take(1.0):
                    self._attempt(job)
                self._attempt(look)
        finally:
            self._give_up()

    def _attempt(self, job: Job) -> None:
        if self.ended is not None:
            self.lose(job.packets, job.lines)
            return
        try:
            job.run()
        except (OSError, av.FFmpegError) as error:
            self.lose(job.packets, job.lines)
            self._end(_words(error))

    def _look(self) -> None:
        """After each handful of jobs: flush, and now and then see what is left of the disk. Raises OSError."""
        for stream in self._known():
            stream.flush()
        now_ns = self.now_ns()
        if sum(stream.size for stream in self._known()) >= self._limit:
            self._end(f"it has {self._limit_mb:,} MB (--record-limit)")
        elif now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + _LOOK_NS
            if shutil.disk_usage(self.folder).free < self._reserve:
                self._end(f"less than {self._reserve >> 20} MiB are free on its disk")
        measured = self._services.as_dict() if now_ns >= self._next_save_ns else {}
        if measured:
            self._next_save_ns = now_ns + _SAVE_NS
            self._save(SERVICES, measured)

    def _give_up(self) -> None:
        """Count what waits, or is under way, as lost."""
        for job in self._backlog.give_up():
            self.lose(job.packets, job.lines)

    def _end(self, reason: str) -> None:
        self._say_ended(reason)
        for stream in self._known():
            stream.close()

    def _say_ended(self, reason: str) -> None:
        """Once. Touches no file."""
        with self._lock:
            if self.ended is not None:
                return
            self.ended = scrub(reason)
        packets = sum(stream.packets for stream in self._known())
        log.error(
            "the recording in %s ends, the run goes on: %s (%d packets written)", self.folder, self.ended, packets
        )

    def _finish(self) -> None:
        for stream in self._known():
            stream.close()
        try:
            self._save(SERVICES, self._services.as_dict())
        finally:  # a disk that is full for the one may have room for the other
            self._save(ABOUT, self._about | {"ended": self.facts() | {"folder": None}})

    def _known(self) -> list[StreamFiles]:
        with self._lock:
            return list(self._streams.values())

    def _save(self, name: str, content: dict[str, Any]) -> None:
        with replacing(self.folder / name) as partial:
            partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
