# SPDX-License-Identifier: Apache-2.0
"""CSV, MOTChallenge and COCO, and a function as a sink."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SinkError
from pipeline.frame import Detections, Result, StreamInfo
from pipeline.sinks import CallbackSink, CocoSink, CsvSink, MotSink
from pipeline.sinks.csv_file import HEADER

LABELS = {0: "person", 2: "car, red", 5: "Zug"}
DETECTIONS = Detections(
    np.array([[10.5, 20.25, 30.1, 40.3], [0, 0, 1280, 720]], np.float32),
    np.array([0.913, 0.5], np.float32),
    np.array([0, 2]),
)
TRACKED = Detections(DETECTIONS.xyxy, DETECTIONS.confidence, DETECTIONS.class_id, np.array([7, 12]))


def result(frame: int = 12, detections: Detections = DETECTIONS, stream: str = "plaza") -> Result:
    return Result(stream, frame, frame * 0.04, None, 1280, 720, detections, LABELS)


def test_csv_exactly(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "{stream}.csv")
    sink.open()
    sink.begin(StreamInfo("plaza"))
    sink.write(result(0, TRACKED))
    sink.write(result(1, Detections.empty()))
    sink.write(result(2))
    sink.end("plaza")
    sink.close()
    assert (tmp_path / "plaza.csv").read_text() == (
        "frame,pts,x_min,y_min,x_max,y_max,class_id,label,confidence,tracker_id\n"
        "0,0.0,10.5,20.25,30.1,40.3,0,person,0.913,7\n"
        '0,0.0,0.0,0.0,1280.0,720.0,2,"car, red",0.5,12\n'
        "2,0.08,10.5,20.25,30.1,40.3,0,person,0.913,\n"
        '2,0.08,0.0,0.0,1280.0,720.0,2,"car, red",0.5,\n'
    )


def test_csv_of_a_silent_stream_is_the_header(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "{stream}.csv", mode="append")
    for _ in range(2):
        sink.open()
        sink.begin(StreamInfo("a"))
        sink.close()
    assert (tmp_path / "a.csv").read_bytes() == HEADER


def test_mot_exactly(tmp_path: Path) -> None:
    sink = MotSink(tmp_path / "{stream}.mot.txt")
    sink.open()
    sink.begin(StreamInfo("plaza"))
    sink.begin(StreamInfo("silent"))
    sink.write(result(0, TRACKED))
    sink.write(result(1, Detections.empty()))
    sink.write(result(2))
    sink.end("plaza")
    sink.close()
    assert (tmp_path / "plaza.mot.txt").read_text() == (
        "1,7,10.5,20.25,19.6,20.05,0.913,-1,-1,-1\n"
        "1,12,0.0,0.0,1280.0,720.0,0.5,-1,-1,-1\n"
        "3,-1,10.5,20.25,19.6,20.05,0.913,-1,-1,-1\n"
        "3,-1,0.0,0.0,1280.0,720.0,0.5,-1,-1,-1\n"
    )
    assert (tmp_path / "silent.mot.txt").read_bytes() == b""


def coco_run(folder: Path, order: Sequence[tuple[str, int]], keep: tuple[str, ...] = ()) -> None:
    """Frames in this order; streams begin at their first frame and end after their last one."""
    sink = CocoSink(folder, keep=keep)
    sink.open()
    begun = set()
    left = [stream for stream, _ in order]
    for stream, frame in order:
        if stream not in begun:
            sink.begin(StreamInfo(stream, labels=LABELS))
            begun.add(stream)
        sink.write(result(frame, Detections.empty() if frame % 3 == 1 else DETECTIONS, stream))
        left.remove(stream)
        if stream not in left:
            sink.end(stream)
    sink.close()


def both(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "coco.json").read_bytes(), (folder / "coco_images.json").read_bytes()


FRAMES = list(itertools.product(("b", "a", "c-2"), range(4)))


def test_coco_says_what_was_found_where(tmp_path: Path) -> None:
    coco_run(tmp_path, FRAMES)
    results, images = (json.loads(text) for text in both(tmp_path))
    assert [(image["id"], image["stream"], image["frame"]) for image in images["images"]] == [
        (n + 1, stream, frame) for n, (stream, frame) in enumerate(itertools.product(("a", "b", "c-2"), range(4)))
    ]
    assert images["images"][5] == {
        "id": 6,
        "file_name": "b/000001",
        "width": 1280,
        "height": 720,
        "stream": "b",
        "frame": 1,
        "pts": 0.04,
    }
    assert images["categories"] == [{"id": class_id, "name": name} for class_id, name in LABELS.items()]
    assert results[:2] == [
        {"image_id": 1, "category_id": 0, "bbox": [10.5, 20.25, 19.6, 20.05], "score": 0.913},
        {"image_id": 1, "category_id": 2, "bbox": [0.0, 0.0, 1280.0, 720.0], "score": 0.5},
    ]
    assert [entry["image_id"] for entry in results] == [n for n in range(1, 13) if n % 4 != 2 for _ in range(2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco.json", "coco_images.json"]


@pytest.mark.parametrize("seed", range(5))
def test_coco_does_not_depend_on_which_stream_is_faster(tmp_path: Path, seed: int) -> None:
    coco_run(tmp_path / "in order", FRAMES)
    mixed = [stream for stream, _ in FRAMES]
    random.Random(seed).shuffle(mixed)
    next_frame = dict.fromkeys(mixed, itertools.count()) | {stream: itertools.count() for stream in set(mixed)}
    coco_run(tmp_path / "mixed", [(stream, next(next_frame[stream])) for stream in mixed])
    assert both(tmp_path / "mixed") == both(tmp_path / "in order")


def test_coco_of_nothing_is_valid_and_without_any_stream_no_file(tmp_path: Path) -> None:
    coco_run(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    sink = CocoSink(tmp_path)
    sink.open()
    sink.begin(StreamInfo("silent"))
    sink.end("silent")
    sink.close()
    results, images = (json.loads(text) for text in both(tmp_path))
    assert (results, images) == ([], {"images": [], "annotations": [], "categories": []})


def test_coco_keeps_the_streams_that_a_resumed_run_does_not_see(tmp_path: Path) -> None:
    coco_run(tmp_path / "at once", FRAMES)
    coco_run(tmp_path / "resumed", [each for each in FRAMES if each[0] != "b"] + [("b", 0)])
    coco_run(tmp_path / "resumed", [each for each in FRAMES if each[0] == "b"], keep=("a", "c-2"))
    assert both(tmp_path / "resumed") == both(tmp_path / "at once")


def test_coco_without_keep_replaces(tmp_path: Path) -> None:
    coco_run(tmp_path, FRAMES)
    coco_run(tmp_path, FRAMES[:2])
    assert {image["stream"] for image in json.loads(both(tmp_path)[1])["images"]} == {"b"}


def test_coco_of_somebody_else_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text("[]")
    (tmp_path / "coco_images.json").write_text('{"id": 1\n')
    sink = CocoSink(tmp_path, keep=["a"])
    with pytest.raises(SinkError, match="was not written by this pipeline"):
        sink.open()
    sink.close()
    assert (tmp_path / "coco.json").read_text() == "[]"


def test_coco_of_a_killed_run_leaves_no_trace_in_the_next(tmp_path: Path) -> None:
    killed = CocoSink(tmp_path)
    killed.open()
    killed.write(result(0, stream="gone"))
    coco_run(tmp_path, FRAMES)
    assert "gone" not in both(tmp_path)[1].decode()
    killed.end("gone")


def test_a_function_is_called_with_every_result() -> None:
    seen: list[int] = []
    sink = CallbackSink(lambda each: seen.append(each.frame), name="mine", wants_pictures=True)
    sink.open()
    sink.begin(StreamInfo("a"))
    sink.write(result(3))
    sink.write(result(4))
    sink.end("a")
    sink.close()
    assert (seen, sink.name, sink.wants_pictures) == ([3, 4], "mine", True)


def test_a_function_that_raises_is_a_sink_error() -> None:
    def broken(each: Result) -> None:
        raise KeyError("door")

    with pytest.raises(SinkError, match="callback: plaza frame 12: KeyError: 'door'") as caught:
        CallbackSink(broken).write(result())
    assert isinstance(caught.value.__cause__, KeyError)
