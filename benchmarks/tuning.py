# SPDX-License-Identifier: Apache-2.0
"""Is what ``pipeline model tune`` chooses within 10 % of the best candidate, measured exhaustively?

For each of six models: the choice of the usual contest; then every combination of recipe, batch size and threads, each
screened, and the best of them in a final against that choice, in turns. The figure is the choice's pictures per second
as a share of those of the fastest finalist, medians of the same rounds. Exit status 1: a share is below 0.9.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import networks
from pipeline.host.caches import cache_folder
from pipeline.host.cores import allowed_cores
from pipeline.workshop.frames import sample
from pipeline.workshop.tuning.contender import Contender
from pipeline.workshop.tuning.contest import Tuner, Tuning
from pipeline.workshop.tuning.nursery import Nursery
from pipeline.workshop.tuning.space import BATCHES, THOROUGH, USUAL, Setting, Subject

MODELS = (*networks.TRACED, "ssdlite", "people")
WANTED = 0.9
PEOPLE = Path(__file__).parents[1] / "sample_videos" / "plaza.mp4"

EXHAUSTIVE = replace(
    THOROUGH, window_s=0.2, screening=2, heats=9, finalists=5, frames=16, quantize_s=120.0, compilers=False
)


def subject_of(name: str, folder: Path) -> Subject:
    video = PEOPLE if name == "people" else networks.film(folder)
    model = "builtin:people" if name == "people" else str(
        networks.save_ssdlite(folder) if name == "ssdlite" else networks.save(name, folder)
    )  # fmt: skip
    given: dict[str, Any] = {"confidence": 0.4, "iou": 0.5}
    return Subject(model, "cpu", given, {}, str(video), allowed_cores())


def contest(subject: Subject, sizes: tuple[int, ...], *, every: bool, invited: tuple[Setting, ...] = ()) -> Tuning:
    effort = replace(EXHAUSTIVE if every else USUAL, batches=sizes)
    with Nursery() as nursery, tempfile.TemporaryDirectory(prefix="tune-") as folder:
        captures = sample(subject.video, effort.frames)
        tell = (lambda text: print(f"    {text}", file=sys.stderr)) if os.environ.get("VERBOSE") else lambda text: None
        return Tuner(subject, captures, effort, nursery, Path(folder), invited=invited, tell=tell).run()


def measure(name: str, folder: Path, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The share, and both settings."""
    subject = subject_of(name, folder)
    usual = contest(subject, sizes, every=False)
    chosen = usual.choice.setting
    every = contest(subject, sizes, every=True, invited=(chosen,))
    finalists = [one for one in every.contenders if one.finals and one.left_out is None]
    ours = next((one for one in finalists if one.setting == chosen), None)
    if ours is None:
        raise SystemExit(f"{name}: the choice did not reach the final: {chosen.name}")
    best = max(finalists, key=lambda one: together(one, ours))
    return {
        "model": name,
        "choice": chosen.name,
        "choice_fps": round(together(ours, ours), 2),
        "best": best.setting.name,
        "best_fps": round(together(best, ours), 2),
        "share": round(together(ours, ours) / together(best, ours), 4),
        "ratio_to_plain": round(together(ours, ours) / together(every.baseline, ours), 3),
        "agreement": ours.agreement,
        "candidates": sum(1 for one in every.contenders if one.windows),
        "choice_seconds": round(usual.seconds, 1),
        "exhaustive_seconds": round(every.seconds, 1),
    }


def together(one: Contender, other: Contender) -> float:
    """Median pictures per second in the rounds that both took part in."""
    rounds = min(len(one.finals), len(other.finals))
    fps = sorted(fps for fps, _ in one.finals[:rounds])
    return fps[rounds // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument(
        "--batches", nargs="*", type=int, default=list(BATCHES), metavar="N", help="sizes in both contests"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = cache_folder("bench") / "networks"
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # nothing that is measured here is kept
        for name in options.models:
            row = measure(name, folder, tuple(options.batches))
            rows.append(row)
            if not options.json:
                print(
                    f"{name:<11} {row['choice']} ({row['choice_seconds']} s): {row['choice_fps']} pictures/s, "
                    f"{row['share']:.3f} of the best of {row['candidates']}: {row['best']}",
                    flush=True,
                )
    below = [row["model"] for row in rows if row["share"] < WANTED]
    if options.json:
        print(json.dumps({"wanted": WANTED, "models": rows, "below": below}, indent=2))
    elif below:
        print(f"below {WANTED}: {', '.join(below)}")
    sys.exit(bool(below))


if __name__ == "__main__":
    main()
