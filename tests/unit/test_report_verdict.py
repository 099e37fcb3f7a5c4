# SPDX-License-Identifier: Apache-2.0
"""The exit code as a table, and what is said about a run."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.report import exit_code, findings, verdict

OK_SINK = {"received": 10, "written": 10, "lost": {}, "state": "ok", "error": None}


def stream(
    state: str = "finished", *, decoded: int = 10, processed: int | None = None, **dropped: int
) -> dict[str, Any]:
    return {
        "state": state,
        "error": f"because {state}" if state in ("failed", "truncated") else None,
        "frames": {
            "decoded": decoded,
            "processed": decoded - sum(dropped.values()) if processed is None else processed,
            "dropped": dropped,
            "decimated": 0,
            "corrupt": dropped.get("corrupt", 0),
            "decode_errors": 0,
        },
    }


def report(*streams: dict[str, Any], error: str | None = None, **sink: Any) -> dict[str, Any]:
    named = {f"s{index}": entry for index, entry in enumerate(streams)}
    return {"error": error, "streams": named, "sinks": {"jsonl": OK_SINK | sink}}


FINISHED, TRUNCATED, FAILED, STOPPED = (stream(state) for state in ("finished", "truncated", "failed", "stopped"))


@pytest.mark.parametrize(
    ("run", "code", "strict_code"),
    [
        (report(FINISHED), 0, 0),
        (report(FINISHED, FINISHED), 0, 0),
        (report(stream(decoded=0)), 0, 0),  # an empty recording is no fault
        (report(FINISHED, TRUNCATED), 3, 1),
        (report(TRUNCATED), 3, 1),
        (report(FINISHED, FAILED), 3, 3),
        (report(TRUNCATED, FAILED), 3, 1),
        (report(FAILED), 1, 1),
        (report(FAILED, FAILED), 1, 1),
        (report(stream("truncated", decoded=0)), 1, 1),  # cut before its first frame: not usable
        (report(stream("truncated", decoded=0), FINISHED), 3, 1),
        (report(), 1, 1),
        (report(STOPPED), 0, 0),  # a signal's own code comes from the command line
        (report(FINISHED, lost={"write_error": 1}, state="degraded"), 1, 1),
        (report(FINISHED, TRUNCATED, lost={"write_error": 1}), 1, 1),
        (report(FINISHED, state="failed", error="disk full"), 1, 1),
        (report(FINISHED, error="frames unaccounted for"), 1, 1),
        (report(stream(inference_error=1)), 0, 1),  # one poison frame: counted, said, and strict minds
        (report(stream(inference_error=10)), 1, 1),  # not one frame got through
        (report(stream(stage_error=10), FINISHED), 3, 1),
        (report(stream(corrupt=10)), 0, 0),  # dropped because the configuration says so
    ],
)
def test_exit_code(run: dict[str, Any], code: int, strict_code: int) -> None:
    assert exit_code(run) == code
    assert exit_code(run, strict=True) == strict_code


@pytest.mark.parametrize(
    ("run", "word"),
    [
        (report(FINISHED), "complete"),
        (report(FINISHED, TRUNCATED), "partial"),
        (report(FAILED), "failed"),
        (report(FINISHED, STOPPED), "stopped"),
        (report(FAILED, STOPPED), "partial"),
    ],
)
def test_verdict(run: dict[str, Any], word: str) -> None:
    assert verdict(run) == word


def test_everything_that_went_wrong_is_named_and_errors_come_first() -> None:
    run = report(TRUNCATED, FAILED, STOPPED, FINISHED, stream(inference_error=2, stale=3), lost={"overflow": 4})
    found = [str(finding) for finding in findings(run)]
    assert found == [
        "jsonl: lost 4 results (overflow 4)",
        "s1: failed: because failed",
        "s4: 5 frames dropped (stale 3, inference_error 2)",
        "s0: truncated: because truncated",
        "s2: stopped after 10 frames",
    ]


def test_what_a_replay_lost_another_replay_brings() -> None:
    run = report(FINISHED, lost={"write_error": 4})
    run["sinks"]["jsonl"]["error"] = "cannot write out/gate.jsonl"
    lost = "jsonl: lost 4 results (write_error 4): cannot write out/gate.jsonl"
    assert str(findings(run | {"command": "run"})[-1]) == lost
    assert str(findings(run | {"command": "replay"})[-1]) == f"{lost}; its files have gaps: replay once more"


def test_what_many_streams_lost_is_one_line() -> None:
    run = report(*(stream(overflow=10 + number) for number in range(38)), stream(stage_error=1, stale=1))
    assert [(one.severity, str(one)) for one in findings(run)] == [
        ("error", "s38: 2 frames dropped (stage_error 1, stale 1)"),
        ("warning", "38 streams dropped 1,083 frames: overflow; most: s37 47"),
    ]
    run = report(*(stream(overflow=3, stale=1) for _ in range(3)))
    assert [str(one) for one in findings(run)] == [
        "3 streams dropped 12 frames: overflow 9, stale 3; 4 each",
    ]


def test_what_many_streams_could_not_decode_or_were_late_with_is_a_line_each() -> None:
    streams = []
    for number in range(4):
        one = stream()
        one["frames"] |= {"decode_errors": 1 + number, "corrupt": 2}
        one["late"] = {"frames": 5 * number, "limit_ms": 80.0, "by": "budget", "parts": {"queue": 5 * number}}
        one["slow_frames"] = []
        streams.append(one)
    assert [str(one) for one in findings(report(*streams))] == [
        "4 streams: 10 packets could not be decoded; most: s3 4",
        "3 streams: 30 frames over their budgets (queue 30); most: s3 15",
        "4 streams: 8 frames flagged as damaged by the decoder; 2 each",
    ]


def test_who_could_not_keep_its_own_pace_is_named() -> None:
    slow, slower = FINISHED | {"behind_ms": 15_200.0}, FINISHED | {"behind_ms": 65_000.0}
    well, asap = FINISHED | {"behind_ms": 990.0}, FINISHED | {"behind_ms": None}
    assert [(one.severity, str(one)) for one in findings(report(slow, well, asap, slower))] == [
        ("warning", "s0: fell 15.2 s behind its own pace"),
        ("warning", "s3: fell 1 min 05 s behind its own pace"),
    ]
    assert [str(one) for one in findings(report(slow, slower, slow))] == [
        "3 streams fell behind their own pace; most: s1 1 min 05 s"
    ]


def test_who_broke_off_and_came_back_is_named() -> None:
    once, often = FINISHED | {"reconnects": 1}, FINISHED | {"reconnects": 3}
    assert [(one.severity, str(one)) for one in findings(report(once, FINISHED, often))] == [
        ("warning", "s0: reconnected once"),
        ("warning", "s2: reconnected 3 times"),
    ]
    assert [str(one) for one in findings(report(once, often, often, often))] == ["4 streams: 10 reconnects; most: s1 3"]


def test_who_was_down_is_named_and_who_was_well_is_one_line() -> None:
    down = stream("stopped") | {"error": "rtsp://10.0.0.9/x: no route to host"}
    found = [(one.severity, str(one)) for one in findings(report(STOPPED, down, STOPPED))]
    assert found == [
        ("warning", "s1: was down when it was stopped, after 10 frames: rtsp://10.0.0.9/x: no route to host"),
        ("note", "2 streams stopped, after 20 frames together"),
    ]


def test_a_good_run_has_no_findings() -> None:
    assert findings(report(FINISHED, FINISHED)) == []


def test_a_playout_delay_that_is_too_short_is_a_warning() -> None:
    short, long, follows = stream(), stream(), stream()
    # One that follows the stream has no better length that could be advised.
    follows["playout"] = {"delay_ms": 40.0, "percentile": 90, "results": 100, "late": 20, "late_share": 0.2}
    short["playout"] = {"delay_ms": 40.0, "percentile": None, "results": 1000, "late": 25, "late_share": 0.025}
    long["playout"] = {"delay_ms": 80.0, "percentile": None, "results": 1000, "late": 10, "late_share": 0.01}
    assert [(found.severity, found.text) for found in findings(report(short, long, follows))] == [
        ("warning", "25 results (2.5 %) came too late for a playout_delay_ms of 40")
    ]


def test_a_promise_that_was_not_kept_is_a_warning() -> None:
    late = stream()
    late["late"] = {"frames": 12, "limit_ms": 80.0, "by": "budget", "parts": {"batch": 9, "infer": 3}}
    late["slow_frames"] = [{"frame": 412, "verdict": "queue +83 ms"}]
    assert [(found.severity, found.text) for found in findings(report(late))] == [
        ("warning", "12 frames over the budget of 80 ms (batch 9, infer 3); frame 412: queue +83 ms")
    ]
    late["late"]["by"] = "p99"
    assert findings(report(late)) == [], "one of a hundred is the slowest of a hundred"


def test_damage_is_a_warning() -> None:
    damaged = stream()
    damaged["frames"] |= {"decode_errors": 2, "corrupt": 1}
    assert [(found.severity, found.text) for found in findings(report(damaged))] == [
        ("warning", "2 packets could not be decoded"),
        ("warning", "1 frame flagged as damaged by the decoder"),
    ]


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ({"lost": 0, "lines_lost": 0}, []),
        ({"lost": 2, "lines_lost": 0}, ["2 packets not recorded: the disk was too slow"]),
        ({"lost": 1, "lines_lost": 3}, ["1 packet and 3 lines not recorded: the disk was too slow"]),
        (
            {"lost": 0, "lines_lost": 1, "reason": "full"},
            ["the recording in rec ended before the run: full; 1 line not recorded"],
        ),
    ],
)
def test_what_a_recording_lost_is_said(lost: dict[str, Any], said: list[str]) -> None:
    assert [finding.text for finding in findings(report(FINISHED) | {"recording": {"folder": "rec"} | lost})] == said


@pytest.mark.parametrize(("frames", "detections", "told"), [(100, 0, True), (99, 0, False), (100, 1, False)])
def test_a_run_that_found_nothing_in_many_frames_says_so(frames: int, detections: int, told: bool) -> None:
    run = report(stream(decoded=frames) | {"detections": detections}, stream(decoded=0) | {"detections": 0})
    said = "nothing was found in 100 frames; if there is something to be seen, look at confidence and classes"
    assert [(found.severity, found.text) for found in findings(run)] == ([("note", said)] if told else [])
    assert exit_code(run) == 0


def test_of_a_report_that_counts_no_detections_nothing_is_said() -> None:
    assert findings(report(stream(decoded=1000))) == []
