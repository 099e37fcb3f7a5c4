# SPDX-License-Identifier: Apache-2.0
"""RTSP as GStreamer's server speaks it, over loopback: both transports, logins, a restart, and the whole pipeline."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline import build
from pipeline.cli import main
from pipeline.config import StreamConfig
from pipeline.errors import SourceUnavailable
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions
from pipeline.frame import Capture, Result
from pipeline.redact import SourceUrl
from pipeline.sources import AutoSkip, CameraSource, Reconnecting, auto_skip, probe
from pipeline.testing import FakeDetector, ListSink
from pipeline.threads import StopFlag
from tests.media import Media, indices, level_of, luma, media, play
from tests.models import Cells, save

__all__ = ["media"]

PYTHON = "/usr/bin/python3"
"""The one that the system's GStreamer belongs to."""
SERVER = Path(__file__).parents[1] / "rtsp_server.py"
NEEDED = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(map(Gst.ElementFactory.find, ("matroskademux", "h264parse", "rtph264pay", "h265parse", "rtph265pay")))
"""
PASSWORD = "p@ss:w/rd %41?#&"  # every character that means something in a URL
GOP_OF_A_SECOND = {"preset": "ultrafast", "qp": "8", "tune": "zerolatency", "x264-params": "keyint=25:scenecut=0"}

Serve = Callable[..., tuple[subprocess.Popen[str], int]]


@contextmanager
def serving() -> Iterator[Serve]:
    servers: list[subprocess.Popen[str]] = []

    def serve(clip: Path, port: int = 0, *login: str) -> tuple[subprocess.Popen[str], int]:
        server = subprocess.Popen(
            [PYTHON, str(SERVER), str(clip), str(port), *login],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        servers.append(server)
        assert server.stdout is not None
        assert server.stderr is not None
        line = server.stdout.readline()
        assert line, server.stderr.read()
        return server, int(line)

    try:
        yield serve
    finally:
        for server in servers:
            server.kill()
            server.communicate()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server: ``serve(clip, port=0, *login) -> (process, port)``."""
    with serving() as start:
        yield start


@pytest.fixture(scope="module", autouse=True)
def gstreamer() -> None:
    found = shutil.which(PYTHON) and subprocess.run([PYTHON, "-c", NEEDED], capture_output=True, check=False)
    if not found or found.returncode:
        pytest.skip("needs Debian's gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good, -bad and python3-gi")


@pytest.fixture(scope="module")
def clip(media: Media) -> Path:
    return media.clip("mkv", count=1000, options=GOP_OF_A_SECOND)


@pytest.fixture(scope="module")
def open_door(clip: Path, gstreamer: None) -> Iterator[str]:
    """A camera that lets everybody in."""
    with serving() as start:
        yield f"rtsp://127.0.0.1:{start(clip)[1]}/stream"


