# SPDX-License-Identifier: Apache-2.0
"""``pipeline replay`` from the command line to files, reports and exit codes."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pipeline
from pipeline.cli import main
from pipeline.cli.program.running import Stopped
from pipeline.errors import SinkError, SourceError
from pipeline.frame import Result
from pipeline.replaying import Replay
from pipeline.sinks import JsonlSink
from pipeline.sinks.paths import sink_error
from tests.commands import no_pictures
from tests.media import Media, filled, media
from tests.models import NAMES, Cells, RaisesOnWhite, save, ultralytics_metadata

__all__ = ["media", "no_pictures"]

pytestmark = pytest.mark.usefixtures("no_pictures")


class Run(NamedTuple):
    """One call of ``main``."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "cells.pt"
    return save(Cells(), path, ultralytics_metadata((64, 64), NAMES))


@pytest.fixture
def replay(model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``replay(argument, ...)`` in a folder of its own, with a tiny model and one worker."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, model: Path | None = model, out: str | None = "out") -> Run:
        words = ["replay", *map(str, arguments), "--workers", "1"]
        words += ["--model", str(model)] if model is not None else []
        code = main([*words, "--out", out] if out is not None else words)
        return Run(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def clip(media: Media) -> Path:
    return media.clip(count=12, texture=True)


@pytest.fixture(scope="module")
def long_clip(media: Media) -> Path:
    return media.clip(count=300)


@pytest.fixture(scope="module")
def cut(media: Media) -> Path:
    """The first two thirds of a recording that says how long it is."""
    whole = media.clip(count=60, texture=True, muxing={"movflags": "faststart"})
    data = whole.read_bytes()
    return media.file("cut.mp4", data[: len(data) * 2 // 3])


def test_a_good_run_leaves_results_and_reports_and_says_where(replay: Any, clip: Path, tmp_path: Path) -> None:
    run = replay(clip, out=None)
    assert (run.code, run.err) == (0, "")
    folder = tmp_path / "runs" / "1"
    assert sorted(path.name for path in folder.iterdir()) == [f"{clip.stem}.jsonl", "report.html", "report.json"]
    assert len((folder / f"{clip.stem}.jsonl").read_text().splitlines()) == 12
    lines = run.out.splitlines()
    assert lines[1].split()[:3] == [clip.stem, "finished", "12"]
    assert len(lines) < 20
    assert lines[-2].startswith("12 frames of 1 stream in ")
    assert lines[-1] == f"outputs in runs/1/: {clip.stem}.jsonl, report.json, report.html"
    assert replay(clip, out=None).out.splitlines()[-1].startswith("outputs in runs/2/")


def test_json_alone_is_on_stdout_and_is_the_report_file(replay: Any, clip: Path, tmp_path: Path) -> None:
    run = replay(clip, "--json")
    assert (run.code, run.err) == (0, "")
    assert run.out == (tmp_path / "out" / "report.json").read_text()
    report = run.report
    assert report["command"] == "replay"
    assert report["frames"] == 12
    frames = report["streams"][clip.stem]["frames"]
    assert frames["decoded"] == frames["processed"] + sum(frames["dropped"].values()) + frames["decimated"] == 12
    assert report["sinks"]["jsonl"]["written"] == 12
    assert report["machine"]["ffmpeg"]
    assert set(report["startup_s"]) == {"import", "load", "probe", "warm"}


def test_quiet_says_nothing_when_all_is_good(replay: Any, clip: Path) -> None:
    assert replay(clip, "--quiet") == (0, "", "")


def test_quiet_says_what_went_wrong(replay: Any, clip: Path, cut: Path) -> None:
    run = replay(clip, cut, "gone.mp4", "--quiet")
    assert (run.code, run.out) == (3, "")
    lines = run.err.splitlines()
    assert lines[0] == "pipeline: gone: failed: gone.mp4: no such file or folder"
    assert lines[1].startswith("pipeline: cut: truncated: ")
    assert all(line.startswith("pipeline: cut: ") for line in lines[1:])


@pytest.mark.parametrize(
    ("sources", "options", "code"),
    [
        (["clip", "gone.mp4"], [], 3),
        (["clip", "text.mp4"], [], 3),
        (["clip", "text.mp4"], ["--strict"], 3),
        (["clip", "cut"], [], 3),
        (["clip", "cut"], ["--strict"], 1),
        (["cut"], ["--limit", "5"], 0),  # ended at the limit, not at the cut
        (["text.mp4"], [], 1),
        (["clip"], ["--classes", "red,2"], 0),
        (["clip"], ["--classes", "purple"], 2),
        (["clip"], ["--device", "abacus"], 2),
    ],
)
def test_exit_codes(
    sources: list[str], options: list[str], code: int, replay: Any, clip: Path, cut: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 100)
    run = replay(*({"clip": clip, "cut": cut}.get(source, source) for source in sources), *options, "--json")
    assert run.code == code
    assert "Traceback" not in run.err
    if code == 2:
        assert json.loads(run.out)["error"]["exit_code"] == 2
        assert run.err.count("\n") == 1
        assert not (tmp_path / "out").exists()
    else:
        assert len(run.report["streams"]) == len(sources)
        assert (tmp_path / "out" / "report.html").exists()


def test_a_model_that_is_none_is_refused_and_leaves_nothing(replay: Any, clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"not a model")
    run = replay(clip, model=bad)
    assert (run.code, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1
    assert "bad.pt" in run.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_a_sink_that_loses_data_is_exit_code_1(replay: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = JsonlSink.write

    def full(self: JsonlSink, result: Result) -> None:
        if result.frame == 3:
            raise SinkError("no space left on the device")
        kept(self, result)

    monkeypatch.setattr(JsonlSink, "write", full)
    run = replay(clip)
    assert run.code == 1
    assert "jsonl: lost 1 result (write_error 1): no space left on the device" in run.out
    assert "sink jsonl: no space left on the device" in run.err


@pytest.mark.parametrize("how", [(), ("--inline",)], ids=["threads", "inline"])
@pytest.mark.parametrize("save", ["jsonl", "jsonl,csv"])
def test_a_full_disk_ends_a_replay_once_no_output_is_whole(
    replay: Any, long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: str, how: tuple[str, ...]
) -> None:
    kept = JsonlSink.write

    def full(self: JsonlSink, result: Result) -> None:
        if result.frame == 3:
            raise sink_error("write", tmp_path / "a.jsonl", OSError(errno.ENOSPC, ""))
        kept(self, result)

    monkeypatch.setattr(JsonlSink, "write", full)
    run = replay(long_clip, "--save", save, "--json", *how)
    assert run.code == 1
    stream = run.report["streams"][long_clip.stem]
    if save == "jsonl":
        assert run.report["error"].startswith("the disk is full, and no output is whole any more")
        assert (stream["state"], stream["frames"]["decoded"] < 200) == ("stopped", True)
        assert run.report["sinks"]["jsonl"]["lost"]["write_error"] == 1
    else:  # what the other one wrote is of use
        assert (run.report["error"], stream["state"], stream["frames"]["processed"]) == (None, "finished", 300)
        assert run.report["sinks"]["csv"]["lost"] == {}


@pytest.mark.parametrize("name", ["new\nline.mkv", "red\x1b[31m.mkv", ""])
def test_a_name_that_cannot_be_played_is_a_line_and_stops_no_other(
    replay: Any, clip: Path, tmp_path: Path, name: str
) -> None:
    if name:
        (tmp_path / name).write_bytes(clip.read_bytes())
    run = replay(name)
    assert (run.code, run.out, len(run.err.splitlines())) == (2, "", 1)
    assert "\x1b" not in run.err
    run = replay(name, clip, "--json")
    assert run.code == 3
    assert sorted(stream["state"] for stream in run.report["streams"].values()) == ["failed", "finished"]
    if name:
        folder = tmp_path / "clips"
        folder.mkdir()
        for each in (name, "good.mkv"):
            (folder / each).write_bytes(clip.read_bytes())
        assert replay(folder).code == 3


def test_links_that_lead_to_themselves_and_names_that_are_too_long(replay: Any, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "loop.mkv").symlink_to("loop.mkv")
    assert replay("loop.mkv", clip).code == 3
    run = replay(clip, out="x" * 300)
    assert (run.code, run.err) == (2, f"pipeline: {'x' * 300}: File name too long\n")


def test_a_name_that_is_no_text(replay: Any, clip: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.mkv")
    odd.write_bytes(clip.read_bytes())
    run = replay(odd, "--json")
    assert run.code == 0
    assert run.report["streams"]["caf"]["source"].endswith(r"caf\xe9.mkv")
    assert json.loads((tmp_path / "out" / "report.json").read_bytes()) == run.report
    again = replay(odd, "--json", "--resume").report["streams"]
    assert (list(again), again["caf"]["resumed"]) == (["caf"], True)


def test_a_file_that_fails_is_told_once(replay: Any, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    run = replay("bad.mp4", clip)
    assert run.code == 3
    assert run.err == ""
    assert run.out.count("not a video") == 1
    run = replay("bad.mp4", clip, "--json")
    assert run.err.count("not a video") == 1, "of a report that is not shown the log tells"


def test_where_no_source_is_a_video_no_model_is_loaded(
    replay: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replay(clip).code == 0
    before = set((tmp_path / "out").iterdir())
    monkeypatch.setattr("pipeline.build.detector", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "notes.mp4").write_text("no video")
    run = replay("notes.mp4", "gone.mp4", "--json")
    assert run.code == 1
    states = {name: stream["state"] for name, stream in run.report["streams"].items()}
    assert states == {"notes": "failed", "gone": "failed"}
    assert run.report["startup_s"] == dict.fromkeys(("import", "load", "probe", "warm"), 0.0)
    assert {path.name for path in before - set((tmp_path / "out").iterdir())} == {f"{clip.stem}.jsonl"}, (
        "what an earlier replay wrote there goes, as in any run"
    )
    with pytest.raises(SourceError, match="not a video"):
        list(pipeline.replay([tmp_path / "notes.mp4"]))


def test_a_poison_frame_is_counted_and_said_and_strict_minds(replay: Any, media: Media, tmp_path: Path) -> None:
    from tests.media import encode

    def pictures() -> Any:
        import numpy as np

        for index in range(8):
            planes = [np.full((64, 64), 255 if index == 5 else 60, np.uint8)] + [np.full((32, 32), 128, np.uint8)] * 2
            yield filled(planes, 64, 64, "yuv420p")

    poisoned = encode(tmp_path / "poisoned.mp4", pictures(), full_range=True)
    model = save(RaisesOnWhite(), tmp_path / "fragile.pt", ultralytics_metadata((64, 64), NAMES))
    run = replay(poisoned, model=model)
    assert run.code == 0
    assert "1 frame dropped (inference_error 1)" in run.out
    assert replay(poisoned, "--strict", model=model).code == 1


def test_resume_skips_what_was_finished_and_keeps_its_account(
    replay: Any, clip: Path, cut: Path, tmp_path: Path
) -> None:
    first = replay(clip, cut, "--json").report
    written = (tmp_path / "out" / f"{clip.stem}.jsonl").stat().st_mtime_ns
    run = replay(clip, cut, "--resume", "--json")
    assert run.code == 3
    again = run.report
    assert list(again["streams"]) == list(first["streams"])
    assert again["streams"][clip.stem] == first["streams"][clip.stem] | {"resumed": True}
    assert again["frames"] == first["streams"]["cut"]["frames"]["processed"]
    assert (tmp_path / "out" / f"{clip.stem}.jsonl").stat().st_mtime_ns == written
    third = replay(clip, cut, "--resume")
    assert third.out.splitlines()[1].split()[:3] == [clip.stem, "resumed", "12"]


def test_the_progress_of_a_resumed_replay_counts_what_is_to_do(
    replay: Any, clip: Path, cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.cli.terminal import progress

    counted: list[int] = []
    show = progress.progress

    def noted(ledger: Any, streams: int, **others: Any) -> Any:
        counted.append(streams)
        return show(ledger, streams, **others)

    monkeypatch.setattr(progress, "progress", noted)
    assert [replay(clip, cut).code, replay(clip, cut, "--resume").code] == [3, 3]
    assert counted == [2, 1]


def test_inline_gives_the_same_bytes(replay: Any, clip: Path, media: Media, tmp_path: Path) -> None:
    other = media.clip(count=9, texture=True)
    assert replay(clip, other, out="threads").code == 0
    assert replay(clip, other, "--inline", out="inline").code == 0
    for path in (clip, other):
        threaded = (tmp_path / "threads" / f"{path.stem}.jsonl").read_bytes()
        assert threaded == (tmp_path / "inline" / f"{path.stem}.jsonl").read_bytes()
        assert threaded


def test_options_reach_the_run(replay: Any, clip: Path, tmp_path: Path) -> None:
    config = tmp_path / "streams.yaml"
    config.write_text("defaults: {corrupt: drop}\n")
    run = replay(
        clip, "--config", config, "--limit", 10, "--fps", 5, "--save", "csv,mot,coco", "--conf", "0.25", "--iou", "0.3",
        "--batch", 2, "--parallel", 1, "--precision", "fp32", "--device", "cpu", "--classes", "green", "--json",
    )  # fmt: skip
    assert run.code == 0, run.err
    frames = run.report["streams"][clip.stem]["frames"]
    assert frames["decoded"] == 10
    assert frames["processed"] == 2  # 10 frames at 25 fps, thinned to 5
    assert frames["decimated"] == 8
    assert run.report["model"]["max_batch"] == 2
    assert run.report["model"]["precision"] == "fp32"
    assert set(run.report["sinks"]) == {"csv", "mot", "coco"}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {f"{clip.stem}.csv", f"{clip.stem}.mot.txt", "coco.json", "coco_images.json", "report.json"}
    rows = (tmp_path / "out" / f"{clip.stem}.csv").read_text().splitlines()
    assert rows[0] == "frame,pts,x_min,y_min,x_max,y_max,class_id,label,confidence,tracker_id"
    assert {row.split(",")[7] for row in rows[1:]} <= {"green"}


def test_an_adapter_is_named_on_the_command_line(replay: Any, clip: Path) -> None:
    done = replay(clip, "--adapter", "ultralytics", "--json")
    assert (done.code, done.report["model"]["adapter"]) == (0, "ultralytics")
    refused = replay(clip, "--adapter", "no_such:thing")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "'no_such:thing' cannot be imported" in refused.err


def test_sources_and_options_may_mix(replay: Any, clip: Path, media: Media) -> None:
    other = media.clip(count=9, texture=True)
    run = replay(clip, "--limit", 3, other, "--json")
    assert (run.code, run.report["frames"]) == (0, 6)


def test_a_report_that_cannot_be_written_is_said(
    replay: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(report: Any, folder: Path) -> Path:
        raise SinkError(f"{folder / 'report.json'} cannot be written: no space left on device")

    monkeypatch.setattr("pipeline.report.save_json", full)
    run = replay(clip)
    assert run.code == 1
    assert "out/report.json cannot be written: " in run.err
    assert "12 frames of 1 stream" in run.out


@pytest.mark.parametrize("name", ["{}.jsonl", "report.json", "report.html"])
def test_a_file_of_somebody_else_is_not_replaced(name: str, replay: Any, clip: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / name.format(clip.stem)
    mine.parent.mkdir()
    mine.write_text("mine")
    for option in ("--strict", "--resume") if name != "report.json" else ("--strict",):
        run = replay(clip, option)
        assert (run.code, run.out, mine.read_text()) == (2, "", "mine")
        assert run.err == (
            f"pipeline: out/{mine.name}: already exists and is not from an earlier run here, by its report.json; "
            "it would be replaced: give another --out, or move it away\n"
        )
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]
    mine.unlink()
    assert [replay(clip).code, replay(clip).code, replay(clip, "--resume").code] == [0, 0, 0]
    csv = tmp_path / "out" / f"{clip.stem}.csv"
    csv.write_text("mine")
    assert replay(clip, "--save", "csv").code == 2
    assert csv.read_text() == "mine"


def test_what_a_killed_run_left_is_known_as_its_own(
    replay: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report is there before its first file."""
    seen: list[list[str]] = []
    begin = Replay.begin

    def spied(self: Replay) -> None:
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        seen.append([report["error"], *report["outputs"]])
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json"]
        begin(self)

    monkeypatch.setattr(Replay, "begin", spied)
    assert replay(clip, "--save", "jsonl,csv").code == 0
    assert seen == [["still running", "report.json", f"{clip.stem}.jsonl", f"{clip.stem}.csv"]]


def test_resume_with_fewer_kinds_keeps_the_others_in_the_list(replay: Any, clip: Path, media: Media) -> None:
    other = media.clip(count=9, texture=True)
    replay(clip, "--save", "jsonl,csv")
    run = replay(clip, other, "--resume")
    names = f"{clip.stem}.jsonl, {other.stem}.jsonl, {clip.stem}.csv, report.json, report.html"
    assert run.out.splitlines()[-1] == f"outputs in out/: {names}"
    assert set(replay(clip, "--resume", "--json").report["outputs"]) == set(names.split(", "))


def test_a_stop_while_the_model_warms_leaves_nothing(
    replay: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: object, sizes: object) -> None:
        raise Stopped(2)

    monkeypatch.setattr("pipeline.detectors.engine.TorchScriptDetector.warm", stopped)
    assert replay(clip, "--save", "coco,jsonl").code == 130
    assert not (tmp_path / "out").exists()


@pytest.mark.unbalanced
def test_an_unbalanced_ledger_is_reported_not_hidden(replay: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ledger.Ledger.unbalanced", lambda self: {"a": 1})
    run = replay(clip, "--json")
    assert run.code == 1
    assert "unaccounted" in run.report["error"]


def test_an_empty_name_of_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """As ``--out "$UNSET"`` gives: results would be spilt into the current folder."""
    for command in (["replay", "a.mp4"], ["run", "streams.yaml"]):
        assert main([*command, "--out", ""]) == 2
        assert "--out: expected the name of a folder" in capsys.readouterr().err
