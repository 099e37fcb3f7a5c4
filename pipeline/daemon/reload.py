# SPDX-License-Identifier: Apache-2.0
"""Taking a changed streams.yaml while everything runs: only what differs is touched, a faulty file changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pipeline.config import Config, LoadedConfig, StreamConfig, load_config_quarantining
from pipeline.daemon.attempt import EVENT
from pipeline.daemon.difference import Difference, difference
from pipeline.daemon.reload_report import ReloadReport
from pipeline.daemon.shard import WHOLE, Shard
from pipeline.daemon.watched import WatchedFile
from pipeline.errors import ConfigError
from pipeline.flow import Pipeline
from pipeline.flow.stream import Stream
from pipeline.ledger import StreamLedger

log = logging.getLogger("pipeline")


def remarks(loaded: LoadedConfig) -> frozenset[str]:
    """What is to be said about a file that can be taken."""
    return frozenset((*loaded.warnings, *(fault for stream in loaded.quarantined for fault in stream.faults)))


class Reloader:
    """Keeps the streams of a pipeline as the file says. Used by one thread, which calls :meth:`look` often.

    A changed stream ends first, and what it has queued is served; then it starts anew, so that sinks see one life of
    a name after the other.

    Args:
        file: the streams.yaml, watched since before it was read.
        shard: which part of its streams is meant.
        loaded: as it was when the streams were started.
        running: the streams that were started.
        pipeline: runs them, and was not finished.
        make_feed: makes a stream of its configuration; raises ConfigError.
        model: is told of each file that was taken, and whether by a signal: the model is its affair.

    Attributes:
        refused: an entry of the file as it was last taken is faulty.
        reloads: times that a file was taken (``done``), or was faulty as a whole and changed nothing (``refused``).
        succeeded: the file as it was read last is what runs.
    """

    def __init__(
        self,
        file: WatchedFile,
        shard: Shard,
        loaded: LoadedConfig,
        running: Sequence[StreamConfig],
        pipeline: Pipeline,
        make_feed: Callable[[StreamConfig], Stream],
        model: Callable[[Config, bool], None],
    ) -> None:
        self._shard = shard
        self._file = file
        self._config = loaded.config
        self._running = {stream.name: stream for stream in running}
        self._pipeline = pipeline
        self._make_feed = make_feed
        self._model = model
        self._next: dict[str, Stream] = {}  # to be started once their earlier life has ended
        self._removed: set[str] = set()  # to be forgotten once they have ended
        self._asked = False
        self._said = remarks(loaded)
        self._report = ReloadReport()
        self._faults: list[str] = []  # of the file as it was read last
        self._show_faulty(loaded)
        self.refused = False
        self.reloads = {"done": 0, "refused": 0}
        self.succeeded = not loaded.quarantined

    def ask(self) -> None:
        """Read the file at the next look, changed or not. For signal handlers."""
        self._asked = True

    def look(self) -> None:
        """Take the file if it is new or was asked for, and start what could not be started yet."""
        asked, self._asked = self._asked, False
        if asked:
            self._file.taken()
        if asked or self._file.changed():
            self._reload(asked)
        for name in [name for name in self._next if self._over(name)]:
            self._pipeline.add(self._next.pop(name))
        for name in [name for name in self._removed if self._over(name)]:
            self._removed.remove(name)
            self._pipeline.pause(name, False)  # should it come back one day, nobody holds it
            self._pipeline.ledger.retire(name)

    def restart(self, name: str) -> None:
        """Begin a stream anew that was ended by somebody else."""
        config = self._running.get(name)
        feed = None if config is None else self._made(config)
        if feed is not None:
            self._next[name] = feed

    def limit_s(self, name: str) -> float:
        """Longest that the source of a stream may take by its settings: connecting, probing, and then reading."""
        config = self._running.get(name)
        return 0.0 if config is None else 2 * config.open_timeout_s + config.read_timeout_s

    @property
    def over(self) -> bool:
        """All streams have ended, and none is about to start."""
        return not self._next and all(account.over for account in self._pipeline.ledger.streams.values())

    def _reload(self, asked: bool) -> None:
        try:
            loaded = self._shard.of(load_config_quarantining(self._file.path))
            if self._shard == WHOLE and not any(stream.enabled for stream in loaded.config.streams):
                raise ConfigError(f"{self._file.path}: no stream to run: all are disabled")
        except ConfigError as error:
            self.reloads["refused"] += 1
            self.succeeded = False
            self._report.tell("refused", error.faults)
            log.error("reload refused, nothing was changed:", extra=EVENT)
            for fault in error.faults:
                log.error("  %s", fault, extra=EVENT)
            return
        said, self._said = self._said, remarks(loaded)
        for text in sorted(self._said - said):
            log.warning("%s", text)
        self._faults = [str(fault) for entry in loaded.quarantined for fault in entry.faults]
        self._apply(difference(self._config, self._running, loaded), loaded)
        self._model(loaded.config, asked)
        self._report.tell("done" if self.succeeded else "partial", self._faults)

    def _apply(self, found: Difference, loaded: LoadedConfig) -> None:
        self.reloads["done"] += 1
        self.refused = bool(loaded.quarantined)
        self.succeeded = not self.refused
        log.info("%s reloaded: %s", self._file.path, found, extra=EVENT)
        for name in found.kept:
            log.warning("%s: its new entry is faulty; it runs on as it was", name, extra={"stream": name})
        for section in found.at_start:
            log.warning("%s: it has changed and takes effect at the next start", section)
        for name in found.remove:
            self._next.pop(name, None)
            self._running.pop(name)
            self._pipeline.remove(name)
            self._removed.add(name)
        for stream in (*found.change, *found.add):
            feed = self._made(stream)  # before its earlier life is ended
            if feed is not None:
                self._pipeline.remove(stream.name)
                self._removed.discard(stream.name)
                self._running[stream.name] = stream
                self._next[stream.name] = feed
        self._config = loaded.config
        self._show_faulty(loaded)
        self._pipeline.wake()  # a password in a file, say, may have been changed with it

    def _show_faulty(self, loaded: LoadedConfig) -> None:
        """Streams whose entry is faulty are in every list, with the reason, though nothing runs."""
        ledger = self._pipeline.ledger
        reasons = {entry.name: str(entry.faults[0]) for entry in loaded.quarantined if entry.name is not None}
        for name in [name for name, account in ledger.streams.items() if account.is_faulty and name not in reasons]:
            ledger.retire(name)
        for name, reason in reasons.items():
            if name not in self._running:
                self._removed.discard(name)
                ledger.add(StreamLedger.faulty(name, reason))

    def _over(self, name: str) -> bool:
        account = self._pipeline.ledger.streams.get(name)
        return account is None or account.over

    def _made(self, config: StreamConfig) -> Stream | None:
        try:
            return self._make_feed(config)
        except ConfigError as error:  # what runs goes on; it is tried again with the next reload
            self.refused, self.succeeded = True, False
            if str(error) not in self._faults:
                self._faults.append(str(error))
            log.error("%s; the other streams run", error)
            return None
