# SPDX-License-Identifier: Apache-2.0
"""The cache of measured choices: found again for the same model, machine and settings only; what is explicit wins."""

from __future__ import annotations

import importlib.metadata
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.detectors import tuned
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.tuned import Fixed, digest_of, keep, key_of, recall
from pipeline.host.caches import cache_folder, make_private

CPU = torch.device("cpu")
GIVEN: dict[str, Any] = {"adapter": None, "input_size": None}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.pt"
    path.write_bytes(b"a model")
    return str(path)


def candidate(fps: float, recipe: Recipe | None = None, *, batch: int = 4, workers: int = 2) -> dict[str, Any]:
    facts = {"recipe": (recipe or Recipe()).as_dict(), "workers": workers, "threads": 1, "batch": batch}
    return {**facts, "fps": fps, "ms": 1.0, "ratio": fps / 10}


def kept(model: str, choice: int, *candidates: dict[str, Any]) -> Path:
    return keep(key_of(digest_of(model), CPU, GIVEN), "2026-01-02T03:04:05Z", choice, candidates)


def test_nothing_is_known_of_a_model_that_nobody_measured(model: str) -> None:
    assert recall(model, "cpu", GIVEN, Fixed()) is None
    kept(model, 0, candidate(10.0))
    Path(model).write_bytes(b"another model")
    assert recall(model, "cpu", GIVEN, Fixed()) is None
    assert recall(model + "x", "cpu", GIVEN, Fixed()) is None


def test_the_choice_is_found_again_with_its_entry_and_date(model: str) -> None:
    recipe = Recipe(way="optimized", shape=(8, 3, 64, 96), precision="fp32")
    entry = kept(model, 1, candidate(99.0), candidate(50.0, recipe, batch=8, workers=1))
    found = recall(model, "cpu", GIVEN, Fixed())
    assert found is not None
    assert (found.recipe, found.batch, found.workers, found.fps) == (recipe, 8, 1, 50.0)
    assert found.as_dict()["entry"] == str(entry)
    assert found.as_dict()["created"] == "2026-01-02T03:04:05Z"
    assert entry.parent == cache_folder("tuned")


