# SPDX-License-Identifier: Apache-2.0
"""The live view: nothing is kept, drawn or encoded while nobody looks; slow viewers see fewer pictures."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from pipeline.errors import StageError
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Picture, Result
from pipeline.ledger import StreamLedger
from pipeline.testing import CopyStage, FakeDetector, ListSink, ScriptedSource
from pipeline.web import WebServer
from pipeline.web.drawn import drawn
from pipeline.web.live import MOST_VIEWERS, LiveView
from tests.background import until
from tests.boards import CAMERA_PASSWORD, FakeBoard, Feeder, client, picture_result, serving

BOUNDARY = b"--frame\r\n"
WHY = f"no room; see rtsp://viewer:{CAMERA_PASSWORD}@10.0.0.9/x"


def instead(result: Result, picture: Picture, most: int | None) -> bytes:
    return b"%d" % result.frame


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving(FakeBoard()) as server:
        yield server


def decoded(jpeg: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_nobody_looks_and_nothing_is_kept_or_drawn(server: WebServer) -> None:
    """A whole flow with the tap: its frames carry no picture, the view takes and draws nothing."""
    seen: list[Result] = []
    sink = ListSink()
    taps = server.tap
    pipeline = Pipeline(FakeDetector(), [sink], FlowOptions(batch_size=2, tap=taps))
    pipeline.run_inline([Stream(ScriptedSource([0.0, 0.1, 0.2]), [CopyStage()], StreamLedger("gate"))])
    seen += sink.results
    assert len(seen) == 3
    assert [result.picture for result in seen] == [None] * 3
    assert taps.counts.total() == 0


class Onlooker:
    """A tap that looks at one stream."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.shown: list[Result] = []

    def wants(self, stream: str) -> bool:
        self.asked.append(stream)
        return stream == "gate"

    def show(self, result: Result) -> None:
        self.shown.append(result)


@pytest.mark.parametrize("wants_pictures", [False, True])
def test_who_looks_sees_pictures_that_sinks_did_not_ask_for(wants_pictures: bool) -> None:
    tap, sink = Onlooker(), ListSink()
    sink.wants_pictures = wants_pictures
    pipeline = Pipeline(FakeDetector(), [sink], FlowOptions(batch_size=2, tap=tap))
    pipeline.run_inline(
        [
            Stream(ScriptedSource([0.0, 0.1]), [CopyStage()], StreamLedger("gate")),
            Stream(ScriptedSource([0.0, 0.1]), [CopyStage()], StreamLedger("lobby")),
        ]
    )
    assert [(result.stream, result.frame) for result in tap.shown] == [("gate", 0), ("gate", 1)]
    assert all(result.picture is not None for result in tap.shown)
    assert [result.picture is not None for result in sink.results] == [wants_pictures] * 4


def test_a_still_has_full_size_and_boxes(server: WebServer) -> None:
    with Feeder(server) as feeder, client(server) as http:
        answer = http.get("/api/streams/gate/frame.jpg")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        picture = decoded(answer.content)
        assert picture.shape == (480, 640, 3)
        assert picture[20, 8:10].std() > 20, "a coloured line where the box is"
        assert not server.tap.wants("gate"), "who has what it wanted looks no longer"
        taken = server.tap.counts["taken"]
        assert feeder.shown >= taken >= 1
        assert server.tap.counts["drawn"] == 1


