# SPDX-License-Identifier: Apache-2.0
"""OpenMetrics for who asks for it, and late frames as exemplars of the histograms that they are in."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

from pipeline.host.orphans import no_orphan
from pipeline.metrics import CONTENT_TYPE, OPENMETRICS, Shown, exposition
from pipeline.metrics.text import Exemplar, Histograms, text
from pipeline.testing import ManualClock
from pipeline.timing import FRAME, Anchor, Mark, now_ns
from pipeline.web.negotiation import preferred
from tests.boards import FakeBoard, client, serving
from tests.journeys import MS, World

SECOND = 1_000_000_000


class Running:
    reload_succeeded = True
    reloads: Mapping[str, int] = {"done": 0, "refused": 0}

    def __init__(self, world: World) -> None:
        self.ledger = world.ledger

    def facts(self) -> dict[str, Any]:
        return {"model": {}}

    def waiting(self) -> dict[str, int]:
        return {}


@pytest.fixture
def world() -> World:
    """200 frames of 46 ms, then frame 200 in the network and frame 201 waiting for its batch for longer than usual."""
    world = World("gate", "lobby", budget_ms=200)
    for stream in ("gate", "lobby"):
        world.as_usual(stream, 200)
    world.frame("gate", infer=330)
    world.frame("gate", batch=403)
    return world


def exemplars(content: bytes) -> dict[str, tuple[dict[str, str], float, float]]:
    """By series of the bucket."""
    return {
        f"{sample.name}{{{','.join(f'{k}={v}' for k, v in sorted(sample.labels.items()))}}}": (
            sample.exemplar.labels, sample.exemplar.value, float(sample.exemplar.timestamp),
        )
        for family in openmetrics_families(content.decode())
        for sample in family.samples
        if sample.exemplar is not None
    }  # fmt: skip


def test_late_frames_are_exemplars_of_what_made_them_late(world: World) -> None:
    anchor = Anchor(ManualClock(start_ns=0))
    found = exemplars(exposition(Running(world), 2 * SECOND, Shown(anchor)))
    first, second = (trace for trace in world.ledger.streams["gate"].times.newest(0) if trace[FRAME] in (200, 201))
    at = [1_700_000_000 + max(trace[: len(Mark)]) / 1e9 for trace in (first, second)]
    assert {series: (labels, value) for series, (labels, value, _) in found.items()} == {
        "pipeline_end_to_end_seconds_bucket{le=0.5,stream=gate}": ({"frame": "201"}, pytest.approx(0.446)),
        "pipeline_stage_seconds_bucket{le=0.5,stage=infer,stream=gate}": ({"frame": "200"}, pytest.approx(0.33)),
        "pipeline_stage_seconds_bucket{le=0.5,stage=queue,stream=gate}": ({"frame": "201"}, pytest.approx(0.407)),
    }
    assert found["pipeline_stage_seconds_bucket{le=0.5,stage=infer,stream=gate}"][2] == pytest.approx(at[0], abs=1e-3)
    assert found["pipeline_end_to_end_seconds_bucket{le=0.5,stream=gate}"][2] == pytest.approx(at[1], abs=1e-3)


def test_both_forms_say_the_same(world: World) -> None:
    anchor = Anchor()
    ours = exposition(Running(world), 2 * SECOND, Shown(anchor)).decode()
    assert ours.endswith("# EOF\n")
    classic = exposition(Running(world), 2 * SECOND).decode()
    assert " # {" not in classic

    def told(families: Iterator[Any]) -> dict[Any, float]:
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    assert told(openmetrics_families(ours)) == told(classic_families(classic))


def test_what_was_shown_once_is_shown_alike_again(world: World) -> None:
    """Prometheus takes an exemplar of another time for a new one, and one that is older for a mistake."""
    anchor = Anchor()
    first = exemplars(exposition(Running(world), 2 * SECOND, Shown(anchor)))
    assert [exemplars(exposition(Running(world), 2 * SECOND, Shown(anchor))) for _ in range(20)] == [first] * 20


def test_a_clock_that_is_set_moves_later_moments() -> None:
    clock = ManualClock(start_ns=5 * SECOND)
    began_ns = clock.wall_ns()
    anchor = Anchor(clock)
    assert anchor.wall_ns(4 * SECOND) == began_ns - SECOND
    clock.set_wall(began_ns + 50 * MS)
    assert anchor.wall_ns(4 * SECOND) == began_ns - SECOND, "what was told stays as it was told"
    clock.set_wall(began_ns + 3600 * SECOND)
    assert anchor.wall_ns(4 * SECOND) == began_ns + 3599 * SECOND


@pytest.mark.parametrize("value", [0.001, 0.0011, 1.0, 7.0])
def test_an_exemplar_is_in_its_bucket(value: float) -> None:
    family = Histograms("x_seconds", "x", ("which",), (0.001, 1.0))
    family.add(["a"], [1, 2], 3, 8.0, [Exemplar({"frame": "1"}, value, 1.5)])
    (parsed,) = openmetrics_families(text([family], openmetrics=True).decode())
    (holder,) = (sample for sample in parsed.samples if sample.exemplar is not None)
    above = {"0.001": 0.0, "1.0": 0.001, "+Inf": 1.0}[holder.labels["le"]]
    assert above < value <= float(holder.labels["le"])


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, CONTENT_TYPE),
        ("", CONTENT_TYPE),
        ("*/*", CONTENT_TYPE),
        ("text/html,application/xhtml+xml,*/*;q=0.8", CONTENT_TYPE),
        ("text/*", CONTENT_TYPE),
        (PROMETHEUS, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS),
        ("Application/OpenMetrics-Text;Version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", CONTENT_TYPE),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.4", CONTENT_TYPE),
        ("application/openmetrics-text;q=0, */*", CONTENT_TYPE),
        ("application/openmetrics-text;q=nan, text/plain;q=1e9", CONTENT_TYPE),
        (";;=,,;q", CONTENT_TYPE),
    ],
)
def test_who_asks_for_openmetrics_is_given_it(accept: str | None, chosen: str) -> None:
    assert preferred(accept, [CONTENT_TYPE, OPENMETRICS]) == chosen


def test_the_server_answers_in_both(world: World) -> None:
    board, running, anchor = FakeBoard(), Running(world), Anchor()
    forms = {OPENMETRICS: lambda: exposition(running, now_ns(), Shown(anchor))}
    with serving(board, metrics_in=forms) as server, client(server) as http:
        plain = http.get("/metrics")
        modern = http.get("/metrics", headers={"accept": PROMETHEUS})
    assert plain.headers["content-type"] == CONTENT_TYPE
    assert modern.headers["content-type"] == OPENMETRICS
    assert plain.headers["vary"] == modern.headers["vary"] == "accept"
    assert exemplars(modern.content)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
def test_a_prometheus_keeps_them(world: World, tmp_path: Path) -> None:
    board, running, anchor = FakeBoard(), Running(world), Anchor()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    forms = {OPENMETRICS: lambda: exposition(running, now_ns(), Shown(anchor))}
    with serving(board, metrics_in=forms) as server:
        target = server.url.removeprefix("http://").rstrip("/")
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: x, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        command = [
            "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={address}", "--enable-feature=exemplar-storage",
        ]  # fmt: skip
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=no_orphan())
        try:
            query = "query_exemplars?query=pipeline_end_to_end_seconds_bucket&start=0&end=9999999999"
            found: list[Any] = []
            deadline = time.monotonic() + 60
            while not found and process.poll() is None and time.monotonic() < deadline:
                threading.Event().wait(0.2)
                try:
                    with urllib.request.urlopen(f"http://{address}/api/v1/{query}", timeout=5) as answer:
                        found = json.load(answer)["data"]
                except OSError:
                    continue
        finally:
            process.terminate()
            process.wait(30)
    log_text = (tmp_path / "log").read_text()
    kept = [(one["seriesLabels"]["stream"], each["labels"]) for one in found for each in one["exemplars"]]
    assert kept == [("gate", {"frame": "201"})]
    assert "out-of-order exemplars" not in log_text
