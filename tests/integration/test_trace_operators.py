# SPDX-License-Identifier: Apache-2.0
"""Torch's operators in the trace: on the threads that ran them, and on the pipeline's own clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from torch.profiler import record_function

from pipeline.cli import main
from pipeline.ledger import BatchRun, Journal, Ledger
from pipeline.report import operators, trace
from pipeline.report.operators import MOMENT, MOMENTS, Operators, Span, slices
from pipeline.report.perfetto import Slice
from pipeline.timing import now_ns
from tests.daemons import JSONL, config
from tests.media import Media, media
from tests.models import model
from tests.processes import Running, daemon

__all__ = ["daemon", "media", "model"]

MS = 1_000_000


def look(work: Callable[[], None], name: str = "worker") -> Operators:
    """What is seen of ``work``, done in another thread while somebody looks."""
    ledger = Ledger()
    seen = Operators(lambda: ledger, lambda: "cpu")
    seen.begin()
    seen.wait_until_it_looks()
    worked, done = threading.Event(), threading.Event()

    def run() -> None:
        work()
        worked.set()
        done.wait(10)  # a name is known for as long as there is the thread

    thread = threading.Thread(target=run, name=name)
    thread.start()
    assert worked.wait(60)
    seen.end()
    done.set()
    thread.join()
    assert seen.error is None
    return seen


def test_a_range_that_our_clock_knows_is_where_our_clock_says() -> None:
    known: list[Span] = []

    def work() -> None:
        for number in range(20):
            began_ns = now_ns()
            with record_function(f"known {number}"):
                torch.ones(100, 100) @ torch.ones(100, 100)
            known.append(Span(began_ns, now_ns()))

    seen = look(work)
    found = {each.name: each for each in seen.slices if each.name.startswith("known")}
    assert len(found) == 20
    apart_ns = []
    for number, ours in enumerate(known):
        each = found[f"known {number}"]
        apart_ns += [abs(each.began_ns - ours.began_ns), abs(each.ended_ns - ours.ended_ns)]
    # A thread may be put aside between a mark of ours and one of torch's, but not each time.
    assert sorted(apart_ns)[len(apart_ns) // 2] < MS
    assert {each.track for each in found.values()} == {"worker operators"}


def test_a_thread_may_be_called_as_python_calls_it() -> None:
    """What looks like the number of a row is one only where it is a number."""
    names = ["Thread-7 (_work) operators", "read:gate (2)", "read:gate (10)", "read:gate"]
    document = orjson.loads(trace(Journal({}, [], {}, []), [Slice(name, "aten::mm", 1000, 2000, {}) for name in names]))
    shown = [each for each in document["traceEvents"] if each["name"] == "thread_name"]
    assert [each["args"]["name"] for each in sorted(shown, key=lambda each: each["tid"])] == [
        "read:gate", "read:gate (2)", "read:gate (10)", "Thread-7 (_work) operators"
    ]  # fmt: skip


def test_operators_lie_within_each_other() -> None:
    def work() -> None:
        torch.nn.functional.conv2d(torch.ones(1, 3, 32, 32), torch.ones(8, 3, 3, 3))

    seen = sorted((each for each in look(work).slices if each.track.startswith("worker")), key=lambda one: one.began_ns)
    assert {"aten::conv2d", "aten::convolution"} <= {each.name for each in seen}
    open_until: list[int] = []
    for each in seen:
        while open_until and open_until[-1] <= each.began_ns:
            open_until.pop()
        assert not open_until or each.ended_ns <= open_until[-1], f"{each.name} crosses the end of another"
        open_until.append(each.ended_ns)


class Event:
    """As torch's profiler has it."""

    def __init__(self, kind: str, name: str, span: Span, resource: int = 7, device: int = 0) -> None:
        self._facts = {
            "name": name, "activity_type": kind, "start_ns": span.began_ns, "end_ns": span.ended_ns,
            "device_index": device, "device_resource_id": resource,
        }  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        return lambda: self._facts[name]