def test_stills_of_streams_that_show_nothing(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.web.api._PICTURE_S", 0.1)
    with client(server) as http:
        gone = http.get("/api/streams/gone/frame.jpg")
        why = "this stream is backoff: rtsp://10.0.0.9/x: connection refused"
        assert (gone.status_code, gone.json()["error"]) == (503, {"kind": "NotLive", "message": why})
        assert 1 <= int(gone.headers["retry-after"]) <= 21, "when it is tried again"
        assert http.get("/api/streams/gone/video.mjpg").status_code == 503
        late = http.get("/api/streams/gate/frame.jpg")
        assert (late.status_code, late.json()["error"]["kind"]) == (503, "NoPicture")
        why = late.json()["error"]["message"]
        assert re.fullmatch(r"no result came within 0.1 s, the newest is \d+\.\d s old", why)
        assert http.get("/api/streams/nobody/frame.jpg").status_code == 404
        assert http.get("/api/streams/nobody/video.mjpg").status_code == 404
    assert not server.tap.wants("gate")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits in vain is told at once."""
    monkeypatch.setattr("pipeline.web.trouble.FRUITLESS_NS", 0)
    monkeypatch.setattr("pipeline.web.mjpeg._LOOK_S", 0.05)


def board_and_gate() -> tuple[FakeBoard, StreamLedger]:
    board = FakeBoard()
    assert board.books is not None
    return board, board.books.streams["gate"]


def test_a_stream_whose_every_frame_is_lost_says_so(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    board, gate = board_and_gate()
    with serving(board) as server, client(server) as http:
        gate.life.fails(WHY)
        told = http.get("/api/streams/gate").json()
        assert (told["state"], told["cause"]) == ("live", "stage")
        why = re.compile(r"no result for \d+ s: no room; see rtsp://(\*\*\*@)?10.0.0.9/x")
        assert why.fullmatch(told["detail"])
        for path in ("frame.jpg", "video.mjpg"):
            answer = http.get(f"/api/streams/gate/{path}")
            assert (answer.status_code, answer.json()["error"]["kind"]) == (503, "NoResults")
            assert why.fullmatch(answer.json()["error"]["message"])
            assert answer.headers["retry-after"] == "5"
        monkeypatch.setattr("pipeline.web.trouble.FRUITLESS_NS", 60_000_000_000)
        assert http.get("/api/streams").json()["streams"]["gate"]["cause"] is None, "a single frame says nothing"


def test_a_picture_that_cannot_be_drawn_is_no_fault_of_the_server(
    server: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    drawing = server.tap._draw
    drawable = threading.Event()

    def draws(result: Result, picture: Picture, most: int | None) -> bytes:
        if drawable.is_set():
            drawable.clear()
            return drawing(result, picture, most)
        raise StageError("gate: frame 3 could not be written as a JPEG")

    server.tap._draw = draws
    with Feeder(server), client(server) as http:
        for path in ("frame.jpg", "video.mjpg"):
            answer = http.get(f"/api/streams/gate/{path}")
            assert (answer.status_code, answer.json()["error"]["kind"]) == (503, "NoPicture")
            assert answer.headers["retry-after"] == "5"
        drawable.set()
        ended = http.get("/api/streams/gate/video.mjpg")
        assert (ended.status_code, ended.content.count(BOUNDARY)) == (200, 1), "it ends with the first that is none"
    assert "Traceback" not in caplog.text


def test_a_live_view_that_waits_in_vain_is_told_why(impatient: None) -> None:
    board, gate = board_and_gate()
    with serving(board) as server, client(server) as http:

        def once_somebody_looks() -> None:
            until(lambda: server.tap.wants("gate"))
            gate.life.fails(WHY)

        losing = threading.Thread(target=once_somebody_looks)
        losing.start()
        answer = http.get("/api/streams/gate/video.mjpg")
        losing.join()
        assert (answer.status_code, answer.json()["error"]["kind"]) == (503, "NoResults")
        board.frame()
        with ExitStack() as looking:
            with Feeder(server):
                stream = looking.enter_context(http.stream("GET", "/api/streams/gate/video.mjpg"))
                chunks = stream.iter_bytes()
                next(chunks)
            gate.life.fails(WHY)
            assert all(chunk for chunk in chunks), "it ends"


def parts(stream: httpx.Response, count: int) -> list[bytes]:
    """The first pictures of an MJPEG stream."""
    data = b""
    found: list[bytes] = []
    for chunk in stream.iter_bytes():
        data += chunk
        while True:
            head, separator, rest = data.partition(b"\r\n\r\n")
            if not separator:
                break
            assert head.startswith(BOUNDARY)
            length = int(head.rpartition(b"Content-Length: ")[2])
            if len(rest) < length + 2:
                break
            found.append(rest[:length])
            data = rest[length + 2 :]
            if len(found) == count:
                return found
    raise AssertionError(f"the stream ended after {len(found)}")


def test_motion_jpeg(server: WebServer) -> None:
    with Feeder(server, 0.005) as feeder, client(server) as http:
        with http.stream("GET", "/api/streams/gate/video.mjpg") as stream:
            assert stream.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
            assert stream.headers["cache-control"] == "no-store"
            pictures = parts(stream, 4)
            assert all(decoded(jpeg).shape == (480, 640, 3) for jpeg in pictures)
            greys = [int(decoded(jpeg)[400, 600, 0]) for jpeg in pictures]
            assert greys == sorted(set(greys)), "each newer than the one before"
            assert server.tap.counts["drawn"] < feeder.shown, "pictures between are left out, not queued"
        assert http.head("/api/streams/gate/video.mjpg").status_code == 200


def test_whoever_hangs_up_looks_no_longer(server: WebServer) -> None:
    gone = threading.Event()

    class Feeds(dict[str, Any]):
        def __delitem__(self, key: str) -> None:
            super().__delitem__(key)
            gone.set()

    server.tap._feeds = Feeds()
    with Feeder(server), client(server) as http, http.stream("GET", "/api/streams/gate/video.mjpg") as stream:
        parts(stream, 1)
        assert server.tap.counts["drawn"] >= 1
    assert gone.wait(10)
    assert not server.tap.wants("gate")


def test_a_reader_that_stands_still_does_not_hold_others_up(server: WebServer) -> None:
    host, port = server.url.removeprefix("http://").strip("/").split(":")
    with Feeder(server, 0.001), socket.create_connection((host, int(port))) as stuck, client(server) as http:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /api/streams/gate/video.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with http.stream("GET", "/api/streams/gate/video.mjpg") as stream:
            assert len(parts(stream, 5)) == 5
        assert http.get("/live").status_code == 200


def test_the_end_of_the_server_ends_live_views(server: WebServer) -> None:
    with Feeder(server), client(server) as http, http.stream("GET", "/api/streams/gate/video.mjpg") as stream:
        parts(stream, 1)
        server.close()
        assert not server._thread.is_alive()


def test_viewers_are_bounded_share_pictures_and_miss_some() -> None:
    async def look() -> None:
        view = LiveView(instead)
        async with view.viewer("gate") as first, view.viewer("gate") as second:
            for frame in range(3):
                view.show(picture_result("gate", frame))
            assert (await first.next(), await second.next()) == (b"2", b"2"), "only the newest"
            assert view.counts == {"taken": 3, "drawn": 1}, "drawn once for both"
            waiting = asyncio.ensure_future(first.next())
            await asyncio.sleep(0)
            assert not waiting.done()
            view.show(picture_result("gate", 3))
            assert await asyncio.wait_for(waiting, 10) == b"3"
            assert not view.wants("lobby")
            others = [view.viewer("lobby") for _ in range(MOST_VIEWERS - 2)]
            for other in others:
                await other.__aenter__()
            from pipeline.web.live import TooManyViewers

            with pytest.raises(TooManyViewers):
                await view.viewer("gate").__aenter__()
            for other in others:
                await other.__aexit__(None, None, None)
        view.show(picture_result("gate", 4))
        assert not view.wants("gate")
        assert view.counts["taken"] == 4

    asyncio.run(look())


def test_results_go_on_when_the_server_ends_under_them() -> None:
    """The follow loop shows a result in the moment between the server's last breath and the end of the view."""

    class Ending(asyncio.SelectorEventLoop):
        said_open = 0

        def call_soon_threadsafe(self, callback: Any, *args: Any, **options: Any) -> asyncio.Handle:
            self.said_open += 1
            self.close()
            return super().call_soon_threadsafe(callback, *args, **options)

    view, loop = LiveView(instead), Ending()
    viewer = view.viewer("gate")
    loop.run_until_complete(viewer.__aenter__())
    view.show(picture_result("gate", 1))
    view.show(picture_result("gate", 2))
    assert loop.said_open == 1
    assert loop.is_closed()
    with asyncio.Runner() as runner:
        runner.run(viewer.__aexit__(None, None, None))


def test_a_large_picture_is_made_smaller_before_it_is_drawn_upon() -> None:
    result = picture_result("gate", 7, (1920, 1080))
    assert result.picture is not None
    small = decoded(drawn(result, result.picture, 960))
    assert small.shape == (540, 960, 3)
    assert small[10, 4].tolist() != [7, 7, 7], "the box went along"
    assert decoded(drawn(result, result.picture)).shape == (1080, 1920, 3)
