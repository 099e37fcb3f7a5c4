# SPDX-License-Identifier: Apache-2.0
"""What a daemon's files may come to: limits, and the warnings where there is none or the disk is smaller."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import build
from pipeline.config import Config, growth_warnings, parse_config
from pipeline.config.rotation import VideoRotateConfig
from pipeline.errors import ConfigError
from pipeline.sinks.segments import Segments

CAMERA = "{name: gate, source: 'rtsp://10.0.0.5/1'}"


def warnings(streams: str, sinks: str) -> list[str]:
    loaded = parse_config(f"streams: [{streams}]\nsinks: [{sinks}]\n".encode(), file="s.yaml")
    return [str(warning) for warning in growth_warnings(loaded.config, loaded.document)]


def video(rotate: str = "") -> VideoRotateConfig | None:
    given = f", rotate: {rotate}" if rotate else ""
    loaded = parse_config(f"streams: [{CAMERA}]\nsinks: [{{type: video, path: 'v/{{stream}}.mp4'{given}}}]\n".encode())
    found: VideoRotateConfig | None = loaded.config.sinks[0].rotate  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize(
    ("rotate", "segments"),
    [
        ("", Segments(3600.0, None, None, 10_000_000_000)),
        ("{segment_s: 60}", Segments(60.0, None, None, 10_000_000_000)),
        ("{keep: 3}", Segments(3600.0, 3, None, None)),
        ("{keep_days: 30}", Segments(3600.0, None, 30.0, None)),
        ("{keep_days: 30, max_gb: 250}", Segments(3600.0, None, 30.0, 250_000_000_000)),
        ("{max_total_gb: 450}", Segments(3600.0, None, None, None, 450_000_000_000)),
        ("{max_total_gb: 450, max_gb: 10}", Segments(3600.0, None, None, 10_000_000_000, 450_000_000_000)),
    ],
)
def test_video_is_bounded_unless_told_otherwise(
    rotate: str, segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Segments | None] = []
    monkeypatch.setattr("pipeline.build.outputs.VideoSink", lambda path, **options: made.append(options["rotate"]))
    sinks = parse_config(
        f"streams: [{CAMERA}]\nsinks: [{{type: video, path: a{', rotate: ' * bool(rotate)}{rotate}}}]\n".encode()
    ).config.sinks
    build.sinks(sinks, "run")
    assert made == [segments]


def test_false_switches_it_off() -> None:
    assert video("false") is None


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ("type: mot, path: '{stream}.txt'", "mot is a format for recordings"),
        ("type: coco, path: out", "coco is a format for recordings"),
        ("type: jsonl, path: '{stream}.j', rotate: false", "jsonl has rotate: false"),
        ("type: csv, path: '{stream}.c', rotate: false", "csv has rotate: false"),
        ("type: video, path: '{stream}.mp4', rotate: false", "video has rotate: false"),
    ],
)
def test_a_sink_that_is_not_bounded_is_told_once(sink: str, said: str) -> None:
    cameras = CAMERA + ", {name: lobby, source: 'rtsp://10.0.0.6/1'}"
    (only,) = warnings(cameras, "{type: jsonl, path: 'x/{stream}'}, {" + sink + "}")
    assert re.fullmatch(rf"s\.yaml:2:\d+: sinks\[1\]: {said}: with gate it grows without bound", only)


@pytest.mark.parametrize(
    ("stream", "endless"),
    [
        (CAMERA, True),
        ("{name: a, source: 'v4l2:/dev/video0'}", True),
        ("{name: a, source: a.mp4, loop: true}", True),
        ("{name: a, source: a.mp4}", False),
        ("{name: a, source: 'pattern:?frames=40'}", False),
        ("{name: a, source: 'rtsp://10.0.0.5/1', enabled: false}", False),
    ],
)
def test_what_ends_may_have_any_sink(stream: str, endless: bool) -> None:
    assert bool(warnings(stream, "{type: mot, path: a.txt}")) == endless


def free_gb(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    disk = SimpleNamespace(f_blocks=99_000, f_bavail=free * 1000, f_frsize=1_000_000)
    monkeypatch.setattr(os, "statvfs", lambda folder: disk)


def test_usual_sinks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    free_gb(monkeypatch, 12)
    sinks = "{type: jsonl, path: 'a/{stream}'}, {type: csv, path: 'b/{stream}'}, {type: video, path: 'c/{stream}'}"
    assert warnings(CAMERA, sinks) == []


def test_limits_that_a_disk_cannot_hold_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    free_gb(monkeypatch, 25)
    cameras = ", ".join(f"{{name: c{n}, source: 'rtsp://10.0.0.{n}/1'}}" for n in range(3))
    jsonl, one = "{type: jsonl, path: '/{stream}.jsonl'}", "{type: video, path: '/{stream}.mp4', rotate: {max_gb: 7}}"
    assert warnings(cameras, f"{jsonl}, {one}") == [], "3 x (7 + 0.6) GB fit"
    assert warnings(cameras, f"{jsonl}, {one.replace('7', '8')}") == [
        "s.yaml:2:8: sinks: the files of 3 streams may grow to 25.8 GB, the disk of / has room for 25, "
        "of which they take 0 now: lower max_mb or set max_total_gb"
    ]
    assert warnings(cameras, one.replace("{max_gb: 7}", "{keep: 10}")) == [], "nobody knows what ten segments take"


def test_what_all_streams_may_take_bounds_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred cameras of 10 GB each, and a disk of 500."""
    free_gb(monkeypatch, 500)
    cameras = ", ".join(f"{{name: c{n}, source: 'rtsp://10.0.0.{n}/1'}}" for n in range(100))
    sink = "{{type: video, path: '/{{stream}}.mp4'{}}}"
    assert warnings(cameras, sink.format("")) == [
        "s.yaml:2:8: sinks: the files of 100 streams may grow to 1,000 GB, the disk of / has room for 500, of which "
        "they take 0 now: set max_total_gb"
    ]
    assert warnings(cameras, sink.format(", rotate: {max_total_gb: 450}")) == []
    assert warnings(cameras, sink.format(", rotate: {max_gb: 4, max_total_gb: 2000}")) == [], "the smaller of the two"
    (over,) = warnings(cameras, sink.format(", rotate: {max_total_gb: 600}"))
    assert over.endswith(
        "may grow to 600 GB, the disk of / has room for 500, of which they take 0 now: lower max_total_gb"
    )


