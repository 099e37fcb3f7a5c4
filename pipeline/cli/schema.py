# SPDX-License-Identifier: Apache-2.0
"""``pipeline schema``: the JSON Schema of streams.yaml."""

from __future__ import annotations

import argparse

from pipeline.cli.program.parser import Parser
from pipeline.cli.terminal.printing import print_json

EXAMPLES = """\
  pipeline schema > streams.schema.json
  first line of streams.yaml, for editors: # yaml-language-server: $schema=streams.schema.json
"""


def configure(parser: Parser) -> None:
    """This command has no options of its own."""


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from pipeline.config import json_schema

    print_json(json_schema())
    return 0
