# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.soak --minutes 5``: a summary in JSON at the end; exit code 1 where something does not hold."""

from __future__ import annotations

import argparse
import json
import random
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx

from pipeline.timing import now_ns
from tests.processes import awaited
from tests.soak.measures import Measures, Sample, log_faults, output_faults, report_faults
from tests.soak.trouble import TROUBLES, troubled
from tests.soak.world import World, world

CALM_S = 90.0
"""Longest that it may take at the end until all is as it was."""


class Soak:
    """Troubles one after the other, samples between them, and who has not recovered yet."""

    def __init__(self, world: World, chance: random.Random, every_s: float, troubles: Sequence[str]) -> None:
        self.measures = Measures()
        self._troubles = troubles
        self._world = world
        self._chance = chance
        self._every_s = every_s
        self._began_ns = now_ns()
        self._left: list[str] = []
        # stream -> the trouble that is over, since when, results at the first look after it
        self._waiting: dict[str, tuple[str, int, int | None]] = {}
        self._pause = threading.Event()

    def seconds(self) -> float:
        """Since the beginning."""
        return (now_ns() - self._began_ns) / 1e9

    def go(self, seconds: float) -> None:
        """Until that many have passed, then until all is calm."""
        self.sample()
        while self.seconds() < seconds:
            name = self._next()
            hold_s = self._chance.uniform(0.3, 1.0) * self._every_s
            print(f"{self.seconds():7.1f} s  {name} for {hold_s:.1f} s", file=sys.stderr)
            with troubled(name, self._world, self._chance) as streams:
                for stream in streams:
                    self._waiting.pop(stream, None)
                self.wait(hold_s, look=name != "it is suspended")
            self.measures.troubles[name] = self.measures.troubles.get(name, 0) + 1
            self._waiting |= {stream: (name, now_ns(), None) for stream in streams}
            self.wait(self._chance.uniform(0.2, 1.0) * self._every_s)
        awaited(lambda: self.look() or (self._world.all_live() and not self._waiting), "all streams live again", CALM_S)
        self.wait(5.0)

    def waiting(self) -> dict[str, str]:
        """Streams that have not recovered, and from what."""
        return {stream: trouble for stream, (trouble, _, _) in self._waiting.items()}

    def _next(self) -> str:
        """Each once, in an order of chance, then each once more."""
        if not self._left:
            self._left = list(self._troubles)
            self._chance.shuffle(self._left)
        return self._left.pop()

    def wait(self, seconds: float, *, look: bool = True) -> None:
        """Pass time, looking on."""
        end_s = self.seconds() + seconds
        while (left_s := end_s - self.seconds()) > 0:
            self._pause.wait(min(0.5, left_s))
            if look:
                self.look()

    def look(self) -> None:
        """Take a sample, and note who has recovered."""
        self.sample()
        self.measures.looks += 1
        try:
            told = self._world.streams()
        except httpx.TransportError:  # 20 s without an answer, or hung up on: all connections are taken
            self.measures.unanswered += 1
            return
        for stream, (trouble, since_ns, before) in list(self._waiting.items()):
            now = told.get(stream)
            processed = 0 if now is None else now["frames"]["processed"]
            if before is None:
                self._waiting[stream] = trouble, since_ns, processed
            elif now is not None and now["state"] == "live" and processed not in (before, 0):
                del self._waiting[stream]
                self.measures.recoveries.setdefault(trouble, []).append((now_ns() - since_ns) / 1e9)

    def sample(self) -> None:
        """Of the process."""
        run = self._world.run
        assert run.process.poll() is None, f"the daemon ended: {run.log[-3000:]}"
        held = run.descriptors().total(), run.threads().total()
        self.measures.samples.append(Sample(self.seconds(), run.resident_bytes(), *held))


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=6.0, metavar="S", help="longest trouble, and longest rest")
    parser.add_argument("--seed", type=int, help="of an earlier run")
    parser.add_argument("--only", action="append", choices=sorted(TROUBLES), metavar="TROUBLE", help="may be repeated")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the daemon's log there")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="soak-") as name, world(folder := Path(name)) as made:
        soak = Soak(made, random.Random(seed), options.every, options.only or sorted(TROUBLES))
        measures = soak.measures
        faults = []
        try:
            soak.go(options.minutes * 60)
            made.run.web.close()
            code, _ = made.run.end()
        except (AssertionError, httpx.HTTPError, subprocess.TimeoutExpired) as broken:  # the rest is still worth a look
            faults.append(f"it did not come to its end: {type(broken).__name__}: {broken}")
            faults.append(f"waited for: {soak.waiting()}")
            made.run.kill()
        else:
            faults += report_faults(json.loads((folder / "report" / "report.json").read_text()))
            if code != 0:
                faults.append(f"exit code {code}: {made.run.log.splitlines()[-1:]}")
        log = made.run.log
        if options.log is not None:
            options.log.write_text(log)
        faults += measures.faults() + output_faults(folder / "out")
        troubles = sum(measures.troubles.values())
        faults += log_faults(log, troubles, len(made.entries) * soak.seconds() / 60)
    summary = {"seed": seed, **measures.summary(), "log_lines": len(log.splitlines()), "faults": faults}
    print(json.dumps(summary, indent=2))
    return 1 if faults else 0


sys.exit(main())
