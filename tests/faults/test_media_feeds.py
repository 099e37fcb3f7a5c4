# SPDX-License-Identifier: Apache-2.0
"""Feeds that refuse, hang, trickle, break off or send the wrong thing: an error with a cause, within the time limit."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from av.codec.context import Flags

from pipeline.errors import SourceError, SourceInvalid, SourceTimeout, SourceUnavailable
from pipeline.redact import SourceUrl
from pipeline.sources import CameraSource, DeviceSource, FileSource, Reconnecting
from pipeline.sources.opening import url_target
from pipeline.threads import StopFlag
from tests.faults.camera import Camera, Fault, read_clip, serving
from tests.faults.camera.clip import Unit
from tests.faults.camera.wire import Wire
from tests.http_servers import MULTIPART, Answer, http, multipart
from tests.media import H264, Media, indices, media, play

__all__ = ["media"]

LIMITS = {"open_timeout_s": 0.6, "read_timeout_s": 0.6}
GOP_12 = {**H264, "x264-params": "keyint=12:scenecut=0:threads=1"}


@contextmanager
def listener(serve: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A TCP peer on loopback that treats its first client as ``serve`` does."""
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def body() -> None:
        try:
            client, _ = server.accept()
            with client:
                serve(client, over)
        except OSError:
            pass

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        server.close()
        thread.join(5)


def sends(*parts: bytes, hang: bool = False, kind: str = "video/mp2t", length: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler, over: threading.Event) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        if length is not None:
            request.send_header("Content-Length", str(length))
        request.end_headers()
        for part in parts:
            request.wfile.write(part)
            request.wfile.flush()
        if hang:
            over.wait(20)

    return answer


def camera(url: str, **options: object) -> CameraSource:
    return CameraSource(SourceUrl.parse(url), **{**LIMITS, **options})  # type: ignore[arg-type]


def read_all(source: CameraSource) -> tuple[list[int], SourceError]:
    """The frames of a feed by their pictures, and the error that ended it."""
    captures = []
    try:
        info = source.open(StopFlag())
        assert info.live
        while True:
            capture = source.read()
            assert capture is not None, "a feed has no regular end"
            captures.append(capture)
    except SourceError as error:
        assert [capture.index for capture in captures] == list(range(len(captures)))
        assert all(capture.wall_ns is not None for capture in captures)
        return indices(captures), error
    finally:
        source.close()


def test_a_feed_that_ends_was_cut_off(media: Media) -> None:
    data = media.clip("ts", count=40, options=GOP_12).read_bytes()
    before = time.time_ns()
    with http(sends(data)) as url:
        source = camera(f"{url}/live")
        source.open(StopFlag())
        first = source.read()
        source.close()
        frames, error = read_all(camera(f"{url}/live"))
    assert first is not None
    assert first.wall_ns is not None
    assert before <= first.wall_ns <= time.time_ns()
    assert frames == list(range(len(frames)))
    assert len(frames) >= 38
    assert isinstance(error, SourceUnavailable)
    assert error.cause == "eof"


