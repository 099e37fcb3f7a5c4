# SPDX-License-Identifier: Apache-2.0
"""The faulty camera when nothing is wrong with it: it sends what the clip holds, evenly, to whoever may look."""

from __future__ import annotations

import itertools
import shutil
import signal
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import orjson
import pytest

from pipeline.errors import SourceUnavailable
from pipeline.frame import Capture
from pipeline.redact import SourceUrl
from pipeline.sources import CameraSource, FileSource
from tests.background import Background, until
from tests.faults.camera import Access, Camera, read_clip, serving
from tests.faults.camera.access import Scheme
from tests.media import B_FRAMES, H264, Media, level_of, luma, media, play

__all__ = ["media"]

GOP_5 = {**H264, "x264-params": "keyint=5:min-keyint=5:scenecut=0:threads=1"}
HEVC_GOP_5 = {"preset": "ultrafast", "x265-params": "keyint=5:min-keyint=5:scenecut=0:qp=8:bframes=0:log-level=none"}
COUNT = 60


def look(url: str, count: int, **options: object) -> list[Capture]:
    source = CameraSource(SourceUrl.parse(url), open_timeout_s=5.0, read_timeout_s=5.0, **options)  # type: ignore[arg-type]
    return play(source, limit=count)[1]


def neighbours(captures: list[Capture]) -> bool:
    """Whether these are frames of a counting clip in their order, from any on, over the end of its loop as well."""
    levels = [level_of(index) for index in range(COUNT)]
    seen = [luma(capture) for capture in captures]
    return any(
        all(abs(levels[(start + place) % COUNT] - level) <= 3 for place, level in enumerate(seen))
        for start in range(COUNT)
    )


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(("codec", "options"), [("libx264", GOP_5), ("libx265", HEVC_GOP_5), ("libx264", B_FRAMES)])
def test_every_frame_of_the_clip_arrives_in_its_order(
    media: Media, transport: str, codec: str, options: dict[str, str]
) -> None:
    clip = read_clip(media.clip("mkv", count=COUNT, codec=codec, options=options))
    with serving(Camera("gate", clip, fps=60)) as cameras:
        captures = look(cameras.url("gate"), 66, transport=transport)
    assert neighbours(captures)
    steps = [b.pts_s - a.pts_s for a, b in itertools.pairwise(captures)]
    assert statistics.median(steps) == pytest.approx(1 / 60, abs=1e-3)


def test_frames_larger_than_a_packet(media: Media) -> None:
    path = media.clip("mkv", count=10, size=(320, 240), texture=True, options=GOP_5)
    clip = read_clip(path)
    assert max(len(unit.payloads) for unit in clip.units) > 10
    reference = {capture.picture.planes[0].tobytes() for capture in play(FileSource(path))[1]}
    with serving(Camera("gate", clip, fps=60)) as cameras:
        captures = look(cameras.url("gate"), 10)
    assert {capture.picture.planes[0].tobytes() for capture in captures} == reference


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_who_may_look(media: Media, scheme: Scheme) -> None:
    clip = read_clip(media.clip("mkv", count=COUNT, options=GOP_5))
    access = Access("viewer", "hunter2", scheme)
    with serving(Camera("gate", clip, fps=60, access=access)) as cameras:
        assert len(look(cameras.url("gate", "viewer:hunter2"), 3)) == 3
        for user_info in ("", "viewer:hunter3", "guest:hunter2"):
            with pytest.raises(SourceUnavailable) as caught:
                look(cameras.url("gate", user_info), 1)
            assert caught.value.cause == "auth"
        access.password = "hunter3"
        assert len(look(cameras.url("gate", "viewer:hunter3"), 3)) == 3
        with pytest.raises(SourceUnavailable) as caught:
            look(cameras.url("yard"), 1)
        assert caught.value.cause == "not_found"


def test_many_cameras_that_are_watched_by_many(media: Media) -> None:
    clip = read_clip(media.clip("mkv", count=COUNT, options=GOP_5))
    sent: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def on_sent(camera: str, frame: int, stamp: int, sent_ns: int) -> None:
        sent[camera].append((stamp, sent_ns))

    with serving(*(Camera(f"cam{index}", clip, fps=20, on_sent=on_sent) for index in range(4))) as cameras:
        watching = [Background(lambda name=name: look(cameras.url(name), 20)) for name in [*cameras.do(list)] * 2]
        for one in watching:
            assert neighbours(one.result())
        until(lambda: cameras.do(lambda each: sum(camera.watched for camera in each.values())) == 0, "goodbye")
        requests = cameras.do(lambda each: list(each["cam0"].requests))
    assert requests.count("PLAY") == 2
    assert requests.count("TEARDOWN") == 2
    for frames in sent.values():
        assert {b - a for (a, _), (b, _) in itertools.pairwise(frames)} == {4500}, "90 kHz at 20 a second"
    # The cameras take turns: no matter when one begins, its neighbour comes a quarter of an interval later.
    phases = [
        statistics.median(at_ns / 1e9 * 20 - stamp / 4500 for stamp, at_ns in sent[name]) for name in sorted(sent)
    ]
    assert [(phase - phases[0]) % 1 for phase in phases[1:]] == pytest.approx([0.25, 0.5, 0.75], abs=0.1)


def test_vanishing_and_coming_back_at_the_same_port(media: Media) -> None:
    clip = read_clip(media.clip("mkv", count=COUNT, options=GOP_5))
    with serving(Camera("gate", clip, fps=60)) as cameras:
        assert look(cameras.url("gate"), 3)
        cameras.vanish()
        with pytest.raises(SourceUnavailable) as caught:
            look(cameras.url("gate"), 3)
        assert caught.value.cause == "refused"
        cameras.come_back()
        assert look(cameras.url("gate"), 3)


def test_a_process_of_its_own(media: Media, tmp_path: Path) -> None:
    clip = media.clip("mkv", count=COUNT, options=GOP_5)
    log = tmp_path / "sent.jsonl"
    command = [
        sys.executable,
        "-m",
        "tests.faults.camera",
        str(clip),
        "--cameras",
        "2",
        "--fps",
        "60",
        "--log",
        str(log),
    ]
    with subprocess.Popen(
        [*command, "--fault", "fin", "--fault", "none", "--after", "5"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        urls = [process.stdout.readline().strip() for _ in range(2)]
        with pytest.raises(SourceUnavailable) as caught:
            look(urls[1], 10)
        assert caught.value.cause == "eof"
        captures = look(urls[1], 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert len(captures) == 10
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    assert {line["camera"] for line in lines} == {"cam1"}
    assert [line["rtp"] for line in lines] == [line["frame"] * 1500 for line in lines]
    assert sorted(line["sent_ns"] for line in lines) == [line["sent_ns"] for line in lines]
    assert sum(capture.read_ns > lines[0]["sent_ns"] for capture in captures) == 10, "the same clock"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the program ffmpeg is not installed")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_another_client_understands_it(media: Media, transport: str) -> None:
    clip = read_clip(media.clip("mkv", count=COUNT, options=GOP_5))
    with serving(Camera("gate", clip, fps=60)) as cameras:
        options = ["-nostdin", "-v", "error", "-rtsp_transport", transport, "-i", cameras.url("gate")]
        command = ["ffmpeg", *options, "-frames:v", "20", "-f", "framemd5", "-"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert not done.stderr.strip()
    assert len([line for line in done.stdout.splitlines() if not line.startswith("#")]) == 20
