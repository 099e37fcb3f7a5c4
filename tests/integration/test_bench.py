# SPDX-License-Identifier: Apache-2.0
"""The benchmark end to end on tiny material; candidates run in this process, so that torch is loaded once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench.capacity import measure_capacity
from pipeline.bench.child import CANDIDATES
from pipeline.bench.material import Material, make
from pipeline.bench.run import CHILD, BenchOptions, Peer, measure, run_bench
from pipeline.cli import main
from pipeline.config import Config
from pipeline.errors import PipelineError

TINY = Material(files=2, width=320, height=180, seconds=0.5, mbit=0.5, input=160)


def here(task: dict[str, Any], child: Sequence[str] = CHILD) -> dict[str, Any]:
    """Measure in this process; through JSON, as between processes."""
    found: dict[str, Any] = json.loads(json.dumps(CANDIDATES[task["candidate"]](json.loads(json.dumps(task)))))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def measured(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """A whole benchmark in one round of batches of two: its report, and what it said."""
    said: list[str] = []
    return run_bench(BenchOptions(folder, TINY, rounds=1, batch=2), said.append, measure=here), said


def test_everybody_finds_the_same_and_is_measured(measured: tuple[dict[str, Any], list[str]]) -> None:
    report, said = measured
    assert list(report["candidates"]) == ["pipeline", "pool", "loop"]
    frames = TINY.files * TINY.frames
    for figures in report["candidates"].values():
        assert figures["frames"] == frames
        assert figures["fps"] > 0
        assert figures["cpu_ms_per_frame"] > 0
    for name, found in report["agreement"].items():
        assert found["ours"] > 0, name  # there is something to find
        assert found["share"] >= 0.99, name
    assert report["floors"]["decode"]["frames"] == frames
    assert report["efficiency"] > 0
    assert report["cpu_over_floors"] > 0
    assert set(report["speedup"]) == {"pool", "loop"}
    assert report["all_runs"]["pipeline"][0]["mean_batch"] == 2.0
    assert any("same detections" in text for text in said)


def test_another_answer_ends_it(folder: Path) -> None:
    def wrong(task: dict[str, Any], child: Sequence[str] = CHILD) -> dict[str, Any]:
        if task["candidate"] != "other":
            return here(task)
        found = here({**task, "candidate": "pool"})
        for clip in found["detections"]:
            for frame in clip:
                for box in frame:
                    box[0] += 2.0
        return found

    with pytest.raises(PipelineError, match="do not find the same"):
        run_bench(BenchOptions(folder, TINY, rounds=1, batch=2), peers=[Peer("other")], measure=wrong)


def test_clips_in_which_nobody_finds_anything_prove_nothing(folder: Path) -> None:
    def blind(task: dict[str, Any], child: Sequence[str] = CHILD) -> dict[str, Any]:
        return {"detections": [[[]] * TINY.frames] * TINY.files}

    with pytest.raises(PipelineError, match="nothing to compare"):
        run_bench(BenchOptions(folder, TINY), measure=blind)


def test_material_is_made_once_and_whole(folder: Path) -> None:
    clips, model = make(TINY, folder)
    before = [path.stat().st_mtime_ns for path in (*clips, model)]
    make(TINY, folder)
    assert [path.stat().st_mtime_ns for path in (*clips, model)] == before
    assert {path for path in folder.iterdir() if path.name.startswith(".")} == set()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match="cannot be kept there"):
        make(TINY, tmp_path / "file" / "inside")


def test_a_failing_candidate_is_told(folder: Path) -> None:
    with pytest.raises(PipelineError, match=r"the candidate idle failed: .*nothing\.pt"):
        measure({"candidate": "idle", "model": str(folder / "nothing.pt")})


def settings(folder: Path, *sources: Path) -> dict[str, Any]:
    _, model = make(TINY, folder)
    return {
        "model": {"path": str(model), "confidence": 0.4, "device": "cpu", "tuned": False},
        "batch": {"max_size": 2, "workers": 1},
        "streams": [
            {"name": f"s{number}", "source": str(source), "pace": "realtime", "fps": 1.0}
            for number, source in enumerate(sources)
        ],
        "sinks": [{"type": "jsonl", "path": str(folder / "capacity-{stream}.jsonl")}],
    }


def test_capacity_is_what_comes_out_when_nothing_holds_the_sources_back(folder: Path) -> None:
    clips, _ = make(TINY, folder)
    found = here({"candidate": "capacity", "config": settings(folder, *clips), "seconds": 1.0, "warm_s": 0.2})
    lines = [len((folder / f"capacity-s{number}.jsonl").read_text().splitlines()) for number in range(2)]
    assert 0 < found["fps"] * found["seconds"] <= sum(lines)
    assert found["fps"] > 10  # they ask for one a second each
    assert found["mean_batch"] > 1.0
    assert found["batch_service_ms"] == found["service_ms"]["2"] > 0
    assert (found["workers"], found["batch_size"]) == (1, 2)


def test_what_cannot_be_read_has_no_capacity(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(PipelineError, match="all streams have ended; s0: "):
        measure_capacity(Config.model_validate(settings(folder, tmp_path / "a.mp4")), 1.0)


def test_the_command_prints_and_writes_the_same_json(
    measured: tuple[dict[str, Any], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    def little(options: BenchOptions, say: object) -> dict[str, Any]:
        assert (options.rounds, options.batch) == (1, 2)
        assert options.material.seconds == 0.5
        assert options.material.files == 2
        assert options.folder == tmp_path / "cache" / "video-pipeline" / "bench"
        return measured[0]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pipeline.bench.run.run_bench", little)
    out = tmp_path / "out"
    arguments = ["bench", "--json", "--rounds", "1", "--seconds", "0.5", "--files", "2", "--batch", "2"]
    assert main([*arguments, "--out", str(out)]) == 0
    printed = json.loads(capsysbinary.readouterr().out)
    assert printed == json.loads((out / "bench.json").read_text())
    assert printed["command"] == "bench"
    assert printed["machine"]["cores"] >= 1
    assert {"efficiency", "speedup", "floors", "candidates", "peak_above_idle_mb"} <= set(printed)
    assert "frames per second" in (out / "chart.html").read_text()


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--seconds", "-1"], ["--out", "/dev/null/here"]])
def test_refusals_come_before_the_work(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.bench.run.run_bench", lambda *_: pytest.fail("nothing may be measured"))
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err.startswith("pipeline")
