# SPDX-License-Identifier: Apache-2.0
"""The tables in a terminal of 80 columns."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from pipeline.ledger import StreamLedger
from pipeline.report import compose
from pipeline.report.page import page
from pipeline.report.text import SLOWEST, SLOWEST_DETAILS, ending, tables
from pipeline.timing import Mark, new_trace
from tests.ledgers import FACTS, a_run, lose


def shown(parts: Iterable[RenderableType], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def report_of(*names: str, **changes: Any) -> dict[str, Any]:
    return compose(a_run(*names).as_dict(), FACTS) | changes


def test_one_stream_is_a_line_and_its_stages_with_their_percentiles() -> None:
    lines = shown(tables(report_of("a")))
    assert lines[0].split() == ["stream", "state", "frames", "fps", "p50", "ms", "p95", "ms", "dropped"]
    assert lines[1].split() == ["a", "finished", "5", "56.8", "10.00", "10.00", "0"]
    assert lines[3].split() == ["stages,", "ms", "count", "p50", "p95", "p99", "max", "jitter"]
    rows = {" ".join(line.split()[:-6]): line.split()[-6:] for line in lines[4:] if line}
    assert set(rows) == {
        "decode", "preprocess", "queue", "infer", "postprocess", "follow", "sink", "end to end",
    }  # fmt: skip
    assert rows["decode"] == ["5", "1.00", "1.00", "1.00", "1.00", "0.00"]
    assert rows["end to end"][0] == "5"
    assert float(rows["end to end"][4]) == 10.0


@pytest.mark.parametrize(("queue_ms", "paced", "said"), [(9.0, False, True), (4.0, False, False), (9.0, True, False)])
def test_a_replay_says_what_of_its_times_is_its_own_queue(queue_ms: float, paced: bool, said: bool) -> None:
    report = report_of("a")
    report["total"]["stages"]["queue"]["mean_ms"] = queue_ms
    report["streams"]["a"]["paced"] = paced
    line = "90 % of the mean time is the queue: files are read faster than the model works"
    assert (line in shown(tables(report))) is said
    assert ("90 % in the queue" in page(report)) is said


def test_several_streams_have_a_line_each_and_one_for_their_stages() -> None:
    ledger = a_run("plaza", "gate", "gone", "more", "still-more", "yet-more")
    lose(ledger.streams["gate"], "stale", 3)
    ledger.streams["gone"] = StreamLedger("gone")
    ledger.streams["gone"].failed("no such file")
    lines = shown(tables(compose(ledger.as_dict(), FACTS), details=True))
    assert [line.split() for line in lines[1:4]] == [
        ["plaza", "finished", "5", "56.8", "10.00", "10.00", "0"],
        ["gate", "finished", "5", "56.8", "10.00", "10.00", "3"],
        ["gone", "failed", "0", "\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}", "0"],
    ]
    assert lines[8].split() == ["stages,", "p95", "ms", "decode", "prep", "queue", "infer", "post", "follow", "sink"]
    assert [line.split() for line in lines[9:11]] == [
        [name, "1.00", "1.00", "4.00", "1.00", "1.00", "1.00", "1.00"] for name in ("plaza", "gate")
    ]
    assert lines[15].startswith("all 5 streams, ms "), "the one that failed has no times"
    assert lines[-2].split()[:4] == ["end", "to", "end", "25"]
    assert len(lines) == 7 + 1 + 6 + 1 + 9 + 1


def test_a_few_streams_have_a_table_of_their_stages_each() -> None:
    lines = shown(tables(report_of("plaza", "gate"), details=True))
    assert [line.split(",")[0] for line in lines if line.endswith("jitter")] == ["plaza", "gate", "all 2 streams"]


@pytest.mark.parametrize(("p99_ms", "shown_so"), [(0.02, False), (2.0, True)])
def test_what_follows_has_a_line_where_something_is_done(p99_ms: float, shown_so: bool) -> None:
    report = report_of("plaza")
    report["total"]["stages"]["follow"]["p99_ms"] = p99_ms
    assert any(line.startswith("follow") for line in shown(tables(report))) == shown_so


def test_a_long_name_is_whole() -> None:
    name = "".join(chr(ord("a") + index % 26) for index in range(64))
    lines = shown(tables(report_of(name)))
    assert "".join(line[:20].strip() for line in lines[1:5]) == name


def test_a_wide_terminal_shows_long_names_in_one_line() -> None:
    names = [f"a-rather-long-name-of-a-camera-{index}" for index in range(2)]
    report = report_of(*names)
    lines = shown(tables(report, 120, details=True), 120)
    assert [line.split()[0] for line in lines[1:3]] == names
    assert [line.split(",")[0] for line in lines if line.endswith("jitter")] == [*names, "all 2 streams"]
    assert max(map(len, lines)) == 80 + len(names[0] + ", ms ") - 20, "no wider than the names need"
    assert shown(tables(report, 90), 90)[1].startswith(f"{names[0][:30]}   finished")


def test_what_was_decoded_and_not_processed_is_told_apart() -> None:
    ledger = a_run("a")
    for index in range(3):
        ledger.streams["a"].arrived(1, index / 25, 0, False)
    ledger.streams["a"].decimated += 3
    assert shown(ending(compose(ledger.as_dict(), FACTS)), 200)[1].startswith(
        "5 of 8 decoded frames processed, 1 stream, in 200 ms, 25.0 fps"
    )


def test_a_stream_that_a_reload_changed_is_one_stream() -> None:
    lines = shown(ending(report_of("gate~1", "gate~2", "gate", "gone~1", "~earlier")), 200)
    assert any(line.startswith("25 frames of 2 streams in 200 ms") for line in lines)
    assert any(line.startswith("all 2 streams, ms") for line in shown(tables(report_of("gate~1", "gate", "gone~1"))))


def test_outputs_in_several_folders_have_a_line_each() -> None:
    files = [Path("out/a.jsonl"), Path("reports/report.json"), Path("out/b.jsonl")]
    assert shown(ending(report_of("a"), files), 200)[-2:] == [
        "outputs in out/: a.jsonl, b.jsonl",
        "outputs in reports/: report.json",
    ]


@pytest.mark.parametrize("streams", [1, 2, 12, 13, 40])
def test_no_line_is_wider_than_the_terminal(streams: int) -> None:
    names = [f"a-rather-long-name-of-a-camera-{index}" for index in range(streams)]
    lines = shown(tables(report_of(*names)))
    assert max(map(len, lines)) <= 80
    assert any("end to end" in line for line in lines)


@pytest.mark.parametrize("width", [40, 50, 60, 70])
@pytest.mark.parametrize("details", [True, False])
def test_a_narrow_terminal_has_fewer_figures_and_all_of_each(width: int, details: bool) -> None:
    lines = shown(tables(report_of(*(f"camera-{index}" for index in range(6))), width, details=details), width)
    assert max(map(len, lines)) <= width
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
    assert all(name in lines[0].split() for name in ("stream", "state", "p95", "dropped"))


def test_many_streams_collapse_to_the_slowest_and_say_so() -> None:
    ledger = a_run(*(f"s{index}" for index in range(30)))
    slow = [name for index, name in enumerate(ledger.streams) if index % 3 == 0]
    for number, name in enumerate(slow):
        trace = new_trace()
        trace[Mark.READ], trace[Mark.DONE] = 1, 1 + (100 + number) * 1_000_000
        for _ in range(100):
            ledger.streams[name].finished(trace)
    report = compose(ledger.as_dict(), FACTS)
    lines = shown(tables(report))
    assert lines[0] == f"the {SLOWEST} slowest of 30 streams, by end-to-end p95"
    assert [line.split()[0] for line in lines[2 : 2 + SLOWEST]] == slow[: -1 - SLOWEST : -1]
    lines, many = shown(tables(report, details=True)), SLOWEST_DETAILS
    assert [line.split()[0] for line in lines[2 : 2 + many]] == slow[::-1]
    assert [line.split()[0] for line in lines[4 + many : 4 + 2 * many]] == slow[::-1]
    assert any(line.startswith("all 30 streams") for line in lines)


def test_a_stream_that_was_begun_anew_is_one_of_many() -> None:
    ledger = a_run(*(f"s{index}" for index in range(30)))
    for name in ("s1", "s2"):
        ledger.streams[f"{name}~1"] = a_run(name).streams[name]
    lines = shown(tables(compose(ledger.as_dict(), FACTS)))
    assert lines[0] == f"the {SLOWEST} slowest of 30 streams (32 with those begun anew), by end-to-end p95"
    assert any(line.startswith("all 30 streams") for line in lines)


def test_the_end_names_failures_drops_and_outputs(tmp_path: Path) -> None:
    ledger = a_run("good", "cut", "gone")
    ledger.streams["cut"].ended("it ends 2 s early", at_limit=False, asked=False)
    ledger.streams["gone"].failed("no such file")
    lose(ledger.streams["cut"], "inference_error", 2)
    report = compose(ledger.as_dict(), FACTS)
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl", "report.json", "report.html")]
    console = Console(file=io.StringIO(), width=1000)
    for part in ending(report, files):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "gone: failed: no such file",
        "cut: 2 frames dropped (inference_error 2)",
        "cut: truncated: it ends 2 s early",
        "too short a run to tell what limited it",
        "15 frames of 3 streams in 200 ms, 75.0 fps, first result after 8.00 ms, 30 detections, mean batch 5",
        f"the stages of each stream: pipeline report {tmp_path}",
        f"outputs in {tmp_path}/: a.jsonl, b.jsonl, c.jsonl, d.jsonl, report.json, report.html",
    ]


@pytest.mark.parametrize("streams", [1, 2, 4, 6, 7, 40, 300])
def test_an_ending_is_a_screen(streams: int) -> None:
    """Tables and ending, of a run that lost frames everywhere; two lines of a terminal of 80 columns may be more."""
    ledger = a_run(*(f"camera-number-{index}" for index in range(streams)))
    for number, account in enumerate(ledger.streams.values()):
        lose(account, "overflow", 2 + number % 5)
        account.counters.decode_errors += 3
    report = compose(ledger.as_dict(), FACTS)
    files = [Path(f"out/{name}.jsonl") for name in ledger.streams] + [Path("out/report.json"), Path("out/report.html")]
    assert len(shown([*tables(report), *ending(report, files)])) <= 26


def test_more_that_went_wrong_than_fits_is_in_the_report() -> None:
    ledger = a_run(*(f"s{index}" for index in range(9)))
    for account in ledger.streams.values():
        account.failed("no such file")
    report = compose(ledger.as_dict(), FACTS)
    assert shown(ending(report), 200)[5] == "and 4 more; --out DIR keeps a report that has all"
    assert shown(ending(report, [Path("out/report.html")]), 200)[5] == "and 4 more, see report.html"


def test_many_outputs_are_a_few_names_and_a_number() -> None:
    names = [f"s{index}.jsonl" for index in range(7)]
    assert shown(ending(report_of("a"), [Path("out") / name for name in (*names, "report.json")]), 200)[-1] == (
        "outputs in out/: s0.jsonl, s1.jsonl, s2.jsonl, s3.jsonl, 3 more, report.json"
    )


def test_markup_in_an_error_is_shown_as_it_is() -> None:
    ledger = a_run("a")
    ledger.streams["a"].failed("expected [red]this[/] :smile: and [link=x]that")
    text = " ".join(shown(ending(compose(ledger.as_dict(), FACTS))))
    assert "expected [red]this[/] :smile: and [link=x]that" in text


def test_a_run_without_a_frame_needs_no_table() -> None:
    ledger = a_run("a", frames=0)
    report = compose(ledger.as_dict(), FACTS)
    assert [line.split() for line in shown(tables(report))[1:]] == [
        ["a", "finished", "0", *["\N{EN DASH}"] * 3, "0"],
        [],
    ]
    assert shown(ending(report)) == ["0 frames of 1 stream in 200 ms"]


def test_a_resumed_stream_is_called_so() -> None:
    earlier = report_of("a")["streams"]["a"]
    report = compose(a_run("b").as_dict(), FACTS | {"resumed": {"a": earlier}}, order=["a", "b"])
    assert shown(tables(report))[1].split() == ["a", "resumed", "5", "56.8", "10.00", "10.00", "0"]
    assert shown(ending(report))[-1].endswith("1 stream skipped, finished earlier")
