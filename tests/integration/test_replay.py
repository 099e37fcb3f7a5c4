# SPDX-License-Identifier: Apache-2.0
"""Replay of real clips through a real network: lossless, repeatable to the byte, and resumable."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.bench.material import Material, make
from pipeline.errors import SourceError, UsageError
from pipeline.naming import stream_name
from pipeline.replaying import Replay, ReplayOptions

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
    with pytest.raises(UsageError, match="limit was 3, is None"):
        run(material, tmp_path, resume=True)


def test_resume_trusts_no_run_whose_sink_lost_data(material: tuple[list[Path], Path], tmp_path: Path) -> None:
    first = run(material, tmp_path)
    report = first.ledger.as_dict() | first.facts()
    report["sinks"]["jsonl"]["lost"] = {"write_error": 1}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert run(material, tmp_path, resume=True).resumed == {}


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
            next(pipeline.replay("rtsp://127.0.0.1/x"))


def test_stream_names_are_made_to_fit() -> None:
    taken: set[str] = set()
    names = [stream_name(stem, taken) for stem in ("a b", "a_b", "A_B", "ü", "", "x" * 70, "x" * 80)]
    assert names == ["a_b", "a_b-2", "A_B-3", "stream", "stream-2", "x" * 64, "x" * 62 + "-2"]
