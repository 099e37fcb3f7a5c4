# SPDX-License-Identifier: Apache-2.0
"""What a collector is told, read by OpenTelemetry's own protocol, and what becomes of the pipeline when it is away."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.cli.program.running import logging_to_stderr
from pipeline.config import TelemetryConfig
from pipeline.ledger import Ledger, StreamLedger
from pipeline.ledger.times import BLOCK
from pipeline.metrics import Shown
from pipeline.metrics.exemplars import exemplars
from pipeline.telemetry import Telemetry, exporting
from pipeline.timing import Anchor, Mark, part_times
from tests.background import Background
from tests.daemons import no_network
from tests.http_servers import Quiet, answering
from tests.journeys import MS, World
from tests.otel import needs_otel

__all__ = ["no_network"]


class Collector:
    """Keeps what it is told."""

    def __init__(self, status: int = 200) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.metrics: dict[str, list[Any]] = {}
        self.told = threading.Condition()
        self.status = status
        self.asked = 0

    def take(self, path: str, body: bytes) -> None:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        with self.told:
            self.asked += 1
            if self.status != 200:
                pass
            elif path == "/v1/traces":
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.resources.append(facts(group.resource.attributes))
                    self.spans += [span for scope in group.scope_spans for span in scope.spans]
            else:
                assert path == "/v1/metrics"
                for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in told.scope_metrics:
                        for metric in scope.metrics:
                            which = metric.sum if metric.HasField("sum") else metric.gauge
                            self.metrics[metric.name] = list(which.data_points)
            self.told.notify_all()

    def until(self, seen: Callable[[Collector], bool], seconds: float = 30) -> None:
        with self.told:
            assert self.told.wait_for(lambda: seen(self), seconds)


def facts(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


@contextmanager
def listening(collector: Collector) -> Iterator[str]:
    """Where it is."""

    class Handler(Quiet):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

    with answering(Handler) as url:
        yield url


@contextmanager
def telling(endpoint: str, ledger: Ledger | None, **options: Any) -> Iterator[Telemetry]:
    telemetry = Telemetry(Anchor())
    telemetry.begin(TelemetryConfig(endpoint=endpoint, **options), lambda: ledger)
    try:
        yield telemetry
    finally:
        telemetry.end()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "LOOK_S", 0.05)


@pytest.fixture
def world() -> World:
    world = World("gate", "lobby", budget_ms=200)
    for stream in ("gate", "lobby"):
        world.as_usual(stream, 30)
    return world


pytestmark = pytest.mark.usefixtures("quick")


@needs_otel
def test_a_late_frame_is_a_trace_with_its_own_times(world: World) -> None:
    trace = world.frame("gate", infer=330)
    collector = Collector()
    with listening(collector) as endpoint, telling(endpoint, world.ledger, metrics=False) as telemetry:
        collector.until(lambda one: len(one.spans) > 0)
        world.as_usual("gate", 30)
    assert (telemetry.frames, telemetry.frames_lost) == (1, 0)
    whole, *rest = sorted(collector.spans, key=lambda span: len(span.parent_span_id))
    assert (whole.name, len(whole.trace_id), whole.parent_span_id) == ("frame", 16, b"")
    told = facts(whole.attributes)
    assert told["pipeline.verdict"] == "infer +300 ms: batch 7 of size 2"
    assert (told["pipeline.stream"], told["pipeline.frame"], told["pipeline.part"]) == ("gate", 30, "infer")
    assert told["pipeline.excess_ms"] == pytest.approx(300, 1e-3)
    assert (told["pipeline.limit_ms"], told["pipeline.limit_by"]) == (200, "budget")
    assert (told["pipeline.batch"], told["pipeline.batch_items"], told["pipeline.worker"]) == (7, 2, "detect:0")
    for span in rest:
        assert (span.trace_id, span.parent_span_id) == (whole.trace_id, whole.span_id)
    # The parts follow each other without a gap, take what the ledger says, and fill the whole.
    rest.sort(key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))
    assert rest[0].start_time_unix_nano == whole.start_time_unix_nano
    assert rest[-1].end_time_unix_nano == whole.end_time_unix_nano
    for before, after in pairwise(rest):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    took = {span.name: span.end_time_unix_nano - span.start_time_unix_nano for span in rest}
    assert took == part_times(trace)
    assert [facts(span.attributes)["pipeline.late"] for span in rest if span.name == "infer"] == [True]
    assert [facts(span.attributes)["pipeline.usual_ms"] for span in rest if span.name == "infer"] == [
        pytest.approx(30, 1e-2)
    ]
    apart_ns = time.time_ns() - time.monotonic_ns()
    assert abs(whole.start_time_unix_nano - trace[Mark.READ] - apart_ns) < 100 * MS
    assert collector.resources[0]["service.name"] == "video-pipeline"


@needs_otel
def test_frames_in_time_are_not_told_and_none_twice(world: World) -> None:
    collector = Collector()
    with listening(collector) as endpoint, telling(endpoint, world.ledger, metrics=False) as telemetry:
        for number in range(1, 4):
            world.frame("lobby", sink=300 + number)
            collector.until(lambda one, number=number: sum(s.name == "frame" for s in one.spans) == number)
            world.as_usual("lobby", 5)
    frames = [facts(span.attributes)["pipeline.frame"] for span in collector.spans if span.name == "frame"]
    assert frames == [30, 36, 42]
    assert (telemetry.frames, telemetry.frames_lost) == (3, 0)


@needs_otel
def test_exemplars_lead_to_traces(world: World) -> None:
    world.frame("gate", infer=330)
    collector = Collector()
    with listening(collector) as endpoint, telling(endpoint, world.ledger, metrics=False) as telemetry:
        collector.until(lambda one: len(one.spans) > 0)
        newest = world.ledger.streams["gate"].times.lateness().newest
        (shown,) = exemplars(newest, Shown(telemetry.anchor, telemetry.trace_id))["infer"]
    assert shown.labels == {"frame": "30", "trace_id": collector.spans[0].trace_id.hex()}
    assert Telemetry(Anchor()).trace_id(newest[0]) is None


@needs_otel
def test_metrics_are_those_of_the_ledger(world: World) -> None:
    world.frame("gate", infer=330)
    world.ledger.sinks["jsonl"].lost["overflow"] = 3
    collector = Collector()
    with listening(collector) as endpoint, telling(endpoint, world.ledger, traces=False) as telemetry:
        pass  # at the end in any case
    assert telemetry.exports == 1

    def told(name: str) -> dict[tuple[Any, ...], float]:
        return {
            tuple(facts(point.attributes).values()): point.as_int if point.HasField("as_int") else point.as_double
            for point in collector.metrics[name]
        }

    assert told("pipeline.frames")["gate", "processed"] == 31
    assert told("pipeline.frames")["lobby", "decoded"] == 30
    assert told("pipeline.late_frames")["gate", "infer"] == 1
    assert told("pipeline.sink.lost") == {("jsonl", "overflow"): 3}
    assert told("pipeline.stream.up").keys() == {("gate",), ("lobby",)}
    assert told("pipeline.telemetry.lost") == {(): 0}
    assert {"pipeline.drops", "pipeline.result.age"} <= collector.metrics.keys()


@needs_otel
def test_a_collector_that_refuses_costs_the_traces_and_nothing_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    collector = Collector(status=400)
    world.frame("gate", infer=330)
    with listening(collector) as endpoint, telling(endpoint, world.ledger, metrics=False) as telemetry:
        collector.until(lambda one: one.asked > 0)
    assert (telemetry.frames, telemetry.frames_lost) == (0, 1)
    assert "the collector did not take traces; traces lost so far: 1" in caplog.text
    assert telemetry.facts()["telemetry"]["frames_lost"] == 1


@needs_otel
def test_a_collector_that_never_answers_holds_up_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "END_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with telling(f"http://127.0.0.1:{silent.getsockname()[1]}", world.ledger) as telemetry:
            world.frame("gate", infer=330)
            connection, _ = silent.accept()
            began = time.monotonic()
            for _ in range(1000):
                world.frame("gate", infer=330)
            assert time.monotonic() - began < 5
            began = time.monotonic()
            telemetry.end()
            assert time.monotonic() - began < 5
            kept = world.ledger.streams["gate"].times.kept_since(0)[0]
            assert kept > 1
            assert (telemetry.frames, telemetry.frames_lost) == (0, kept), "what it was told, and what came meanwhile"
        connection.close()


@needs_otel
def test_metrics_that_nobody_took_before_the_end_are_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "END_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with telling(f"http://127.0.0.1:{silent.getsockname()[1]}", world.ledger, traces=False) as telemetry:
            telemetry.end()
            told = telemetry.facts()["telemetry"]
        silent.accept()[0].close()
    assert (told["exports"], told["exports_lost"]) == (0, 1)


@needs_otel
def test_what_comes_while_it_is_told_is_bounded_and_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MOST", 5)
    with ThreadPoolExecutor(1) as pool:  # frames end while nobody looks
        pool.submit(lambda: [world.frame("gate", infer=330 + number) for number in range(5 * BLOCK)]).result()
    collector = Collector()
    kept = world.ledger.streams["gate"].times.kept_since(0)[0]
    with listening(collector) as endpoint, telling(endpoint, world.ledger, metrics=False) as telemetry:
        collector.until(lambda one: len(one.spans) > 0)
    assert sum(span.name == "frame" for span in collector.spans) == telemetry.frames == 5
    assert telemetry.frames + telemetry.frames_lost == kept > 16


@needs_otel
def test_a_stream_that_began_anew_is_told_from_its_beginning(world: World) -> None:
    collector = Collector()
    with listening(collector) as endpoint, telling(endpoint, world.ledger, metrics=False) as telemetry:
        for number in (1, 2):
            world.frame("gate", infer=330)
            collector.until(lambda one, number=number: sum(s.name == "frame" for s in one.spans) == number)
            world.ledger.add(StreamLedger("gate", live=True, budget_ns=200 * MS))
            world.count["gate"] = 0
            world.as_usual("gate", 20)
    assert (telemetry.frames, telemetry.frames_lost) == (2, 0)


@needs_otel
def test_late_frames_of_a_life_that_ended_between_two_looks_are_lost(world: World) -> None:
    telemetry = Telemetry(Anchor())
    assert telemetry._late(world.ledger) == []
    for _ in range(2):  # the second one begins and ends unseen
        world.frame("gate", infer=330)
        world.ledger.add(StreamLedger("gate", live=True, budget_ns=200 * MS))
        world.ledger.streams["gate"].decoded = 1
    world.frame("gate", infer=330)
    assert [late.stream for late in telemetry._late(world.ledger)] == ["gate"]
    assert telemetry.frames_lost == 2
    world.ledger.retire("gate")
    assert telemetry._late(world.ledger) == []
    assert telemetry.frames_lost == 2, "that one was told"


@needs_otel
def test_a_library_that_raises_before_it_tells_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from pipeline.telemetry.spans import Spans

    sound, asked = Spans.of, threading.Event()

    def fails_once(spans: Spans, frames: Any) -> Any:
        if not asked.is_set():
            asked.set()
            raise TypeError("a fault of its own")
        return sound(spans, frames)

    def fails(reader: object) -> None:
        raise TypeError("another")

    monkeypatch.setattr(Spans, "of", fails_once)
    monkeypatch.setattr(InMemoryMetricReader, "get_metrics_data", fails)
    collector = Collector()
    with listening(collector) as endpoint, telling(endpoint, world.ledger) as telemetry:
        world.frame("gate", infer=330)
        assert asked.wait(30)
        world.as_usual("gate", 5)
        world.frame("gate", infer=331)
        collector.until(lambda one: len(one.spans) > 0)
    told = telemetry.facts()["telemetry"]
    assert told == {"frames": 1, "frames_lost": 1, "exports": 0, "exports_lost": 1}


@needs_otel
def test_a_library_that_raises_costs_what_was_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    asked = threading.Event()

    def fails(exporter: object, spans: object) -> None:
        asked.set()
        raise TypeError("a fault of its own")

    monkeypatch.setattr(OTLPSpanExporter, "export", fails)
    collector = Collector()
    with listening(collector) as endpoint, telling(endpoint, world.ledger) as telemetry:
        world.frame("gate", infer=330)
        assert asked.wait(30)
    assert (telemetry.frames, telemetry.frames_lost, telemetry.exports) == (0, 1, 1)


@needs_otel
def test_a_variable_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with listening(Collector()) as endpoint, telling(endpoint, None):
        assert "Invalid timeout value 'soon'" in caplog.text


@needs_otel
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization Bearer hunter2/Secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=eu, Basic aHVudGVyMi9TZWNyZXQ6aHVudGVyMi9TZWNyZXQ="),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "hunter2%2FSecret"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "bad name=hunter2/Secret"),
    ],
)
def test_a_token_that_is_written_wrongly_is_in_no_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    """OpenTelemetry repeats what it does not understand."""
    monkeypatch.setenv(name, said)
    with listening(Collector()) as endpoint, logging_to_stderr(logging.INFO), telling(endpoint, None):
        pass
    told = capsys.readouterr().err
    assert "Header format invalid!" in told
    assert not any(secret in told for secret in ("hunter2", "aHVudGVyMi9"))


@needs_otel
@pytest.mark.parametrize("section", [True, False])
def test_a_variable_that_the_library_refuses_costs_no_run_that_did_not_ask_for_it(
    no_network: object,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    section: bool,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
    path = tmp_path / "streams.yaml"
    streams = "streams: [{name: a, source: 'pattern:?size=64x48&frames=3', policy: every_frame}]\n"
    path.write_text(("telemetry: {}\n" if section else "") + streams)
    assert main(["run", str(path)]) == (2 if section else 0)
    told = capsys.readouterr().err
    assert "telemetry: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer but got many" in told
    assert ("nothing is sent to a collector" in told) is not section
    assert "Traceback" not in told


@needs_otel
def test_nothing_runs_yet() -> None:
    with listening(Collector()) as endpoint, telling(endpoint, None) as telemetry:
        pass
    assert telemetry.facts()["telemetry"] == {"frames": 0, "frames_lost": 0, "exports": 0, "exports_lost": 0}


@needs_otel
def test_a_daemon_tells(no_network: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collector = Collector()
    with listening(collector) as endpoint:
        path = tmp_path / "streams.yaml"
        path.write_text(
            f"telemetry: {{endpoint: '{endpoint}'}}\n"
            "streams: [{name: bars, source: 'pattern:?size=64x48&fps=200&frames=40', policy: every_frame,"
            " pace: realtime, latency_budget_ms: 0.1}]\n"
            f"sinks: [{{type: jsonl, path: '{tmp_path}/bars.jsonl'}}]\n"
        )
        assert main(["run", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    late = report["streams"]["bars"]["late"]["frames"]
    told = report["telemetry"]
    roots = [span for span in collector.spans if span.name == "frame"]
    assert 0 < told["frames"] == len(roots) <= late
    assert {facts(span.attributes)["pipeline.stream"] for span in roots} == {"bars"}
    assert told["exports"] >= 1
    assert "pipeline.frames" in collector.metrics


@needs_otel
def test_the_second_signal_waits_for_no_collector(
    no_network: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "END_S", 60.0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    began_to_end, left = threading.Event(), threading.Event()
    end = Telemetry.end

    def ending(telemetry: Telemetry, hurried: Callable[[], bool] = lambda: False) -> None:
        began_to_end.set()
        end(telemetry, hurried)

    monkeypatch.setattr(Telemetry, "end", ending)

    def stop_twice() -> None:
        connection, _ = silent.accept()  # it has begun to tell
        silent.close()  # no second try finds anybody
        with connection:
            os.kill(os.getpid(), signal.SIGTERM)
            assert began_to_end.wait(30)
            os.kill(os.getpid(), signal.SIGTERM)
            assert left.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = tmp_path / "streams.yaml"
        path.write_text(
            f"telemetry: {{endpoint: 'http://127.0.0.1:{silent.getsockname()[1]}', interval_s: 1}}\n"
            "streams: [{name: bars, source: 'pattern:?size=64x48&fps=50', pace: realtime}]\n"
            f"sinks: [{{type: jsonl, path: '{tmp_path}/bars.jsonl'}}]\n"
        )
        calls = Background(stop_twice)
        began = time.monotonic()
        assert main(["run", str(path), "--quiet"]) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 30
        (behind,) = (thread for thread in threading.enumerate() if thread.name == "telemetry")
        left.set()
        calls.result()
        behind.join(60)  # it was left behind, and has something to say when the collector hangs up