def test_its_clock_is_set_by_both_ends() -> None:
    """Theirs is half a century ahead, and a part in a thousand too fast; ours is what it would have shown."""
    SECOND = 1_000_000_000

    def theirs(ours: Span) -> Span:
        return Span(*(at + at // 1000 + 1_700_000_000 * SECOND for at in ours))

    moments = [Span(at + n * MS, at + n * MS + 2000) for at in (0, 10 * SECOND) for n in range(MOMENTS)]
    wanted = [Span(at * SECOND, at * SECOND + 5 * MS) for at in range(1, 10)]
    events = [
        *(Event("user_annotation", MOMENT, theirs(at), 9) for at in moments),
        *(Event("cpu_op", "aten::add", theirs(at)) for at in wanted),
        Event("kernel", "gemm", theirs(wanted[0]), 20, 1),
        Event("Trace", "all of it", Span(0, 1)),
    ]
    found = slices(events, {7: "detect:0"}, moments)
    assert [each.track for each in found] == ["detect:0 operators"] * 9 + ["gpu:1 stream 20"]
    for each, ours in zip(found, (*wanted, wanted[0]), strict=True):
        assert abs(each.began_ns - ours.began_ns) < 5_000
        assert abs(each.ended_ns - ours.ended_ns) < 5_000


def test_what_did_not_see_the_moments_is_refused() -> None:
    with pytest.raises(ValueError, match="0 of 2 moments"):
        slices([], {}, [Span(0, 1), Span(2, 3)])


@pytest.mark.parametrize("limit", ["batches", "time", "operators"])
def test_it_looks_for_so_long_only(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(operators, "BATCHES", 5 if limit == "batches" else 1_000_000)
    monkeypatch.setattr(operators, "LONGEST_S", 0.3 if limit == "time" else 60.0)
    monkeypatch.setattr(operators, "MOST", 20 if limit == "operators" else 1_000_000)
    ledger, over = Ledger(), threading.Event()
    seen = Operators(lambda: ledger, lambda: "cpu", lambda seen: over.set())
    seen.begin()
    seen.wait_until_it_looks()
    number = 0
    while not over.wait(0.01):
        number += 1
        assert number < 3000
        torch.ones(3) + 1
        ledger.batch(BatchRun("detect:0", number, 1, 1, 2, 3))
    seen.end()
    assert seen.error is None
    assert seen.slices


def test_a_run_that_never_began() -> None:
    seen = Operators(lambda: None, lambda: "cpu")
    seen.begin()
    seen.end()
    assert (seen.error, seen.slices, seen.began_ns) == (None, [], 0)


def by_track(path: Path) -> dict[str, list[dict[str, Any]]]:
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            found[names[event["tid"]]].append(event)
    return found


def test_a_replay(model: Path, media: Media, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "replay",
        str(media.clip(count=20)),
        "--model",
        str(model),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    assert main([*words, "--profile"]) == 2
    assert "--profile needs --trace FILE" in capsys.readouterr().err
    path = tmp_path / "t.json"
    assert main([*words, "--trace", str(path), "--profile"]) == 0
    on = by_track(path)
    batches = [each for each in on["detect:0"] if each["name"].startswith("infer")]
    assert len(batches) == 5
    seen = [each for each in on["detect:0 operators"] if each["name"].startswith("aten::")]
    for batch in batches:  # its operators are where it is, to within a millisecond
        assert any(
            batch["ts"] - 1e3 <= each["ts"] and each["ts"] + each["dur"] <= batch["ts"] + batch["dur"] + 1e3
            for each in seen
        )


@pytest.mark.slow
def test_a_daemon_writes_it_when_it_has_seen_enough(
    daemon: Callable[..., Running], model: Path, tmp_path: Path
) -> None:
    bars = "name: bars, source: 'pattern:?size=64x48&fps=400', pace: realtime"
    path = config(tmp_path, model, [bars], [JSONL])
    running = daemon(path, "--trace", str(tmp_path / "t.json"), "--profile")
    running.until(r"t\.json: written, with torch's operators")
    on = by_track(tmp_path / "t.json")
    assert any(each["name"].startswith("infer") for each in on["detect:0"])
    assert any(each["name"].startswith("aten::") for each in on["detect:0 operators"])
    written_ns = (tmp_path / "t.json").stat().st_mtime_ns
    code, log = running.end()
    assert (code, "t.json" in log.split("outputs")[-1]) == (0, True)
    assert "leaked" not in log, "Triton, which the profiler imports, counts what is left of it"
    assert (tmp_path / "t.json").stat().st_mtime_ns == written_ns
