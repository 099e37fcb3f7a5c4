# SPDX-License-Identifier: Apache-2.0
"""The trace for Perfetto: a track per thread on which nothing overlaps, and an arrow along every frame's way."""

from __future__ import annotations

import gc
import json
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.flow import Pipeline
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import Stream
from pipeline.ledger import Ledger, StreamLedger
from pipeline.ledger.journal import LATELY_NS, BatchRun, Lately, Write
from pipeline.ledger.times import BLOCK, StreamTimes
from pipeline.ledger.whole import WholeRun
from pipeline.report import save_trace, trace
from pipeline.testing import CopyStage, ListSink, ScriptedSource
from pipeline.timing import FRAME, GC_PAUSES, Mark, new_trace, now_ns
from tests.journeys import MS, World
from tests.media import Media, media
from tests.models import model

__all__ = ["media", "model"]

FRAMES = 9


def stream(name: str, **options: Any) -> Stream:
    source = ScriptedSource([number / 25 for number in range(FRAMES)])
    return Stream(source, [CopyStage()], StreamLedger(name), **options)


def events(pipeline: Pipeline) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(trace(pipeline.ledger.journal(0)))["traceEvents"]
    return found


def tracks(found: list[dict[str, Any]]) -> dict[int, str]:
    return {event["tid"]: event["args"]["name"] for event in found if event["name"] == "thread_name"}


