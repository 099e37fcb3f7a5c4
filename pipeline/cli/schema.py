# SPDX-License-Identifier: Apache-2.0
"""``pipeline schema``: the JSON Schema of streams.yaml."""

from __future__ import annotations

import argparse
import json

from pipeline.cli.parser import Parser

EXAMPLES = """\
  pipeline schema > streams.schema.json
  first line of streams.yaml, for editors: # yaml-language-server: $schema=streams.schema.json
"""


def configure(parser: Parser) -> None:
    """This command has no options of its own."""


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from pipeline.config import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
