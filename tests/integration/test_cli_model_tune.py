# SPDX-License-Identifier: Apache-2.0
"""``pipeline model tune`` for real: processes that crash or hang are left out, and a replay uses the choice by name."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.tuned import digest_of
from pipeline.errors import PipelineError
from pipeline.workshop.tuning import space
from pipeline.workshop.tuning.nursery import Lost, Nursery
from tests.learned import fitted
from tests.models import NAMES, save, ultralytics_metadata

FACTS = ultralytics_metadata((64, 64), NAMES)
CLIP = "pattern:?size=128x96&fps=30&frames=9&people=2"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


def opening(model: Path, **more: Any) -> dict[str, Any]:
    task: dict[str, Any] = {"do": "open", "model": str(model), "recipe": Recipe().as_dict(), "precision": "auto"}
    task |= {"given": {"confidence": 0.1}, "key": {}, "device": "cpu", "threads": 1, "workers": 2, "batch": 2}
    return task | {"max_batch": 2, "picture": [128, 96]} | more


def test_a_candidate_that_crashes_hangs_or_refuses_is_told_of_and_takes_nothing_with_it(
    nursery: Nursery, tmp_path: Path
) -> None:
    model = save(fitted("resnet", width=8), tmp_path / "m.pt", FACTS)
    crashing, hanging, refusing, good = (nursery.child() for _ in range(4))
    os.kill(crashing._pid, signal.SIGSEGV)
    with pytest.raises(Lost, match=r"it crashed \(SIGSEGV\)"):
        crashing.ask(opening(model), 60.0)
    os.kill(hanging._pid, signal.SIGSTOP)
    with pytest.raises(Lost, match="did not answer within 0 s and was ended"):
        hanging.ask(opening(model), 0.1)
    with pytest.raises(Lost, match="no such model file") as refusal:
        refusing.ask(opening(tmp_path / "none.pt"), 60.0)
    assert refusal.value.kind == "ModelLoadError"
    facts = good.ask(opening(model), 60.0)
    assert facts["largest"] == 2
    assert facts["key"]["model"] == digest_of(str(model))
    for lost in (crashing, hanging, refusing):
        with pytest.raises(ProcessLookupError):
            os.kill(lost._pid, 0)
    good.close()


@pytest.mark.parametrize("how", ["--quiet", "--json"])
def test_why_nothing_is_kept_is_said_in_any_case(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "not kept: other programs took 40 % of the CPU time meanwhile"
    made = SimpleNamespace(run=lambda: None)
    monkeypatch.setattr("pipeline.workshop.tuning.contest.Tuner", lambda *given, **named: made)
    monkeypatch.setattr("pipeline.workshop.tuning.result.report_of", lambda *given, **named: {"not_kept": why})
    monkeypatch.setattr("pipeline.workshop.tuning.nursery.Nursery", lambda **named: nullcontext())
    assert main(["model", "tune", "builtin:people", "--frames", CLIP, how]) == 1
    assert capsys.readouterr().err == f"pipeline: {why}\n"


def test_the_choice_is_kept_and_a_replay_names_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "QUICK", replace(space.QUICK, window_s=0.04, batches=(1, 4), budget_s=2.0))
    model = save(fitted("resnet", width=8), tmp_path / "m.pt", FACTS)
    # --force: other tests run beside this one
    assert main(["model", "tune", str(model), "--quick", "--json", "--frames", CLIP, "--force"]) == 0
    said, complaints = capfd.readouterr()
    assert complaints == ""
    report = json.loads(said)
    choice = report["choice"]
    rows = [row for row in report["candidates"] if row["left_out"] is None]
    assert choice in rows
    assert choice["final"]
    assert {"ms", "fps", "ratio", "agreement", "left_out", "workers", "threads", "batch", "recipe"} <= set(rows[0])
    assert report["baseline"]["ratio"] == 1.0
    assert all(row["agreement"] >= 0.95 for row in rows if row["agreement"] is not None)
    assert report["left_out"]["frozen channels_last int8"] == "--quick makes no copies"
    assert Path(report["entry"]).is_file()

    def replayed(name: str, *more: str) -> tuple[dict[str, Any], bytes]:
        out = tmp_path / name
        assert main(["replay", CLIP, "--model", str(model), "--out", str(out), "--quiet", *more]) == 0
        facts = json.loads((out / "report.json").read_text())["model"]
        (lines,) = out.glob("*.jsonl")
        return facts, lines.read_bytes()

    facts, lines = replayed("tuned")
    assert facts["tuned"]["entry"] == report["entry"]
    assert facts["tuned"]["created"] == report["created"]
    assert facts["tuned"]["choice"].startswith(choice["name"])
    ran = {name: facts[name] for name in ("precision", "max_batch", "workers")}
    assert ran == {
        "precision": choice["recipe"]["precision"], "max_batch": choice["batch"], "workers": choice["workers"]
    }  # fmt: skip
    assert replayed("inline", "--inline")[1] == lines
    facts, _ = replayed("untuned", "--no-tuned")
    assert (facts["tuned"], facts["precision"], facts["max_batch"]) == (None, "fp32", 4)
    facts, _ = replayed("explicit", "--batch", "3")
    assert (facts["tuned"], facts["max_batch"]) == (None, 3)
    facts, _ = replayed("fp32", "--precision", "fp32")
    assert facts["precision"] == "fp32"
    assert facts["tuned"] is None or facts["tuned"]["recipe"]["precision"] == "fp32"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.pt"], "none.pt: no such model file"),
        ([], "which model?"),
        (["m.pt", "--quick", "--thorough"], "not allowed with"),
        (["builtin:people", "--frames", "none.mp4"], "none.mp4"),
        (["builtin:people", "--latency-ms", "0"], "expected a number above 0"),
    ],
)
def test_refusals(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "tune", *words]) == 2
    assert said in capfd.readouterr().err


def test_a_file_that_is_no_model_is_refused_by_the_first_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.pt"
    path.write_text("hello")
    assert main(["model", "tune", str(path), "--quick"]) == 2
    assert "text.pt" in capfd.readouterr().err


def test_a_nursery_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workshop.tuning.nursery.MODULE", "pipeline.no_such_module")
    with Nursery() as nursery, pytest.raises(PipelineError, match=r"No module named pipeline\.no_such"):
        nursery.child()
