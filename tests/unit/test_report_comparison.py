# SPDX-License-Identifier: Apache-2.0
"""Runs side by side: ratios, what differs in their settings, and the tables of it."""

from __future__ import annotations

import io
from copy import deepcopy
from typing import Any

import pytest
from rich.console import Console

from pipeline.report import compose
from pipeline.report.comparison import FIGURES, compare, ratio
from pipeline.report.side_by_side import comparison
from tests.ledgers import FACTS, a_run


def a_report(*names: str, frames: int = 40) -> dict[str, Any]:
    return compose(a_run(*names, frames=frames).as_dict(), FACTS)


def slower(report: dict[str, Any], by: float) -> dict[str, Any]:
    """The same run, had every infer and so every frame taken longer; the distribution of infer moves by buckets."""
    changed = deepcopy(report)
    for part in (changed["total"], *changed["streams"].values()):
        for stats in (part["stages"]["infer"], part["end_to_end"]):
            stats.update({key: stats[key] * by for key in FIGURES})
        part["distributions"]["infer"]["buckets"] = [
            bucket + 64 for bucket in part["distributions"]["infer"]["buckets"]
        ]
    return changed


def slow(report: dict[str, Any]) -> dict[str, Any]:
    """The same with a p99 of many seconds."""
    changed = deepcopy(report)
    for part in (changed["total"], *changed["streams"].values()):
        for stage in part["stages"].values():
            stage["p99_ms"] = 40_533.75
    return changed


