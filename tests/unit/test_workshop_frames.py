# SPDX-License-Identifier: Apache-2.0
"""A sample is bounded, evenly spread, and of real frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.frame import Capture, Detections, InputSpec, Item, StreamInfo
from pipeline.sources import FileSource
from pipeline.testing import FakeDetector
from pipeline.threads import StopFlag
from pipeline.workshop import frames
from tests.media import Media, media
from tests.models import save_cells

__all__ = ["media"]


def test_frames_are_evenly_spread(media: Media) -> None:
    found = [capture.index for capture in frames.sample(media.clip(count=25), 5)]
    assert len(found) == 5
    assert found[0] == 0
    assert found[-1] >= 22
    assert max(np.diff(found)) <= 2 * min(np.diff(found))


def test_a_short_video_gives_all_it_has(media: Media) -> None:
    assert [capture.index for capture in frames.sample(media.clip(count=3), 8)] == [0, 1, 2]


def test_of_a_long_video_only_key_frames_are_decoded(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_WHOLE", 10)
    found = frames.sample(media.clip(count=25), 30)
    assert 1 <= len(found) < 25


def test_a_long_video_that_does_not_tell_its_length_is_sampled_to_its_end(
    media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all of it would be decoded, up to a limit, and nothing behind that seen."""

    class Silent(FileSource):
        def open(self, stop: StopFlag) -> StreamInfo:
            return replace(super().open(stop), frames=None, duration_s=None)

    monkeypatch.setattr(frames, "FileSource", Silent)
    monkeypatch.setattr(frames, "_WHOLE", 10)
    short, long = media.clip(count=9), media.clip(count=25, options={"g": "5", "sc_threshold": "0"})
    assert [capture.index for capture in frames.sample(short, 30)] == list(range(9))
    found = frames.sample(long, 30)
    assert (len(found), found[-1].pts_s > 0.5) == (5, True)


def test_inputs_of_a_few_frames_are_in_memory_at_a_time(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    captures = frames.sample(media.clip(count=25), 25)
    detector = FakeDetector(spec=InputSpec(32, 32), max_batch=1)
    whole = frames.detect(detector, frames.items(captures, detector.spec))
    made: list[int] = []

    def counted(part: Sequence[Capture], spec: InputSpec) -> list[Item]:
        made.append(len(part))
        return items(part, spec)

    items = frames.items
    monkeypatch.setattr(frames, "items", counted)
    monkeypatch.setattr(frames, "_CHUNK", 10)
    found = frames.find(detector, captures)
    assert made == [10, 10, 5]
    assert [each.xyxy.tolist() for each in found] == [each.xyxy.tolist() for each in whole]


def test_large_pictures_are_fewer(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_BYTES", 3 * 64 * 48 * 3 // 2)
    assert len(frames.sample(media.clip(count=25), 16)) <= 3


def test_without_a_video_the_pattern_is_used() -> None:
    found = frames.sample(None, 4)
    assert len(found) == 4
    assert (found[0].picture.planes[0] != found[3].picture.planes[0]).any()


@pytest.mark.parametrize(("video", "said"), [("no.mp4", "no such file"), ("rtsp://10.0.0.1/x", "live feed")])
def test_what_cannot_be_sampled_is_refused(video: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        frames.sample(video, 2)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UsageError, match="a video to take frames from was expected"):
        frames.sample(tmp_path / "text.mp4", 2)


def test_a_comparison_of_many_frames_holds_few_inputs(
    media: Media, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pipeline.workshop import compare

    captures = frames.sample(media.clip(count=25), 25)
    most: list[int] = []
    items = frames.items

    def counted(part: Sequence[Capture], spec: InputSpec) -> list[Item]:
        most.append(len(part))
        return items(part, spec)

    monkeypatch.setattr(compare, "items", counted)
    monkeypatch.setattr(frames, "items", counted)
    model = save_cells(tmp_path)
    detectors = [compare.open_detector(str(model), compare.Limits(), "cpu", probe=False) for _ in range(2)]
    compare.compare(*detectors, captures, rounds=3)
    assert max(most) == 16


def test_detections_come_back_in_source_pixels(media: Media) -> None:
    captures = frames.sample(media.clip(count=5), 5)
    detector = FakeDetector(spec=InputSpec(32, 32), max_batch=2)
    found = frames.detect(detector, frames.items(captures, detector.spec), batch=4)
    assert len(found) == 5
    assert detector.sizes == [2, 2, 1]
    # 64 x 48 letterboxed into 32 x 32 is half the size with 4 rows above: the box (8, 8, 24, 24) lies at (16, 8).
    np.testing.assert_allclose(found[0].xyxy, [[16, 8, 48, 40]])


def test_boxes_in_the_padding_have_no_area_in_the_picture_and_go(media: Media) -> None:
    captures = frames.sample(media.clip(count=2), 2)
    padding, picture = [4.0, 0.0, 20.0, 3.0], [8.0, 2.0, 24.0, 24.0]
    both = Detections(np.array([padding, picture], np.float32), np.array([0.9, 0.8], np.float32), np.arange(2))
    detector = FakeDetector(spec=InputSpec(32, 32), find=lambda _: both)
    for found in frames.detect(detector, frames.items(captures, detector.spec)):
        np.testing.assert_allclose(found.xyxy, [[16, 0, 48, 40]])
        assert found.class_id.tolist() == [1]
