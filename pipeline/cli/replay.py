# SPDX-License-Identifier: Apache-2.0
"""``pipeline replay``: recorded files through the pipeline, and a report of how it went."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.files.resuming import how_to_go_on
from pipeline.cli.files.tracing import Tracing
from pipeline.cli.files.tracing import add_options as add_trace_options
from pipeline.cli.program.parser import (
    Parser,
    comma_separated,
    folder,
    fraction,
    one_of,
    positive,
    several_of,
    up_to_256,
    whole_number,
)
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json_report, print_lines, print_report, warn_of_passwords

if TYPE_CHECKING:
    from pipeline.cli.program.signals import StopRequests
    from pipeline.replaying import Replay

EXAMPLES = """\
  pipeline replay clip.mp4                              results and a report in runs/1/
  pipeline replay videos/ 'more/*.mkv' --out results    folders and globs, a folder for the results
  pipeline replay clip.mp4 --model my.pt --conf 0.25    your TorchScript model
  pipeline replay clip.mp4 --save jsonl,video           a video with the boxes drawn in
  pipeline replay videos/ --out results --resume        go on with what was not finished
  pipeline replay --arrivals rec/                       what 'run --record-arrivals rec/' was given, decided again
"""

REPORTS = ("report.json", "report.html")
SAVE_EVERY_NS = 10_000_000_000
ABORT_GRACE_NS = 5_000_000_000
"""How long a run may take to end after it was told to give up; a thread stuck in native code is then left behind."""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline replay SOURCE... [options]\n       pipeline replay --arrivals DIR [options]"
    parser.add_argument(
        "source", nargs="*", metavar="SOURCE", help="video file, folder, glob, or URL of a finite video"
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", metavar="FILE", help="TorchScript or .pt2 file, or builtin:people (default)")
    model.add_argument("--adapter", metavar="NAME", help="how its output is read (default: recognised)")
    model.add_argument("--conf", type=fraction, metavar="F", help="least confidence of a detection (default 0.4)")
    model.add_argument(
        "--iou", type=fraction, metavar="F", help="overlap above which the weaker box goes (default 0.5)"
    )
    model.add_argument("--classes", type=comma_separated, metavar="LIST", help="names or ids of the classes to keep")
    model.add_argument("--device", metavar="D", help="auto (default), cpu, cuda or cuda:N")
    precisions = ("auto", "fp32", "bf16", "fp16", "int8")
    model.add_argument(
        "--precision", type=one_of(*precisions), metavar="P", help=f"auto (default), {', '.join(precisions[1:])}"
    )
    model.add_argument(
        "--batch", type=up_to_256, metavar="N", help="frames per batch (default: as tuned, else 4; on a GPU 16)"
    )
    model.add_argument(
        "--workers",
        type=up_to_256,
        metavar="K",
        help="threads that run the model (default: as tuned, else one per core)",
    )
    model.add_argument("--no-tuned", action="store_true", help="ignore what 'pipeline model tune' found")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=folder,
        metavar="DIR",
        help="folder for the results (default runs/<n>); those of an earlier replay there are removed",
    )
    kinds = ("jsonl", "csv", "mot", "coco", "video")
    output.add_argument(
        "--save", type=several_of(*kinds), default=("jsonl",), metavar="LIST", help=f"{','.join(kinds)} (default jsonl)"
    )
    output.add_argument("--resume", action="store_true", help="skip streams that the report in --out calls finished")
    add_trace_options(
        output,
        trace="every frame's journey and every batch, for ui.perfetto.dev",
        profile="with --trace: torch's operators of the first seconds as well",
    )
    output.add_argument("--show", action="store_true", help="show the pictures in a window; q or Esc stops")
    work = parser.add_argument_group("work")
    work.add_argument("--config", type=Path, metavar="FILE", help="streams.yaml whose model, batch and defaults apply")
    work.add_argument(
        "--pace",
        type=one_of("asap", "realtime", "virtual"),
        metavar="P",
        help="asap (default) or realtime; of arrivals virtual (default) or realtime",
    )
    work.add_argument(
        "--arrivals",
        type=folder,
        metavar="DIR",
        help="play what 'run --record-arrivals DIR' kept, with the model and the settings of that run: each packet "
        "when it came, through the daemon's scheduling. realtime: at that pace, on this machine. virtual: on a clock "
        "of its own, as fast as frames can be computed, with the service times that were recorded: every time the same "
        "results and the same drops",
    )
    work.add_argument("--fps", type=positive, metavar="F", help="process at most this many frames per second of video")
    work.add_argument(
        "--limit", type=whole_number, metavar="N", help="stop each stream after N decoded frames, before --fps thins"
    )
    work.add_argument("--parallel", type=whole_number, metavar="N", help="files that are open at once")
    work.add_argument("--hwaccel", metavar="KIND", help="what decodes: none (the CPU, default), auto, cuda, vaapi, ...")
    work.add_argument("--inline", action="store_true", help="everything in one thread, to look for faults")
    work.add_argument("--strict", action="store_true", help="a truncated file is a failure (exit code 1)")
    parser.epilog = (
        "exit codes:\n"
        "  0    all good\n"
        "  1    no usable input, or a sink lost data\n"
        "  2    refused before the start\n"
        "  3    partial: a stream failed or was truncated\n"
        "  130  stopped before the end by Ctrl-C; 143: by SIGTERM; 129: its terminal was closed"
    )


def run(options: argparse.Namespace) -> int:
    """Replay, write the reports, print the tables."""
    from pipeline.cli.files.folder import output_folder
    from pipeline.errors import UsageError

    if options.arrivals is not None:
        _refuse_beside_arrivals(options)
    elif not options.source:
        raise UsageError("nothing to replay: name a SOURCE, or a recording with --arrivals DIR")
    elif options.pace == "virtual":
        raise UsageError("--pace virtual plays recorded arrivals: it needs --arrivals DIR")
    if options.resume and options.out is None:
        raise UsageError("--resume needs --out: the folder of the run to go on with")
    if options.show and options.inline:
        raise UsageError("--show needs the main thread, which --inline occupies; leave one of them out")
    level = logging.CRITICAL if options.quiet else logging.WARNING
    if not options.quiet:
        warn_of_passwords(options.source)
    logged = logging_to_stderr(level, debug=options.debug, folded=True, reported=not options.json)
    with logged, output_folder(options.out) as out:
        return _replay(options, out, Tracing(options))


def _replay(options: argparse.Namespace, out: Path, tracing: Tracing) -> int:
    from pipeline.cli.program.signals import StopRequests
    from pipeline.cli.terminal.progress import progress

    window = _window(options)
    replay = _made(options, out, [window] if window is not None else [])
    replay.refuse_foreign()

    def drain() -> None:
        replay.stop()
        if not options.quiet:
            with suppress(OSError, ValueError):  # nobody may be listening any more
                again = "Ctrl-C again" if requests.received == signal.SIGINT else "a second signal"
                print(f"pipeline: stopping after the frames already read; {again} drops them", file=sys.stderr)

    showing = progress(
        lambda: _ledger(replay),
        len(replay.streams) - len(replay.resumed),
        limit=options.limit,
        quiet=options.quiet,
        loading=f"loading {options.model or 'the model'}",
    )
    with StopRequests(lambda: _has_begun(replay), drain, replay.abort) as requests:
        with showing:
            error = _run(replay, out, tracing, requests, window)
        requests.hold()
        report, files, code = _reported(options, replay, out, tracing, error)
        requests.release()
        _tell(options, report, files)
        if requests.received is not None and not options.quiet:
            print_lines(how_to_go_on(options, report, out), sys.stderr)
    stopped = any(stream["state"] == "stopped" for stream in report["streams"].values())
    if requests.received is not None and (stopped or requests.aborted):
        code = 128 + requests.received
    return code


def _ledger(replay: Replay) -> Any:
    """None before it was prepared."""
    return getattr(replay, "ledger", None)


def _has_begun(replay: Replay) -> bool:
    ledger = _ledger(replay)
    return ledger is not None and bool(ledger.start_ns)


def _run(replay: Replay, out: Path, tracing: Tracing, requests: StopRequests, window: Any) -> str | None:
    """Run it to its end; returns why it did not get there, in words. Raises what was raised before it began."""
    from pipeline.errors import ModelHung

    try:
        replay.prepare()
        tracing.begin_replay(replay.ledger, str(replay.facts()["model"].get("device", "")))
        save_so_far(replay, out)  # from here on every file that appears is accounted for
        requests.heed()
        replay.begin()
        requests.heed()
        ended = _wait(replay, requests, window, lambda: save_so_far(replay, out))
    except ModelHung as failure:
        return str(failure)
    except Exception as failure:
        if not _has_begun(replay):
            raise
        logging.getLogger("pipeline").debug("the run failed", exc_info=True)
        return str(failure) or type(failure).__name__
    return None if ended else "gave up on threads that did not end"


def _reported(
    options: argparse.Namespace, replay: Replay, out: Path, tracing: Tracing, error: str | None
) -> tuple[dict[str, Any], list[Path], int]:
    """The report, the files that were written, and the exit code."""
    from pipeline.errors import SinkError
    from pipeline.report import compose, exit_code, save_html, save_json
    from pipeline.timing import now_ns

    if not replay.ledger.end_ns:
        replay.ledger.account_for_shutdown()
        replay.ledger.end(now_ns())
    report = compose(replay.ledger.as_dict(), replay.facts(REPORTS), order=replay.streams, error=error)
    code = exit_code(report, options.strict)
    files = replay.outputs
    try:
        files += [save_json(report, out), save_html(report, out)]
        files += tracing.save(lambda: replay.ledger.journal(replay.ledger.start_ns))
    except SinkError as failure:
        code = 1
        print(f"pipeline: {failure}", file=sys.stderr)
    return report, files, code


def _refuse_beside_arrivals(options: argparse.Namespace) -> None:
    """Raise UsageError for what does not go with a recording of arrivals."""
    from pipeline.errors import UsageError

    if options.source:
        raise UsageError("--arrivals plays all streams of a recording: leave out the SOURCE")
    if options.pace == "asap":
        raise UsageError("--pace asap would not be what arrived: of arrivals it is virtual (default) or realtime")
    beside = {"resume": "--resume", "parallel": "--parallel", "inline": "--inline", "config": "--config"}
    given = [option for name, option in beside.items() if getattr(options, name)]
    if given:
        raise UsageError(f"{given[0]} has no meaning for recorded arrivals; leave it out")
    if options.show and options.pace != "realtime":
        raise UsageError("--show needs the main thread, which a virtual clock occupies; --pace realtime leaves it free")


def _made(options: argparse.Namespace, out: Path, sinks: list[Any]) -> Replay:
    from pipeline.replaying import ArrivalsReplay, Replay, ReplayOptions

    wanted = ReplayOptions(
        sources=tuple(options.source), config=options.config, model=options.model, adapter=options.adapter, out=out,
        save=options.save, pace=options.pace if options.pace == "realtime" else "asap", fps=options.fps,
        limit=options.limit, parallel=options.parallel, resume=options.resume, confidence=options.conf, iou=options.iou,
        classes=options.classes, device=options.device, precision=options.precision, batch=options.batch,
        workers=options.workers, inline=options.inline, hwaccel=options.hwaccel,
        tuned=False if options.no_tuned else None,
    )  # fmt: skip
    if options.arrivals is None:
        return Replay(wanted, sinks)
    return ArrivalsReplay(options.arrivals, options.pace or "virtual", wanted, sinks)


def save_so_far(replay: Replay, out: Path) -> None:
    """Leave a report of what is finished, so that a run that is killed can be resumed."""
    from pipeline.errors import SinkError
    from pipeline.report import compose, save_json

    with suppress(SinkError):  # said at the end, when it matters
        facts = replay.facts(REPORTS[:1], under_way=True)
        save_json(compose(replay.ledger.as_dict(), facts, order=replay.streams, error="still running"), out)


def _wait(replay: Replay, requests: StopRequests, window: Any, save: Callable[[], None]) -> bool:
    """Until everything has ended; False when it was told to give up and did not."""
    from pipeline.timing import now_ns

    deadline_ns: int | None = None
    next_save_ns = now_ns() + SAVE_EVERY_NS
    while not replay.wait(0.03 if window is not None else 0.2):
        if window is not None and not window.refresh():
            replay.stop()
        if now_ns() >= next_save_ns:
            save()
            next_save_ns = now_ns() + SAVE_EVERY_NS
        if requests.aborted:
            deadline_ns = deadline_ns or now_ns() + ABORT_GRACE_NS
            if now_ns() > deadline_ns:
                return False
    return True


def _window(options: argparse.Namespace) -> Any:
    if not options.show:
        return None
    from pipeline.cli.terminal.window import Window

    return Window()


def _tell(options: argparse.Namespace, report: dict[str, Any], files: list[Path]) -> None:
    if options.json:
        print_json_report(report)
    if options.quiet:
        from pipeline.report import findings

        for finding in findings(report):
            if finding.severity != "note":
                print(f"pipeline: {finding}", file=sys.stderr)
    elif not options.json:
        print_report(report, files)
