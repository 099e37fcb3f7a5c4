# SPDX-License-Identifier: Apache-2.0
"""``pipeline check``: every fault in a streams.yaml, and whether model and sources are there."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.capacity.demand import in_words, measured
from pipeline.cli.program.parser import Parser
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import fault_as_data, print_json, print_lines, say
from pipeline.errors import ConfigError, ModelLoadError, SourceError, SourceInvalid, StageError
from pipeline.figures import count

if TYPE_CHECKING:
    from pipeline.config import StreamConfig, Survey
    from pipeline.detectors.engine import TorchScriptDetector
    from pipeline.plan.demand import Demand
    from pipeline.sources import SourceReport
    from pipeline.threads import StopFlag

EXAMPLES = """\
  pipeline check streams.yaml              the file, the model, and every source
  pipeline check streams.yaml --offline    the file only
"""

AT_ONCE = 16
"""Sources that are opened at the same time."""
NOT_OPENED = (
    "unreachable", "refused (401)", "refused (403)", "not found (404)", "no such file", "no such device", "no video",
)  # fmt: skip
"""States of sources that did not open."""

_MISSING = {"file": "no such file", "v4l2": "no such device"}
_LOOK_S = 1.0
_LOOK_FRAMES = 50


@dataclass(slots=True)
class Findings:
    """What the check found.

    Attributes:
        faults, warnings: one line each.
        model: what the model is, or None where it was not loaded.
        streams: one entry per stream of the file, in its order.
        unchecked: what could not be checked because of the faults.
        demand: what the streams that opened ask of the network; None where it was not measured.
        hint: that they may be too many, or nothing.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    model: dict[str, Any] | None = None
    streams: list[dict[str, Any]] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    demand: Demand | None = None
    hint: str = ""

    @property
    def exit_code(self) -> int:
        """2 for a fault in the configuration, 3 for a source that did not open, else 0."""
        if self.faults:
            return 2
        return 3 if any(stream["state"] in NOT_OPENED for stream in self.streams) else 0


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline check STREAMS.yaml [options]"
    parser.add_argument("config", type=Path, metavar="STREAMS.yaml", help="the file to check")
    parser.add_argument("--offline", action="store_true", help="open no source and load no model")
    parser.epilog = (
        "Faults do not end the check: what can be read is checked, and the last line says what could not. Where the "
        "model runs on a CPU, the network is measured for a moment: streams that ask for more than it can do by itself "
        "are too many.\n\n"
    )
    parser.epilog += "exit codes: 0 all good; 2 a fault in the configuration or the model; 3 a source does not open"


def run(options: argparse.Namespace) -> int:
    """Check and tell."""
    with logging_to_stderr(logging.CRITICAL, debug=options.debug):
        found = _check(options.config, options.offline)
    if options.json:
        print_json(_as_data(options.config, found))
    else:
        _tell(options.config, found, quiet=options.quiet)
    return found.exit_code


def _check(path: Path, offline: bool) -> Findings:
    from pipeline.cli.files.writable import unwritable
    from pipeline.config import growth_warnings, survey_config

    found = Findings()
    try:
        loaded = survey_config(path)
    except ConfigError as error:
        found.faults.extend(error.faults)
        if not offline and any(fault_as_data(fault)["line"] for fault in error.faults):  # it is there, but no YAML
            found.unchecked.extend(("model", "streams"))
        return found
    found.warnings.extend((*loaded.warnings, *growth_warnings(loaded.config, loaded.document)))
    found.faults.extend(loaded.faults)
    found.unchecked.extend(() if offline else loaded.unread)
    for entry in loaded.quarantined:
        name = entry.name or f"streams[{entry.index}]"
        found.streams.append({"name": name, "state": "faulty", "error": "; ".join(f.message for f in entry.faults)})
    found.faults.extend(unwritable(loaded.config))
    if loaded.config.server is not None:
        from pipeline.web.safety import refusals

        # What --insecure allows is a warning here: the option belongs to `run`.
        for text in refusals(loaded.config.server):
            (found.warnings if "--insecure" in text else found.faults).append(text)
    if loaded.config.telemetry is not None:
        from pipeline.telemetry import wanted

        try:
            wanted(loaded.config.telemetry, {})
        except ConfigError as error:
            found.faults.extend(error.faults)
    if offline:
        found.streams.extend(_entry(stream, "not opened") for stream in loaded.config.streams)
    else:
        _open_all(loaded, found)
        warning, found.hint = in_words(found.demand, path)
        found.warnings.extend([warning] if warning else [])
    return found


