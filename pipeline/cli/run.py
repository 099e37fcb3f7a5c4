# SPDX-License-Identifier: Apache-2.0
"""``pipeline run``: the daemon."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from pipeline.cli.parser import Parser
from pipeline.cli.running import logging_to_stderr

EXAMPLES = """\
  pipeline check streams.yaml && pipeline run streams.yaml
"""


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline run STREAMS.yaml [options]"
    parser.add_argument("config", type=Path, metavar="STREAMS.yaml", help="cameras, model and sinks")
    parser.epilog = (
        "The first SIGTERM or Ctrl-C finishes what is under way, the second ends at once.\n\n"
        "exit codes:\n"
        "  0  stopped and drained, or all streams ended well     2  configuration or model refused\n"
        "  1  a failure, or a sink lost data                     3  some streams failed\n"
        "  130, 143  ended by a second SIGINT, SIGTERM"
    )


def run(options: argparse.Namespace) -> int:
    """Run until stopped."""
    with logging_to_stderr(logging.WARNING if options.quiet else logging.INFO, debug=options.debug):
        from pipeline.daemon import Daemon

        daemon = Daemon(options.config)
        code = daemon.run()
    if options.json and daemon.ledger is not None:
        from pipeline.report import compose, to_json

        sys.stdout.buffer.write(to_json(compose(daemon.ledger.as_dict(), daemon.facts())))
        sys.stdout.buffer.flush()
    return code