def shown(found: dict[str, Any], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in comparison(found):
        console.print(part, soft_wrap=not hasattr(part, "columns"))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_run_is_what_it_is() -> None:
    report = a_report("a", "b")
    found = compare([("x", report), ("y", report)])
    assert (found["differences"], found["only_in"]) == ({}, {})
    for parts in (found["total"], *found["streams"].values()):
        assert list(parts)[2:5] == ["queue", "decoder", "scheduler"]
        assert list(parts)[-1] == "end_to_end"
        for first, second in parts.values():
            assert first["likeness"] is None
            assert second["likeness"]["verdict"] == "same"
            assert second["likeness"]["d"] == 0
            assert set(second["ratio"].values()) <= {1.0, None}
    assert {run["ratio"]["fps"] for run in found["runs"]} == {1.0}


def test_what_is_slower_has_its_ratio_and_verdict() -> None:
    report = a_report("a")
    found = compare([("x", report), ("y", slower(report, 2.0)), ("z", report)])
    for parts in (found["total"], found["streams"]["a"]):
        _, second, third = parts["infer"]
        assert second["ratio"] == dict.fromkeys(FIGURES, 2.0)
        assert (second["likeness"]["verdict"], second["likeness"]["d"]) == ("differs", 1.0)
        assert (third["ratio"], third["likeness"]["verdict"]) == (dict.fromkeys(FIGURES, 1.0), "same")
        assert parts["decode"][1]["likeness"]["verdict"] == "same"


def test_settings_and_streams_that_differ_are_named() -> None:
    one, other = a_report("a", "b"), a_report("b", "c")
    other["machine"] = other["machine"] | {"cores": 96}
    other["model"] = other["model"] | {"precision": "bf16", "verdict": {"of": "probing"}}
    found = compare([("x", one), ("y", other)])
    assert found["differences"] == {
        "machine.cores": [one["machine"]["cores"], 96],
        "model.precision": ["fp32", "bf16"],
    }
    assert found["only_in"] == {"a": [0], "c": [1]}
    assert list(found["streams"]) == ["b"]
    lines = shown(found)
    assert "not alike: model.precision: A fp32, B bf16" in lines
    assert "not in all runs, so only in the figures of whole runs: a (A), c (B)" in lines
    # What stands below is of the stream that both have: its times, not those of the whole runs.
    other["total"] = slower(other, 9.0)["total"]
    lines = shown(compare([("x", one), ("y", other)]))
    assert any(line.startswith("b, ms") for line in lines)
    assert not any("differs" in line or "all, ms" in line for line in lines)


@pytest.mark.parametrize("cause", ["path", "sha256"])
def test_another_model_file_is_one_difference(cause: str) -> None:
    one, other = a_report("a"), a_report("a")
    of_the_file = {"sha256": "b", "format": "exported", "adapter": "yolo", "input": [64, 64], "precision": "bf16"}
    other["model"] = other["model"] | of_the_file | {"path": "b.pt"}
    if cause == "sha256":
        other["model"]["path"] = one["model"]["path"]
    assert list(compare([("x", one), ("y", other)])["differences"]) == [f"model.{cause}", "model.precision"]


def test_a_model_that_was_not_named_is_told_by_what_ran() -> None:
    one, other = a_report("a"), a_report("a")
    one["options"], other["options"] = {"model": one["model"]["path"]}, {"model": None}
    assert compare([("x", one), ("y", other)])["differences"] == {}
    other["model"] = other["model"] | {"path": "b.pt"}
    assert list(compare([("x", one), ("y", other)])["differences"]) == ["model.path"]
    one["model"] = other["model"] = {}  # both ended before their models were loaded
    assert list(compare([("x", one), ("y", other)])["differences"]) == ["options.model"]


def test_a_report_without_distributions_is_compared_by_its_figures() -> None:
    old, new = a_report("a"), a_report("a")
    for part in (old["total"], *old["streams"].values()):
        del part["distributions"], part["over_time"]
    for pair in ([("x", old), ("y", new)], [("y", new), ("x", old)]):
        infer = compare(pair)["total"]["infer"]
        assert infer[1]["likeness"] is None
        assert infer[1]["ratio"]["p50_ms"] == 1.0


def test_a_run_without_a_frame_has_no_figures_to_compare() -> None:
    found = compare([("x", a_report("a")), ("y", a_report("a", frames=0))])
    assert found["total"]["end_to_end"][1] is None
    assert found["runs"][1]["cpu_ms_per_frame"] is None
    assert shown(found)[-1] == "no frame was processed in B: there are no times to compare"


def test_runs_without_a_frame_do_not_keep_the_others_from_being_compared() -> None:
    report, empty = a_report("a"), a_report("a", frames=0)
    lines = shown(compare([("x", report), ("y", slower(report, 2.0)), ("z", empty)]))
    assert "no frame was processed in C: they have no times" in lines
    assert any("differs (D=1.00)" in line for line in lines)
    for runs in ([empty, report, report], [report, empty, empty]):
        assert shown(compare([(str(number), run) for number, run in enumerate(runs)]))[-1].endswith("to compare")


def test_runs_of_one_stream_each_are_compared_whatever_its_name() -> None:
    found = compare([("x", a_report("lobby")), ("y", a_report("gate")), ("z", a_report("lobby"))])
    assert (found["paired"], found["only_in"], list(found["streams"])) == (True, {}, ["lobby / gate"])
    assert found["streams"]["lobby / gate"]["infer"][2]["likeness"]["verdict"] == "same"
    assert "one stream each, compared though their names differ: lobby / gate" in shown(found)
    assert not compare([("x", a_report("lobby")), ("y", a_report("lobby"))])["paired"]


def test_runs_without_a_common_stream_say_which_they_have() -> None:
    found = compare([("x", a_report("a", "b")), ("y", a_report("c"))])
    assert (found["paired"], found["streams"]) == (False, {})
    lines = shown(found)
    start = lines.index("no stream in common (streams are paired by name), so only the whole runs are compared:")
    assert lines[start + 1 : start + 3] == ["  A has a, b", "  B has c"]
    assert any(line.startswith("end to end") for line in lines)


def test_ratios_of_nothing_are_nothing() -> None:
    assert (ratio(1.0, 0), ratio(None, 1.0), ratio(1.0, None), ratio(3.0, 2.0)) == (None, None, None, 1.5)


def test_the_verdict_is_whole_beside_figures_of_many_seconds() -> None:
    report = slow(a_report("a"))
    found = compare([("x", report), ("y", slower(report, 1.5))])
    verdicts = [line for line in shown(found) if "differs" in line]
    assert any(f"{1.5 * 40_533.75:,.2f}" in line for line in verdicts)
    assert all(line.endswith("(D=1.00)") for line in verdicts)


@pytest.mark.parametrize("streams", [1, 3, 9])
def test_the_tables_fit_eighty_columns(streams: int) -> None:
    report = a_report(*(f"camera-with-a-long-name-{index}" for index in range(streams)))
    found = compare([("runs/1", report), ("runs/2", slower(report, 1.5))])
    lines = shown(found)
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("A  runs/1: replay, complete, ")
    row = next(
        line
        for line in lines[lines.index(next(each for each in lines if "distribution" in each)) :]
        if "differs" in line
    )
    assert row.split()[-2:] == ["differs", "(D=1.00)"]
    assert row.split()[4:7] == ["1.50", "1.50", "1.50"]
    assert sum("distribution" in line for line in lines) == {1: 1, 3: 4, 9: 2}[streams]
