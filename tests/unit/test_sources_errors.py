# SPDX-License-Identifier: Apache-2.0
"""libav's errors become ours: kind, cause, one line, no secret."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import av.error
import pytest

from pipeline.errors import SourceInvalid, SourceTimeout, SourceUnavailable
from pipeline.redact import SourceUrl
from pipeline.sources.libav import explain
from pipeline.sources.opening import file_target, url_target

CASES = [
    (av.error.ExitError, True, SourceTimeout, "timeout"),
    (av.error.TimeoutError, True, SourceTimeout, "timeout"),
    (av.error.HTTPUnauthorizedError, True, SourceUnavailable, "auth"),
    (av.error.HTTPForbiddenError, True, SourceUnavailable, "auth"),
    (av.error.HTTPNotFoundError, True, SourceUnavailable, "not_found"),
    (av.error.FileNotFoundError, False, SourceUnavailable, "not_found"),
    (av.error.ConnectionRefusedError, True, SourceUnavailable, "refused"),
    (av.error.ConnectionResetError, True, SourceUnavailable, "io"),
    (av.error.HTTPServerError, True, SourceUnavailable, "io"),
    (av.error.HTTPOtherClientError, True, SourceUnavailable, "io"),
    (av.error.OSError, True, SourceUnavailable, "io"),
    (av.error.PermissionError, False, SourceUnavailable, "io"),
    (av.error.EOFError, True, SourceUnavailable, "eof"),
    (av.error.EOFError, False, SourceInvalid, "invalid_data"),
    (av.error.InvalidDataError, True, SourceUnavailable, "invalid_data"),
    (av.error.InvalidDataError, False, SourceInvalid, "invalid_data"),
    (av.error.ArgumentError, True, SourceInvalid, "invalid_data"),
    (av.error.ProtocolNotFoundError, True, SourceInvalid, "invalid_data"),
    (av.error.DecoderNotFoundError, False, SourceInvalid, "invalid_data"),
    (av.error.PatchWelcomeError, False, SourceInvalid, "invalid_data"),
    (av.error.UndefinedError, False, SourceInvalid, "invalid_data"),
]


@pytest.mark.parametrize(("kind", "live", "becomes", "cause"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_mapping(kind: type[av.error.FFmpegError], live: bool, becomes: type, cause: str) -> None:
    log = (16, "rtsp", "method DESCRIBE failed for rtsp://admin:hunter2@10.0.0.5/1")
    exc = kind(errno.EIO, "Something went\nwrong", "rtsp://admin:hunter2@10.0.0.5/1", log)
    error = explain(exc, "rtsp://10.0.0.5/1", live=live, opening=True)
    assert type(error) is becomes
    assert error.cause == cause
    text = str(error)
    assert text.startswith("rtsp://10.0.0.5/1: cannot open")
    assert "hunter2" not in text
    assert "\n" not in text


def test_an_unknown_host_is_told_from_one_without_video(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    exc = av.error.OSError(errno.EIO, "Input/output error", "rtsp://camera/1", None)
    assert str(explain(exc, "rtsp://127.0.0.1/1", live=True, opening=True)) == (
        "rtsp://127.0.0.1/1: cannot open: no video behind this address (input/output error)"
    )
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    error = explain(exc, "rtsp://camera/1", live=True, opening=True)
    assert str(error) == "rtsp://camera/1: cannot open: unknown host camera"


def test_a_target_shows_no_credentials() -> None:
    url = SourceUrl.parse("rtsp://admin:hunter2@10.0.0.5:554/1")
    target = url_target(url, live=True)
    assert "hunter2" in target.address
    assert "hunter2" not in repr(target)
    assert "hunter2" not in target.shown


@pytest.mark.parametrize("url", ["rtsp://h/1", "rtsps://h/1", "http://h/1", "https://h/1.mp4"])
@pytest.mark.parametrize("live", [True, False])
def test_feeds_have_both_time_limits_and_few_protocols(url: str, live: bool) -> None:
    target = url_target(SourceUrl.parse(url), live=live, open_timeout_s=2.0, read_timeout_s=3.0)
    assert target.timeout == (2.0, 3.0)
    assert target.options["timeout"] == "4000000", "the second line, behind the callback"
    assert "stimeout" not in target.options, "gone since FFmpeg 5, and dropped in silence"
    allowed = set(target.options["protocol_whitelist"].split(","))
    assert not allowed & {"file", "pipe", "concat", "subfile", "data", "crypto", "cache", "async"}


def test_local_files_reach_nothing_but_files() -> None:
    options = file_target(Path("a.mp4")).options
    assert options["protocol_whitelist"] == "file"
    assert not {"hls", "dash", "concat", "sdp", "image2", "lavfi", "tty"} & set(options["format_whitelist"].split(","))
