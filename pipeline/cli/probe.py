# SPDX-License-Identifier: Apache-2.0
"""``pipeline probe``: what one source says about itself, and what it really delivers."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.cli.parser import Parser, one_of, positive
from pipeline.cli.running import logging_to_stderr
from pipeline.cli.telling import print_json, warn_of_passwords

if TYPE_CHECKING:
    from pipeline.config import StreamConfig

EXAMPLES = """\
  pipeline probe clip.mp4
  pipeline probe rtsp://10.0.0.5/stream1 --seconds 20
  pipeline probe clip.mp4 --json | jq .measured_fps
"""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline probe SOURCE [options]"
    parser.add_argument("source", metavar="SOURCE", help="file, camera URL, /dev/video0 or pattern:")
    parser.add_argument("--seconds", type=positive, default=5.0, metavar="S", help="how much to look at (default 5)")
    parser.add_argument(
        "--transport", type=one_of("tcp", "udp"), default="tcp", metavar="T", help="RTSP: tcp (default) or udp"
    )
    parser.add_argument("--hwaccel", default="none", metavar="KIND", help="what decodes: none (default), auto, cuda")
    parser.epilog = "exit codes: 0 it delivers frames; 1 it does not; 2 no such file, or not a source"


def run(options: argparse.Namespace) -> int:
    """Look and tell."""
    config = _stream(options.source, {"transport": options.transport, "hwaccel": options.hwaccel})
    level = logging.ERROR if options.hwaccel == "none" else logging.WARNING
    with logging_to_stderr(level, debug=options.debug):
        from pipeline.build import glance
        from pipeline.cli.looking import as_data, in_words
        from pipeline.sources import probe

        if not options.quiet:
            warn_of_passwords([options.source])
        found = probe(glance(config), seconds=options.seconds, frames=100_000)
    if options.json:
        print_json({"source": str(config.source), **as_data(found)})
        return 0
    if not options.quiet:
        pairs = list(in_words(found))
        width = max(len(name) for name, _ in pairs)
        print(config.source)
        for name, text in pairs:
            print(f"  {name:<{width}}  {text}")
        if found.truncated:
            print(f"pipeline: warning: {config.source}: truncated: {found.truncated}", file=sys.stderr)
    return 0


def _stream(source: str, how: Mapping[str, str]) -> StreamConfig:
    """The source as a stream entry; raises UsageError."""
    from pydantic import ValidationError

    from pipeline.config import StreamConfig
    from pipeline.errors import UsageError
    from pipeline.redact import SourceUrl, register_secret
    from pipeline.sources import expand

    try:
        SourceUrl.parse(source)  # from here on its password is a known secret
    except ValueError as error:
        register_secret(source)
        raise UsageError(str(error)) from None
    found = expand([source])
    if len(found) > 1:
        raise UsageError(f"one source at a time; this means {len(found)}, such as {found[0]}")
    try:
        return StreamConfig.model_validate({"name": "probe", "source": str(found[0]), **how})
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        named = "--hwaccel" if fault["loc"] == ("hwaccel",) else "not a source"
        raise UsageError(f"{named}: {fault['msg']}") from None
