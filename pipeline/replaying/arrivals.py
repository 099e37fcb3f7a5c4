# SPDX-License-Identifier: Apache-2.0
"""One replay of what a run was given: at the pace at which it came, or on a virtual clock."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from pipeline.arrivals.reading import Recording
from pipeline.config.config import Config
from pipeline.config.detection import BatchConfig, ModelConfig
from pipeline.config.streams import StreamSettings
from pipeline.errors import ModelHung, UsageError
from pipeline.frame import DropReason
from pipeline.host.cores import allowed_cores
from pipeline.replaying import earlier
from pipeline.replaying.options import ReplayOptions, sections
from pipeline.replaying.run import Replay
from pipeline.timing import FRAME, Mark

if TYPE_CHECKING:
    from pipeline.arrivals import Comparison, Decisions, FrameLog, PlayClock, RealTime, Tape
    from pipeline.flow import Pipeline
    from pipeline.flow.stream import Stream, Witness
    from pipeline.protocols import Detector, Sink
    from pipeline.replaying.ahead import Ahead
    from pipeline.replaying.behind import Behind
    from pipeline.replaying.simulated_clock import SimulatedClock
    from pipeline.replaying.timed import Later, TimedDetector

log = logging.getLogger("pipeline")

DECISIONS = "arrivals.decisions.jsonl"
"""What became of each frame, when, and what had become of it in the run that was recorded. No stream's results can have
this name."""
_RESULTS_WAITING = 256


class ArrivalsReplay(Replay):
    """As :class:`Replay`, of a recording of arrivals: its settings are those of the run, but for what ``options`` say.

    Args:
        folder: of the recording.
        pace: ``realtime``: threads, this machine's clock and this machine's speed; ``virtual``: a simulation with the
            service times of the recording, which decides alike each time.
        options: ``model``, ``adapter``, ``out``, ``save``, ``fps``, ``limit``, ``confidence``, ``iou``, ``classes``,
            ``device``, ``precision``, ``batch``, ``workers``, ``hwaccel`` and ``tuned`` matter.
        extra_sinks: beside those of ``options``.

    Raises UsageError or ConfigError.
    """

    def __init__(
        self,
        folder: Path,
        pace: Literal["realtime", "virtual"],
        options: ReplayOptions,
        extra_sinks: Sequence[Sink] = (),
    ) -> None:
        self.options = replace(options, resume=False, pace="asap")
        self.out = options.out
        self.pace = pace
        self.inline = pace == "virtual"
        self.recording = recording = Recording(folder)
        if self.inline and not recording.services.known:
            raise UsageError(f"{folder}: no batch was timed, so there is no virtual clock; --pace realtime plays it")
        try:
            model = ModelConfig.model_validate(recording.settings["model"])
            facts = recording.model
            self._batch = BatchConfig(
                max_size=facts["max_batch"],
                workers=facts["workers"],
                max_wait_ms=recording.settings["batch"]["max_wait_ms"],
            )
            self._of_stream = {name: _settings(recording, name, options) for name in recording.streams}
        except (ValidationError, KeyError, TypeError) as error:
            raise UsageError(f"{folder}: is damaged: its settings are not those of this program") from error
        _refuse_what_it_brought(folder, model, options)
        self._model, self._settings = sections(self.options, Config(model=model))
        self.streams = list(recording.streams)
        self.resumed = {}
        self._sources, self._missing, self._files, self._carried = {}, {}, {}, []
        self._run_id = recording.run
        self._real: RealTime | None = None
        self._simulated: SimulatedClock | None = None
        self._timed: TimedDetector | None = None
        self._later: Later | None = None
        self._behind: Behind | None = None
        self._workers = 1
        self._tapes: list[Tape] = []
        self._aheads: list[Ahead] = []
        self._comparisons: dict[str, Comparison] = {}
        self._decisions: Decisions | None = None
        self._set_out(extra_sinks)

    def _flow(self, detector: Detector, sinks: Sequence[Sink], batch_size: int, workers: int) -> Pipeline:
        from pipeline.arrivals import VIRTUAL_NS, RealTime
        from pipeline.flow import Pipeline
        from pipeline.flow.stream import FlowOptions
        from pipeline.replaying.behind import Behind, most_frames
        from pipeline.replaying.simulated_clock import SimulatedClock
        from pipeline.replaying.timed import Later, TimedDetector

        assert self._batch is not None, "a recording has one"
        flow = FlowOptions(
            batch_size=batch_size,
            fixed_batch=False,
            max_wait_ms=self._batch.max_wait_ms,
            workers=workers,
            outlet_policy="freshest",
            outlet_capacity=_RESULTS_WAITING,
            ends_without_room=True,
        )
        self._workers = workers
        recording = self.recording
        then, now = recording.model.get("sha256"), self._model_info.get("sha256")
        if self.options.model is None and then != now:
            log.warning(
                "%s is another file than when this was recorded: sha256 was %s, is %s", self._model.path, then, now
            )
        if self.pace == "realtime":
            self._real = RealTime(recording)
            return Pipeline(detector, sinks, flow)
        clock = SimulatedClock(VIRTUAL_NS + recording.first_ns, recording.wall_ns - VIRTUAL_NS)
        self._simulated = clock
        self._later, limit_s, threads = Later(), self._model.timeout_s, self._threads(workers)
        self._timed = TimedDetector(detector, threads, clock, recording.services, later=self._later, limit_s=limit_s)
        self._behind = Behind(clock, most_frames(threads, batch_size))
        pipeline = Pipeline(self._timed, sinks, flow, clock=clock)
        pipeline.ledger.pauses = None
        return pipeline

    def _threads(self, workers: int) -> int:
        """How many the network is really run by. That decides nothing, so it is one for each core, however many workers
        there are by the clock; but as many as those where a device does the work, or it was measured with them."""
        by_core = self._model_info["device"] == "cpu" and self._model_info["tuned"] is None
        return allowed_cores() if by_core else workers

    def begin(self) -> None:
        """Play. On a virtual clock it runs to the end here (and warms the model first)."""
        from pipeline.arrivals import Decisions
        from pipeline.replaying.simulation import Simulation

        assert self._pipeline is not None, "prepare() comes first"
        self._decisions = None if self.out is None else Decisions(self.out / DECISIONS)
        if self._real is not None:
            self._real.begin()
        streams = [self._stream(name) for name in self.streams]
        if self._simulated is not None and self._timed is not None and self._behind is not None:
            drive = Simulation(self._simulated, self._workers, self._behind)
            try:
                self._pipeline.run_inline(streams, drive, self._behind.after)
            finally:
                self._aheads.clear()  # they hold pictures
                self._close_decisions()
                if not self._timed.rest():
                    raise ModelHung("the model did not answer before the end, and was left behind")
            return
        for stream in streams:
            self._pipeline.add(stream)
        self._pipeline.finish()

    def _stream(self, name: str) -> Stream:
        from pipeline import build
        from pipeline.arrivals import Arrivals, FrameLog, Tape, Virtual
        from pipeline.ledger import StreamLedger
        from pipeline.replaying.ahead import Ahead
        from pipeline.replaying.timed import TimedStage
        from pipeline.sources import FILE_CODECS, LIVE_CODECS

        recording, settings, simulated = self.recording, self._of_stream[name], self._simulated
        kind = recording.kind(name)
        is_camera = kind == "camera"
        virtual = Virtual(recording)
        clock: PlayClock = virtual if self._real is None else self._real
        reading: PlayClock = Virtual(recording) if self._real is None else self._real
        tape = Tape(name, recording.arrivals(name))
        self._tapes.append(tape)
        account = StreamLedger(
            name,
            source=str(recording.folder / name),
            live=is_camera,
            paced=True,
            budget_ns=build.budget_ns(settings),
            playout=build.playout(settings),
            clock=clock,
        )
        by = "read" if is_camera and simulated is not None else "frame"
        arrivals = partial(
            Arrivals,
            recording.folder / name,
            tape,
            FrameLog(recording.frames(name), "frame"),
            kind,
            reading,
            limits=build.decoder_limits(settings, LIVE_CODECS if is_camera else FILE_CODECS),
            skip=build.skipping(settings, name),
        )
        witness = self._witness(name, FrameLog(recording.frames(name), by), by)
        if simulated is None or not isinstance(reading, Virtual):
            source = arrivals(on_state=account.at)
            return build.played(source, settings, account, limit=self.options.limit, witness=witness)
        ahead = Ahead(
            name,
            lambda tell: arrivals(on_state=tell),
            reading,
            virtual,
            FrameLog(recording.frames(name), by),
            by_read=by == "read",
            on_state=account.at,
        )
        self._aheads.append(ahead)
        stream = build.played(ahead, settings, account, limit=self.options.limit, witness=witness)
        stream.stages = [TimedStage(stage, ahead, simulated, self._later) for stage in stream.stages]
        return stream

    def _witness(self, name: str, recorded: FrameLog, by: str) -> Witness:
        """Who compares what becomes of a stream's frames with what became of them then, and writes it down."""
        from pipeline.arrivals import Comparison

        comparison = self._comparisons[name] = Comparison(recorded)
        since_ns = self._since_ns()

        def outcome(trace: list[int], reason: DropReason | None) -> None:
            frame = trace[FRAME]
            then = comparison.outcome(frame if by == "frame" else trace[Mark.READ] - since_ns, reason)
            if self._decisions is not None:
                at_ns = max(trace[: Mark.PLAYED + 1]) - since_ns
                line = {"at": at_ns, "stream": name, "frame": frame, "outcome": reason or "processed", "then": then}
                self._decisions.write(line)

        return outcome

    def _since_ns(self) -> int:
        """The beginning of the recording, on the flow's clock."""
        from pipeline.arrivals import VIRTUAL_NS

        return VIRTUAL_NS if self._real is None else self._real.origin_ns

    def wait(self, timeout_s: float) -> bool:
        """As of :class:`Replay`."""
        ended = super().wait(timeout_s)
        if ended:
            self._close_decisions()
        return ended

    def abort(self) -> None:
        """As of :class:`Replay`; a simulation that waits for the network, or for a reader, is woken."""
        super().abort()
        if self._timed is not None:
            self._timed.give_up()
        for ahead in list(self._aheads):
            ahead.give_up()

    def _close_decisions(self) -> None:
        if self._decisions is not None:
            self._decisions.close()

    def facts(self, beside: Sequence[str] = (), *, under_way: bool = False) -> dict[str, Any]:
        """As of :class:`Replay`, with ``arrivals``: what was played, what it lacks, how far the decisions agree."""
        return super().facts(beside, under_way=under_way) | {
            "arrivals": {
                "folder": str(self.recording.folder),
                "run": self.recording.run,
                "pace": self.pace,
                "lost_then": sum(tape.gaps for tape in self._tapes),
                "torn": sum(tape.torn for tape in self._tapes),
                "absent": self.recording.absent,
                "streams": {name: comparison.as_dict() for name, comparison in self._comparisons.items()},
            }
        }

    @property
    def outputs(self) -> list[Path]:
        """As of :class:`Replay`, and what became of each frame."""
        decisions = [] if self.out is None or self._decisions is None else [self.out / DECISIONS]
        return [*super().outputs, *decisions]

    def _planned(self) -> list[str]:
        if self.out is None:
            return []
        paths = (path for name in self.streams for path in earlier.outputs(self.options, name))
        return [*dict.fromkeys(path.name for path in paths), DECISIONS]


def _refuse_what_it_brought(folder: Path, model: ModelConfig, options: ReplayOptions) -> None:
    """Raise UsageError where code would be run that came with a recording, or that it names: it is data, and may be
    anybody's. Who names the same on the command line has seen it."""
    if options.adapter is None and ":" in (model.adapter or ""):
        raise UsageError(
            f"{folder}: its model is read by {model.adapter}, which would be imported; if you know it: --adapter "
            f"{model.adapter}"
        )
    if options.model is None and Path(model.path).resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{folder}: its model lies in it, and no run put it there; if you know it: --model {model.path}"
        )


def _settings(recording: Recording, name: str, options: ReplayOptions) -> StreamSettings:
    """A stream's as they were, with what the options say otherwise; raises ValidationError."""
    wanted = {"fps": options.fps, "hwaccel": options.hwaccel}
    given = {key: value for key, value in wanted.items() if value is not None}
    return StreamSettings.model_validate(recording.settings_of(name) | given)
