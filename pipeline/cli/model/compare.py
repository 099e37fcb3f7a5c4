# SPDX-License-Identifier: Apache-2.0
"""``pipeline model compare``: do two detectors find the same, which is faster, which is smaller."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.model.options import add_model_options, model_config, model_section, same_model
from pipeline.cli.program.parser import Parser, fraction, whole_number
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json, say
from pipeline.figures import count, percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipeline.config.detection import ModelConfig

EXAMPLES = """\
  pipeline model compare detector.pt detector-int8.pt clip.mp4
  pipeline model compare old.pt new.pt clip.mp4 --frames 200 --out differences/   with pictures
  pipeline model compare a.pt b.pt clip.mp4 --json | jq .agreement.map
"""

WORST = 6
"""Pictures of the least agreeing frames."""

REPORT = "compare.json"
"""What ``--json`` prints, in the folder of ``--out``."""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline model compare A B VIDEO [options]"
    parser.add_argument("a", metavar="A", help="the detector to compare with: what it finds is taken as the truth")
    parser.add_argument("b", metavar="B", help="the other detector")
    parser.add_argument("video", metavar="VIDEO", help="a recording to take frames from, or a pattern:")
    parser.add_argument("--frames", type=whole_number, default=64, metavar="N", help="frames looked at (default 64)")
    parser.add_argument("--conf", type=fraction, metavar="F", help="lowest confidence (default 0.25)")
    parser.add_argument("--iou", type=fraction, metavar="F", help="overlap of two boxes (default 0.5)")
    parser.add_argument("--device", metavar="D", help="auto (default), cpu, cuda or cuda:N")
    add_model_options(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"write compare.json and pictures of the {WORST} worst frames there"
    )
    parser.epilog = (
        "matched at IoU t: pairs of boxes of one class that overlap by t or more, as a share of the larger count.\n"
        "mAP: COCO's average precision of B with A's detections as the truth. Times: one picture, one thread, median, "
        "both models in turns.\n"
        "--adapter is of both models, and so is the model section of --config; but where its path is A or B, it is of "
        "that one only, except for confidence and iou, which are always the same for both.\n\n"
        "exit codes: 0 compared; 1 a model failed on a frame; 2 a model, the video or an option was refused"
    )


def run(options: argparse.Namespace) -> int:
    """Look, count, time, tell."""
    from pipeline.cli.files.folder import output_folder

    level = logging.CRITICAL if options.quiet else logging.WARNING
    with logging_to_stderr(level, debug=options.debug), ExitStack() as stack:
        models = _models(options)
        from pipeline.build import detector_arguments
        from pipeline.report import save, to_json
        from pipeline.workshop.compare import Limits, compare, open_detector
        from pipeline.workshop.frames import sample
        from pipeline.workshop.side_by_side import save_worst

        captures = sample(options.video, options.frames)
        a, b = (
            open_detector(
                model.path,
                Limits(model.confidence, model.iou),
                model.device,
                precision=model.precision,
                given=detector_arguments(model),
            )
            for model in models
        )
        out = stack.enter_context(output_folder(options.out)) if options.out is not None else None
        found = compare(a, b, captures)
        pictures = save_worst(found, captures, out, WORST) if out is not None else []
        report = {"video": str(options.video), "frames": len(captures), **found.as_dict()}
        report["worst"] = [
            {"frame": captures[index].index, "matched": round(found.agreement.per_frame[index], 6)}
            for index in found.agreement.worst(WORST)
        ]
        report["pictures"] = [str(path) for path in pictures]
        if out is not None:
            save(out / REPORT, to_json(report))
    if options.json:
        print_json(report)
    elif not options.quiet:
        from rich.console import Console

        console = Console(highlight=False, emoji=False)
        for part in in_words(report):
            console.print(part)
        if out is not None:
            say(console, f"written: {out / REPORT}")
        if pictures:
            say(console, f"pictures of the worst frames: {', '.join(map(str, pictures))}")
    return 0


def _models(options: argparse.Namespace) -> list[ModelConfig]:
    """A and B with what the configuration says of them; raises ConfigError.

    What counts as a detection is the same for both, whichever of them the configuration names.
    """
    from pipeline.config.detection import ModelConfig

    section = model_section(options)
    paths = (options.a, options.b)
    named = [options.config is not None and same_model(path, section.path) for path in paths]
    limits = {name: getattr(section, name) for name in ("confidence", "iou") if name in section.model_fields_set}
    usual = {"confidence": 0.25, "iou": 0.5} | limits
    return [
        model_config(options, path, section if here or not any(named) else ModelConfig(), **usual)
        for path, here in zip(paths, named, strict=True)
    ]


def in_words(report: dict[str, Any]) -> Iterator[RenderableType]:
    """Tables for a terminal of 80 columns."""
    from rich.table import Table
    from rich.text import Text

    models = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column, justify in (("", "left"), ("model", "left"), ("precision", "left"), ("input", "left")):
        models.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for column in ("MB", "ms/frame", "found"):
        models.add_column(column, justify="right", no_wrap=True)
    for name in ("a", "b"):
        side = report[name]
        size = "-" if side["size_bytes"] is None else f"{side['size_bytes'] / 1e6:.2f}"
        height, width = side["input"]
        models.add_row(
            name.upper(),
            side["path"],
            side["precision"],
            f"{width}x{height}",
            size,
            f"{side['ms_per_frame']:.2f}",
            f"{report['agreement']['detections'][name]:,}",
        )
    yield models
    yield Text()
    yield _agreement_table(report)
    yield Text(_verdict(report), style="bold")


def _agreement_table(report: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    agreement = report["agreement"]
    thresholds = list(agreement["matched"])
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(f"over {count(report['frames'], 'frame')}", overflow="ellipsis", no_wrap=True)
    for column in ("A", "B", *(f"IoU {threshold}" for threshold in thresholds), "mAP50", "mAP"):
        table.add_column(column, justify="right", no_wrap=True)

    def row(name: str, part: dict[str, Any], ap50: float | None, ap: float | None, style: str = "") -> None:
        shares = [percent(part["matched"][threshold], 1) for threshold in thresholds]
        counts = [f"{part['detections'][side]:,}" for side in ("a", "b")]
        precisions = ["-" if value is None else f"{value:.3f}" for value in (ap50, ap)]
        table.add_row(name, *counts, *shares, *precisions, style=style)

    for part in agreement["classes"][:20]:
        row(f"{part['class_id']} {part['label']}", part, part["ap50"], part["ap"])
    row("all", agreement, agreement["map50"], agreement["map"], "bold")
    return table


def _verdict(report: dict[str, Any]) -> str:
    faster = report["speedup"]
    text = f"B takes {1 / faster:.2f} x the time of A ({faster:.2f} x as fast)"
    if report["size_ratio"] is not None:
        text += f" and {1 / report['size_ratio']:.3g} x its space"
    return f"{text}; {percent(report['agreement']['matched']['0.75'], 1)} of their boxes are the same (IoU 0.75)"