@pytest.mark.parametrize(
    ("name", "value"), [("_cpu_model", "another CPU"), ("EDITION", 99)], ids=["another machine", "another edition"]
)
def test_other_circumstances_are_other_entries(
    model: str, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(model, 0, candidate(10.0))
    assert recall(model, "cpu", {**GIVEN, "input_size": [64, 64]}, Fixed()) is None
    assert recall(model, "cpu", GIVEN, Fixed()) is not None
    monkeypatch.setattr(tuned, name, value if name == "EDITION" else lambda: value)
    assert recall(model, "cpu", GIVEN, Fixed()) is None


def test_explicit_settings_win_and_the_fastest_of_what_fits_is_taken(model: str) -> None:
    bf16 = Recipe(precision="bf16")
    kept(model, 0, candidate(90.0, bf16, batch=8), candidate(40.0, batch=8), candidate(60.0, batch=2), candidate(70.0))
    picked = {
        Fixed(): 90.0,
        Fixed(precision="fp32"): 70.0,
        Fixed(precision="fp32", batch=8): 40.0,
        Fixed(batch=2): 60.0,
        Fixed(workers=2): 90.0,
    }
    for fixed, fps in picked.items():
        found = recall(model, "cpu", GIVEN, fixed)
        assert found is not None
        assert found.fps == fps, fixed
    assert recall(model, "cpu", GIVEN, Fixed(workers=3)) is None
    assert recall(model, "cpu", GIVEN, Fixed(precision="bf16", batch=2)) is None


def copied(name: str = "int8.pt") -> Path:
    make_private(cache_folder("tuned"))
    copy = cache_folder("tuned") / name
    copy.write_bytes(b"int8")
    return copy


def test_a_copy_that_is_gone_or_changed_is_not_taken(model: str) -> None:
    copy = copied()
    int8 = Recipe(precision="int8", file=str(copy), sha256=digest_of(str(copy)))
    kept(model, 0, candidate(90.0, int8), candidate(40.0))
    for change, fps in ((lambda: None, 90.0), (lambda: copy.write_bytes(b"other"), 40.0), (copy.unlink, 40.0)):
        change()
        found = recall(model, "cpu", GIVEN, Fixed())
        assert found is not None
        assert found.fps == fps


def test_a_copy_that_no_candidate_names_any_more_goes(model: str, tmp_path: Path) -> None:
    cache_folder("tuned").mkdir(parents=True)
    ours, foreign = cache_folder("tuned") / "int8.pt", tmp_path / "users.pt"
    for path in (ours, foreign):
        path.write_bytes(b"int8")
    recipes = [Recipe(precision="int8", file=str(path), sha256="0" * 64) for path in (ours, foreign)]
    kept(model, 0, *(candidate(1.0, recipe) for recipe in recipes))
    assert ours.exists()
    kept(model, 0, candidate(1.0))
    assert not ours.exists()
    assert foreign.exists()


def test_a_copy_that_an_entry_for_other_circumstances_names_stays(model: str) -> None:
    copy = copied()
    int8 = candidate(9.0, Recipe(precision="int8", file=str(copy), sha256=digest_of(str(copy))))
    kept(model, 0, int8)
    other = {**GIVEN, "input_size": [64, 64]}
    keep(key_of(digest_of(model), CPU, other), "2026-01-02T03:04:05Z", 0, [int8])
    kept(model, 0, candidate(1.0))
    found = recall(model, "cpu", other, Fixed())
    assert found is not None
    assert found.recipe.file == str(copy)
    keep(key_of(digest_of(model), CPU, other), "2026-01-02T03:04:05Z", 0, [candidate(1.0)])
    assert not copy.exists()


def fps_recalled(model: str) -> float | None:
    found = recall(model, "cpu", GIVEN, Fixed())
    return None if found is None else found.fps


@pytest.mark.parametrize("where", ["the file", "its folder", "the cache"])
@pytest.mark.parametrize("mode", [0o020, 0o002], ids=["the group", "everybody"])
def test_what_others_may_write_is_not_believed(
    model: str, where: str, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    entry = kept(model, 0, candidate(10.0))
    assert fps_recalled(model) == 10.0
    assert not caplog.records
    path = {"the file": entry, "its folder": entry.parent, "the cache": entry.parent.parent}[where]
    path.chmod(path.stat().st_mode | mode)
    assert fps_recalled(model) is None
    (said,) = caplog.messages
    assert said.startswith(f"{entry} is ignored: other users may change {path}")


def test_what_another_user_owns_is_not_believed(
    model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept(model, 0, candidate(10.0))
    monkeypatch.setattr(os, "lstat", lambda path: FakeStat(os.stat(path)))
    assert fps_recalled(model) is None
    assert "user 4242 owns" in caplog.text


class FakeStat:
    """The same file, but of user 4242."""

    def __init__(self, true: os.stat_result) -> None:
        self.st_mode, self.st_uid = true.st_mode, 4242


@pytest.mark.parametrize("fault", ["writable", "outside", "link", "upwards"])
def test_a_copy_that_others_may_have_put_there_is_not_run(
    model: str, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy = copied()
    named = copy
    if fault == "writable":
        copy.chmod(0o666)
    elif fault == "outside":
        named = copy.rename(tmp_path / "int8.pt")
    elif fault == "upwards":
        copy.rename(copy.parent.parent / "int8.pt")
        named = copy.parent / ".." / "int8.pt"
    else:
        copy.rename(tmp_path / "int8.pt")
        copy.symlink_to(tmp_path / "int8.pt")
    int8 = Recipe(precision="int8", file=str(named), sha256=digest_of(str(named)))
    kept(model, 0, candidate(90.0, int8), candidate(40.0))
    assert fps_recalled(model) == 40.0
    assert [f"{named}, a copy made by model tune, is ignored" in text for text in caplog.messages] == [True]


def test_what_is_kept_is_for_this_user_alone(model: str) -> None:
    before = os.umask(0)
    try:
        entry = kept(model, 0, candidate(10.0))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (entry, entry.parent, entry.parent.parent)] == [
        0o600, 0o700, 0o700,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(choice=7),
        lambda facts: facts.update(candidates=3),
        lambda facts: facts["candidates"][0].update(workers=0),
        lambda facts: facts["candidates"][0].update(batch="many"),
        lambda facts: facts["candidates"][0]["recipe"].update(unknown=1),
        lambda facts: facts["candidates"][0]["recipe"].update(file=7),
        lambda facts: facts["candidates"][0].update(recipe="frozen"),
        lambda facts: facts["candidates"][0].update(recipe=None),
        lambda facts: facts["candidates"][0].update(workers=float("inf")),
        lambda facts: facts["candidates"].insert(0, 5),
        lambda facts: facts.pop("created"),
        lambda facts: facts["key"].update(cores=99),
    ],
)
def test_damaged_entries_are_as_good_as_none(model: str, change: Any) -> None:
    entry = kept(model, 0, candidate(10.0))
    facts = json.loads(entry.read_text())
    change(facts)
    entry.write_text(json.dumps(facts))
    assert recall(model, "cpu", GIVEN, Fixed()) is None
    kept(model, 0, candidate(20.0))  # and can be replaced
    assert fps_recalled(model) == 20.0


def test_sources_that_are_not_installed_have_a_key_as_well(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    kept(model, 0, candidate(10.0))
    assert fps_recalled(model) == 10.0


def test_built_in_models_are_known_by_name() -> None:
    assert digest_of("builtin:people") == "builtin:people"
    kept("builtin:people", 0, candidate(10.0))
    assert recall("builtin:people", "cpu", GIVEN, Fixed()) is not None