def _open_all(loaded: Survey, found: Findings) -> None:
    """Open all sources in threads, and meanwhile load the model."""
    from pipeline.config import stream_fault
    from pipeline.threads import StopFlag

    config, stop = loaded.config, StopFlag()
    streams = [stream for stream in config.streams if stream.enabled]
    with ThreadPoolExecutor(max(1, min(AT_ONCE, len(streams))), "check") as pool:
        looks = {stream.name: pool.submit(_look, stream, stop) for stream in streams}
        try:
            detector, size = None, 0
            if "model" not in loaded.unread:
                detector, size, faults = _load(loaded)
                found.model = None if detector is None else detector.model_info()
                found.faults.extend(faults)
            seen = []
            for stream in config.streams:
                entry, report = _looked_at(stream, looks.get(stream.name))
                found.streams.append(entry)
                outside = _outside(stream, report)
                if outside:
                    entry |= {"state": "faulty", "error": outside}
                    found.faults.append(stream_fault(loaded.document, stream.name, "region", outside))
                elif report is not None:
                    seen.append((stream, report))
            if detector is not None:
                with closing(detector):
                    if not found.faults:
                        found.demand, found.faults = measured(config, detector, size, seen)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _look(stream: StreamConfig, stop: StopFlag) -> SourceReport:
    from pipeline.build import glance
    from pipeline.sources import probe

    return probe(glance(stream), seconds=_LOOK_S, frames=_LOOK_FRAMES, stop=stop)


def _looked_at(stream: StreamConfig, look: Future[SourceReport] | None) -> tuple[dict[str, Any], SourceReport | None]:
    from pipeline.cli.terminal.looking import as_data, in_a_line

    if look is None:
        return _entry(stream, "disabled"), None
    try:
        report = look.result()
    except (SourceError, ConfigError) as error:
        return _entry(stream, _why(stream, error), str(error)), None
    return {**_entry(stream, "ok"), "summary": in_a_line(report), "probe": as_data(report)}, report


def _outside(stream: StreamConfig, report: SourceReport | None) -> str:
    """What is wrong with a region that leaves the pictures of its source, which no configuration knows."""
    from pipeline.stages import Region

    if stream.region is None or report is None:
        return ""
    try:
        Region.of(stream.region).pixels(report.width, report.height)
    except StageError as error:
        return str(error)
    return ""


def _why(stream: StreamConfig, error: Exception) -> str:
    """One of NOT_OPENED."""
    if isinstance(error, SourceInvalid):
        return "no video"
    cause = getattr(error, "cause", None)
    if cause == "auth":
        return "refused (403)" if "(403" in str(error) else "refused (401)"
    if cause == "not_found":
        return _MISSING.get(stream.source.scheme or "file", "not found (404)")
    return "unreachable"


def _entry(stream: StreamConfig, state: str, error: str | None = None) -> dict[str, Any]:
    return {"name": stream.name, "source": str(stream.source), "state": state, "error": error}


def _load(loaded: Survey) -> tuple[TorchScriptDetector | None, int, list[str]]:
    """The detector, the largest batch that it is given, and faults."""
    from pipeline import build
    from pipeline.config import model_fault, placing_model_faults

    config = loaded.config
    try:
        with placing_model_faults(loaded.document):
            tuned = build.tuned(config.model, batch=config.batch.max_size, workers=config.batch.workers)
            size = build.batch_size(config.batch.max_size, tuned, build.USUAL_BATCH)
            detector = build.detector(config.model, max_batch=size, tuned=tuned)
    except ConfigError as error:
        return None, 0, error.faults
    except ModelLoadError as error:
        return None, 0, [model_fault(loaded.document, line) for line in str(error).splitlines()]
    return detector, size, []


def _as_data(path: Path, found: Findings) -> dict[str, Any]:
    return {
        "file": str(path),
        "ok": found.exit_code == 0,
        "faults": [fault_as_data(fault) for fault in found.faults],
        "warnings": [fault_as_data(warning) for warning in found.warnings],
        "model": found.model,
        "demand": None if found.demand is None else asdict(found.demand) | {"cores": found.demand.cores},
        "streams": found.streams,
        "unchecked": found.unchecked,
    }


def _tell(path: Path, found: Findings, *, quiet: bool) -> None:
    for fault in found.faults:
        print_lines([f"pipeline: {fault}"], sys.stderr)
    if quiet:
        for stream in found.streams:
            if stream["state"] in NOT_OPENED:
                print_lines([f"pipeline: {stream['name']}: {stream['error']}"], sys.stderr)
        return
    for warning in found.warnings:
        print_lines([f"pipeline: warning: {warning}"], sys.stderr)
    if found.model is not None:
        height, width = found.model["input"]
        read_as = f"{found.model['adapter']}, {width} x {height}"
        how = f"{found.model['device']}, {found.model['precision']}"
        print_lines([f"model {found.model['path']}: {read_as}, {how}"])
    _table(found.streams)
    closed = Counter(stream["state"] for stream in found.streams if stream["state"] in NOT_OPENED)
    if found.hint:
        print_lines([found.hint])
    parts = [
        count(len(found.faults), "fault") if found.faults else "no fault",
        *(f"{number} {state}" for state, number in closed.items()),
    ]
    unchecked = f"; not checked because of that: {', '.join(found.unchecked)}" if found.unchecked else ""
    print_lines([f"{path}: {', '.join(parts)}{unchecked}"])


def _table(streams: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False)
    styles = {"ok": "green", "faulty": "red"} | dict.fromkeys(NOT_OPENED, "red")
    widths = [max((len(stream[key]) for stream in streams), default=0) for key in ("name", "state")]
    for stream in streams:
        name, state = f"{stream['name']:<{widths[0]}}  ", f"{stream['state']:<{widths[1]}}  "
        text = stream.get("error") or stream.get("summary") or stream.get("source", "")
        say(console, Text.assemble(name, (state, styles.get(stream["state"], "dim")), text))