def camera(url: str, **options: object) -> CameraSource:
    return CameraSource(SourceUrl.parse(url), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_every_frame_arrives(serve: Serve, clip: Path, transport: str) -> None:
    source = camera(f"rtsp://127.0.0.1:{serve(clip)[1]}/stream", transport=transport)
    info, captures = play(source, limit=40)
    assert (info.live, info.codec, info.width, info.height) == (True, "h264", 64, 48)
    assert indices(captures) == list(range(40))
    gaps = [after.pts_s - before.pts_s for before, after in itertools.pairwise(captures)]
    assert gaps == pytest.approx([0.04] * 39, abs=0.001)
    assert source.counters.decode_errors == 0
    walls = [capture.wall_ns for capture in captures if capture.wall_ns is not None]
    assert len(walls) == 40
    assert walls == sorted(walls)


@pytest.mark.parametrize(
    ("codec", "transport", "options"),
    [
        ("libx264", "tcp", {"preset": "ultrafast", "crf": "25", "x264-params": "keyint=20:bframes=0:slices=1"}),
        ("libx264", "udp", {"preset": "veryfast", "crf": "25", "x264-params": "keyint=20:bframes=2:slices=3"}),
        ("libx265", "tcp", {"preset": "ultrafast", "crf": "25", "x265-params": "keyint=20:log-level=none"}),
    ],
)
def test_the_same_pictures_with_and_without_libavs_parser(
    serve: Serve, media: Media, tmp_path: Path, codec: str, transport: str, options: dict[str, str]
) -> None:
    """The same pictures at the same times, from plays of the same clip; the first stamp differs by rounding."""
    timing = {"rate": 50, "time_base": Fraction(1, 50)}
    made = media.clip("mkv", size=(320, 180), count=100, texture=True, codec=codec, options=options, **timing)
    clip = made.rename(tmp_path / "clip.hevc.mkv") if codec == "libx265" else made
    url = f"rtsp://127.0.0.1:{serve(clip)[1]}/stream"

    def seen(parser: str) -> list[tuple[int, float, bool]]:
        source = camera(url, transport=transport, parser=parser)
        info, captures = play(source, limit=80)
        assert (info.width, info.height) == (320, 180)
        assert source.counters.decode_errors == 0
        return [(checksum(capture), capture.pts_s, capture.corrupt) for capture in captures]

    with ThreadPoolExecutor(2) as pool:
        ours, libavs = pool.map(seen, ("auto", "libav"))
    assert [picture for picture, _, _ in ours] == [picture for picture, _, _ in libavs]
    assert len({picture for picture, _, _ in ours}) == 80
    assert [pts for _, pts, _ in ours] == pytest.approx([pts for _, pts, _ in libavs], abs=0.001)
    assert not any(corrupt for _, _, corrupt in ours + libavs)


def checksum(capture: Capture) -> int:
    return zlib.crc32(b"".join(plane.tobytes() for plane in capture.picture.planes))


@pytest.mark.parametrize("method", ["basic", "digest"])
def test_logins(serve: Serve, clip: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password from the environment may hold any character; the wrong one is told as such, and shown nowhere."""
    url = f"rtsp://127.0.0.1:{serve(clip, 0, 'me@home', PASSWORD, method)[1]}/stream"
    monkeypatch.setenv("GATE_PASSWORD", PASSWORD)
    entry = {"name": "gate", "source": url, "username": "me@home", "password_env": "GATE_PASSWORD"}
    _, captures = play(build.glance(StreamConfig.model_validate(entry)), limit=3)
    assert len(captures) == 3
    monkeypatch.setenv("GATE_PASSWORD", "Wr0ng:" + PASSWORD)
    for wrong in (entry, {"name": "gate", "source": url}):
        with pytest.raises(SourceUnavailable, match="authentication failed") as error:
            play(build.glance(StreamConfig.model_validate(wrong)))
        assert error.value.cause == "auth"
        assert "Wr0ng" not in str(error.value)


def test_what_is_not_there(open_door: str) -> None:
    with pytest.raises(SourceUnavailable) as error:
        play(camera(open_door + "s"))
    assert error.value.cause == "not_found"


def test_probing(open_door: str) -> None:
    found = probe(camera(open_door), seconds=1.2)
    assert (found.live, found.codec, found.container) == (True, "h264", "rtsp")
    assert found.measured_fps == pytest.approx(25, abs=0.1)
    assert found.gop_max == 25
    assert found.error is None


def test_a_server_that_is_killed_and_comes_back(serve: Serve, clip: Path) -> None:
    server, port = serve(clip)
    states: list[str] = []
    source = Reconnecting(
        lambda: camera(f"rtsp://127.0.0.1:{port}/stream"),
        on_state=lambda said: states.append(said.state),
        first_backoff_s=0.05,
    )
    captures: list[Capture] = []
    source.open(StopFlag())
    try:
        for number in range(20):
            if number == 10:
                server.kill()
                server.wait()
                serve(clip, port)
            capture = source.read()
            assert capture is not None
            captures.append(capture)
    finally:
        source.close()
    assert [capture.index for capture in captures] == list(range(20))
    epochs = [capture.epoch for capture in captures]
    assert (epochs[9], epochs[-1]) == (0, 1), "one more may have been on its way"
    assert epochs == sorted(epochs)
    assert captures == sorted(captures, key=lambda capture: capture.pts_s)
    assert source.counters.reconnects == 1
    assert states[0] == "connecting"
    assert states[-1] == "live"
    assert "backoff" in states


def test_key_frames_only_come_at_once(serve: Serve, clip: Path) -> None:
    source = camera(f"rtsp://127.0.0.1:{serve(clip)[1]}/stream", skip="nonkey")
    _, captures = play(source, limit=3)
    # The first packet of a session has no time stamp yet, so its distance to the second is not known.
    assert captures[2].pts_s - captures[1].pts_s == pytest.approx(1.0, abs=0.001)
    assert [luma(capture) for capture in captures] == pytest.approx([level_of(25 * n) for n in range(3)], abs=3)
    assert source.counters.skipped == 48
    assert max(capture.decoded_ns - capture.read_ns for capture in captures) < 0.5e9, "not held until the next one"


def test_skip_auto_learns_from_a_feed(serve: Serve, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_skip, "LOOK_S", 2.0)
    skip = AutoSkip(1.0, "gate")
    source = camera(f"rtsp://127.0.0.1:{serve(clip)[1]}/stream", skip=skip)
    _, captures = play(source, limit=53)
    assert skip.mode == "nonkey"
    assert source.counters.skipped == 48
    assert captures[-1].pts_s == pytest.approx(4.0, abs=0.01)


class Enough(ListSink):
    """Stops the pipeline once every stream has ``count`` results."""

    def __init__(self, streams: set[str], count: int) -> None:
        super().__init__()
        self.missing = dict.fromkeys(streams, count)
        self.pipeline: Pipeline | None = None

    def write(self, result: Result) -> None:
        super().write(result)
        self.missing[result.stream] -= 1
        if self.pipeline is not None and max(self.missing.values()) <= 0:
            self.pipeline.stop()


def test_the_pipeline_with_two_clients_of_one_camera(open_door: str) -> None:
    sink = Enough({"tcp", "udp"}, 20)
    sink.pipeline = pipeline = Pipeline(
        FakeDetector(), [sink], FlowOptions(fixed_batch=False, outlet_policy="freshest")
    )
    pipeline.start()
    for transport in ("tcp", "udp"):
        entry = {"name": transport, "source": open_door, "transport": transport}
        pipeline.add(build.feed(StreamConfig.model_validate(entry)))
    pipeline.finish()
    assert pipeline.join(60), pipeline.alive()
    for account in pipeline.ledger.streams.values():
        assert (account.state, account.in_flight, account.counters.decode_errors) == ("stopped", 0, 0)
        assert account.processed >= 20
    assert all(result.wall_ns is not None for result in sink.results)


def test_check_over_the_network(
    serve: Serve, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = serve(clip, 0, "me", PASSWORD, "digest")[1]
    model = save(Cells(), tmp_path / "cells.pt")
    config = tmp_path / "streams.yaml"
    config.write_text(
        f"model: {{path: {model}, input: 64, adapter: ultralytics}}\nstreams:\n"
        f"  - {{name: gate, source: 'rtsp://127.0.0.1:{port}/stream', username: me, password_env: GATE_PASSWORD}}\n"
    )
    monkeypatch.setenv("GATE_PASSWORD", PASSWORD)
    assert main(["check", str(config)]) == 0
    assert "h264 64 x 48, 25.0 fps" in capsys.readouterr().out
    monkeypatch.setenv("GATE_PASSWORD", "Wr0ng-one")
    assert main(["check", str(config)]) == 3
    out, err = capsys.readouterr()
    assert "gate  refused (401)" in out
    assert "Wr0ng" not in out + err
