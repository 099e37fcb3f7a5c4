# SPDX-License-Identifier: Apache-2.0
"""N feeds from a streams.yaml through one detector until somebody stops it."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import growth_warnings, load_config_quarantining, placing_model_faults
from pipeline.daemon.attempt import InUse
from pipeline.daemon.board import Beside, Board, Serve, nothing_beside, served
from pipeline.daemon.loading import in_its_own_thread, loading_limit_s
from pipeline.daemon.main_loop import MainLoop, Running, leave
from pipeline.daemon.model import Loaded, Wanted, load
from pipeline.daemon.notify import Notifier
from pipeline.daemon.outlets import tell_where, with_outlets
from pipeline.daemon.reload import Reloader
from pipeline.daemon.shard import WHOLE, Shard
from pipeline.daemon.signals import Signals
from pipeline.daemon.supervise import Supervisor
from pipeline.daemon.swap import Swapper
from pipeline.daemon.watched import WatchedFile
from pipeline.errors import ConfigError, ModelHung, SinkError
from pipeline.figures import count
from pipeline.flow import Pipeline
from pipeline.flow.stream import NOBODY, Stream
from pipeline.host.footprint import keep_for_good
from pipeline.ledger import Ledger
from pipeline.timing import SYSTEM, Clock, now_ns

if TYPE_CHECKING:
    from pipeline.arrivals import Recorder
    from pipeline.config import Config, LoadedConfig, StreamConfig
    from pipeline.config.outputs import SinkConfig
    from pipeline.protocols import Tap
    from pipeline.sources import Gate

log = logging.getLogger("pipeline")

CONNECTING = 8
"""Cameras that connect at the same time: a hundred at once would be a storm for the network, and for this machine."""


class Daemon:
    """One run of ``pipeline run``. The calling thread, the program's first, only waits and listens to signals.

    Args:
        config_path: the streams.yaml.
        status_every_s: pause between two status lines of a stream; the first comes after 5 s.
        grace_s: how long a stop may take to serve what is under way before it is given up.
        shard: which part of the streams is this daemon's.
        clock: where time comes from.
        serve: binds the HTTP server where the configuration has one; None: nothing is served.
        recorder: keeps what arrives, from its opening until whoever gave it closes it; None: nobody does.
        beside: looks at the daemon while it runs.

    Attributes:
        ready: the detector is loaded and warm, the sinks are open: from here on there is something to report.
        sinks: where results go, as configured when it began; a reload does not change them.
    """

    def __init__(
        self,
        config_path: Path,
        *,
        status_every_s: float = 60.0,
        grace_s: float = 10.0,
        shard: Shard = WHOLE,
        clock: Clock = SYSTEM,
        serve: Serve | None = None,
        recorder: Recorder | None = None,
        beside: Beside = nothing_beside,
    ) -> None:
        self._path = config_path
        self._status_every_ns = int(status_every_s * 1e9)
        self._grace_ns = int(grace_s * 1e9)
        self._shard = shard
        self._now = clock.now_ns
        self._notify = Notifier(clock.now_ns)
        self._serve = serve
        self._recorder = recorder
        self._beside = beside
        self._board = Board(self.facts, clock.now_ns)
        self._signals = Signals(self._board)
        self._tap: Tap = NOBODY
        self._file = WatchedFile(config_path, self._now)  # what changes while the model is loaded counts
        self._pipeline: Pipeline | None = None
        self._swapper: Swapper | None = None
        self.ready = False
        self.sinks: tuple[SinkConfig, ...] = ()
        self._refused = False  # a stream entry was faulty and is not run
        self._startup_s: dict[str, float] = {}

    def run(self) -> int:
        """Run until a signal, or until the last stream has ended; SIGHUP reads the file again. Returns the exit code.

        Raises ConfigError for a global fault or when no stream is left, ModelLoadError when the detector cannot be had.
        """
        with self._signals.heard():
            file = load_config_quarantining(self._path)
            self._shard.tell(file)
            loaded = self._shard.of(file)
            self.sinks = loaded.config.sinks
            with (
                served(self._serve, loaded.config.server, self._board, self._path) as self._tap,
                self._beside(loaded.config, self._board),
            ):
                code = self._run(loaded)
            return 128 + self._signals.stops[1] if self._board.leaving else code

    def _run(self, loaded: LoadedConfig) -> int:
        try:
            loop = in_its_own_thread(
                partial(self._begin, loaded), loaded.config.model.timeout_s, self._signals, self._board, self._now
            )
        except ModelHung as error:
            log.error("%s; leaving, so that a supervisor can start anew", error)
            self._leave()
            return 1
        if loop is None:
            log.info("%s: stopped before anything ran", self._signals.first)
            self._leave()
            return 0
        return loop.run()

    def _leave(self) -> None:
        if self._pipeline is not None and self._swapper is not None:
            leave(self._pipeline, self._swapper, self._now)

    @property
    def asked(self) -> int:
        """How many signals asked it to stop."""
        return len(self._signals.stops)

    @property
    def over(self) -> bool:
        """It has run, and listens to no signals any more."""
        return self._signals.over

    @property
    def ledger(self) -> Ledger:
        """The accounts of a run that was ``ready``."""
        assert self._pipeline is not None, "run() comes first"
        return self._pipeline.ledger

    def accounts(self) -> dict[str, Any]:
        """Counts and times of a run that was ``ready`` and has ended, as :func:`pipeline.report.compose` takes them."""
        ledger = self.ledger
        if not ledger.end_ns:  # threads were left behind
            ledger.account_for_shutdown()
            ledger.end(now_ns())
        return ledger.as_dict()

    def facts(self) -> dict[str, Any]:
        """What a report needs to know beside the ledger."""
        model = {} if self._swapper is None else self._swapper.facts()
        recording = {} if self._recorder is None else {"recording": self._recorder.facts()}
        return {"command": "run", "model": model, "startup_s": self._startup_s, **recording}

    def _begin(self, loaded: LoadedConfig) -> MainLoop | None:
        """Load and warm the detector, open the sinks, start the streams; None where a signal came while it loaded."""
        growth = growth_warnings(loaded.config, loaded.document)
        for text in (*loaded.warnings, *growth, *(fault for stream in loaded.quarantined for fault in stream.faults)):
            log.warning("%s", text)
        from pipeline.sources import Gate  # loads what decodes: a faulty file has been told of before

        self._refused = bool(loaded.quarantined)
        gate = Gate(CONNECTING)
        streams = self._feeds(loaded, gate)
        path = loaded.config.model.path
        log.info("loading the model: %s", path)
        wanted = Wanted.of(loaded.config)
        with placing_model_faults(loaded.document):
            model = load(wanted)
        if self._signals.stops:
            return None
        pipeline, swapper = self._started(loaded.config, wanted, model, len(streams))
        ready = path, model.facts["device"], count(len(streams), "stream"), os.getpid()
        log.info("detector ready: %s on %s; %s; PID %d", *ready)
        self.ready = True
        for _, stream in streams:
            pipeline.add(stream)
        return self._loop(pipeline, swapper, loaded, [config for config, _ in streams], gate)

    def _started(self, config: Config, wanted: Wanted, model: Loaded, streams: int) -> tuple[Pipeline, Swapper]:
        """Open the sinks and warm the detector, for so many streams."""
        from pipeline import build

        self._startup_s = dict(model.detector.startup_s)
        run_id = secrets.token_hex(8)
        sinks = build.sinks(config.sinks, run_id)
        options = replace(
            with_outlets(model.options, sinks, streams),
            required_sinks=build.required_sinks(config.sinks),
            tap=self._tap,
        )
        self._pipeline = pipeline = Pipeline(model.detector, sinks, options)
        if self._recorder is not None:
            self._recorder.begin(config, model.facts, run_id, pipeline.ledger)
        self._swapper = swapper = Swapper(pipeline, InUse(wanted, model.facts), loading_limit_s, self._now)
        try:
            pipeline.start()
        except SinkError as error:  # as `check` calls it: a path in the file that cannot be used
            raise ConfigError(f"{self._path}: sinks: {error}") from error
        keep_for_good()
        tell_where(sinks)
        return pipeline, swapper

    def _loop(
        self, pipeline: Pipeline, swapper: Swapper, loaded: LoadedConfig, running: Sequence[StreamConfig], gate: Gate
    ) -> MainLoop:
        """What keeps everything as the file says; from here on the board shows it."""
        from pipeline import build

        make_feed = partial(build.feed, gate=gate, recorder=self._recorder)
        reloader = Reloader(
            self._file, self._shard, loaded, running, pipeline, make_feed,
            lambda config, asked: swapper.want(config, asked=asked),
        )  # fmt: skip
        supervisor = Supervisor(pipeline.ledger, pipeline.abandon, reloader.restart, reloader.limit_s, self._now)
        self._board.reload_succeeded, self._board.reloads = reloader.succeeded, reloader.reloads  # before anybody asks
        self._board.show(pipeline)
        self._notify.ready()
        return MainLoop(
            Running(pipeline, swapper, reloader, supervisor),
            self._signals,
            self._board,
            self._notify,
            refused=self._refused,
            ends=self._shard == WHOLE,  # a part that has no streams now may get some
            status_every_ns=self._status_every_ns,
            grace_ns=self._grace_ns,
            now=self._now,
        )

    def _feeds(self, loaded: LoadedConfig, gate: Gate) -> list[tuple[StreamConfig, Stream]]:
        from pipeline import build

        feeds = []
        for stream in loaded.config.streams:
            if stream.enabled:
                try:
                    feeds.append((stream, build.feed(stream, gate, self._recorder)))
                except ConfigError as error:
                    self._refused = True
                    log.error("%s; the other streams run", error)
        if not feeds and self._shard == WHOLE:
            raise ConfigError(f"{self._path}: no stream to run: all are faulty, disabled or missing")
        return feeds
