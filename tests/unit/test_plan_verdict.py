# SPDX-License-Identifier: Apache-2.0
"""What a plan says: the answer, the proof beside it, what limits it; in words, in tables, on a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from rich.console import Console

from pipeline.config import StreamConfig
from pipeline.errors import ModelHung, PipelineError
from pipeline.figures import NOTHING
from pipeline.plan.copies import Copy
from pipeline.plan.growth import Growth, further, grow
from pipeline.plan.headroom import Headroom
from pipeline.plan.outcome import Load
from pipeline.plan.page import page
from pipeline.plan.proof import Proof
from pipeline.plan.run import Plan
from pipeline.plan.text import ending, tables
from pipeline.plan.verdict import NOT_BORNE_OUT, exit_code, limit, verdict
from tests.plans import a_plan, said


def printed(plan: Plan) -> str:
    console = Console(file=io.StringIO(), width=80)
    report = said(plan)
    for part in (*tables(report), *ending(report)):
        console.print(part, soft_wrap=not hasattr(part, "columns"))
    return cast("io.StringIO", console.file).getvalue()


def test_what_goes_and_is_proven() -> None:
    plan = a_plan()
    report = said(plan)
    assert report["verdict"]["text"] == "sustainable: yes, 37 % headroom, 3 more such cameras"
    assert report["verdict"]["exit_code"] == 0
    assert report["proof"]["ratio"] == {"fps": 1.0, "p99": pytest.approx(2 / 3, abs=1e-3)}
    text = printed(plan)
    assert text.rstrip().endswith("sustainable: yes, 37 % headroom, 3 more such cameras")
    assert "proven: 20.0 frames per second measured, 20.0 predicted (x 1.00); p99 30.0 ms measured" in text
    assert all(len(line) <= 80 for line in text.splitlines()[:12])


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        ((8.0, 20.0), "the rate is off by more than 15 %"),
        ((10.0, 41.0), "p99 is off by more than a factor of 2"),
        ((10.0, 9.0), "p99 is off by more than a factor of 2"),
        ((0.0, 20.0), "the rate is off by more than 15 %"),
    ],
)
def test_what_was_measured_is_not_what_was_predicted(measured: tuple[float, float], why: str) -> None:
    plan = a_plan(measured=measured)
    found = verdict(plan)
    assert not found.borne_out
    assert found.within is False
    assert found.against[0] == why
    assert exit_code(plan, found) == NOT_BORNE_OUT
    assert "not confirmed" in printed(plan)
    assert said(plan)["verdict"]["text"].startswith("sustainable: not confirmed; predicted: yes, 37 % headroom")


@pytest.mark.parametrize(("fps", "borne_out"), [(5.3, True), (5.2, False), (7.0, True), (7.1, False)])
def test_where_frames_are_lost_as_predicted_the_rate_decides(fps: float, borne_out: bool) -> None:
    found = verdict(a_plan(fps=6.0, measured=(fps, 20.0), more=Headroom(0.6, -1, {})))
    assert (found.borne_out, found.within, found.sustained) == (borne_out, borne_out, False)


def grown(plan: Plan, proof: Proof | None, error: str = "") -> Plan:
    """The plan with three more streams, of which that was measured."""
    loads = further(plan.loads, 5)
    predicted = replace(plan.predicted, streams={load.name: plan.predicted.streams["gate"] for load in loads})
    if proof is not None:
        proof = replace(proof, streams={load.name: proof.streams["gate"] for load in loads})
    return replace(plan, growth=Growth(tuple(loads), predicted, proof, error))


def test_more_cameras_that_fit_are_tried_as_well() -> None:
    plan = a_plan()
    plan = grown(plan, plan.proof)
    assert plan.growth is not None
    assert [load.name for load in plan.growth.loads] == ["lobby", "gate", "lobby-2", "gate-2", "lobby-3"]
    report = said(plan)
    tried = report["headroom"]["proof"]
    assert (tried["streams"], tried["kept_up"], tried["behind"], tried["error"]) == (5, True, [], None)
    assert (tried["measured"]["fps"], tried["predicted"]["p99_ms"]) == (50.0, 20.0)
    assert report["verdict"]["text"] == "sustainable: yes, 37 % headroom, 3 more such cameras (proven)"
    text = " ".join(printed(plan).split())
    assert "with 3 more cameras, 5 in all: proven: 50.0 frames per second measured, 50.0 predicted; p99 30.0 ms" in text
    assert "With 3 more cameras, 5 in all: proven" in page(report)


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        ({"lost": {"overflow": 4}}, "", "not confirmed (5 of 5 did not keep up): 50.0 frames"),
        (None, "without a result for 30 s: gate-2", "not confirmed (without a result for 30 s: gate-2)"),
    ],
)
def test_more_cameras_that_do_not_keep_up_are_not_promised(change: dict[str, Any] | None, error: str, why: str) -> None:
    plan = a_plan()
    plan = grown(plan, None if change is None else a_plan(proven=change).proof, error)
    report = said(plan)
    assert report["verdict"]["text"].endswith("3 more such cameras (not confirmed)")
    assert report["verdict"]["exit_code"] == 0  # what was asked for was proven
    assert f"with 3 more cameras, 5 in all: {why}" in " ".join(printed(plan).split())
    assert "not confirmed" in page(report)


def test_a_run_of_more_cameras_that_fails_costs_the_plan_nothing_but_that() -> None:
    plan = a_plan()
    loads = further(plan.loads, 3)

    def refusing(error: PipelineError) -> Growth:
        def prove(copies: Sequence[Copy], some: Sequence[Load]) -> Proof:
            assert [copy.stream.name for copy in copies] == [load.name for load in some] == ["lobby", "gate", "lobby-2"]
            raise error

        copies = [
            Copy(stream, stream)
            for name in ("lobby", "gate")
            if (stream := StreamConfig.model_validate({"name": name, "source": "a.mp4"}))
        ]
        return grow(copies, loads, plan.predicted, prove)

    found = refusing(PipelineError("without a result"))
    assert (found.proof, found.error) == (None, "without a result")
    with pytest.raises(ModelHung):
        refusing(ModelHung("it hangs"))


def test_what_does_not_go_says_what_would() -> None:
    plan = a_plan(fps=6.0, measured=(6.1, 20.0), more=Headroom(0.6, -1, {}))
    report = said(plan)
    assert report["verdict"]["text"] == "sustainable: no, 12.0 of 20.0 frames per second; only 1 such camera would fit"
    assert report["verdict"]["exit_code"] == 4
    assert report["verdict"]["borne_out"]  # that it does not go was measured as well
    assert report["streams"]["gate"]["predicted"]["missing"] == pytest.approx(0.4)


def test_a_proof_that_keeps_up_where_it_should_not_is_no_proof() -> None:
    found = verdict(a_plan(fps=9.5, measured=(10.0, 20.0), more=Headroom(0.9, -1, {})))
    assert found.within
    assert not found.sustainable
    assert not found.borne_out


@pytest.mark.parametrize(
    ("proven", "run", "against"),
    [
        ({"lost": {"overflow": 4}}, {}, "gate did not keep up"),
        ({"played_s": 9.0}, {}, "gate did not keep up"),  # its reader was late, and lost nothing
        ({"played_s": 9.45}, {}, "gate did not keep up"),  # three intervals may be missing at the ends: 0.3 s
        ({"played_s": 9.55}, {}, None),
        ({}, {"unwritten": 0.1}, "lobby, gate did not keep up"),
        (
            {"finished": 97, "lost": {}},
            {},
            None,
        ),  # fewer came than was measured before
        ({"lost": {"overflow": 2}}, {}, None),  # 2 %: as good as what was predicted
    ],
)
def test_a_stream_that_did_not_keep_up_is_named(
    proven: dict[str, Any], run: dict[str, Any], against: str | None
) -> None:
    plan = a_plan(proven=proven, run=run)
    found = verdict(plan)
    assert found.within
    assert found.against == (() if against is None else (against,))
    assert exit_code(plan, found) == (0 if against is None else NOT_BORNE_OUT)
    text = " ".join(printed(plan).split())
    assert ("proven: " if against is None else f"not confirmed ({against}): 20.0") in text


def test_a_budget_that_is_kept_only_by_the_prediction_speaks_against_it() -> None:
    late = a_plan(budget_ms=25.0)  # p90 is 20 ms predicted, 30 ms measured
    assert verdict(late).sustainable
    assert verdict(late).against == ("lobby, gate did not keep up",)
    assert verdict(a_plan(budget_ms=35.0)).borne_out
    both = a_plan(budget_ms=15.0)
    assert (verdict(both).sustainable, verdict(both).sustained, verdict(both).borne_out) == (False, False, True)


def test_a_budget_that_is_shorter_than_a_frame_takes_is_named() -> None:
    """2 ms of decoding, 1 of preparing, 5 of the network and 0.1 of the sink."""
    plan = a_plan(budget_ms=8.0, more=Headroom(0.0, -2, {}))
    report = said(plan)
    assert report["predicted"]["late"]["gate"] == {"budget_ms": 8.0, "least_ms": 8.1}
    assert report["verdict"]["text"] == (
        "sustainable: no, lobby cannot keep its latency_budget_ms of 8: a frame by itself takes 8.10 ms; nor can gate"
    )
    (figures,) = [line for line in printed(plan).splitlines() if line.startswith("could be, frames per second")]
    assert figures.split()[-1] == NOTHING
    assert "0.00" not in page(report).partition("Sustainable")[2].partition("</div>")[0]
    assert "no rate keeps every latency_budget_ms" in page(report)


def test_streams_that_would_be_late_are_named() -> None:
    report = said(a_plan(budget_ms=15.0, more=Headroom(0.5, -2, {})))
    assert report["verdict"]["text"] == (
        "sustainable: no, lobby, gate would be over the latency_budget_ms; not one such camera would fit"
    )
    assert said(a_plan(budget_ms=25.0))["predicted"]["late"] == {}
    lost = said(a_plan(fps=6.0, measured=(6.1, 20.0), budget_ms=15.0, more=Headroom(0.6, -1, {})))
    assert lost["verdict"]["text"].startswith("sustainable: no, 12.0 of 20.0 frames per second"), "that comes first"


def test_at_little_load_more_cores_than_predicted_are_no_surprise() -> None:
    assert any("slow when it wakes" in text for text in said(a_plan(cores=0.5))["assumptions"])
    assert not any("slow when it wakes" in text for text in said(a_plan(cores=1.2))["assumptions"])


def test_at_the_limit_a_frame_more_or_less_is_no_contradiction() -> None:
    plan = a_plan(fps=9.85, measured=(9.9, 20.0), more=Headroom(0.9, -1, {}))
    assert verdict(plan).borne_out
    assert said(plan)["verdict"]["exit_code"] == 4


def test_what_others_took_during_the_proof_is_said() -> None:
    text = " ".join(printed(a_plan(run={"others": 0.6})).split())
    assert "the machine was busy: others used 0.6 of 2 cores during the proof; a quiet one may do more" in text
    late = " ".join(printed(a_plan(measured=(10.0, 41.0), run={"others": 0.6})).split())
    assert "during the proof; plan again on a quiet one" in late
    assert "others used 0.6 of 2 cores" in page(said(a_plan(run={"others": 0.6})))
    assert "machine was busy" not in printed(a_plan(run={"others": 0.1}))


def test_memory_of_cameras_that_are_read_apart_counts() -> None:
    plan = a_plan(isolation_mb=300.0, run={"memory_mb": 820.0})
    report = said(plan)
    assert (report["predicted"]["memory_mb"], report["proof"]["memory_mb"]) == (800.0, 820.0)
    assert report["verdict"]["reserve"]
    assert ["memory", "800", "MiB", "820", "MiB", "0.98"] in [line.split() for line in printed(plan).splitlines()]
    full = said(a_plan(isolation_mb=450.0))  # 950 of 1000
    assert not full["verdict"]["reserve"]
    assert full["verdict"]["text"] == "sustainable: yes, but without the usual reserve"
    short = said(a_plan(more=Headroom(1.37, 1, {}, memory=True)))
    assert short["verdict"]["text"].endswith("1 more such camera (memory is what is short)")


def test_what_goes_without_a_reserve() -> None:
    report = said(a_plan(cores=1.95, more=Headroom(0.93, 0, {})))
    assert report["verdict"]["text"] == "sustainable: yes, but without the usual reserve"
    assert not report["verdict"]["reserve"]


def test_what_was_left_out_is_said() -> None:
    plan = a_plan(unreachable={"yard": "rtsp://10.0.0.9/x: cannot open: connection refused"})
    report = said(plan)
    assert report["verdict"]["exit_code"] == 3
    assert "yard: left out: rtsp://10.0.0.9/x" in printed(plan)
    assert "was left out" in page(report)


@pytest.mark.parametrize(
    ("more", "kind", "text", "helps"),
    [
        ({}, "network", "the CPU, 0.50 of 2.00 cores busy: network 60 %, decode 40 %", "`pipeline model tune m.pt`"),
        ({"use": {"decode": 0.5, "network": 0.1}}, "decode", "decode 83 %", "skip: nonref"),
        ({"device": 0.9}, "network", "the GPU, busy 90 % of the time", "model tune"),
        ({"sinks_ms": {"video": 48.0}}, "sink", "sink video, whose thread is busy 96 % of the time", "without video"),
    ],
)
def test_what_limits_it(more: dict[str, Any], kind: str, text: str, helps: str) -> None:
    found = limit(a_plan(**more))
    assert found[0] == kind
    assert text in found[1]
    assert helps in (found[2] or "")


def test_without_a_proof_nothing_is_said_to_be_proven() -> None:
    plan = a_plan(measured=None)
    assert said(plan)["proof"] is None
    assert said(plan)["verdict"]["borne_out"] is None
    assert "not proven" in printed(plan)
    assert "not proven" in page(said(plan)).lower()


def test_a_busy_machine_is_mentioned() -> None:
    plan = a_plan(free=0.6)
    assert "the machine was busy: only 60 % of its cores were free" in printed(plan)
    assert any("60 %" in text for text in said(plan)["assumptions"])


def test_names_from_outside_are_escaped() -> None:
    report = said(a_plan())
    report["streams"]["<b>x"] = report["streams"].pop("lobby")
    report["file"] = "<script>.yaml"
    shown = page(report)
    assert "<b>x" not in shown
    assert "<script>" not in shown
