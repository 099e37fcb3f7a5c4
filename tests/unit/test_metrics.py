# SPDX-License-Identifier: Apache-2.0
"""The metrics' text: the names of the contract, figures that are the ledger's, and syntax that others accept."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from pipeline.events import Condition
from pipeline.frame import StreamInfo
from pipeline.ledger import BLAMED, BatchRun, Ledger, SinkLedger, StreamLedger
from pipeline.metrics import exposition
from pipeline.metrics.text import Family, Histograms, text
from pipeline.timing import Mark, new_trace
from tests.journeys import BY_ITS_READER, World

SECOND = 1_000_000_000
NAMES = {
    "pipeline_frames_total",
    "pipeline_detections_total",
    "pipeline_drops_total",
    "pipeline_late_frames_total",
    "pipeline_stage_seconds_bucket",
    "pipeline_end_to_end_seconds_bucket",
    "pipeline_batch_size_bucket",
    "pipeline_jitter_seconds",
    "pipeline_result_age_seconds",
    "pipeline_picture_still_seconds",
    "pipeline_duplicate_pictures_total",
    "pipeline_stream_up",
    "pipeline_reconnects_total",
    "pipeline_queue_frames",
    "pipeline_sink_up",
    "pipeline_sink_info",
    "pipeline_sink_lost_total",
    "pipeline_config_last_reload_success",
    "pipeline_config_reloads_total",
    "pipeline_build_info",
    "pipeline_model_info",
    "pipeline_model_swaps_total",
}


class Running:
    reload_succeeded = True
    reloads: Mapping[str, int] = {"done": 3, "refused": 1}

    def __init__(self, ledger: Ledger | None) -> None:
        self.ledger = ledger

    def facts(self) -> dict[str, Any]:
        if self.ledger is None:
            return {"model": {}}
        swapped = {"swaps": [], "swaps_by_outcome": {"done": 2, "refused": 1}}
        return {"model": {"path": "/models/new.pt", "sha256": "ab" * 32, "adapter": "rows", "device": "cpu", **swapped}}

    def waiting(self) -> dict[str, int]:
        return {"gate": 2}


def trace(start_ns: int, *durations_ms: float) -> list[int]:
    """A frame that its reader prepared, with these times between them."""
    marks = new_trace()
    marks[Mark.READ] = at = start_ns
    for mark, duration in zip(BY_ITS_READER[1:], durations_ms, strict=True):
        marks[mark] = at = at + round(duration * 1e6)
    return marks


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.begin(SECOND)
    gate, gone = StreamLedger("gate", live=True), StreamLedger("gone", live=True)
    gate.awaited_ns = gone.awaited_ns = 0  # before the start
    ledger.add(gate)
    ledger.add(gone)
    gate.opened(StreamInfo("gate", live=True), gate.counters, SECOND)
    gone.at(Condition("backoff", "rtsp://viewer@10.0.0.9/: refused", "refused"))
    gate.counters.reconnects_by_cause["timeout"] = 3
    gate.counters.discontinuities, gate.counters.decode_errors = 2, 7
    gate.at(Condition("live"))
    gate.life.stands_still("no frame for 4 s")
    gate.life.moves()
    gate.life.param_changes = 1
    for number in range(10):
        marks = trace(SECOND + number * SECOND // 10, 4, 1, 2, 0, 1, 2, 0, 20, 1, 0, 0, 0, 5)
        gate.arrived(marks[Mark.READ], number / 10, 0, corrupt=number == 4)
        gate.published(marks)
        gate.finished(marks)
    gate.arrived(3 * SECOND, 1.0, 0, corrupt=False)
    gate.lost("overflow", new_trace())
    for size in (1, 4, 4):
        ledger.batch(BatchRun("detect:0", 1, size, 1, 2, 3))
    ledger.sinks["jsonl"] = SinkLedger(
        "jsonl", received=10, written=8, events_received=4, events_written=4, path="/out/{stream}.jsonl"
    )
    ledger.sinks["jsonl"].lost["overflow"] = 2
    ledger.sinks["video"] = SinkLedger("video", removed=lambda: 7)
    return ledger


def samples(text: bytes) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}"
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def test_figures_are_those_of_the_ledger(ledger: Ledger) -> None:
    found = samples(exposition(Running(ledger), now_ns=4 * SECOND))
    assert {key.partition("{")[0] for key in found} >= NAMES
    assert found["pipeline_frames_total{outcome=decoded,stream=gate}"] == 11
    assert found["pipeline_frames_total{outcome=processed,stream=gate}"] == 10
    assert found["pipeline_frames_total{outcome=corrupt,stream=gate}"] == 1
    assert found["pipeline_drops_total{reason=overflow,stream=gate}"] == 1
    assert found["pipeline_drops_total{reason=stale,stream=gone}"] == 0
    assert found["pipeline_reconnects_total{cause=timeout,stream=gate}"] == 3
    assert (found["pipeline_stream_up{stream=gate}"], found["pipeline_stream_up{stream=gone}"]) == (1, 0)
    assert found["pipeline_stream_state{state=backoff,stream=gone}"] == 1
    assert found["pipeline_queue_frames{stream=gate}"] == 2
    assert found["pipeline_result_age_seconds{stream=gate}"] == pytest.approx(4 - 1.9 - 0.031)
    assert found["pipeline_result_age_seconds{stream=gone}"] == pytest.approx(3)
    assert found["pipeline_stage_seconds_count{stage=infer,stream=gate}"] == 10
    assert found["pipeline_stage_seconds_sum{stage=infer,stream=gate}"] == pytest.approx(0.2)
    assert found["pipeline_stage_seconds_bucket{le=0.01,stage=infer,stream=gate}"] == 0
    assert found["pipeline_stage_seconds_bucket{le=0.025,stage=infer,stream=gate}"] == 10
    assert found["pipeline_end_to_end_seconds_sum{stream=gate}"] == pytest.approx(0.36)
    assert found["pipeline_batch_size_bucket{le=2.0}"] == 1
    assert (found["pipeline_batch_size_sum{}"], found["pipeline_batch_size_count{}"]) == (9, 3)
    assert found["pipeline_jitter_seconds{kind=departure,stage=follow,stream=gate}"] == pytest.approx(0, abs=1e-9)
    assert found["pipeline_sink_up{sink=jsonl}"] == 1
    assert found["pipeline_sink_info{path=/out/{stream}.jsonl,sink=jsonl}"] == 1
    assert found["pipeline_sink_lost_total{reason=overflow,sink=jsonl}"] == 2
    assert found["pipeline_sink_segments_removed_total{sink=video}"] == 7
    assert "pipeline_sink_segments_removed_total{sink=jsonl}" not in found, "it has no segments"
    assert found["pipeline_config_last_reload_success{}"] == 1
    assert found["pipeline_config_reloads_total{outcome=done}"] == 3
    assert found["pipeline_config_reloads_total{outcome=refused}"] == 1


def test_jitter_is_that_of_the_report(ledger: Ledger) -> None:
    found = samples(exposition(Running(ledger), now_ns=4 * SECOND))
    gate = ledger.streams["gate"].as_dict(SECOND)

    def seconds(stage: str, kind: str) -> float | None:
        return found.get(f"pipeline_jitter_seconds{{kind={kind},stage={stage},stream=gate}}")

    exits = gate["jitter"]["exits"]
    assert {"arrival", "decode", "infer", "sink"} <= set(exits)
    for part, figures in exits.items():
        for kind in ("transit", "transit_added", "interval", "interval_added"):
            expected = figures[f"{kind}_ms"]
            assert seconds(part, kind) == (None if expected is None else pytest.approx(expected / 1e3, abs=1e-12))
    for stage, stats in {**gate["stages"], "end_to_end": gate["end_to_end"]}.items():
        assert seconds(stage, "duration") == pytest.approx(stats["jitter_ms"] / 1e3, abs=1e-12)
        assert seconds(stage, "delay_variation") == pytest.approx(stats["delay_variation_ms"] / 1e3, abs=1e-12)


def test_late_frames_are_counted_by_the_part_to_blame() -> None:
    world = World("gate", "lobby", budget_ms=80)
    world.as_usual("gate")
    for parts in ({"infer": 100}, {"infer": 100}, {"batch": 100}):
        world.frame("gate", **parts)
    found = samples(exposition(Running(world.ledger), now_ns=4 * SECOND))
    late = {key: count for key, count in found.items() if key.startswith("pipeline_late_frames_total{")}
    assert len(late) == 2 * len(BLAMED)
    assert {key: count for key, count in late.items() if count} == {
        "pipeline_late_frames_total{part=infer,stream=gate}": 2,
        "pipeline_late_frames_total{part=batch,stream=gate}": 1,
    }


def test_what_happens_to_streams_is_counted_by_closed_sets(ledger: Ledger) -> None:
    found = samples(exposition(Running(ledger), now_ns=4 * SECOND))
    assert found["pipeline_stalls_total{stream=gate}"] == 1
    assert found["pipeline_param_changes_total{stream=gate}"] == 1
    assert found["pipeline_discontinuities_total{stream=gate}"] == 2
    assert found["pipeline_decode_errors_total{stream=gate}"] == 7
    events = {key: value for key, value in found.items() if key.startswith("pipeline_stream_events_total")}
    assert events == {
        "pipeline_stream_events_total{cause=,event=up,stream=gate}": 2,
        "pipeline_stream_events_total{cause=,event=discontinuity,stream=gate}": 1,
        "pipeline_stream_events_total{cause=stall,event=stalled,stream=gate}": 1,
        "pipeline_stream_events_total{cause=refused,event=down,stream=gone}": 1,
    }
    assert found["pipeline_sink_events_total{outcome=written,sink=jsonl}"] == 4
    assert found["pipeline_sink_events_total{outcome=lost,sink=jsonl}"] == 0


def test_why_a_stream_was_begun_anew_is_not_forgotten(ledger: Ledger) -> None:
    ledger.streams["gate"].failed("its reader hung in native code and was left behind", "hung")
    ledger.add(StreamLedger("gate", live=True))
    found = samples(exposition(Running(ledger), now_ns=4 * SECOND))
    assert found["pipeline_stream_events_total{cause=hung,event=ended,stream=gate}"] == 1


def test_the_age_of_a_stream_that_was_added_later(ledger: Ledger) -> None:
    """It has not been without a result since the start; but neither does a new life of a stream begin with none."""
    month = 30 * 86_400 * SECOND

    def age(name: str) -> float:
        return samples(exposition(Running(ledger), now_ns=month))[f"pipeline_result_age_seconds{{stream={name}}}"]

    for name in ("added", "gate", "gone"):
        account = StreamLedger(name, live=True)
        account.awaited_ns = month - 5 * SECOND
        ledger.add(account)
    assert age("added") == pytest.approx(5)
    assert age("gate") == pytest.approx(month / SECOND - 1.9 - 0.031)
    assert age("gone") == pytest.approx(month / SECOND - 1)
    ledger.retire("gone")
    account = StreamLedger("gone", live=True)
    account.awaited_ns = month - 7 * SECOND
    ledger.add(account)
    assert age("gone") == pytest.approx(7), "another stream of the same name"


def test_the_stages_of_all_frames_sum_to_the_whole(ledger: Ledger) -> None:
    found = samples(exposition(Running(ledger), now_ns=4 * SECOND))
    stages = sum(value for key, value in found.items() if key.startswith("pipeline_stage_seconds_sum"))
    assert stages == pytest.approx(found["pipeline_end_to_end_seconds_sum{stream=gate}"], abs=1e-9)


def test_earlier_lives_of_a_name_and_causes_in_words_are_no_labels(ledger: Ledger) -> None:
    ledger.add(StreamLedger("gate"))
    text = exposition(Running(ledger), now_ns=4 * SECOND)
    assert b"~" not in text
    assert b"rtsp" not in text


def test_before_anything_runs_there_is_little_to_tell() -> None:
    found = samples(exposition(Running(None), now_ns=0))
    names = {"pipeline_build_info", "pipeline_config_last_reload_success", "pipeline_config_reloads_total"}
    assert {key.partition("{")[0] for key in found} == names


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong(ledger: Ledger) -> None:
    text = exposition(Running(ledger), now_ns=4 * SECOND)
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_text_is_what_the_client_library_writes(ledger: Ledger) -> None:
    """Its writer is slower, since it checks what is constant here; the numbers are the same floats."""

    class Whole(Collector):
        def collect(self) -> Iterator[Metric]:
            return iter(text_string_to_metric_families(ours.decode()))

    ours = exposition(Running(ledger), now_ns=4 * SECOND)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Whole())
    theirs = generate_latest(registry)
    assert samples(theirs) == samples(ours)
    comments = [line for line in ours.splitlines() if line.startswith(b"#")]
    assert comments == [line for line in theirs.splitlines() if line.startswith(b"#")]


@pytest.mark.parametrize("value", ["plain", 'a "b" c', "back\\slash", "two\nlines", "\\n", "Tür 7 \N{WARNING SIGN}"])
def test_any_value_of_a_label_survives(value: str) -> None:
    family = Family("gauge", "x", 'says "x"\nand \\', ["which"])
    family.add([value], float("inf"))
    times = Histograms("y_seconds", "y", ("which",), (1.0,))
    times.add([value], [2], 3, 4.5)
    first, second = text_string_to_metric_families(text([family, times]).decode())
    assert first.documentation == 'says "x"\nand \\'
    assert [(sample.labels, sample.value) for sample in first.samples] == [({"which": value}, float("inf"))]
    assert {sample.labels["which"] for sample in second.samples} == {value}
    assert [sample.value for sample in second.samples] == [2, 3, 4.5, 3]


def test_the_model_in_use_and_what_came_of_swaps(ledger: Ledger) -> None:
    found = samples(exposition(Running(ledger), now_ns=4 * SECOND))
    told = {key: value for key, value in found.items() if key.startswith("pipeline_model_")}
    assert told == {
        f"pipeline_model_info{{adapter=rows,device=cpu,model=new.pt,precision=,sha256={'ab' * 6}}}": 1,
        "pipeline_model_swaps_total{outcome=done}": 2,
        "pipeline_model_swaps_total{outcome=refused}": 1,
        "pipeline_model_swaps_total{outcome=unchanged}": 0,
        "pipeline_model_swaps_total{outcome=superseded}": 0,
        "pipeline_model_swaps_total{outcome=stopped}": 0,
    }
