# SPDX-License-Identifier: Apache-2.0
"""How long a user waits: for ``--help``, and for the first result.

python -m benchmarks.startup [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from pipeline.bench.material import Material, make
from pipeline.host.caches import cache_folder

HELP = ("--help",)


def _pipeline(*arguments: str) -> tuple[float, str]:
    """Wall seconds of the whole process, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pipeline", *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout


def measured(rounds: int) -> dict[str, Any]:
    """Medians in seconds."""
    clips, model = make(Material(seconds=1.0), cache_folder("bench"))
    helps = {
        " ".join(arguments): statistics.median(_pipeline(*arguments)[0] for _ in range(rounds))
        for arguments in (HELP, ("replay", "--help"), ("--version",))
    }
    reports = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            wall_s, printed = _pipeline(
                "replay", *map(str, clips), "--model", str(model), "--out", folder, "--json", "--device", "cpu"
            )
        report = json.loads(printed)
        startup = report["startup_s"]
        first_s = report["first_result_ms"] / 1e3
        after_load_s = startup["probe"] + startup["warm"] + first_s
        reports.append({**startup, "first_result": first_s, "after_load": after_load_s, "whole_process": wall_s})
    return {
        "help_s": helps,
        "replay_s": {key: statistics.median(report[key] for report in reports) for key in reports[0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measured(options.rounds)
    if options.json:
        print(json.dumps(figures))
        return
    for arguments, seconds in figures["help_s"].items():
        print(f"pipeline {arguments}: {seconds:.3f} s")
    steps = figures["replay_s"]
    print("a replay of 4 clips of 1080p: " + ", ".join(f"{step} {seconds:.3f} s" for step, seconds in steps.items()))
    print(f"first result {steps['after_load']:.2f} s after torch is imported and the model is loaded")


if __name__ == "__main__":
    main()
