# SPDX-License-Identifier: Apache-2.0
"""``pipeline probe``: what one source says about itself, and what it really delivers."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.program.parser import Parser, one_of, positive
from pipeline.cli.program.running import logging_to_stderr
from pipeline.cli.terminal.printing import print_json, print_lines, warn_of_passwords
from pipeline.cli.terminal.steps import steps

if TYPE_CHECKING:
    from pipeline.config import StreamConfig

EXAMPLES = """\
  pipeline probe clip.mp4
  pipeline probe rtsp://10.0.0.5/stream1 --seconds 20
  pipeline probe gate --config streams.yaml      a camera with a password
  pipeline probe clip.mp4 --json | jq .measured_fps
"""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline probe SOURCE [options]"
    parser.add_argument("source", metavar="SOURCE", help="file, camera URL, /dev/video0 or pattern:")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="SOURCE is the name of a stream in this streams.yaml"
    )
    parser.add_argument("--seconds", type=positive, default=5.0, metavar="S", help="how much to look at (default 5)")
    parser.add_argument("--transport", type=one_of("tcp", "udp"), metavar="T", help="RTSP: tcp (default) or udp")
    parser.add_argument("--hwaccel", metavar="KIND", help="what decodes: none (the CPU, default), auto, cuda")
    parser.epilog = (
        "--config looks at a stream as 'run' would, with its user name and password; options come before its entry.\n\n"
        "exit codes: 0 it delivers frames; 1 it does not; 2 no such file, stream or source"
    )


def run(options: argparse.Namespace) -> int:
    """Look and tell."""
    given = {"transport": options.transport, "hwaccel": options.hwaccel}
    how = {key: value for key, value in given.items() if value is not None}
    if options.config is None:
        config = _stream(_only(options.source), how)
    else:
        config = _entry(options.config, options.source, how)
    level = logging.ERROR if config.hwaccel == "none" else logging.WARNING
    with logging_to_stderr(level, debug=options.debug), ExitStack() as stack:
        from pipeline.build import glance
        from pipeline.cli.terminal.looking import as_data, in_words
        from pipeline.sources import probe

        if not options.quiet:
            warn_of_passwords([options.source])
        steps(options, stack, f"looking at the source for {options.seconds:g} s")
        found = probe(glance(config), seconds=options.seconds, frames=100_000)
    if options.json:
        print_json({"source": str(config.source), **as_data(found)})
        return 0
    if not options.quiet:
        pairs = list(in_words(found))
        width = max(len(name) for name, _ in pairs)
        print(config.source)
        for name, text in pairs:
            print_lines([f"  {name:<{width}}  {text}"])
        if found.truncated:
            print(f"pipeline: warning: {config.source}: truncated: {found.truncated}", file=sys.stderr)
    return 0


def _only(source: str) -> str:
    """The one source that is meant; raises UsageError."""
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
    return str(found[0])


def _stream(source: str, how: Mapping[str, str]) -> StreamConfig:
    """The source as a stream entry; raises UsageError."""
    from pydantic import ValidationError

    from pipeline.config import StreamConfig
    from pipeline.errors import UsageError

    try:
        return StreamConfig.model_validate({"name": "probe", "source": source, **how})
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        named = "--hwaccel" if fault["loc"] == ("hwaccel",) else "not a source"
        raise UsageError(f"{named}: {fault['msg']}") from None


def _entry(path: Path, name: str, how: Mapping[str, str]) -> StreamConfig:
    """A stream of a configuration; raises ConfigError for its faults, UsageError where there is none."""
    from pipeline.config import load_config_quarantining
    from pipeline.config.wording import nearest
    from pipeline.errors import ConfigError, UsageError
    from pipeline.figures import listed

    loaded = load_config_quarantining(path)
    for entry in loaded.quarantined:
        if entry.name is not None and entry.name.lower() == name.lower():
            raise ConfigError(list(entry.faults))
    for stream in loaded.config.streams:
        if stream.name.lower() == name.lower():
            options = _stream("pattern:", how)
            return stream.model_copy(update={key: getattr(options, key) for key in how})
    entries = [stream.name for stream in loaded.config.streams]
    entries += [entry.name for entry in loaded.quarantined if entry.name is not None]
    known, folded = listed(entries), {entry.lower(): entry for entry in entries}
    near = nearest(name, folded)
    others = f"; did you mean '{folded[near]}'?" if near else f"; its streams are {known}" if known else ""
    raise UsageError(f"{path}: it has no stream {name}{others}")
