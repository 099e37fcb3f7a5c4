# SPDX-License-Identifier: Apache-2.0
"""Decoding in hardware: asked for and missing, the pictures that hardware decoders give, and, with a GPU, the same."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available

from pipeline.config.streams import StreamSettings
from pipeline.errors import SourceUnavailable
from pipeline.frame import InputSpec
from pipeline.redact import SourceUrl
from pipeline.sources import FileSource, probe
from pipeline.sources.hardware import AGAIN_NS, KINDS, Hardware
from pipeline.sources.libav import open_video
from pipeline.sources.opening import Limits, file_target, url_target
from pipeline.sources.pictures import PictureMaker
from pipeline.stages.letterbox import Letterbox
from tests.media import B_FRAMES, Media, indices, media, play, textured

__all__ = ["media"]

GPU = Hardware().accelerator("cuda") is not None
needs_nvdec = pytest.mark.skipif(not GPU, reason="this machine has no NVDEC")


@pytest.mark.skipif(GPU, reason="this machine has the hardware")
def test_asked_for_and_missing_the_cpu_decodes_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    hardware = Hardware()
    with caplog.at_level(logging.WARNING):
        assert [hardware.accelerator("cuda") for _ in range(50)] == [None] * 50
    assert len(caplog.records) == 1
    assert "hwaccel: cuda is not available here (" in caplog.text
    assert "the CPU decodes" in caplog.text


def test_a_kind_that_pyav_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    missing = next(kind for kind in KINDS if kind not in hwdevices_available())
    with caplog.at_level(logging.WARNING):
        assert Hardware().accelerator(f"{missing}:/dev/dri/renderD129") is None
    assert "this build of PyAV does not know it" in caplog.text


def test_auto_says_nothing_where_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = Hardware().accelerator("auto")
    assert (found is not None) == GPU
    assert not caplog.records


def test_what_was_missing_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    now = [0]
    monkeypatch.setattr("pipeline.sources.hardware.now_ns", lambda: now[0])
    monkeypatch.setattr("pipeline.sources.hardware._tried", lambda word: tries.append(word) or "broken")
    hardware = Hardware()
    hardware.accelerator("cuda:1")
    hardware.accelerator("cuda:1")
    now[0] = AGAIN_NS
    hardware.accelerator("cuda:1")
    assert tries == ["cuda:1"] * 2


def test_a_device_that_fails_at_opening_gives_way_to_the_cpu(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    """There when it was tried, and gone when the stream opens it."""
    target = file_target(media.clip())
    answers = iter(["", "gone"])
    monkeypatch.setattr("pipeline.sources.hardware._tried", lambda word: next(answers))
    monkeypatch.setattr("pipeline.sources.libav.HARDWARE", Hardware())
    real, given = av.open, []

    def failing(*args: object, hwaccel: object = None, **options: object) -> object:
        given.append(hwaccel is not None)
        if hwaccel is not None:
            raise av.error.ExternalError(-542398533, "no decoder surface")
        return real(*args, **options)

    monkeypatch.setattr("av.open", failing)
    opened = open_video(target, Limits(hwaccel="cuda"))
    opened.container.close()
    assert given == [True, False]


def test_what_is_wrong_with_the_source_is_not_blamed_on_the_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.hardware._tried", lambda word: "")
    monkeypatch.setattr("pipeline.sources.libav.HARDWARE", Hardware())
    with pytest.raises(SourceUnavailable, match="not found"):
        open_video(file_target(tmp_path / "none.mp4"), Limits(hwaccel="cuda"))


def test_a_camera_that_is_away_is_no_doubt_of_the_device(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt would try the device again, and say so."""
    tries: list[str] = []
    monkeypatch.setattr("pipeline.sources.hardware._tried", lambda word: tries.append(word) or "")
    hardware = Hardware()
    monkeypatch.setattr("pipeline.sources.libav.HARDWARE", hardware)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    target = url_target(SourceUrl.parse(f"rtsp://127.0.0.1:{port}/gate"), live=True)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            with pytest.raises(SourceUnavailable, match="refused"):
                open_video(target, Limits(hwaccel="cuda"))
        assert tries == ["cuda"]
        assert not hardware.lost("cuda")
    assert tries == ["cuda"] * 2, "what is doubted is tried again"
    assert len(caplog.records) == 1, "and said only where it is not as it was"


