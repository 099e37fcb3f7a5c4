# SPDX-License-Identifier: Apache-2.0
"""What is tried: each target takes bytes, and fails an assertion or raises where the property does not hold."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from pipeline.config import parse_config
from pipeline.config.document import read_document
from pipeline.config.faults import Fault
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Detections, Result, StreamInfo
from pipeline.redact import Scrubber, SourceUrl
from pipeline.sinks import JsonlSink
from pipeline.sinks.record_file import Rotate

LINE_ENDS = "\n\r\x85\u2028\u2029"


def configuration(data: bytes) -> None:
    """Any bytes give a configuration or faults, each with a line that is in the file; no alias is ever expanded."""
    lines = sum(data.decode("utf-8", "replace").count(sign) for sign in LINE_ENDS) + 1
    found: Iterable[object]
    try:
        document = read_document(data, "s.yaml")
    except ConfigError as error:
        found = error.faults
    else:
        # Each value of the text stands once in the data: what was expanded would be more than was written.
        assert _values(document.data) <= len(data) + 1
        found = document.faults
    _named(found, lines)
    try:
        loaded = parse_config(data, environ={}, file="s.yaml")
    except ConfigError as error:
        _named(error.faults, lines)
    else:
        _named((*loaded.warnings, *(fault for stream in loaded.quarantined for fault in stream.faults)), lines)


def _values(data: Any) -> int:
    if isinstance(data, dict):
        return 1 + sum(map(_values, data.values()))
    return 1 + sum(map(_values, data)) if isinstance(data, tuple) else 1


def _named(faults: Iterable[object], lines: int) -> None:
    for fault in faults:
        assert isinstance(fault, Fault), f"a fault without a place: {fault!r}"
        assert 1 <= fault.mark.line <= lines, fault
        assert fault.mark.column >= 1, fault
        assert "\n" not in fault


def redaction(data: bytes) -> None:
    """A password survives in no text form of a URL and in no line that quotes it, raw or percent-encoded."""
    text = data.decode("utf-8", "replace").replace("\0", "")
    user, _, password = text.partition("\n")
    if len(user) < 1 or len(password) < 4 or "*" in text or password.isspace():
        return
    try:
        url = SourceUrl.parse("rtsp://10.1.2.3:554/s?x=1").with_credentials(user, password)
    except ValueError:
        return
    secret_free = "rtsp://10.1.2.3:554/s?x=1"
    assert str(url) == secret_free
    assert repr(url).count(password) <= repr(SourceUrl.parse(secret_free)).count(password)
    scrubber = Scrubber()
    scrubber.register(password)
    octets = password.encode()
    for rendering in (
        url.reveal(),
        password,
        quote(password, safe=""),
        quote_plus(password),
        "".join(f"%{octet:02x}" for octet in octets),
        quote(quote(password, safe=""), safe=""),
        json.dumps(password)[1:-1],
        repr(password)[1:-1],
    ):
        shown = scrubber.scrub(f"cannot open '{rendering}': refused")
        around = "cannot open '': refused" + secret_free
        assert shown.count(password) <= around.count(password), (rendering, shown)


def url_text(data: bytes) -> None:
    """Any text is a URL that survives a round trip, or is refused in one line; scrubbing it twice changes nothing."""
    text = data.decode("utf-8", "replace")
    once = Scrubber().scrub(text)
    assert Scrubber().scrub(once) == once
    try:
        url = SourceUrl.parse(text)
    except ValueError as error:
        _one_line(error)
        return
    assert SourceUrl.parse(url.reveal()) == url


def _one_line(error: Exception) -> None:
    assert "\n" not in str(error)


def _result(frame: int) -> Result:
    return Result("cam", frame, frame / 25, None, 64, 48, Detections.empty(), {})


def _append(folder: Path, frames: range, rotate: Rotate | None) -> None:
    sink = JsonlSink(folder / "{stream}.jsonl", mode="append", run_id="r", rotate=rotate)
    sink.open()
    sink.begin(StreamInfo("cam"))
    for frame in frames:
        sink.write(_result(frame))
    sink.close()


def _frames(folder: Path) -> list[int]:
    rotated = sorted(folder.glob("cam.jsonl.*"), key=lambda path: -int(path.suffix[1:]))
    paths = [*rotated, folder / "cam.jsonl"]
    return [json.loads(line)["frame"] for path in paths for line in path.read_bytes().split(b"\n")[:-1]]


def records(data: bytes) -> None:
    """A file of results, cut anywhere, perhaps followed by zeros as file systems leave them: every whole line of it is
    still there after the next run has appended, and all of it parses."""
    if len(data) < 4:
        return
    count, cut, zeros, small = data[0] % 8, int.from_bytes(data[1:3], "big"), data[3] % 5 * 100, data[3] % 2
    rotate = Rotate(max_mb=0.0006, keep=50) if small else None
    with tempfile.TemporaryDirectory(prefix="records-") as name:
        folder = Path(name)
        _append(folder, range(count), rotate)
        path = folder / "cam.jsonl"
        os.truncate(path, min(cut, path.stat().st_size))
        whole = _frames(folder)
        with path.open("ab") as file:
            file.write(bytes(zeros))
        _append(folder, range(100, 103), rotate)
        assert _frames(folder) == [*whole, 100, 101, 102]


def foreign(data: bytes) -> None:
    """A file of somebody else is refused or continued, and what it held up to its last line's end is never cut."""
    with tempfile.TemporaryDirectory(prefix="foreign-") as name:
        path = Path(name) / "cam.jsonl"
        path.write_bytes(data)
        try:
            _append(Path(name), range(2), None)
        except SinkError as error:
            _one_line(error)
            assert path.read_bytes() == data
        else:
            assert path.read_bytes().startswith(data[: data.rfind(b"\n") + 1])


TARGETS: dict[str, Callable[[bytes], None]] = {
    "configuration": configuration,
    "redaction": redaction,
    "url": url_text,
    "records": records,
    "foreign": foreign,
}
