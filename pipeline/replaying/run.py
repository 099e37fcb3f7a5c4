# SPDX-License-Identifier: Apache-2.0
"""One replay, from its options to its accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.config import Config
from pipeline.host.cores import allowed_cores
from pipeline.replaying import earlier
from pipeline.replaying.options import ReplayOptions, sections
from pipeline.replaying.unusable import accounts_of_nothing
from pipeline.sources import local_path, none_readable
from pipeline.sources.naming import resolve, shown
from pipeline.threads import StopFlag
from pipeline.timing import now_ns

if TYPE_CHECKING:
    from pipeline.flow import Pipeline
    from pipeline.ledger import Ledger
    from pipeline.protocols import Detector, Sink

CPU_BATCH = 4
"""Default batch size on a CPU: larger ones gain nothing there and hold more frames."""
GPU_BATCH = 16
"""Default batch size on a GPU."""


class Replay:
    """One replay: resolve the sources, ``start``, ``wait`` until it has ended.

    Attributes:
        inline: everything happens in the thread that calls :meth:`begin`.
        streams: names of all streams in order, those that ``resume`` skips included.
        ledger: counts and times, once started.
        over: it ended before it began, since no source can be opened.
    """

    _run_id: str | None = None  # of results of feeds

    def __init__(self, options: ReplayOptions, extra_sinks: Sequence[Sink] = ()) -> None:
        """Raises UsageError or ConfigError; touches no model yet."""
        from pipeline.config import load_config

        self.options = options
        self.out = options.out
        self.inline = options.inline
        config = Config() if options.config is None else load_config(options.config, streams_required=False)
        self._model, self._settings = sections(options, config)
        self._batch = config.batch if options.config is not None else None
        before = earlier.report_before(options) if options.resume else {}
        names = {entry["source"]: name for name, entry in before.get("streams", {}).items() if entry.get("source")}
        self._sources, self._missing = resolve(options.sources, names)
        self._files = {name: local_path(url.reveal()) for name, url in self._sources.items() if url.is_file}
        earlier.refuse_to_overwrite(options, self._files)
        self.streams = [*self._sources, *self._missing]
        self.resumed = self._finished_before(before)
        self._carried = earlier.left_there(options) if options.resume else []
        self._set_out(extra_sinks)

    def _set_out(self, extra_sinks: Sequence[Sink]) -> None:
        self._extra_sinks = extra_sinks
        self._pipeline: Pipeline | None = None
        self._stop = StopFlag()
        self._model_info: dict[str, Any] = {}
        self._startup_s = dict.fromkeys(("import", "load", "probe", "warm"), 0.0)
        self._parallel = 1
        self.over = False
        self.ledger: Ledger

    def refuse_foreign(self) -> None:
        """Raise UsageError where a result or a report would replace a file in ``out`` that no earlier run here wrote.

        For callers that leave reports; without them nothing tells an earlier run's files from others.
        """
        if self.out is not None:
            earlier.refuse_foreign(self.out, [*self._planned(), *earlier.REPORTS])

    def start(self) -> None:
        """:meth:`prepare`, then :meth:`begin`."""
        self.prepare()
        self.begin()

    def prepare(self) -> None:
        """Load and warm the model and open the sinks.

        What an earlier replay wrote into the same folder is removed as soon as the model is known to be good.

        Where no source can be opened, there is nothing to load a model for: the streams have failed then.

        Raises ModelLoadError, ConfigError (a value that the model refuses), UsageError or SinkError.
        """
        if self._ended_before_it_began():
            return
        begun_ns = now_ns()
        import torch  # noqa: F401 - it is most of a cold start

        from pipeline import build

        imported_ns = now_ns()

        wanted_batch: int | str = self.options.batch or (self._batch.max_size if self._batch is not None else "auto")
        wanted: int | str = self.options.workers or (self._batch.workers if self._batch is not None else "auto")
        tuned = build.tuned(self._model, batch=wanted_batch, workers=wanted)
        detector = build.detector(self._model, max_batch=build.batch_size(wanted_batch, tuned, GPU_BATCH), tuned=tuned)
        info = detector.model_info()
        usual = CPU_BATCH if info["device"] == "cpu" else detector.max_batch
        batch_size = min(build.batch_size(wanted_batch, tuned, usual), detector.max_batch)
        workers = 1 if self.options.inline else build.workers(wanted, info["device"], tuned)
        self._parallel = self.options.parallel or max(4, 2 * allowed_cores())
        self._model_info = info | {"max_batch": batch_size, "workers": workers} | build.tuned_facts(self._model, tuned)

        sinks: list[Sink] = list(self._extra_sinks)
        if self.out is not None:
            if not self.options.resume:
                earlier.clear(self.out, self._files.values())
            sinks += build.saved(self.options.save, self.out, list(self.resumed), self._run_id)
        self._pipeline = self._flow(detector, sinks, batch_size, workers)
        self.ledger = self._pipeline.ledger
        loaded_ns = now_ns()

        if not self.inline:
            self._pipeline.start()
        if self._stop.is_set():  # it was asked for while there was nothing to stop
            self._pipeline.stop()
        self._startup_s = {
            "import": (imported_ns - begun_ns) / 1e9,
            "load": detector.startup_s.get("load", (loaded_ns - imported_ns) / 1e9),
            "probe": detector.startup_s.get("probe", 0.0),
            "warm": (now_ns() - loaded_ns) / 1e9,
        }

    def _ended_before_it_began(self) -> bool:
        to_do = {name: path for name, path in self._files.items() if name not in self.resumed}
        if to_do.keys() != self._sources.keys() - self.resumed.keys():
            return False  # a look at what is no file has its price, or there are only feeds
        faults = none_readable(to_do, self._settings.max_pixels, self._settings.codecs, self._stop)
        if not faults:
            return False
        if self.out is not None and not self.options.resume:
            earlier.clear(self.out, self._files.values())
        self.ledger = accounts_of_nothing(faults, self._missing, {name: shown(self._sources[name]) for name in faults})
        self.over = True
        return True

    def _flow(self, detector: Detector, sinks: Sequence[Sink], batch_size: int, workers: int) -> Pipeline:
        from pipeline.flow import Pipeline
        from pipeline.flow.stream import FlowOptions

        flow = FlowOptions(
            batch_size=batch_size, fixed_batch=True, workers=workers, parallel=self._parallel, ends_without_room=True
        )
        return Pipeline(detector, sinks, flow)

    def begin(self) -> None:
        """Open the sources. With ``inline`` it runs to the end here (and warms the model first)."""
        if self.over:
            return
        from pipeline import build

        assert self._pipeline is not None, "prepare() comes first"
        to_do = {name: source for name, source in self._sources.items() if name not in self.resumed}
        streams = [
            build.recording(name, source, self._settings, limit=self.options.limit) for name, source in to_do.items()
        ]
        streams += [build.absent(name, reason) for name, reason in self._missing.items()]
        if self.options.inline:
            self._pipeline.run_inline(streams)
            return
        for stream in streams:
            self._pipeline.add(stream)
        self._pipeline.finish()

    def wait(self, timeout_s: float) -> bool:
        """True when everything has ended, False when ``timeout_s`` passed first. Raises what went wrong inside.

        After ModelHung a thread is left in native code: let the process end by ``os._exit``, as the command does.
        """
        if self.over:
            return True
        assert self._pipeline is not None, "start() comes first"
        if self.inline or self._pipeline.join(timeout_s):
            return True
        self._pipeline.check_model(self._model.timeout_s)
        self.ledger.catch_up()
        return False

    def stop(self) -> None:
        """Read no further; what is under way is finished and kept. Before :meth:`begin`: no source is opened then."""
        self._stop.set()
        if self._pipeline is not None:
            self._pipeline.stop()

    def abort(self) -> None:
        """Give up at once; what is under way is lost and counted."""
        self._stop.set()
        if self._pipeline is not None:
            self._pipeline.abort()

    def facts(self, beside: Sequence[str] = (), *, under_way: bool = False) -> dict[str, Any]:
        """What the report needs to know beside the ledger.

        Args:
            beside: names of reports that are written as well.
            under_way: count files that are still to come as well, for a report that a killed run leaves.
        """
        outputs = self._recorded(beside)
        if under_way:
            outputs = list(dict.fromkeys([*outputs, *self._planned()]))
        return {
            "command": "replay",
            "model": self._model_info | self._oddities(),
            "startup_s": {key: round(value, 4) for key, value in self._startup_s.items()},
            "resumed": self.resumed,
            "hwaccel": self._settings.hwaccel,
            "options": earlier.options_that_matter(self.options),
            "outputs": outputs,
        }

    def _finished_before(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Streams of this run that an earlier one finished, with what its report says of them."""
        return {
            name: entry
            for name, entry in before.get("streams", {}).items()
            if name in self._sources
            and entry["state"] == "finished"
            and all(path.exists() for path in earlier.outputs(self.options, name))
        }

    def _oddities(self) -> dict[str, int]:
        detector = self._pipeline.detector if self._pipeline is not None else None
        return {name: getattr(detector, name, 0) for name in ("nonfinite_rows", "nonfinite_frames")}

    @property
    def outputs(self) -> list[Path]:
        """Files with results in ``out``: of streams that were opened, of those that ``resume`` skipped, and whatever
        else the run before wrote that ``resume`` goes on with."""
        if self.out is None or self._pipeline is None:
            return []
        begun = {name for name, account in self.ledger.streams.items() if account.opened_ns}
        names = [name for name in self.streams if name in begun or name in self.resumed]
        carried = [self.out / name for name in self._carried if name not in earlier.REPORTS]
        found = [*earlier.written(self.options, names), *(path for path in carried if path.is_file())]
        return list(dict.fromkeys(found))

    def _planned(self) -> list[str]:
        """The names of all files that results may go into, but later parts of videos."""
        if self.out is None:
            return []
        return list(dict.fromkeys(path.name for name in self._sources for path in earlier.outputs(self.options, name)))

    def _recorded(self, beside: Sequence[str]) -> list[str]:
        """The names of all files in ``out`` that are a replay's, so that a later one knows what it may remove."""
        if self.out is None:
            return []
        carried = [name for name in self._carried if (self.out / name).is_file()]
        return list(dict.fromkeys([*carried, *(path.name for path in self.outputs), *beside]))
