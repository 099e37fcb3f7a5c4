# SPDX-License-Identifier: Apache-2.0
"""Our files, read back by the libraries that they are meant for."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.frame import Detections, Picture, Result, StreamInfo
from pipeline.sinks import CocoSink, CsvSink, JsonlSink, MotSink, VideoSink

LABELS = {0: "person", 1: "Straßenbahn, grün", 2: "自転車"}
RNG = np.random.default_rng(7)


def detections(n: int) -> Detections:
    corners = np.sort(RNG.uniform(0, 320, (n, 2, 2)), axis=1).transpose(0, 1, 2).reshape(n, 4)
    return Detections(
        corners.astype(np.float32), RNG.uniform(0.1, 1, n).astype(np.float32), np.arange(n) % 3, np.arange(n) + 1
    )


@pytest.fixture(scope="module")
def results() -> list[Result]:
    plane = np.full((240, 320), 90, np.uint8)
    chroma = np.full((120, 160), 128, np.uint8)
    picture = Picture((plane, chroma, chroma), "yuv", "bt601")
    return [Result("cam", n, n / 12.5, None, 320, 240, detections(n % 4), LABELS, picture=picture) for n in range(25)]


@pytest.fixture(scope="module")
def folder(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    for sink in (
        JsonlSink(folder / "{stream}.jsonl"),
        CsvSink(folder / "{stream}.csv"),
        MotSink(folder / "{stream}.mot.txt"),
        CocoSink(folder),
        VideoSink(folder / "{stream}.mp4"),
    ):
        sink.open()
        sink.begin(StreamInfo("cam", 320, 240, fps=12.5, labels=LABELS))
        for result in results:
            sink.write(result)
        sink.end("cam")
        sink.close()
    return folder


def flat(results: list[Result]) -> tuple[np.ndarray, np.ndarray]:
    """All boxes (n, 4) and confidences (n,) in order."""
    boxes = np.concatenate([result.detections.xyxy for result in results])
    return boxes, np.concatenate([result.detections.confidence for result in results])


def test_jsonl_is_strict_json(folder: Path, results: list[Result]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    text = (folder / "cam.jsonl").read_text("utf-8")
    said = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert [each["frame"] for each in said] == list(range(25))
    boxes, confidences = flat(results)
    found = [detection for each in said for detection in each["detections"]]
    np.testing.assert_allclose([each["box"] for each in found], boxes, atol=0.00501)
    np.testing.assert_allclose([each["confidence"] for each in found], confidences, atol=0.0000501)
    assert {each["label"] for each in found} == set(LABELS.values())


def test_csv_by_the_standard_library(folder: Path, results: list[Result]) -> None:
    with (folder / "cam.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    boxes, confidences = flat(results)
    columns = ("x_min", "y_min", "x_max", "y_max")
    np.testing.assert_allclose([[float(row[name]) for name in columns] for row in rows], boxes, atol=0.00501)
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], confidences, atol=0.0000501)
    assert {row["label"] for row in rows} == set(LABELS.values())
    assert [int(row["frame"]) for row in rows] == [n for n in range(25) for _ in range(n % 4)]


def test_mot_by_motmetrics(folder: Path, results: list[Result]) -> None:
    motmetrics = pytest.importorskip("motmetrics")
    table = motmetrics.io.loadtxt(str(folder / "cam.mot.txt"), fmt="mot15-2D")
    boxes, confidences = flat(results)
    # loadtxt makes the top left corner 0-based on its own, as the format's origin is (1, 1): we write source pixels.
    np.testing.assert_allclose(table["X"] + 1, boxes[:, 0], atol=0.00501)
    np.testing.assert_allclose(table["Width"], boxes[:, 2] - boxes[:, 0], atol=0.01001)
    np.testing.assert_allclose(table["Confidence"], confidences, atol=0.0000501)
    frames, ids = zip(*table.index, strict=True)
    assert list(frames) == [n + 1 for n in range(25) for _ in range(n % 4)]
    assert list(ids) == [k + 1 for n in range(25) for k in range(n % 4)]


def test_coco_by_pycocotools(folder: Path, results: list[Result]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        data_set = coco.COCO(str(folder / "coco_images.json"))
        loaded = data_set.loadRes(str(folder / "coco.json"))
    boxes, confidences = flat(results)
    annotations = loaded.loadAnns(sorted(loaded.getAnnIds()))
    got = np.array([annotation["bbox"] for annotation in annotations])
    np.testing.assert_allclose(got[:, :2], boxes[:, :2], atol=0.00501)
    np.testing.assert_allclose(got[:, :2] + got[:, 2:], boxes[:, 2:], atol=0.01501)
    np.testing.assert_allclose([each["score"] for each in annotations], confidences, atol=0.0000501)
    assert {category["name"] for category in loaded.loadCats(loaded.getCatIds())} == set(LABELS.values())
    frames = [data_set.imgs[annotation["image_id"]]["frame"] for annotation in annotations]
    assert frames == [n for n in range(25) for _ in range(n % 4)]


def test_video_by_ffprobe(folder: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_entries", "frame=pts_time"]
    probed = subprocess.run(
        [*command, "-of", "json", folder / "cam.mp4"], capture_output=True, text=True, check=True, timeout=30
    )
    assert probed.stderr == ""
    said = json.loads(probed.stdout)
    (stream,) = said["streams"]
    assert (stream["codec_name"], stream["codec_tag_string"], stream["profile"]) == ("h264", "avc1", "High")
    assert (stream["pix_fmt"], stream["color_range"], stream["color_space"]) == ("yuv420p", "tv", "smpte170m")
    assert (stream["width"], stream["height"], stream["nb_read_frames"]) == (320, 240, "25")
    assert [float(frame["pts_time"]) for frame in said["frames"]] == pytest.approx([n / 12.5 for n in range(25)])
    assert float(stream["duration"]) == pytest.approx(2.0, abs=0.001)