def test_what_is_there_already_is_room_that_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full archive is no reason for a warning at each start."""
    free_gb(monkeypatch, 1)
    (tmp_path / "gate.mp4").write_bytes(b"a part of another mode, which does not count")
    segment = tmp_path / "gate.2026-11-28T13-03-56Z.17.mp4"
    with open(segment, "wb") as file:
        file.truncate(3_500_000_000)  # a hole: it takes nothing
    video = "{{type: video, path: '{}/{{stream}}.mp4', rotate: {{max_gb: {}}}}}"
    assert warnings(CAMERA, video.format(tmp_path, 4.4)) == []
    (over,) = warnings(CAMERA, video.format(tmp_path, 4.6))
    assert over.endswith(f"the disk of {tmp_path} has room for 4.5, of which they take 3.5 now: set max_total_gb")


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        ("out/{stream}.mp4", "out/small-{stream}.mp4", True),
        ("out/{stream}/a.mp4", "out/all/{stream}.mp4", True),
        ("out/{stream}.mp4", "small/{stream}.mp4", False),
        ("out/{stream}.mp4", "out/small/{stream}.mp4", False),
    ],
)
def test_a_sink_with_a_total_does_not_take_the_segments_of_another(one: str, other: str, refused: bool) -> None:
    """With out/{stream}.mp4, small-gate may be a stream of its own, or the gate of the other sink."""
    text = f"streams: [{CAMERA}]\nsinks: [{{type: video, path: '{one}'%s}}, {{type: video, path: '{other}'%s}}]\n"
    total = ", rotate: {max_total_gb: 5}"
    for given in ((total, ""), ("", total), (total, total)):
        if refused:
            with pytest.raises(ConfigError, match=r"max_total_gb needs a folder of its own, and sinks\[0\] may write"):
                parse_config((text % given).encode())
        else:
            parse_config((text % given).encode())
    parse_config((text % ("", "")).encode())


def test_python_is_told_the_same() -> None:
    with pytest.raises(ValueError, match="less than one segment"):
        VideoRotateConfig(segment_s=86_401, keep_days=1)
    assert Config(sinks=({"type": "video", "path": "a"},)).sinks[0].rotate == VideoRotateConfig()  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        parse_config(b"streams: [{name: a, source: a}]\nsinks: [{type: video, path: a, rotate: {keep: 0}}]\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_may_not_be_looked_at_is_no_fault_here(tmp_path: Path) -> None:
    """The sink says so when it opens."""
    (tmp_path / "secret").mkdir(mode=0o700)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.seteuid(65534)
            found = warnings(CAMERA, f"{{type: video, path: '{tmp_path}/secret/deep/{{stream}}.mp4'}}")
            status = 0 if found == [] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
