# SPDX-License-Identifier: Apache-2.0
"""``pipeline model export``: a torchvision detector or a module of the user as a file that the pipeline runs."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path

from pipeline.cli.program.parser import Parser, comma_separated, one_of, whole_number
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json, print_lines
from pipeline.cli.terminal.steps import steps

EXAMPLES = """\
  pipeline model export ssdlite320_mobilenet_v3_large -o ssdlite.pt
  pipeline model export fcos_resnet50_fpn --weights trained.pth --num-classes 4 --names cat,dog,bird -o pets.pt
  pipeline model export mypackage.models:detector --input 384,640 --frames clip.mp4 -o mine.pt
  pipeline model export mypackage.models:detector -o mine.pt2
"""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline model export NAME|package.module:factory -o OUT [options]"
    parser.add_argument(
        "what", metavar="WHAT", help="a torchvision detector, or a function of yours that returns an nn.Module"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT", help="a .pt, .torchscript, .pt2 or .ptl file"
    )
    parser.add_argument(
        "--weights",
        metavar="W",
        help="DEFAULT (downloaded), none (random), or FILE: a state_dict",
    )
    parser.add_argument("--num-classes", type=whole_number, metavar="N", help="torchvision: with the background")
    parser.add_argument(
        "--method",
        type=one_of("auto", "trace", "script"),
        default="auto",
        metavar="M",
        help="auto (default), trace, script",
    )
    parser.add_argument(
        "--format",
        type=one_of("torchscript", "pt2", "ptl"),
        metavar="F",
        help="torchscript, pt2, ptl (default: by suffix)",
    )
    parser.add_argument(
        "--input", type=_size, metavar="H,W", help="network input in pixels, or WIDTHxHEIGHT (found by default)"
    )
    parser.add_argument("--batch", type=whole_number, metavar="N", help="the only batch size that the module takes")
    parser.add_argument("--stride", type=whole_number, default=1, metavar="N", help="sides must be multiples of it")
    parser.add_argument("--adapter", metavar="NAME", help="family of its outputs (recognised by default)")
    parser.add_argument("--names", type=comma_separated, metavar="LIST", help="class names, from the first class on")
    parser.add_argument("--frames", metavar="VIDEO", help="compare on its frames (default: a rendered pattern)")
    parser.epilog = (
        "The module is put into evaluation mode and traced, or scripted where it takes a list of pictures or decides "
        "by its data. The file is read back and must return what the module returns, on noise and on real frames, for "
        "batches of 1, 2 and 3, or for the only one that the module takes; else nothing is kept.\n\n"
        "exit codes: 0 written; 1 it cannot be exported, or does something else; 2 refused before the start"
    )


def run(options: argparse.Namespace) -> int:
    """Export and tell."""
    with logging_to_stderr(logging.ERROR, debug=options.debug), ExitStack() as stack:
        say = steps(options, stack, "loading torch")
        from pipeline.workshop.exports.exporting import ExportRequest, export_model, in_words

        done = export_model(
            ExportRequest(
                what=options.what,
                out=options.out,
                weights=options.weights,
                method=options.method,
                format=options.format,
                input_size=options.input,
                batch=options.batch,
                stride=options.stride,
                num_classes=options.num_classes,
                adapter=options.adapter,
                names=options.names,
                frames=options.frames,
            ),
            say,
        )
    if options.json:
        print_json(done)
    elif not options.quiet:
        print_lines(in_words(done))
    return 0


def _size(text: str) -> tuple[int, int]:
    """Height and width of ``H,W``, of ``WxH``, or of one number for both."""
    words = text.lower().split("x")[::-1] if "x" in text.lower() else text.split(",")
    try:
        sides = [int(side) for side in words]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"expected H,W or WIDTHxHEIGHT in pixels, found {text!r}")
    return sides[0], sides[-1]