@pytest.mark.parametrize("missing", [0, 1000], ids=["ends", "breaks off"])
def test_a_feed_that_was_lost_holds_nothing(media: Media, missing: int) -> None:
    """Its memory is libav's, of which Python's garbage collector knows nothing: it may come only after minutes."""
    data = media.clip("ts", count=40, options=GOP_12).read_bytes()
    gc.collect()
    gc.disable()
    try:
        with http(sends(data, length=len(data) + missing)) as url:
            source = camera(f"{url}/live")
            gone = weakref.ref(source)
            read_all(source)
            del source
        assert gone() is None
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [each for each in gc.garbage if type(each).__module__.startswith(("av.", "pipeline."))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_the_same_url_as_a_finite_recording(media: Media) -> None:
    data = media.clip("mkv", count=40, options=GOP_12).read_bytes()
    with http(sends(data, length=len(data), kind="video/x-matroska")) as url:
        info, captures = play(source := FileSource(SourceUrl.parse(f"{url}/clip.mkv")))
    assert indices(captures) == list(range(40))
    assert source.truncation is None
    assert not info.live
    assert all(capture.wall_ns is None for capture in captures)


def test_a_recording_of_unknown_length(media: Media) -> None:
    """Without Content-Length libav reports the end as an error; the recording is whole all the same."""
    data = media.clip("mkv", count=40, options=GOP_12).read_bytes()
    with http(sends(data, kind="video/x-matroska")) as url:
        _, captures = play(source := FileSource(SourceUrl.parse(f"{url}/clip.mkv")))
    assert indices(captures) == list(range(40))
    assert source.truncation is None


def test_a_recording_that_breaks_off_on_the_way(media: Media) -> None:
    data = media.clip("mkv", count=100, options=GOP_12).read_bytes()
    with http(sends(data[: len(data) // 2], length=len(data), kind="video/x-matroska")) as url:
        _, captures = play(source := FileSource(SourceUrl.parse(f"{url}/clip.mkv")))
    assert 5 < len(captures) < 95
    assert source.truncation is not None


def test_motion_jpeg(media: Media) -> None:
    raw = media.clip("mjpeg", count=10, codec="mjpeg", pix_fmt="yuvj420p", options={}).read_bytes()
    pictures = [b"\xff\xd8" + part for part in raw.split(b"\xff\xd8")[1:]]
    with http(sends(multipart(pictures), kind=MULTIPART)) as url:
        frames, error = read_all(camera(f"{url}/video.mjpg"))
    assert frames == list(range(10))
    assert error.cause == "eof"


@pytest.mark.parametrize(
    ("status", "kind", "cause"),
    [
        (401, SourceUnavailable, "auth"),
        (403, SourceUnavailable, "auth"),
        (404, SourceUnavailable, "not_found"),
        (500, SourceUnavailable, "io"),
        (503, SourceUnavailable, "io"),
    ],
)
def test_refusals_by_status(status: int, kind: type[SourceError], cause: str) -> None:
    with http(lambda request, over: request.send_error(status)) as url, pytest.raises(kind) as caught:
        camera(url.replace("://", "://viewer:hunter2@") + "/live").open(StopFlag())
    assert caught.value.cause == cause
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_credentials_in_the_url_open_the_door(media: Media) -> None:
    import base64

    data = media.clip("ts", count=30, options=GOP_12).read_bytes()
    expected = "Basic " + base64.b64encode(b"viewer:hunter2").decode()

    def answer(request: BaseHTTPRequestHandler, over: threading.Event) -> None:
        if request.headers.get("Authorization") == expected:
            sends(data)(request, over)
        else:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.end_headers()

    with http(answer) as url:
        frames, error = read_all(camera(url.replace("://", "://viewer:hunter2@") + "/live"))
    assert len(frames) >= 28
    assert "hunter2" not in str(error)


def test_redirects_are_not_followed(media: Media) -> None:
    data = media.clip("ts", count=20, options=GOP_12).read_bytes()
    asked = []

    def answer(request: BaseHTTPRequestHandler, over: threading.Event) -> None:
        asked.append(request.path)
        if request.path == "/inner":
            sends(data)(request, over)
        else:
            request.send_response(302)
            request.send_header("Location", "/inner")
            request.end_headers()

    with http(answer) as url, pytest.raises(SourceError):
        camera(f"{url}/live").open(StopFlag())
    assert asked == ["/live"]


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_peer_that_accepts_and_never_answers(scheme: str) -> None:
    with listener(lambda client, over: over.wait(20) and None) as port:
        source = camera(f"{scheme}://127.0.0.1:{port}/live")
        began = time.monotonic()
        with pytest.raises((SourceTimeout, SourceUnavailable)) as caught:
            source.open(StopFlag())
        assert time.monotonic() - began < 10, "the peer would wait for 20 s"
        source.close()
    assert caught.value.cause == "timeout"


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_closed_port(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SourceUnavailable, match="connection refused") as caught:
        camera(f"{scheme}://viewer:hunter2@127.0.0.1:{port}/live").open(StopFlag())
    assert caught.value.cause == "refused"
    assert "hunter2" not in str(caught.value)


def test_rtsp_that_wants_a_password() -> None:
    def serve(client: socket.socket, over: threading.Event) -> None:
        while request := client.recv(4096):
            sequence = next(line for line in request.split(b"\r\n") if line.startswith(b"CSeq"))
            client.sendall(b'RTSP/1.0 401 Unauthorized\r\n%s\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n' % sequence)

    with listener(serve) as port, pytest.raises(SourceUnavailable, match="authentication failed") as caught:
        camera(f"rtsp://viewer:hunter2@127.0.0.1:{port}/1").open(StopFlag())
    assert caught.value.cause == "auth"
    assert "hunter2" not in str(caught.value)


def test_a_stall_in_mid_stream_ends_within_the_limit(media: Media) -> None:
    data = media.clip("ts", count=40, options=GOP_12).read_bytes()
    with http(sends(data, hang=True)) as url:
        source = camera(f"{url}/live")
        began = time.monotonic()
        frames, error = read_all(source)
        assert time.monotonic() - began < 5
    assert len(frames) >= 35
    assert isinstance(error, SourceTimeout)
    assert error.cause == "timeout"


def test_a_trickle_defeats_no_time_limit(media: Media) -> None:
    """A byte now and then keeps a socket alive for ever; the limit is on whole packets."""
    data = media.clip("ts", count=40, options=GOP_12).read_bytes()

    def answer(request: BaseHTTPRequestHandler, over: threading.Event) -> None:
        sends(data)(request, over)
        while not over.wait(0.1):
            request.wfile.write(b"\x47")

    with http(answer) as url:
        began = time.monotonic()
        _, error = read_all(camera(f"{url}/live"))
        assert time.monotonic() - began < 6
    assert isinstance(error, SourceTimeout)


def test_pictures_that_never_decode_are_a_stall(media: Media) -> None:
    """Packets arrive all the time, so no read is late; but a frame is."""
    raw = media.clip("mjpeg", count=3, codec="mjpeg", pix_fmt="yuvj420p", options={}).read_bytes()
    good = b"\xff\xd8" + raw.split(b"\xff\xd8")[1]

    def answer(request: BaseHTTPRequestHandler, over: threading.Event) -> None:
        sends(multipart([good] * 5), kind=MULTIPART)(request, over)
        while not over.wait(0.02):
            request.wfile.write(multipart([b"\xff\xd8\xff\xd9"]))

    with http(answer) as url:
        frames, error = read_all(camera(f"{url}/video.mjpg", frame_timeout_s=0.4, max_bad_packets=10_000))
    assert len(frames) == 5
    assert isinstance(error, SourceTimeout)
    assert error.cause == "stall"


class Halts(Fault):
    """An access unit that no decoder understands, nothing for 15, three more of the kind, and all is well."""

    def __init__(self, after: int) -> None:
        super().__init__(after)
        self._struck = 0

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        self._struck += 1
        if self._struck == 1 or self._struck > 15:
            wire.send(unit, stamp, (b"\x41\xff\xff\xff",) if self._struck <= 18 else None)


def test_silence_of_this_machine_is_not_that_of_the_feed(media: Media) -> None:
    """A packet without a frame after a pause, as when the process was stopped: that is no long time without one."""
    clip = read_clip(media.clip("mkv", count=60, options={**H264, "x264-params": "keyint=5:min-keyint=5:threads=1"}))
    with serving(Camera("gate", clip, fps=25, faults=[Halts(after=10)])) as cameras:
        source = camera(cameras.url("gate"), frame_timeout_s=0.4, read_timeout_s=3.0, open_timeout_s=3.0)
        _, captures = play(source, limit=20)
    assert len(captures) == 20
    assert source.counters.decode_errors > 0


def test_a_feed_of_key_frames_only_may_take_longer_but_not_for_ever(media: Media) -> None:
    data = media.clip("ts", count=150, options={**H264, "x264-params": "keyint=1000:scenecut=0:threads=1"}).read_bytes()

    def answer(request: BaseHTTPRequestHandler, over: threading.Event) -> None:
        sends(data[:16384])(request, over)
        for start in range(16384, len(data), len(data) // 100):
            request.wfile.write(data[start : start + len(data) // 100])
            if over.wait(0.02):
                return

    began = time.monotonic()
    with http(answer) as url:
        frames, error = read_all(camera(f"{url}/live", frame_timeout_s=0.1, skip="nonkey"))
    assert frames == [0]
    assert error.cause == "stall"
    assert time.monotonic() - began > 0.4


def test_data_without_pictures_is_no_sign_of_life(media: Media) -> None:
    """Transport packets arrive all the time, but none of the video: as from a camera that only sends sound."""
    data = media.clip("ts", count=12, options=GOP_12).read_bytes()
    null_packet = b"\x47\x1f\xff\x10" + b"\xff" * 184

    def answer(request: BaseHTTPRequestHandler, over: threading.Event) -> None:
        sends(data)(request, over)
        while not over.wait(0.02):
            request.wfile.write(null_packet * 50)

    with http(answer) as url:
        _, error = read_all(camera(f"{url}/live"))
    assert error.cause == "timeout"


def test_too_many_bad_packets_in_a_row_give_the_connection_up(media: Media) -> None:
    raw = media.clip("mjpeg", count=3, codec="mjpeg", pix_fmt="yuvj420p", options={}).read_bytes()
    good = b"\xff\xd8" + raw.split(b"\xff\xd8")[1]
    bad = b"\xff\xd8\xff\xd9"
    with http(sends(multipart([good] * 5 + [bad] * 60), hang=True, kind=MULTIPART)) as url:
        source = camera(f"{url}/video.mjpg", max_bad_packets=20)
        frames, error = read_all(source)
    assert len(frames) == 5
    assert error.cause == "decode"
    assert source.counters.decode_errors == 20


@pytest.mark.parametrize("body", [b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/a.ts\n", b"<html>login</html>", b""])
def test_a_feed_that_is_no_video(body: bytes) -> None:
    with http(sends(body, kind="text/html")) as url, pytest.raises(SourceUnavailable) as caught:
        camera(f"{url}/live").open(StopFlag())
    assert caught.value.cause in ("invalid_data", "io")
    assert "video" in str(caught.value)


def test_a_forbidden_codec_over_the_network(media: Media) -> None:
    data = media.clip("ts", count=10, codec="mpeg2video", options={}).read_bytes()
    with http(sends(data, hang=True)) as url, pytest.raises(SourceInvalid, match="codec mpeg2video is not allowed"):
        camera(f"{url}/live").open(StopFlag())


def test_a_codec_that_is_named_is_allowed(media: Media) -> None:
    data = media.clip("ts", count=30, codec="mpeg2video", options={}).read_bytes()
    with http(sends(data)) as url:
        frames, error = read_all(camera(f"{url}/live", codecs=frozenset({"mpeg2video"})))
    assert len(frames) > 10
    assert error.cause == "eof"


def test_low_delay_asks_decoder_and_transport_not_to_wait(media: Media) -> None:
    data = media.clip("ts", count=30, options=GOP_12).read_bytes()
    with http(sends(data)) as url:
        source = camera(f"{url}/live", low_delay=True)
        source.open(StopFlag())
        assert source._reader is not None
        assert source._reader._opened.stream.codec_context.flags & Flags.low_delay
        source.close()
        frames, _ = read_all(camera(f"{url}/live", low_delay=True))
    assert len(frames) >= 28
    url = SourceUrl.parse("rtsp://127.0.0.1/1")
    assert url_target(url, live=True, transport="udp", low_delay=True).options["reorder_queue_size"] == "0"
    for options in ({"low_delay": True}, {"transport": "udp"}):
        assert "reorder_queue_size" not in url_target(url, live=True, **options).options  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "rtmp://127.0.0.1/a", "udp://127.0.0.1:1"])
def test_other_schemes_are_not_opened(url: str) -> None:
    with pytest.raises((SourceInvalid, ValueError), match=r"not allowed|expected|scheme"):
        camera(url).open(StopFlag())


def test_a_device_that_is_not_there() -> None:
    for name in ("/dev/video87", "v4l2:///dev/video87", "v4l2:/dev/video87"):
        source = DeviceSource(name)
        with pytest.raises(SourceUnavailable, match="/dev/video87: no such device") as caught:
            source.open(StopFlag())
        assert caught.value.cause == "not_found"
        source.close()


def test_reconnecting_over_a_real_connection(media: Media) -> None:
    data = media.clip("ts", count=30, options=GOP_12).read_bytes()
    states: list[str] = []
    with http(sends(data)) as url:
        source = Reconnecting(
            lambda: camera(f"{url}/live"), on_state=lambda said: states.append(said.state), first_backoff_s=0.01
        )
        _, captures = play(source, limit=100)
    assert [capture.index for capture in captures] == list(range(100))
    stamps = [capture.pts_s for capture in captures]
    assert all(after > before for before, after in itertools.pairwise(stamps))
    assert captures[-1].epoch == source.counters.reconnects == 3
    assert states[:4] == ["connecting", "live", "backoff", "connecting"]


def test_nothing_is_left_open_after_many_failures(media: Media) -> None:
    data = media.clip("ts", count=12, options=GOP_12).read_bytes()
    with http(sends(data)) as url:
        read_all(camera(f"{url}/live"))
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        for _ in range(15):
            read_all(camera(f"{url}/live"))
            with pytest.raises(SourceError):
                camera(f"{url.rsplit(':', 1)[0]}:1/live").open(StopFlag())
        deadline = time.monotonic() + 5  # the server's side closes in its own threads
        while (len(os.listdir("/proc/self/fd")), threading.active_count()) > before and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before[0]
