# SPDX-License-Identifier: Apache-2.0
"""The contest of ``model tune``, with candidates that answer by a table instead of by processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipeline.detectors.loading.recipe import Recipe
from pipeline.errors import ModelError, ModelLoadError
from pipeline.figures import percent
from pipeline.workshop.frames import sample
from pipeline.workshop.tuning.child import waited_for_cpu_ns
from pipeline.workshop.tuning.contest import Tuner, Tuning
from pipeline.workshop.tuning.nursery import Lost
from pipeline.workshop.tuning.result import report_of
from pipeline.workshop.tuning.space import QUICK, USUAL, About, Effort, Subject, baseline, layouts, recipes
from tests.background import until

Speed = Callable[[dict[str, Any]], float]
BOXES = [[10.0 * number, 10.0, 10.0 * number + 8.0, 18.0, 0.9, 0.0] for number in range(20)]
FACTS: dict[str, Any] = {
    "spec": {"height": 48, "width": 64},
    "shape": [3, 48, 64],
    "tensor": True,
    "largest": 16,
    "fixed": None,
    "exclusive": False,
    "precision": "fp32",
    "device": "cpu",
    "verdict": {},
    "input_size": [64, 64],
    "key": {"model": "0" * 64},
}


class FakeChild:
    def __init__(self, nursery: FakeNursery) -> None:
        self.nursery = nursery
        self.task: dict[str, Any] = {}

    def ask(self, command: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if command["do"] in self.nursery.crashing:
            raise Lost("it crashed (SIGSEGV)")
        if command["do"] == "open":
            self.task = command
            self.nursery.opened.append(command)
            self.nursery.alive += 1
            self.nursery.most = max(self.nursery.most, self.nursery.alive)
            if command["recipe"]["way"] in self.nursery.crashing:
                raise Lost(*self.nursery.loss)
            if command["precision"] in self.nursery.refusing:
                raise Lost(*self.nursery.refusing[command["precision"]])
            return self.nursery.facts
        if command["do"] == "detect":
            precision = self.task["recipe"]["precision"]
            seen = self.nursery.seen.get(precision, BOXES)
            return {"found": [[box for box in seen if box[4] >= command["confidence"]]] * 4}
        if command["do"] == "measure":
            fps = self.nursery.speed(self.task)
            return {"fps": fps, "ms": 1e3 * self.task["batch"] * self.task["workers"] / fps, "used": 1.0}
        return {}

    def close(self) -> None:
        self.nursery.alive -= 1


class FakeNursery:
    """``speed`` says the pictures per second of a task; ``seen`` what is found, by precision."""

    def __init__(self, speed: Speed, **facts: Any) -> None:
        self.speed = speed
        self.facts = FACTS | facts
        self.seen: dict[str, list[list[float]]] = {}
        self.crashing: set[str] = set()
        self.refusing: dict[str, tuple[str, str]] = {}  # by precision
        self.loss = ("it crashed (SIGSEGV)", "")
        self.opened: list[dict[str, Any]] = []
        self.alive = self.most = 0

    def child(self) -> FakeChild:
        return FakeChild(self)


def speed(task: dict[str, Any]) -> float:
    """bf16 at batch 8 with two workers is best: 100 x 2 x 1.5 x 2."""
    recipe = task["recipe"]
    base = 100.0 * (2.0 if task["workers"] == 2 else 1.0) * {1: 1.0, 8: 1.5}.get(task["batch"], 1.2)
    return base * {"bf16": 2.0, "int8": 4.0}.get(recipe["precision"], 1.3 if recipe["frozen"] else 1.0)


def contest(
    nursery: FakeNursery,
    effort: Effort = USUAL,
    latency_ms: float | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Tuning:
    given = {"confidence": 0.4}
    subject = Subject("model.pt", "cpu", given, {}, None, cores=2)
    captures = sample("pattern:?size=64x48&frames=4", 4)
    with TemporaryDirectory() as name:
        folder = Path(name)
        return Tuner(subject, captures, effort, nursery, folder, latency_ms=latency_ms, tell=tell).run()  # type: ignore[arg-type]


def picked(found: Tuning) -> tuple[str, int, int]:
    setting = found.choice.setting
    return setting.recipe.name, setting.batch, setting.workers


@pytest.mark.parametrize("effort", [QUICK, USUAL, replace(USUAL, every=True)], ids=["quick", "usual", "every"])
def test_the_fastest_that_finds_the_same_wins(effort: Effort) -> None:
    nursery = FakeNursery(speed)
    found = contest(nursery, effort)
    assert picked(found) == ("frozen channels_last bf16", 8, 2)
    assert found.choice.finals
    row = found.choice.as_dict(found.baseline)
    assert row["ratio"] == pytest.approx(6.0)
    assert row["agreement"] == 1.0
    assert found.baseline.setting.name == "plain, batch 1, 1 x 2"
    assert nursery.alive <= 0, "every process was ended"
    assert nursery.most <= 12


def test_figures_of_a_quieter_minute_do_not_stand_above_those_of_the_final() -> None:
    share = [1.0]
    nursery = FakeNursery(lambda task: speed(task) * share[0])

    def tell(text: str) -> None:
        if text.startswith("the final"):
            share[0] = 0.4  # other programs take the rest

    found = contest(nursery, tell=tell)
    rows = [one.as_dict(found.baseline) for one in found.contenders if one.counts]
    assert rows[0] == found.choice.as_dict(found.baseline)
    assert [row["final"] for row in rows] == sorted((row["final"] for row in rows), reverse=True)
    assert max(row["fps"] for row in rows if not row["final"]) > rows[0]["fps"]
    for row in rows:
        assert row["ratio"] == pytest.approx(speed(row) / 100.0)


def test_reduced_precision_that_finds_something_else_is_left_out() -> None:
    nursery = FakeNursery(speed)
    nursery.seen["bf16"] = [[box[0] + 3.0, *box[1:]] for box in BOXES]  # IoU 0.45
    found = contest(nursery)
    assert picked(found) == ("frozen channels_last", 8, 2)
    reasons = {one.left_out for one in found.contenders if one.setting.recipe.precision == "bf16"}
    assert reasons == {"only 0.0 % of its boxes are the same (IoU 0.75; 95 % are needed)"}


def test_a_little_less_is_enough_for_reduced_precision_only() -> None:
    nursery = FakeNursery(speed)
    nursery.seen["bf16"] = [[box[0] + 1.0, *box[1:]] for box in BOXES]  # IoU 0.78
    assert picked(contest(nursery))[0] == "frozen channels_last bf16"
    nursery = FakeNursery(speed, precision="int8")
    nursery.seen["int8"] = BOXES
    assert {one.setting.recipe.precision for one in contest(nursery).contenders} == {"int8"}


def test_a_latency_limit_picks_smaller_batches() -> None:
    found = contest(FakeNursery(speed), latency_ms=6.0)  # 2 workers, batch 1: 5 ms; batch 2: 8.3 ms
    assert picked(found) == ("frozen channels_last bf16", 1, 2)
    with pytest.raises(ModelError, match=r"nothing answers within 1 ms here; the nearest takes 5\.0 ms"):
        contest(FakeNursery(speed), latency_ms=1.0)


@pytest.mark.parametrize("slower", [1.03, 2.0])
def test_a_latency_that_only_held_before_the_final_is_said(slower: float) -> None:
    final: list[str] = []
    nursery = FakeNursery(lambda task: speed(task) / (slower if final else 1.0))

    def tell(text: str) -> None:
        final.extend([text] if text.startswith("the final") else [])

    with pytest.raises(
        ModelError, match=rf"nothing answers within 5\.1 ms here; the nearest takes {5 * slower:.1f} ms"
    ):
        contest(nursery, latency_ms=5.1, tell=tell)
    assert final


def test_where_all_crash_in_the_final_the_last_reason_is_told() -> None:
    nursery = FakeNursery(speed)

    def tell(text: str) -> None:
        nursery.crashing |= {"measure"} if text.startswith("the final") else set()

    for latency_ms in (None, 50.0):
        nursery.crashing.clear()
        with pytest.raises(ModelError, match=r"no candidate got through the final: it crashed \(SIGSEGV\)"):
            contest(nursery, latency_ms=latency_ms, tell=tell)


def test_reduced_precision_that_does_not_run_is_called_that() -> None:
    """Its process advises another input, which is no cure: the file runs as it comes."""
    nursery = FakeNursery(speed)
    nursery.refusing["bf16"] = ("m.pt: it does not run at 64x64: dets and scores differ. Remedy: x", "ModelLoadError")
    found = contest(nursery)
    assert found.choice.setting.recipe.precision != "bf16"
    reasons = {one.left_out for one in found.contenders if one.setting.recipe.precision == "bf16"}
    assert reasons == {"this model does not run in bf16: m.pt: it does not run at 64x64: dets and scores differ"}


def test_what_crashes_is_said_and_left_out() -> None:
    nursery = FakeNursery(lambda task: speed(task) * (9.0 if task["recipe"]["way"] == "optimized" else 1.0))
    assert picked(contest(nursery))[0] == "optimize_for_inference"
    nursery.crashing = {"optimized"}
    found = contest(nursery)
    assert picked(found)[0] == "frozen channels_last bf16"
    assert [one.left_out for one in found.contenders if one.left_out] == ["it crashed (SIGSEGV)"]


def test_equally_fast_means_the_plainer_one() -> None:
    found = contest(FakeNursery(lambda task: 100.0 + (1.0 if task["recipe"]["precision"] == "bf16" else 0.0)))
    assert found.choice.setting.recipe.exact


def test_where_nothing_is_found_reduced_precision_is_not_trusted() -> None:
    nursery = FakeNursery(speed)
    nursery.seen = {"fp32": [], "bf16": []}
    found = contest(nursery)
    assert found.confidence is None
    assert picked(found)[0] == "frozen channels_last"
    nursery.seen = {}
    weak = [[*box[:4], 0.02, 0.0] for box in BOXES]
    nursery.seen = {"fp32": weak, "bf16": weak}
    assert contest(nursery).confidence == 0.01


def test_a_baked_in_batch_is_the_only_one_that_is_tried() -> None:
    nursery = FakeNursery(speed, fixed=4, largest=4)
    contest(nursery)
    assert {task["batch"] for task in nursery.opened[1:]} == {4}
    assert {task["max_batch"] for task in nursery.opened[1:]} == {4}


def test_a_model_that_is_no_detector_is_refused() -> None:
    nursery = FakeNursery(speed)
    nursery.crashing = {"as_is"}
    nursery.loss = ("model.pt: this is a text file", "ModelLoadError")
    with pytest.raises(ModelLoadError, match=r"^model\.pt: this is a text file$"):
        contest(nursery)


@pytest.mark.parametrize("loss", [("it crashed (SIGKILL)", ""), ("CUDA out of memory", "OutOfMemoryError")])
def test_a_model_that_crashes_is_not_called_refused(loss: tuple[str, str]) -> None:
    """The command's exit code is another."""
    nursery = FakeNursery(speed)
    nursery.crashing, nursery.loss = {"as_is"}, loss
    with pytest.raises(ModelError, match=rf"^model\.pt: it does not run: {re.escape(loss[0])}$") as error:
        contest(nursery)
    assert not isinstance(error.value, ModelLoadError)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tuning:
    """A result whose choice is a copy of the model, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = contest(FakeNursery(speed))
    (tmp_path / "int8.pt").write_bytes(b"copy")
    recipe = Recipe(precision="int8", file=str(tmp_path / "int8.pt"), sha256=hashlib.sha256(b"copy").hexdigest())
    found.choice.setting = replace(found.choice.setting, recipe=recipe)
    return found


SUBJECT = Subject("model.pt", "cpu", {"confidence": 0.4}, {}, None, cores=2)


def test_a_dry_run_leaves_nothing_in_the_cache(copied: Tuning, tmp_path: Path) -> None:
    report = report_of(copied, SUBJECT, keep_it=False)
    assert report["entry"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.pt"]


def test_copies_are_kept_with_the_entry(copied: Tuning, tmp_path: Path) -> None:
    report = report_of(copied, SUBJECT)
    kept = Path(report["choice"]["recipe"]["file"])
    assert (kept.parent, kept.read_bytes()) == (tmp_path / "cache" / "video-pipeline" / "tuned", b"copy")
    assert kept.stat().st_mode & 0o777 == 0o600
    facts = json.loads(Path(report["entry"]).read_text())
    assert facts["candidates"][facts["choice"]] == report["choice"]


@pytest.mark.parametrize(("share", "kept"), [(0.95, True), (0.81, True), (0.79, False), (0.3, False)])
def test_what_was_measured_beside_other_programs_is_not_kept(
    copied: Tuning, tmp_path: Path, share: float, kept: bool
) -> None:
    before = report_of(copied, SUBJECT)
    assert before["others"] == 0.0
    for contender in copied.contenders:
        contender.used = [share] * len(contender.used)
    report = report_of(copied, SUBJECT)
    assert report["others"] == pytest.approx(1 - share)
    told = [remark for remark in report["remarks"] if "other programs" in remark]
    if kept:
        assert (report["entry"], report["not_kept"], told) == (before["entry"], None, [])
        return
    assert (report["entry"], report["not_kept"]) == (None, *told)
    assert told == [
        f"not kept: other programs took {percent(1 - share)} of the CPU time meanwhile; measure again when the machine "
        "is quiet, or keep it all the same with --force"
    ]
    assert json.loads(Path(before["entry"]).read_text())["created"] == before["created"], "what was kept before stays"
    dry = report_of(copied, SUBJECT, keep_it=False)
    assert any(remark.startswith("other programs took") for remark in dry["remarks"])
    assert dry["not_kept"] is None
    forced = report_of(copied, SUBJECT, force=True)
    assert json.loads(Path(forced["entry"]).read_text())["created"] == forced["created"]
    assert not any("not kept" in remark for remark in forced["remarks"])


def test_on_a_gpu_the_cpu_may_be_busy(copied: Tuning) -> None:
    for contender in copied.contenders:
        contender.used = [0.1] * len(contender.used)
    assert report_of(replace(copied, on_cpu=False), SUBJECT)["entry"] is not None


def test_threads_that_wait_for_a_core_are_seen() -> None:
    """One core for two that are busy: each is ready to run for about as long as it runs."""
    if (before := waited_for_cpu_ns()) is None:
        pytest.skip("this kernel does not say how long threads wait")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # of this thread, and of whatever it starts
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        until(lambda: _spun() and (waited_for_cpu_ns() or 0) - before > 100_000_000, "a wait for a core")
    finally:
        os.sched_setaffinity(0, cores)
        other.kill()
        other.wait()


def _spun() -> int:
    return sum(range(100_000))


def test_a_copy_that_cannot_be_kept_is_a_remark(copied: Tuning, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    report = report_of(copied, SUBJECT)
    (remark,) = [line for line in report["remarks"] if "No space left" in line]
    assert remark.endswith("so that later runs cannot use frozen channels_last int8")
    facts = json.loads(Path(report["entry"]).read_text())
    assert [each["recipe"]["file"] for each in facts["candidates"] if each["recipe"]["file"]] == []
    assert facts["choice"] == 0
    assert len(facts["candidates"]) == sum(one.counts for one in copied.contenders) - 1
    assert len(list(Path(report["entry"]).parent.iterdir())) == 1


def test_the_space() -> None:
    about = About((3, 64, 64), True, 16, None, False, "fp32", False, cores=6)
    assert layouts(about) == [(6, 1), (3, 2), (1, 6)]
    assert layouts(replace(about, exclusive=True)) == [(1, 6)]
    assert layouts(replace(about, cores=1)) == [(1, 1)]
    assert baseline(about).recipe == Recipe(frozen=False, channels_last=False)
    known, missing = recipes(about)
    assert [recipe.name for recipe in known] == [
        "frozen channels_last",
        "plain",
        "frozen",
        "channels_last",
        "optimize_for_inference",
        "frozen channels_last bf16",
    ]
    assert set(missing) == {"frozen channels_last fp16", "CUDA graph"}
    assert "optimize_for_inference" in recipes(replace(about, tensor=False))[1]
    on_gpu, missing = recipes(replace(about, cuda=True))
    assert {"frozen channels_last fp16", "CUDA graph"} <= {recipe.name for recipe in on_gpu}
    assert set(missing) == {"optimize_for_inference"}
    assert {recipe.precision for recipe in recipes(replace(about, precision="int8"))[0]} == {"int8"}


def test_without_time_the_untuned_run_is_measured_all_the_same() -> None:
    """Else the file as it comes would win unopposed, and runs would be slower than before."""
    found = contest(FakeNursery(speed), replace(QUICK, budget_s=1e-9))
    assert picked(found) == ("frozen channels_last", 4, 2)
    reasons = {one.left_out for one in found.contenders if one.left_out}
    assert reasons == {"no time was left; --thorough measures it"}
