# SPDX-License-Identifier: Apache-2.0
"""Recorded files through the same flow as live feeds, losslessly."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError

from pipeline.config.models import Config, ModelConfig, StreamSettings
from pipeline.errors import SourceError, UsageError
from pipeline.frame import Result
from pipeline.redact import SourceUrl
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
        self._sources, self._missing = _resolve(options.sources)
        self.streams = [*self._sources, *self._missing]
        self.resumed = _finished_before(options) if options.resume else {}
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


def stream_name(stem: str, taken: set[str]) -> str:
    """A name that fits ``[A-Za-z0-9_-]{1,64}`` and, case aside, is not in ``taken``; ``-2``, ``-3`` on a clash."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_")[:64] or "stream"
    number = 1
    candidate = name
    while candidate.lower() in taken:
        number += 1
        suffix = f"-{number}"
        candidate = name[: 64 - len(suffix)] + suffix
    taken.add(candidate.lower())
    return candidate


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


def _resolve(sources: Sequence[str]) -> tuple[dict[str, SourceUrl], dict[str, str]]:
    """Named sources, and names of what cannot be found with the reason; raises UsageError when nothing can be found.

    One missing file among good ones is a failed stream, not a reason to do nothing.
    """
    from pipeline.sources import expand, looks_live

    found: list[str] = []
    faults: list[tuple[str, str]] = []
    for source in sources:
        try:
            found += [str(path) for path in expand([source])]
        except UsageError as error:
            faults.append((source, str(error)))
    if not found:
        raise UsageError("; ".join(reason for _, reason in faults) or "no source was given")
    taken: set[str] = set()
    named = {}
    for text in found:
        url = SourceUrl.parse(text)
        if looks_live(text):
            raise UsageError(
                f"{url}: a live feed has no end to replay to; put it into streams.yaml and use 'pipeline run'"
            )
        named[stream_name(_stem(url), taken)] = url
    return named, {stream_name(_safe_stem(source), taken): reason for source, reason in faults}


def _stem(url: SourceUrl) -> str:
    return Path(str(url).split("?", 1)[0]).stem or url.scheme


def _safe_stem(source: str) -> str:
    """A name for what was refused; its text may hold credentials."""
    try:
        return _stem(SourceUrl.parse(source))
    except ValueError:
        return "refused"


def _finished_before(options: ReplayOptions) -> dict[str, Any]:
    """Streams that the report in ``out`` calls finished, with what it says of them."""
    if options.out is None:
        raise UsageError("--resume needs --out: the folder of the run to go on with")
    path = options.out / "report.json"
    if not path.exists():
        return {}
    try:
        report = json.loads(path.read_text())
        if any(sink["lost"] or sink["faults"] or sink["state"] == "failed" for sink in report["sinks"].values()):
            return {}  # nobody knows which results are missing
        return {
            name: entry
            for name, entry in report["streams"].items()
            if entry["state"] == "finished" and all(path.exists() for path in _outputs(options, name))
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UsageError(f"{path}: not a report that can be resumed from: {error}") from error
