# SPDX-License-Identifier: Apache-2.0
"""Replay of real clips through a real network: lossless, repeatable to the byte, and resumable."""

from __future__ import annotations

import dataclasses
import inspect
import io
import itertools
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import pipeline
from pipeline.bench.material import Material, make
from pipeline.errors import ConfigError, ModelLoadError, SourceError, UsageError
from pipeline.replaying import Replay, ReplayOptions
from pipeline.replaying.earlier import clear
from pipeline.sources.naming import stream_name
from tests.models import NAMES, Cells, save, ultralytics_metadata

FRAMES = 23  # not a multiple of the batch size: the tail is padded


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Three clips of moving noise with bright squares, and a MobileNet that finds them."""
    shape = Material(files=3, width=320, height=180, fps=25, seconds=FRAMES / 25, mbit=1.0, input=160)
    return make(shape, tmp_path_factory.mktemp("material"))


def run(material: tuple[list[Path], Path], out: Path | None, **options: Any) -> Replay:
    clips, model = material
    sources = options.pop("sources", [str(clip) for clip in clips])
    replay = Replay(ReplayOptions(sources=tuple(sources), model=str(model), out=out, **options))
    replay.start()
    assert replay.wait(60)
    return replay


def records(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_on_a_gpu_they_are_byte_identical_too(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    ways: list[dict[str, Any]] = [{"inline": True}, {}, {"workers": 2}, {"precision": "fp16"}, {"precision": "fp16"}]
    for number, way in enumerate(ways):
        replay = run(material, tmp_path / str(number), device="cuda", **way)
        assert replay.facts()["model"]["device"] == "cuda:0"
    inline, one, two, half, again = (records(tmp_path / str(number)) for number in range(len(ways)))
    assert len(inline) == 3
    assert inline == one == two
    assert half == again
    run(material, tmp_path / "cpu", device="cpu", batch=8)
    found = [json.loads(line) for line in b"".join(inline.values()).splitlines()]
    expected = [json.loads(line) for line in b"".join(records(tmp_path / "cpu").values()).splitlines()]
    assert sum(len(one["detections"]) for one in expected) > 20
    same = [len(one["detections"]) == len(other["detections"]) for one, other in zip(found, expected, strict=True)]
    assert sum(same) >= 0.95 * len(same)


def test_results_are_byte_identical_whatever_the_threads_did(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    reference: dict[str, bytes] | None = None
    ways = [
        {"inline": True},
        {"workers": 1, "parallel": 1},
        {"workers": 3, "parallel": 2},
        {"workers": 2},
        {"workers": 2},
    ]
    for number, way in enumerate(ways):
        out = tmp_path / str(number)
        run(material, out, **way)
        found = records(out)
        assert len(found) == 3
        assert sum(content.count(b"class_id") for content in found.values()) > 50, "the clips have something to find"
        reference = reference or found
        assert found == reference, f"{way} differs"


def test_another_batch_size_finds_the_same_within_tolerance(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    for batch in (1, 7):
        run(material, tmp_path / str(batch), batch=batch)
    one, seven = records(tmp_path / "1"), records(tmp_path / "7")
    for name in one:
        for ours, theirs in zip(one[name].splitlines(), seven[name].splitlines(), strict=True):
            first, second = json.loads(ours), json.loads(theirs)
            assert [d["class_id"] for d in first["detections"]] == [d["class_id"] for d in second["detections"]]
            for a, b in zip(first["detections"], second["detections"], strict=True):
                assert a["box"] == pytest.approx(b["box"], abs=0.02)
                assert a["confidence"] == pytest.approx(b["confidence"], abs=2e-3)


def test_every_line_has_exactly_the_keys_of_the_contract(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    run(material, tmp_path)
    for content in records(tmp_path).values():
        lines = [json.loads(line) for line in content.splitlines()]
        assert [line["frame"] for line in lines] == list(range(FRAMES))
        assert [line["pts"] for line in lines] == [round(index / 25, 6) for index in range(FRAMES)]
        for line in lines:
            assert list(line) == ["stream", "frame", "pts", "time", "width", "height", "detections"]
            assert line["time"] is None
            for found in line["detections"]:
                assert list(found) == ["class_id", "label", "confidence", "box", "track_id"]
                left, top, right, bottom = found["box"]
                assert 0 <= left < right <= 320
                assert 0 <= top < bottom <= 180
                assert found["label"] == ("left" if found["class_id"] == 0 else "right")


def test_the_accounts_balance_and_the_batches_are_full(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    replay = run(material, tmp_path, fps=5, limit=20, batch=4)
    report = replay.ledger.as_dict()
    for stream in report["streams"].values():
        frames = stream["frames"]
        assert (frames["decoded"], frames["processed"], frames["decimated"]) == (20, 4, 16)
        assert stream["state"] == "finished"
    assert report["batches"]["sizes"] == {"4": 3}
    assert report["sinks"]["jsonl"] == {
        "received": 12,
        "written": 12,
        "lost": {},
        "events": {"received": 0, "written": 0, "lost": 0},
        "faults": 0,
        "state": "ok",
        "error": None,
    }


def test_one_missing_file_among_good_ones(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    clips, _ = material
    replay = run(material, tmp_path, sources=[str(clips[0]), str(tmp_path / "gone.mp4"), str(clips[1])])
    states = {name: account.state for name, account in replay.ledger.streams.items()}
    assert sorted(states.values()) == ["failed", "finished", "finished"]
    assert states["gone"] == "failed"
    assert "gone.mp4" in str(replay.ledger.streams["gone"].error)


def test_resume_skips_what_is_finished(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    clips, _ = material
    first = run(material, tmp_path)
    before = records(tmp_path)
    report = first.ledger.as_dict() | first.facts()
    report["streams"][clips[1].stem]["state"] = "stopped"
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / f"{clips[1].stem}.jsonl").write_bytes(b'{"stream":"half a line')
    again = run(material, tmp_path, resume=True)
    assert list(again.ledger.streams) == [clips[1].stem]
    assert set(again.resumed) == {clips[0].stem, clips[2].stem}
    assert records(tmp_path) == before


def test_resume_knows_recordings_by_their_path_not_their_name(
    material: tuple[list[Path], Path], tmp_path: Path
) -> None:
    clips, _ = material
    folders = [tmp_path / name for name in ("cam0", "cam1", "cam2")]
    for folder, clip in zip(folders, clips, strict=True):
        folder.mkdir()
        (folder / "001.mp4").symlink_to(clip)
    out = tmp_path / "out"
    first = run(material, out, sources=[str(folder / "001.mp4") for folder in folders[1:]])
    (out / "report.json").write_text(json.dumps(first.ledger.as_dict() | first.facts()))
    before = records(out)
    again = run(material, out, sources=[str(folder / "001.mp4") for folder in folders], resume=True)
    assert set(again.resumed) == {"001", "001-2"}
    assert {name: account.source for name, account in again.ledger.streams.items()} == {
        "001-3": str(folders[0] / "001.mp4")
    }
    assert before.items() <= records(out).items()


def test_resume_refuses_other_options(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    first = run(material, tmp_path, limit=3)
    (tmp_path / "report.json").write_text(json.dumps(first.ledger.as_dict() | first.facts()))
    with pytest.raises(UsageError, match="limit was 3, is the default"):
        run(material, tmp_path, resume=True)


def test_resume_trusts_no_run_whose_sink_lost_data(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    first = run(material, tmp_path)
    report = first.ledger.as_dict() | first.facts()
    report["sinks"]["jsonl"]["lost"] = {"write_error": 1}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert run(material, tmp_path, resume=True).resumed == {}


def finish(replay: Replay, out: Path) -> None:
    """Leave the report that the command leaves."""
    facts = replay.facts(("report.json", "report.html"))
    (out / "report.json").write_text(json.dumps(replay.ledger.as_dict() | facts))
    (out / "report.html").write_text("<!doctype html>")


class TestReusedFolder:
    def test_what_the_earlier_run_wrote_goes_and_nothing_else(
        self, material: tuple[list[Path], Path], tmp_path: Path
    ) -> None:
        clips, _ = material
        out = tmp_path / "out"
        first = run(material, out, limit=3, save=("jsonl", "csv", "coco", "video"))
        wrote = {path.name for path in out.iterdir()}
        finish(first, out)
        assert set(first.facts()["outputs"]) == wrote
        mine = ["notes.csv", f"{clips[0].stem}.mot.txt", f"{clips[1].stem}.2.mp4.bak"]
        for name in mine:
            (out / name).write_text("mine")
        run(material, out, limit=3, sources=[str(clips[0])])
        assert {path.name for path in out.iterdir()} == {f"{clips[0].stem}.jsonl", *mine}

    def test_only_streams_that_were_begun_are_recorded(self, material: tuple[list[Path], Path], tmp_path: Path) -> None:
        clips, _ = material
        (tmp_path / "gone.jsonl").write_text("of somebody else")
        replay = run(material, tmp_path, limit=3, sources=[str(clips[0]), str(tmp_path / "gone.mp4")])
        assert replay.facts(("report.json",))["outputs"] == [f"{clips[0].stem}.jsonl", "report.json"]

    @pytest.mark.parametrize(
        "report",
        [
            None,
            "not JSON",
            "[1]",
            '{"command":"run","outputs":["keep.csv"]}',
            '{"command":"replay"}',
            '{"command":"replay","outputs":"keep.csv"}',
            '{"command":"replay","outputs":["../keep.csv","folder","link.csv",7,"","."]}',
        ],
    )
    def test_a_folder_without_our_record_is_left_alone(self, report: str | None, tmp_path: Path) -> None:
        out = tmp_path / "out"
        (out / "folder").mkdir(parents=True)
        for path in (tmp_path / "keep.csv", out / "keep.csv", out / "target"):
            path.write_text("mine")
        (out / "link.csv").symlink_to(out / "target")
        if report is not None:
            (out / "report.json").write_text(report)
        before = sorted(tmp_path.rglob("*"))
        clear(out, [])
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_refused_run_removes_nothing(self, material: tuple[list[Path], Path], tmp_path: Path) -> None:
        out = tmp_path / "out"
        finish(run(material, out, limit=3), out)
        before = sorted(out.iterdir())
        (tmp_path / "bad.pt").write_bytes(b"not a model")
        with pytest.raises(ModelLoadError):
            Replay(ReplayOptions(sources=(str(material[0][0]),), model=str(tmp_path / "bad.pt"), out=out)).start()
        assert sorted(out.iterdir()) == before

    def test_resume_keeps_the_record_of_what_it_does_not_write(
        self, material: tuple[list[Path], Path], tmp_path: Path
    ) -> None:
        finish(run(material, tmp_path, limit=3, save=("jsonl", "csv")), tmp_path)
        again = run(material, tmp_path, limit=3, resume=True)
        assert len(again.resumed) == 3
        finish(again, tmp_path)
        run(material, tmp_path, limit=3, save=("mot",))
        assert {path.suffix for path in tmp_path.iterdir()} == {".txt"}

    def test_a_source_in_the_folder_is_not_written_over(
        self, material: tuple[list[Path], Path], tmp_path: Path
    ) -> None:
        clips, model = material
        inside = tmp_path / "cam.mp4"
        inside.write_bytes(clips[0].read_bytes())
        (tmp_path / "cam.2.mp4").write_bytes(clips[0].read_bytes())
        for sources in ([inside], [inside.with_name("cam.2.mp4"), tmp_path.parent / tmp_path.name / "cam.mp4"]):
            with pytest.raises(UsageError, match=r"would be written over this source; give another --out"):
                Replay(ReplayOptions(sources=tuple(map(str, sources)), model=str(model), out=tmp_path, save=("video",)))
        replay = run(material, tmp_path, sources=[str(inside)], limit=3)
        finish(replay, tmp_path)
        report = json.loads((tmp_path / "report.json").read_text())
        report["outputs"].append("cam.mp4")
        (tmp_path / "report.json").write_text(json.dumps(report))
        run(material, tmp_path, sources=[str(inside)], limit=3)
        assert inside.read_bytes() == clips[0].read_bytes()


class TestPython:
    def test_results_come_as_objects(self, material: tuple[list[Path], Path]) -> None:
        clips, model = material
        seen: dict[str, list[int]] = {}
        for r in pipeline.replay(clips, model=str(model)):
            seen.setdefault(r.stream, []).append(r.frame)
            assert r.detections.xyxy.shape == (len(r.detections), 4)
            assert r.detections.confidence.shape == r.detections.class_id.shape
        assert seen == {clip.stem: list(range(FRAMES)) for clip in clips}

    def test_closing_early_ends_everything(self, material: tuple[list[Path], Path]) -> None:
        import threading

        clips, model = material
        before = threading.active_count()
        results = pipeline.replay(clips, model=str(model))
        assert len(list(itertools.islice(results, 3))) == 3
        results.close()  # type: ignore[attr-defined]
        assert threading.active_count() == before

    def test_a_failed_stream_raises_after_the_others(self, material: tuple[list[Path], Path], tmp_path: Path) -> None:
        clips, model = material
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(bytes(1000))
        count = 0
        with pytest.raises(SourceError, match=r"bad: .*bad\.mp4"):  # noqa: PT012 - what came before the error counts
            for _ in pipeline.replay([clips[0], bad], model=str(model)):
                count += 1
        assert count == FRAMES

    def test_a_live_feed_cannot_be_replayed(self) -> None:
        with pytest.raises(UsageError, match="live feed"):
            pipeline.replay("rtsp://127.0.0.1/x")

    @pytest.mark.parametrize(
        ("options", "lines"),
        [
            ({"conf": 0.5}, ["a replay has no option 'conf'; did you mean 'confidence'?"]),
            ({"limt": 5}, ["a replay has no option 'limt'; did you mean 'limit'?"]),
            ({"confidence": 1.5}, ["confidence: expected a number at most 1, found 1.5"]),
            ({"iou": "0.5"}, ["iou: expected a number, found text; a number stands without quotes"]),
            ({"limit": 0}, ["limit: expected a whole number from 1, found 0"]),
            ({"workers": True}, ["workers: expected a whole number from 1, found a truth value (YAML"]),
            ({"save": "jsno"}, ["save: expected jsonl, csv, mot, coco or video, found 'jsno'; did you mean 'jsonl'?"]),
            (
                {"pace": "realtme", "fps": -1},
                ["pace: expected asap or realtime; did", "fps: expected a number above 0"],
            ),
            ({"model": "builtin:peolpe"}, ["model: no built-in model has this name; did you mean 'builtin:people'?"]),
            ({"model": "builtin:x"}, ["model: no built-in model has this name; there is builtin:people"]),
        ],
    )
    def test_wrong_options_are_refused_at_once_in_our_words(
        self, options: dict[str, Any], lines: list[str], material: tuple[list[Path], Path]
    ) -> None:
        with pytest.raises((UsageError, ConfigError)) as refused:
            pipeline.replay(material[0], **options)
        said = str(refused.value).splitlines()
        assert len(said) == len(lines)
        assert all(line.startswith(expected) for line, expected in zip(said, lines, strict=True)), said

    def test_options_come_as_python_has_them(self, material: tuple[list[Path], Path], tmp_path: Path) -> None:
        clips, model = material
        found = list(
            pipeline.replay(clips[:1], model=model, classes=[1], confidence=0, save="csv", out=str(tmp_path), limit=5)
        )
        assert [r.frame for r in found] == list(range(5))
        assert {class_id for r in found for class_id in r.detections.class_id} == {1}
        assert (tmp_path / f"{clips[0].stem}.csv").exists()

    def test_every_option_is_explained(self) -> None:
        text = inspect.getdoc(ReplayOptions) or ""
        missing = [field.name for field in dataclasses.fields(ReplayOptions) if f"\n    {field.name}: " not in text]
        assert missing == []


def test_stream_names_are_made_to_fit() -> None:
    taken: set[str] = set()
    names = [stream_name(stem, taken) for stem in ("a b", "a_b", "A_B", "ü", "", "x" * 70, "x" * 80)]
    assert names == ["a_b", "a_b-2", "A_B-3", "stream", "stream-2", "x" * 64, "x" * 62 + "-2"]


@pytest.mark.parametrize("inline", [True, False])
def test_a_stop_before_the_start_opens_nothing(material: tuple[list[Path], Path], tmp_path: Path, inline: bool) -> None:
    clips, model = material
    replay = Replay(ReplayOptions(sources=tuple(map(str, clips)), model=str(model), out=tmp_path, inline=inline))
    replay.stop()
    replay.start()
    assert replay.wait(60)
    assert [account.state for account in replay.ledger.streams.values()] == ["stopped"] * 3
    assert records(tmp_path) == {}


def test_pictures_that_change_size_in_mid_stream_are_replayed_inline_too(tmp_path: Path) -> None:
    """Three pictures of one shape, then many of another: neither fills a batch when the lane is full."""
    clip, model = tmp_path / "change.h264", tmp_path / "cells.pt"
    clip.write_bytes(b"".join(_annexb(*size, count) for size, count in (((64, 36), 3), ((64, 48), 12))))
    save(Cells(), model, ultralytics_metadata((128, 128), NAMES, dynamic=True))
    written = []
    for inline in (True, False):
        run = Replay(ReplayOptions(sources=(str(clip),), model=str(model), out=tmp_path / str(inline), inline=inline))
        run.start()
        while not run.wait(10.0):
            pass
        written.append((tmp_path / str(inline) / "change.jsonl").read_bytes())
    assert len(written[0].splitlines()) == 15
    assert written[0] == written[1]


def _annexb(width: int, height: int, count: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            picture = np.full((height, width, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
