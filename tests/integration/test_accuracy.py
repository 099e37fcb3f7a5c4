# SPDX-License-Identifier: Apache-2.0
"""The built-in people detector finds the people of sample_videos/, and little else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import CLIPS, detect, every_frame, measure, read
from benchmarks.scoring import Score, Truth, iou, read_truth, score_frame

LEAST = 0.90


@pytest.mark.parametrize(
    ("fps", "least"), [(0.5, 65), pytest.param(None, 3000, marks=(pytest.mark.slow, pytest.mark.timeout(600)))]
)
def test_people_are_found_in_the_sample_videos(fps: float | None, least: int) -> None:
    videos = sorted(CLIPS.glob("*.mp4"))
    truths = {video.stem: read_truth(video.with_suffix(".truth.txt")) for video in videos}
    scores = measure(detect(videos, "builtin:people", fps=fps), truths)
    total = sum(scores.values(), Score())
    assert total.hits + total.misses > least, "too few people looked at to say anything"
    assert total.recall >= LEAST, scores
    assert total.precision >= LEAST, scores


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


def test_overlap_by_hand() -> None:
    # Two 10 x 10 squares that share a 5 x 10 strip: 50 / (100 + 100 - 50).
    overlap = iou(boxes((0, 0, 10, 10)), boxes((5, 0, 15, 10), (20, 0, 30, 10), (0, 0, 10, 10)))
    np.testing.assert_allclose(overlap, [[1 / 3, 0, 1]])


def test_the_surest_detection_takes_the_person_and_the_second_is_false() -> None:
    truth = Truth(boxes((0, 0, 10, 20)), boxes())
    found = boxes((0, 0, 10, 19), (0, 0, 10, 20))
    assert score_frame(found, np.array([0.9, 0.5]), truth) == Score(hits=1, misses=0, false_alarms=1)


def test_ignored_people_count_neither_way() -> None:
    truth = Truth(boxes(), boxes((0, 0, 10, 20)))
    on_it, half_inside, beside = (0, 0, 10, 20), (2, 2, 6, 30), (9, 0, 30, 20)
    found = boxes(on_it, half_inside, beside)
    assert score_frame(found, np.ones(3), truth) == Score(hits=0, misses=0, false_alarms=1)


def test_a_detection_on_nobody_and_a_person_without_one() -> None:
    truth = Truth(boxes((0, 0, 10, 20), (50, 0, 60, 20)), boxes())
    score = score_frame(boxes((0, 1, 10, 21), (100, 0, 110, 20)), np.array([0.4, 0.8]), truth)
    assert score == Score(hits=1, misses=1, false_alarms=1)
    assert (score.recall, score.precision) == (0.5, 0.5)


@pytest.mark.parametrize("kind", ["jsonl", "mot.txt"])
def test_results_on_file_are_scored(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.truth.txt").write_text("1,1,11,21,10,20,1,1,1.0\n2,1,11,21,10,20,1,1,1.0\n2,2,61,21,10,20,0,1,0.3\n")
    seen = '{"box":[10,20,20,40],"confidence":0.9},{"box":[60,20,70,40],"confidence":0.9}'
    text = {
        "jsonl": f'{{"frame":1,"detections":[{seen}]}}\n',
        "mot.txt": "2,-1,11,21,10,20,0.9,-1,-1,-1\n2,-1,61,21,10,20,0.9,-1,-1,-1\n",
    }[kind]
    (tmp_path / f"a.{kind}").write_text(text)
    truths = {"a": read_truth(tmp_path / "a.truth.txt")}
    assert measure(every_frame(read(tmp_path, ["a"]), truths), truths) == {"a": Score(hits=1, misses=1, false_alarms=0)}


def test_a_stream_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"b\.jsonl"):
        list(read(tmp_path, ["b"]))


def test_a_short_line_of_truth_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.truth.txt").write_text("1,1,11,21,10,20,1,1,1.0\n1,2,3\n")
    with pytest.raises(ValueError, match=r"a\.truth\.txt:2: 3 columns"):
        read_truth(tmp_path / "a.truth.txt")