def test_the_source_counts_who_decodes(media: Media) -> None:
    source = FileSource(media.clip(count=5), hwaccel="auto")
    _, captures = play(source)
    assert indices(captures) == list(range(5))
    assert source.counters.decoder == ("cuda" if GPU else "cpu")
    assert probe(FileSource(media.clip(count=5))).decoder == "cpu"


@pytest.mark.parametrize("word", ["none", "auto", "cuda", "cuda:1", "vaapi:/dev/dri/renderD129", "videotoolbox"])
def test_words_that_are_taken(word: str) -> None:
    assert StreamSettings(hwaccel=word).hwaccel == word


@pytest.mark.parametrize("word", ["nvdec", "cuda:first", "vaapi:", "auto:1", "none ", "vaapi:/dev/x;y", ""])
def test_words_that_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"expected none, auto|cuda's devices are numbered"):
        StreamSettings(hwaccel=word)


@pytest.mark.parametrize("size", [(64, 48), (66, 50), (63, 49)])
def test_interleaved_chroma_is_the_same_picture(size: tuple[int, int]) -> None:
    """NV12 is what comes back from a device: the planes are those of the same picture in planar form, bit by bit."""
    planar = textured(3, *size)
    rng = np.random.default_rng(0)
    for plane in planar.planes[1:]:
        plane.update(rng.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    interleaved = planar.reformat(format="nv12")
    maker = PictureMaker()
    one, other = maker.make(planar), maker.make(interleaved)
    assert (other.layout, other.matrix, other.full_range) == (one.layout, one.matrix, one.full_range)
    for expected, found in zip(one.planes, other.planes, strict=True):
        np.testing.assert_array_equal(found, expected)
    spec = InputSpec(32, 32)
    inputs = [np.empty(spec.shape, np.uint8) for _ in range(2)]
    for picture, given in zip((one, other), inputs, strict=True):
        Letterbox().prepare(picture, spec, given)
    np.testing.assert_array_equal(*inputs)


@needs_nvdec
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_gpu_decodes_the_same_pictures_in_the_same_order(media: Media, codec: str) -> None:
    options = B_FRAMES if codec == "libx264" else None
    path = media.clip("mkv", count=40, size=(320, 192), texture=True, codec=codec, options=options)
    on_gpu, on_cpu = FileSource(path, hwaccel="cuda"), FileSource(path)
    (_, found), (_, expected) = play(on_gpu), play(on_cpu)
    assert (on_gpu.counters.decoder, on_cpu.counters.decoder) == ("cuda", "cpu")
    assert [one.pts_s for one in found] == [one.pts_s for one in expected]
    assert all(one.decoded_ns >= one.read_ns > 0 for one in found), "packets and frames are matched"
    for one, other in zip(found, expected, strict=True):
        assert (one.picture.matrix, one.picture.full_range) == (other.picture.matrix, other.picture.full_range)
        for mine, theirs in zip(one.picture.planes, other.picture.planes, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@needs_nvdec
def test_what_the_gpu_does_not_decode_the_cpu_does(media: Media) -> None:
    source = FileSource(media.clip("mkv", count=10, pix_fmt="yuv422p"), hwaccel="cuda")
    _, captures = play(source)
    assert indices(captures) == list(range(10))
    assert source.counters.decoder == "cpu"


@needs_nvdec
def test_rotation_and_colours_survive_the_way_back(media: Media) -> None:
    path = media.clip(count=5, size=(320, 192), rotation=-90, matrix="bt709", full_range=True)
    (_, found), (_, expected) = play(FileSource(path, hwaccel="cuda")), play(FileSource(path))
    for one, other in zip(found, expected, strict=True):
        mine, theirs = one.picture, other.picture
        assert (mine.rotation, mine.matrix, mine.full_range) == (theirs.rotation, theirs.matrix, theirs.full_range)
