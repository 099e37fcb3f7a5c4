# SPDX-License-Identifier: Apache-2.0
"""Network feeds through the pipeline as the daemon builds them: a motion JPEG camera, and one that is not there."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from pipeline import build
from pipeline.build import feeds
from pipeline.config import StreamConfig
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Result
from pipeline.sources import Absent, AutoSkip
from pipeline.testing import FakeDetector, ListSink
from tests.http_servers import MULTIPART, http, multipart
from tests.media import Media, media

__all__ = ["media"]


def feed(**entry: Any) -> Stream:
    return build.feed(StreamConfig.model_validate(entry))


def test_the_account_names_the_source_without_its_password() -> None:
    shown = feed(name="gate", source="rtsp://viewer:hunter2@10.0.0.5/x").account.source
    assert shown.startswith("rtsp://")
    assert shown.endswith("10.0.0.5/x")
    assert "hunter2" not in shown


class StopAfter(ListSink):
    """Ends the run with the ``count``-th result."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.stop = threading.Event()

    def write(self, result: Result) -> None:
        super().write(result)
        if len(self.results) >= self.count:
            self.stop.set()


def run(sink: StopAfter, *streams: Stream) -> Pipeline:
    pipeline = Pipeline(FakeDetector(), [sink], FlowOptions(fixed_batch=False, outlet_policy="freshest"))
    pipeline.start()
    for stream in streams:
        pipeline.add(stream)
    pipeline.finish()
    assert sink.stop.wait(20), "no results"
    pipeline.stop()
    assert pipeline.join(20), pipeline.alive()
    return pipeline


def test_a_motion_jpeg_camera_that_hangs_up_now_and_then(media: Media) -> None:
    raw = media.clip("mjpeg", count=10, codec="mjpeg", pix_fmt="yuvj420p", options={}).read_bytes()
    pictures = [b"\xff\xd8" + part for part in raw.split(b"\xff\xd8")[1:]]

    def answer(request: BaseHTTPRequestHandler, over: threading.Event) -> None:
        request.send_response(200)
        request.send_header("Content-Type", MULTIPART)
        request.end_headers()
        for picture in pictures:
            request.wfile.write(multipart([picture]))
            request.wfile.flush()
            if over.wait(0.02):
                return

    sink = StopAfter(25)
    with http(answer) as url:
        pipeline = run(sink, feed(name="porch", source=f"{url}/video.mjpg", policy="every_frame"))
    account = pipeline.ledger.streams["porch"]
    assert account.info.codec == "mjpeg"
    assert account.source == f"{url}/video.mjpg"
    assert account.counters.reconnects >= 2
    frames = [result.frame for result in sink.results]
    assert frames == list(range(len(frames))), "the count goes on over a reconnect"
    epochs = [result.epoch for result in sink.results]
    assert epochs == [index // 10 for index in range(len(epochs))]
    stamps = [result.pts for result in sink.results]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("policy", ["freshest", "every_frame"])
def test_a_camera_that_is_not_there_costs_nothing_and_disturbs_nobody(policy: str) -> None:
    """Two seconds beside a pattern of 10 frames a second: all of those are there, and the CPU has slept."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    sink = StopAfter(20)
    gone = [feed(name=f"gone{n}", source=f"rtsp://127.0.0.1:{port}/{n}", policy=policy) for n in range(4)]
    before_s, began_s = time.process_time(), time.monotonic()
    pipeline = run(sink, feed(name="bars", source="pattern:?size=64x48&fps=10", policy="every_frame"), *gone)
    share = (time.process_time() - before_s) / (time.monotonic() - began_s)
    # Who tried without a pause would take a core; so much is left for a machine that is slow at the moment.
    assert share < 0.30, f"{share:.1%} of a core for four cameras that are not there, and a pattern"
    assert [result.frame for result in sink.results] == list(range(len(sink.results)))
    assert {account.state for account in pipeline.ledger.streams.values()} == {"stopped"}
    assert pipeline.ledger.streams["gone0"].decoded == 0


def test_who_gets_skip_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feeds and files of the daemon with an asked rate; not with a stride, which counts frames."""
    given: list[Any] = []

    def file(settings: Any, source: Any, skip: Any, threads: int = 1) -> Absent:
        given.append(skip)
        return Absent("not needed")

    monkeypatch.setattr(feeds, "_file", file)
    entry = {"name": "a", "source": "a.mp4", "skip": "auto"}
    for more in ({"fps": 2.0}, {"fps": 2.0, "pace": "realtime"}, {}, {"fps": 2.0, "stride": 2}, {"skip": "nonkey"}):
        feed(**(entry | more))
    config = StreamConfig.model_validate(entry | {"fps": 2.0})
    build.recording("a", config.source, config)
    assert [isinstance(skip, AutoSkip) or skip for skip in given] == [True, True, "none", "none", "nonkey", "none"]
