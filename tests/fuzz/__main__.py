# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz TARGET --seconds 60``: one target with atheris, which is led by coverage. An input that breaks
the property is left in the current folder (``crash-...``), as libFuzzer does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=["configuration", "redaction", "url", "records", "foreign"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="folder of inputs to begin with, and to add to")
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        parser.exit(2, "atheris is not installed: pip install atheris\n")
    with atheris.instrument_imports(include=["pipeline", "yaml"]):
        from tests.fuzz import targets
    words = [sys.argv[0], f"-max_total_time={options.seconds}", "-max_len=4096"]
    words += [] if options.corpus is None else [str(options.corpus)]
    atheris.Setup(words, targets.TARGETS[options.target])
    atheris.Fuzz()


main()