def slices(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    names, by_track = tracks(found), defaultdict(list)
    for event in found:
        if event["ph"] == "X":
            by_track[names[event["tid"]]].append(event)
    return by_track


def test_every_frame_is_on_the_tracks_that_it_passed(run: Any) -> None:
    pipeline = run([stream("a"), stream("b")], [ListSink("jsonl")], batch_size=4)
    found = events(pipeline)
    on = slices(found)
    for name in ("a", "b"):
        for work in ("decode", "preprocess"):
            seen = [each["args"]["frame"] for each in on[f"read:{name}"] if each["name"] == work]
            assert sorted(seen) == list(range(FRAMES))
    assert len(on["follow"]) == len(on["write:jsonl"]) == 2 * FRAMES
    batches = [each for track, each_of in on.items() for each in each_of if each["name"].startswith("infer")]
    assert sum(each["args"]["items"] for each in batches) == 2 * FRAMES
    together = [frame for each in batches for frame in each["args"]["frames"]]
    assert sorted(together) == sorted(f"{name}#{number}" for name in "ab" for number in range(FRAMES))


def test_nothing_overlaps_on_a_track(run: Any) -> None:
    found = events(run([stream(name) for name in "abcde"], [ListSink()], batch_size=4, workers=2))
    for track, of_track in slices(found).items():
        ends = 0.0
        for event in sorted(of_track, key=lambda each: each["ts"]):
            assert event["ts"] >= ends - 1e-3, track
            ends = event["ts"] + event["dur"]


def test_arrows_lead_from_slice_to_slice(run: Any) -> None:
    found = events(run([stream("a")], [ListSink("jsonl")], batch_size=4))
    by_frame: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in found:
        if event["ph"] in "stf":
            by_frame[event["id"]].append(event)
    assert len(by_frame) == FRAMES
    spans = [(each["tid"], each["ts"], each["ts"] + each["dur"]) for each in found if each["ph"] == "X"]
    for arrow in by_frame.values():
        assert [event["ph"] for event in arrow] == ["s", "t", "t", "f"]
        assert [event["ts"] for event in arrow] == sorted(event["ts"] for event in arrow)
        for event in arrow:  # each end lies on a slice, else nobody would see it
            assert any(tid == event["tid"] and began <= event["ts"] <= ended for tid, began, ended in spans)


def ends_of_arrows(ledger: Ledger) -> list[list[str]]:
    """Of each arrow the slices that begin where it stops, with their tracks."""
    found: list[dict[str, Any]] = json.loads(trace(ledger.journal(0)))["traceEvents"]
    names = tracks(found)
    begins = {
        (event["tid"], event["ts"], event["name"]): f"{names[event['tid']]}: {event['name']}"
        for event in found
        if event["ph"] == "X"
    }
    arrows: dict[int, list[str]] = defaultdict(list)
    for event in found:
        if event["ph"] in "stf":
            on = [text for (tid, ts, _), text in begins.items() if (tid, ts) == (event["tid"], event["ts"])]
            arrows[event["id"]].append(" or ".join(sorted(on)))
    return list(arrows.values())


def test_the_arrow_of_a_frame_that_its_worker_prepared_begins_where_it_was_decoded() -> None:
    world = World("gate")
    made = world.trace("gate")
    made[Mark.PREPARED] = 0
    made[Mark.SEALED] -= 2 * MS
    made[Mark.MAKE], made[Mark.MADE] = made[Mark.SEALED], made[Mark.INFER]
    world.batch(made, items=1)
    world.finish("gate", made)
    assert ends_of_arrows(world.ledger) == [
        ["read:gate: decode", "detect:0: preprocess", "detect:0: infer 1", "follow: follow", "write:jsonl: write"]
    ]


def test_the_arrow_of_a_batch_that_overlaps_another_one_leads_to_it() -> None:
    """On a GPU the network is at work on the second while detections are made of the first."""
    world = World("gate")
    first, second = world.trace("gate"), world.trace("gate")
    second[Mark.INFER] = first[Mark.INFERRED]
    for number, marks in enumerate((first, second)):
        world.batch(marks, items=1 + number, number=number)
        world.finish("gate", marks)
    stops = [arrow[1] for arrow in ends_of_arrows(world.ledger)]
    assert stops == ["detect:0: infer 1", "detect:0 (2): infer 2"]


def test_workers_that_begin_at_the_same_time_are_told_apart() -> None:
    world = World("gate", "lobby")
    for worker, name in enumerate(("gate", "lobby")):
        marks = world.trace(name, infer=30 + worker)
        world.batch(marks, items=1 + worker, worker=f"detect:{worker}")
        world.finish(name, marks)
    assert [arrow[1] for arrow in ends_of_arrows(world.ledger)] == ["detect:0: infer 1", "detect:1: infer 2"]


def test_each_frame_has_an_arrow_of_its_own() -> None:
    """Names whose first frames have the same checksum."""
    names = ("aspjwwk", "rnrsgud")
    assert len({zlib.crc32(f"{name}#0".encode()) for name in names}) == 1
    world = World(*names)
    for name in names:
        world.frame(name)
    assert [len(arrow) for arrow in ends_of_arrows(world.ledger)] == [4, 4]


def test_a_lost_frame_says_where_it_was_lost(run: Any) -> None:
    hopeless = Terms(policy="freshest", staleness_ns=0)
    found = events(run([stream("a", terms=hopeless)], [ListSink()], fixed_batch=False))
    assert not [event for event in found if event["ph"] in "stf"], "an arrow leads from somewhere to somewhere"
    places = {each["args"].get("lost_in") for each in slices(found)["read:a"]}
    assert places == {"scheduler"}
    assert not slices(found)["follow"]


def test_tracks_are_in_the_order_of_the_route(run: Any) -> None:
    found = events(run([stream(name) for name in "ba"], [ListSink("jsonl")], batch_size=4, workers=1))
    shown = [name for _, name in sorted(tracks(found).items())]
    bases = list(dict.fromkeys(name.partition(" (")[0] for name in shown))
    known = [name for name in bases if name.partition(":")[0] in ("read", "wait", "follow", "write")]
    assert known == ["read:a", "read:b", "wait:a", "wait:b", "follow", "write:jsonl"]
    worker = {name for name in bases if name.startswith("detect")}
    assert not worker or worker == {bases[4]}
    rows = [int(name.partition(" (")[2].rstrip(")") or 1) for name in shown if name.startswith("wait:a")]
    assert rows == sorted(rows)
    assert min(tracks(found)) > 1, "Perfetto calls a thread with the number of its process the main thread"


def test_what_happens_after_the_run_is_not_in_its_trace(run: Any) -> None:
    pipeline = run([stream("a")], [ListSink()])
    gc.collect()
    ends = [each["ts"] + each["dur"] for each in events(pipeline) if each["ph"] == "X" and each["cat"] != "gc"]
    assert all(each["ts"] < max(ends) + 1e6 for each in slices(events(pipeline))["gc"])
    assert pipeline.ledger.end_ns
    assert all(pause.began_ns < pipeline.ledger.end_ns for pause in pipeline.ledger.journal(0).pauses)


def test_the_garbage_collector_has_a_track(run: Any) -> None:
    def collect(capture: Any) -> bool:
        gc.collect()
        return True

    found = events(run([stream("a", keep=collect)], [ListSink()]))
    assert any(each["name"] == "generation 2" for each in slices(found)["gc"])


def test_pauses_are_measured() -> None:
    GC_PAUSES.watch()
    before_ns = now_ns()
    gc.collect()
    pause = GC_PAUSES.since(before_ns)[-1]
    assert pause.generation == 2
    assert before_ns <= pause.began_ns < pause.ended_ns <= now_ns()


def test_only_the_last_seconds_are_remembered() -> None:
    times = StreamTimes(looks_back=True)
    step_ns = LATELY_NS // 100
    for number in range(10 * BLOCK):
        marks = new_trace()
        marks[Mark.READ], marks[Mark.DONE], marks[FRAME] = 1 + number * step_ns, 2 + number * step_ns, number
        times.finished(marks)
    newest = [marks[FRAME] for marks in times.newest(0)]
    assert newest[-1] == 10 * BLOCK - 1
    assert 100 <= len(newest) <= 101 + BLOCK
    assert [marks[FRAME] for marks in times.newest(3 + (10 * BLOCK - 4) * step_ns)] == newest[-3:]


def test_frames_that_are_all_lost_are_remembered_for_as_long() -> None:
    times = StreamTimes(looks_back=True)
    for number in range(1000):
        marks = new_trace()
        marks[Mark.READ], marks[FRAME] = 1 + number * LATELY_NS // 100, number
        times.lost(marks)
    assert [marks[FRAME] for marks in times.newest(0)] == list(range(899, 1000))


@pytest.mark.parametrize("whole", [False, True], ids=["lately", "for a file"])
def test_batches_and_writes_are_remembered_for_as_long(whole: bool) -> None:
    batches: Lately[BatchRun] = Lately()
    writes: Lately[Write] = Lately()
    if whole:
        batches.keep_more()
        writes.keep_more()
    for number in range(1000):
        at_ns = 1 + number * LATELY_NS // 100
        batches.add(BatchRun("detect", number, 1, at_ns, at_ns, at_ns))
        writes.add(Write(at_ns, at_ns, "gate", number))
    expected = list(range(0 if whole else 899, 1000))
    assert [batch.number for batch in batches.since(0)] == expected
    assert [write.frame for write in writes.since(0)] == expected


def marked(number: int) -> list[int]:
    """A frame of which every mark was passed, a millisecond after the one before."""
    marks = new_trace()
    for mark in Mark:
        marks[mark] = 1_000_000_000 + 100 * number * MS + mark * MS
    marks[FRAME] = number
    return marks


def test_a_whole_run_has_one_budget_for_all_streams(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger()
    ledger.keep_all()
    ledger._whole = WholeRun(most=100)
    for name in ("a", "b", "c"):
        ledger.add(StreamLedger(name))
    for number in range(200):
        began_ns = marked(number)[Mark.INFER]
        for name in ("a", "b", "c") if number < 100 else ("a", "b"):
            ledger.streams[name].times.finished(marked(number))
        ledger.batch(BatchRun("detect:0", number, 2, began_ns, began_ns + MS, began_ns + 2 * MS))
    journal = ledger.journal(0)
    numbers = {name: [marks[FRAME] for marks in journeys] for name, journeys in journal.journeys.items()}
    assert numbers == {"a": list(range(150, 200)), "b": list(range(150, 200))}
    assert journal.left_out == 500 - 100
    assert journal.batches[0].number == 150, "what is left out is left out on every track"
    with caplog.at_level("WARNING", "pipeline"):
        saved = json.loads(save_trace(journal, tmp_path / "t.json").read_text())
    assert "400 frames before these left out" in caplog.text
    assert saved["otherData"] == {"frames_left_out": 400}
    (notice,) = [event for event in saved["traceEvents"] if event["ph"] == "i"]
    assert notice["name"] == "400 frames before these left out"


def test_a_replay_writes_one(model: Path, media: Media, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = media.clip(count=20)
    words = ["replay", str(clip), "--model", str(model), "--out", str(tmp_path / "out"), "--trace"]
    assert main([*words, str(tmp_path / "out" / "t.json")]) == 0
    found = json.loads((tmp_path / "out" / "t.json").read_text())["traceEvents"]
    assert len(slices(found)["follow"]) == 20
    assert "t.json" in capsys.readouterr().out
    assert main([*words, str(tmp_path / "nowhere" / "t.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    for where, said in ((tmp_path, "is a folder"), ("/proc/1/t.json", "the folder /proc/1 cannot be written to")):
        words = ["replay", "pattern:?frames=2", "--trace", str(where), "--out", str(tmp_path / "out")]
        assert main(words) == 2, "before anything is computed"
        assert said in capsys.readouterr().err
