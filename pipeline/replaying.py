# SPDX-License-Identifier: Apache-2.0
"""Recorded files through the same flow as live feeds, losslessly."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError

from pipeline.config.models import Config, ModelConfig, StreamSettings
from pipeline.errors import SourceError, UsageError
from pipeline.frame import Result
from pipeline.naming import resolve
from pipeline.threads import Channel, Closed
from pipeline.timing import now_ns

if TYPE_CHECKING:
    from pipeline.flow import Pipeline
    from pipeline.ledger import Ledger
    from pipeline.protocols import Sink

log = logging.getLogger("pipeline")

CPU_BATCH = 4
"""Default batch size on a CPU: larger ones gain nothing there and hold more frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What ``pipeline replay`` can be asked for; None leaves it to the configuration or a default.

    Attributes:
        sources: paths, folders, globs and finite URLs.
        config: a streams.yaml whose ``model``, ``batch`` and ``defaults`` apply; its streams and sinks do not.
        out: folder for results, or None to keep them in memory only (the Python interface).
        save: kinds of files to write.
        pace: as fast as possible, or at the time stamps' own pace.
        fps: thin to this rate.
        limit: stop each stream after this many decoded frames.
        parallel: files open at once.
        resume: skip streams that the report in ``out`` calls finished.
        inline: everything in one thread.
    """

    sources: tuple[str, ...]
    config: Path | None = None
    model: str | None = None
    out: Path | None = None
    save: tuple[str, ...] = ("jsonl",)
    pace: Literal["asap", "realtime"] = "asap"
    fps: float | None = None
    limit: int | None = None
    parallel: int | None = None
    resume: bool = False
    confidence: float | None = None
    iou: float | None = None
    classes: tuple[str, ...] | None = None
    device: str | None = None
    precision: str | None = None
    batch: int | None = None
    workers: int | None = None
    inline: bool = False


class Replay:
    """One replay: resolve the sources, ``start``, ``wait`` until it has ended.

    Attributes:
        streams: names of all streams in order, those that ``resume`` skips included.
        ledger: counts and times, once started.
        outputs: files that the sinks write, once started.
    """

    def __init__(self, options: ReplayOptions, extra_sinks: Sequence[Sink] = ()) -> None:
        """Raises UsageError or ConfigError; touches no model yet."""
        from pipeline.config import load_config

        self.options = options
        self.out = options.out
        config = Config() if options.config is None else load_config(options.config, streams_required=False)
        self._model = _override(
            config.model,
            path=options.model,
            device=options.device,
            precision=options.precision,
            confidence=options.confidence,
            iou=options.iou,
            classes=tuple(int(name) if name.isdecimal() else name for name in options.classes or ()) or None,
        )
        self._batch = config.batch if options.config is not None else None
        self._settings = _override(config.defaults, pace=options.pace, fps=options.fps, loop=False)
        earlier = _report_before(options) if options.resume else {}
        names = {entry["source"]: name for name, entry in earlier.get("streams", {}).items() if entry.get("source")}
        self._sources, self._missing = resolve(options.sources, names)
        self.streams = [*self._sources, *self._missing]
        self.resumed = self._finished_before(earlier)
        self._extra_sinks = extra_sinks
        self._pipeline: Pipeline | None = None
        self._model_info: dict[str, Any] = {}
        self._startup_s: dict[str, float] = {}
        self._parallel = 1
        self.ledger: Ledger

    def start(self) -> None:
        """:meth:`prepare`, then :meth:`begin`."""
        self.prepare()
        self.begin()

    def prepare(self) -> None:
        """Load and warm the model and open the sinks.

        Raises ModelLoadError, ConfigError (a value that the model refuses) or SinkError.
        """
        begun_ns = now_ns()
        import torch  # noqa: F401 - it is most of a cold start

        from pipeline import build
        from pipeline.flow import Pipeline
        from pipeline.stream import FlowOptions

        imported_ns = now_ns()

        batch_size = self.options.batch or (self._batch.max_size if self._batch is not None else None)
        detector = build.detector(self._model, max_batch=batch_size or 16)
        info = detector.model_info()
        if batch_size is None:
            batch_size = CPU_BATCH if info["device"] == "cpu" else detector.max_batch
        batch_size = min(batch_size, detector.max_batch)
        wanted = self.options.workers or (self._batch.workers if self._batch is not None else "auto")
        workers = 1 if self.options.inline else build.workers(wanted, info["device"])
        self._parallel = self.options.parallel or max(4, 2 * build.processors())
        self._model_info = info | {"max_batch": batch_size, "workers": workers}

        sinks: list[Sink] = list(self._extra_sinks)
        if self.out is not None:
            sinks += build.saved(self.options.save, self.out, keep=list(self.resumed))
        flow = FlowOptions(batch_size=batch_size, fixed_batch=True, workers=workers, parallel=self._parallel)
        self._pipeline = Pipeline(detector, sinks, flow)
        self.ledger = self._pipeline.ledger
        loaded_ns = now_ns()

        if not self.options.inline:
            self._pipeline.start()
        self._startup_s = {
            "import": (imported_ns - begun_ns) / 1e9,
            "load": detector.startup_s.get("load", (loaded_ns - imported_ns) / 1e9),
            "probe": detector.startup_s.get("probe", 0.0),
            "warm": (now_ns() - loaded_ns) / 1e9,
        }

    def begin(self) -> None:
        """Open the sources. With ``inline`` it runs to the end here (and warms the model first)."""
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
        """True when everything has ended, False when ``timeout_s`` passed first. Raises what went wrong inside."""
        assert self._pipeline is not None, "start() comes first"
        if self.options.inline:
            return True
        return self._pipeline.join(timeout_s)

    def stop(self) -> None:
        """Read no further; what is under way is finished and kept."""
        if self._pipeline is not None:
            self._pipeline.stop()

    def abort(self) -> None:
        """Give up at once; what is under way is lost and counted."""
        if self._pipeline is not None:
            self._pipeline.abort()

    def facts(self) -> dict[str, Any]:
        """What the report needs to know beside the ledger."""
        return {
            "command": "replay",
            "model": self._model_info | self._oddities(),
            "startup_s": {key: round(value, 4) for key, value in self._startup_s.items()},
            "resumed": self.resumed,
            "options": _options_that_matter(self.options),
        }

    def _finished_before(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """Streams of this run that an earlier one finished, with what its report says of them."""
        return {
            name: entry
            for name, entry in earlier.get("streams", {}).items()
            if name in self._sources
            and entry["state"] == "finished"
            and all(path.exists() for path in _outputs(self.options, name))
        }

    def _oddities(self) -> dict[str, int]:
        detector = self._pipeline.detector if self._pipeline is not None else None
        return {name: getattr(detector, name, 0) for name in ("nonfinite_rows", "nonfinite_frames")}

    @property
    def outputs(self) -> list[Path]:
        """Files that this run wrote into ``out``."""
        if self.out is None:
            return []
        found = dict.fromkeys(path for name in self.streams for path in _outputs(self.options, name))
        return [path for path in found if path.exists()]


def replay(sources: Sequence[str | Path] | str | Path, **options: Any) -> Iterator[Result]:
    """Replay recordings and yield one result per processed frame, streams interleaved, each in its own order.

    Args:
        sources: paths, folders, globs or finite URLs.
        options: fields of :class:`ReplayOptions`, such as ``model="yolo.pt"``, ``confidence=0.5``, ``limit=100``.

    Raises:
        UsageError, ConfigError, ModelLoadError: nothing was started.
        SourceError: after the last result, when a stream failed.

    The generator may be closed early; everything it started ends with it.
    """
    many = [sources] if isinstance(sources, str | Path) else list(sources)
    if isinstance(options.get("classes"), str):
        options["classes"] = (options["classes"],)
    collector = _Collector()
    run = Replay(ReplayOptions(sources=tuple(map(str, many)), **options), [collector])
    if run.options.inline:
        raise UsageError("an inline run has no thread to iterate in; use Replay(options).start()")
    run.start()
    try:
        with suppress(Closed):
            while True:
                yield collector.results.get()
        while not run.wait(1.0):
            pass
    finally:
        collector.results.abort()
        run.stop()
        while not run.wait(1.0):
            pass
    failed = [f"{name}: {account.error}" for name, account in run.ledger.streams.items() if account.state == "failed"]
    if failed:
        raise SourceError("; ".join(failed))


_FILES = {
    "jsonl": ["{}.jsonl"],
    "csv": ["{}.csv"],
    "mot": ["{}.mot.txt"],
    "video": ["{}.mp4"],
    "coco": ["coco.json", "coco_images.json"],
}


def _outputs(options: ReplayOptions, name: str) -> list[Path]:
    """The files in which the results of one stream are to be found."""
    assert options.out is not None
    return [options.out / file.format(name) for kind in options.save for file in _FILES[kind]]


class _Collector:
    """The sink behind :func:`replay`: hands results to the caller, who sets the pace."""

    name = "python"
    wants_pictures = False

    def __init__(self) -> None:
        self.results: Channel[Result] = Channel(64)

    def open(self) -> None:
        pass

    def begin(self, stream: object) -> None:
        pass

    def write(self, result: Result) -> None:
        with suppress(Closed):  # once the caller has closed the generator
            self.results.put(result)

    def end(self, stream: str) -> None:
        pass

    def close(self) -> None:
        self.results.close()


SectionT = TypeVar("SectionT", ModelConfig, StreamSettings)


def _override(section: SectionT, **values: Any) -> SectionT:
    """A copy with the values that are not None, validated as if they stood in the file."""
    given = {key: value for key, value in values.items() if value is not None}
    try:
        checked = type(section).model_validate(given)
    except ValidationError as error:
        names = {"path": "model"}  # what the option is called where the key is called otherwise
        faults = [
            f"{names.get(str(fault['loc'][0]), fault['loc'][0])}: {fault['msg']}"
            for fault in error.errors(include_input=False)
        ]
        raise UsageError("; ".join(faults)) from None
    return section.model_copy(update={key: getattr(checked, key) for key in given})


def _report_before(options: ReplayOptions) -> dict[str, Any]:
    """The report that an earlier run left in ``out``, or nothing; raises UsageError when it is of other options."""
    if options.out is None:
        raise UsageError("--resume needs --out: the folder of the run to go on with")
    path = options.out / "report.json"
    if not path.exists():
        return {}
    try:
        report: dict[str, Any] = json.loads(path.read_text())
        before, lost = report.get("options", {}), [sink for sink in report["sinks"].values() if _lost(sink)]
        for entry in report["streams"].values():
            entry["state"]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UsageError(f"{path}: not a report that can be resumed from: {error}") from error
    now = _options_that_matter(options)
    differ = [f"{key} was {before.get(key)}, is {now[key]}" for key in now if before.get(key) != now[key]]
    if differ:
        raise UsageError(
            f"--resume: other options than in {path} ({'; '.join(differ)}); use the same, or another --out"
        )
    return {} if lost else report  # where a sink lost data, nobody knows which results are missing


def _lost(sink: Mapping[str, Any]) -> bool:
    return bool(sink["lost"] or sink["faults"]) or sink["state"] == "failed"


def _options_that_matter(options: ReplayOptions) -> dict[str, Any]:
    """Those that change results, as JSON would give them back."""
    names = ("config", "model", "fps", "limit", "confidence", "iou", "classes", "precision", "batch")
    chosen = {name: getattr(options, name) for name in names}
    return {
        name: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        for name, value in chosen.items()
    }
