# SPDX-License-Identifier: Apache-2.0
"""Late frames: which they are, which part made them so, and what else ran then, on journeys that never were."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pipeline.ledger import BatchRun, StreamLedger, Write
from pipeline.ledger.late import BLAMED, ENOUGH_FOR_P99, NEWEST, OF_A_BLOCK, SLOWEST
from pipeline.ledger.ledger import MUCH
from pipeline.ledger.times import BLOCK
from pipeline.timing import FRAME, GC_PAUSES, PARTS, WAITS, Mark, Pause, elapsed, new_trace
from tests.background import Background
from tests.journeys import EVERY_MS, MS, USUAL_MS, World


@pytest.fixture
def world() -> World:
    world = World("gate", "lobby", budget_ms=80)
    world.as_usual("gate")
    world.as_usual("lobby")
    return world


def late(world: World, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = world.ledger.streams[stream].as_dict(0)
    return found


def test_a_run_without_late_frames_says_nothing(world: World) -> None:
    told = late(world, "gate")
    assert told["late"] == {"frames": 0, "limit_ms": 80.0, "by": "budget", "parts": {}}
    assert told["slow_frames"] == []


@pytest.mark.parametrize("part", BLAMED)
def test_the_part_that_took_longer_than_usual_is_to_blame(world: World, part: str) -> None:
    trace = world.frame("gate", **{part: USUAL_MS[part] + 60})
    told = late(world, "gate")
    assert told["late"]["parts"] == {part: 1}
    (frame,) = told["slow_frames"]
    assert (frame["stream"], frame["frame"], frame["part"]) == ("gate", 100, part)
    assert frame["excess_ms"] == pytest.approx(60, rel=0.02)
    assert frame["parts_ms"] == {
        name: float(took) for name, took in (USUAL_MS | {part: USUAL_MS[part] + 60}).items() if took
    }
    assert sum(frame["parts_ms"].values()) == frame["end_to_end_ms"] == elapsed(trace) / MS
    assert frame["usual_ms"]["infer"] == pytest.approx(30, rel=0.01)
    stage = "queue" if part in WAITS else part
    assert frame["verdict"].startswith(f"{stage} +60 ms") or frame["verdict"].startswith(f"{stage} +59 ms")


def held(world: World, stream: str, wait_ms: int, **parts_ms: float) -> list[int]:
    """A frame of a stream with a playout delay, for whose time was waited."""
    trace = world.trace(stream, **parts_ms)
    trace[Mark.PLAYED] = trace[Mark.FOLLOWED] + wait_ms * MS
    for mark in (Mark.SINK, Mark.DONE):
        trace[mark] += wait_ms * MS
    world.finish(stream, trace)
    return trace


def test_who_leaves_in_his_time_is_not_late_however_long_he_was_held(world: World) -> None:
    trace = held(world, "gate", 200)
    told = late(world, "gate")
    assert elapsed(trace) > 200 * MS
    assert told["late"]["parts"] == {}
    assert told["waits"]["playout"]["count"] == 1


def test_what_makes_a_held_frame_late_is_never_the_hold(world: World) -> None:
    trace = held(world, "gate", 50, sink=40)
    (frame,) = late(world, "gate")["slow_frames"]
    assert (frame["part"], frame["parts_ms"]["playout"]) == ("sink", 50)
    assert sum(frame["parts_ms"].values()) == frame["end_to_end_ms"] == elapsed(trace) / MS


def test_the_longest_part_is_not_to_blame_where_it_is_usual(world: World) -> None:
    world.frame("gate", decode=29)
    assert late(world, "gate")["late"]["parts"] == {}
    world.frame("gate", decode=39)  # a little more than infer takes every time, which is no reason
    assert late(world, "gate")["late"]["parts"] == {"decode": 1}


def test_a_stream_without_a_budget_is_measured_by_itself() -> None:
    world = World("gate")
    took = []
    for number in range(ENOUGH_FOR_P99 + BLOCK):
        took.append(elapsed(world.frame("gate", infer=30 + number % 10)))
    told = late(world, "gate")
    p50, p99 = (float(np.percentile(took, at, method="inverted_cdf")) / MS for at in (50, 99))
    assert told["late"]["limit_ms"] == pytest.approx(max(p99, p50 + max(10, p50 / 4)), rel=0.01)
    assert (told["late"]["by"], told["late"]["frames"]) == ("p99", 0), "nothing was worth a word"
    world.frame("gate", infer=45)
    world.frame("gate", infer=95)
    told = late(world, "gate")
    assert told["late"]["parts"] == {"infer": 1}
    assert told["slow_frames"][0]["by"] == "p99"


def test_where_too_few_frames_came_nothing_is_unusual() -> None:
    world = World("gate")
    for _ in range(ENOUGH_FOR_P99 - 2):
        world.frame("gate")
    world.frame("gate", infer=1000)
    assert late(world, "gate")["late"] == {"frames": 0, "limit_ms": None, "by": "p99", "parts": {}}


def test_the_first_frames_have_nothing_usual_to_be_compared_with() -> None:
    world = World("gate", budget_ms=80)
    world.frame("gate", infer=500)
    told = late(world, "gate")
    assert told["late"]["parts"] == {"infer": 1}
    assert told["slow_frames"][0]["usual_ms"] == {}
    assert told["slow_frames"][0]["verdict"].startswith("infer +500 ms")


def test_a_budget_that_no_frame_can_keep_says_so() -> None:
    world = World("gate", budget_ms=20)
    world.as_usual("gate")
    told = late(world, "gate")
    assert told["late"]["parts"] == {"infer": 100}
    assert told["slow_frames"][0]["verdict"] == "infer 30 ms, as usual: the budget is less than a usual frame takes"


def test_where_frames_are_late_as_usual_a_frame_may_still_be_unusual() -> None:
    world = World("gate", budget_ms=40)
    world.as_usual("gate", 30)
    world.frame("gate", decode=94)
    told = late(world, "gate")
    assert told["late"]["parts"] == {"infer": 30, "decode": 1}
    assert told["slow_frames"][0]["verdict"] == "decode +90 ms"


class TestWhatElseRan:
    def test_a_batch_waited_for_another_stream(self, world: World) -> None:
        trace = world.trace("gate", batch=86)
        world.batch(trace, awaited="lobby", complete_ns=trace[Mark.SEALED], number=1412)
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +83 ms: batch 1412 waited for lobby"
        (frame,) = late(world, "gate")["slow_frames"]
        assert frame["beside"]["batch"] == {"number": 1412, "items": 2, "worker": "detect:0", "took_ms": 32.0}

    def test_a_batch_waited_and_nobody_came(self, world: World) -> None:
        trace = world.trace("gate", batch=86)
        world.batch(trace, awaited="gate", complete_ns=trace[Mark.QUEUED], number=1412)
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +83 ms: batch 1412 waited for more frames, and none came"

    def test_a_batch_waited_behind_another_of_its_worker(self, world: World) -> None:
        trace = world.trace("gate", batch=86)
        trace[Mark.SEALED] = trace[Mark.COLLECT] + MS
        behind = BatchRun("detect:0", 11, 2, trace[Mark.SEALED], trace[Mark.INFER] - MS, trace[Mark.INFER])
        world.ledger.batch(behind)
        world.batch(trace, number=12)
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +83 ms: batch 12 waited behind batch 11 of size 2 of detect:0"

    def test_a_batch_that_was_over_before_is_not_what_another_waited_behind(self, world: World) -> None:
        trace = world.trace("gate", batch=86)
        trace[Mark.SEALED] = trace[Mark.COLLECT] + MS
        over_ns = trace[Mark.READ] + MS
        world.ledger.batch(BatchRun("detect:0", 11, 2, over_ns - 30 * MS, over_ns - MS, over_ns))
        world.batch(trace, number=12)
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +83 ms"

    def test_a_batch_kept_the_worker(self, world: World) -> None:
        trace = world.trace("gate", scheduler=82)
        since, until = trace[Mark.PREPARED], trace[Mark.COLLECT]
        world.ledger.batch(BatchRun("detect:0", 11, 2, since, until - MS, until))
        world.batch(trace, number=12)
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +80 ms: batch 11 of size 2 kept detect:0 for 82 ms"
        (frame,) = late(world, "gate")["slow_frames"]
        assert [batch["number"] for batch in frame["beside"]["neighbours"]] == [11]

    def test_many_batches_were_served_first(self, world: World) -> None:
        trace = world.trace("gate", scheduler=82)
        since = trace[Mark.PREPARED]
        for number in range(4):
            began = since + 20 * number * MS
            world.ledger.batch(BatchRun("detect:0", number, 2, began, began + 19 * MS, began + 20 * MS))
        world.batch(trace)
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +80 ms: 4 batches were served before it"

    def test_a_big_batch(self, world: World) -> None:
        trace = world.trace("gate", infer=90)
        world.batch(trace, items=8)
        world.finish("gate", trace)
        assert world.verdict("gate") == "infer +60 ms: batch of 8 (usually 2)"

    def test_batches_of_two_workers_that_were_not_noted_in_the_order_of_their_ends(self, world: World) -> None:
        trace = world.trace("gate", infer=90)
        later = trace.copy()
        later[Mark.PARSED] += 5 * MS
        world.batch(later, number=10, worker="detect:1")
        world.batch(trace, number=9)
        before = [mark - 50 * MS for mark in trace]
        world.batch(before, number=8, worker="detect:1")
        world.finish("gate", trace)
        (frame,) = late(world, "gate")["slow_frames"]
        assert frame["beside"]["batch"]["number"] == 9
        assert [batch["number"] for batch in frame["beside"]["neighbours"]] == [10, 8]

    def test_an_ordinary_batch_that_took_long(self, world: World) -> None:
        trace = world.trace("gate", infer=90)
        world.batch(trace, number=9)
        world.finish("gate", trace)
        assert world.verdict("gate") == "infer +60 ms: batch 9 of size 2"

    def test_a_slow_sink(self, world: World) -> None:
        trace = world.trace("gate", sink=1001)
        world.batch(trace)
        world.finish("gate", trace, "video")
        assert world.verdict("gate") == "sink +1.0 s: video wrote"
        assert late(world, "gate")["slow_frames"][0]["beside"]["sink"] == "video"

    def test_a_sink_that_was_busy_with_another_frame(self, world: World) -> None:
        trace = world.trace("gate", outlet=201)
        world.ledger.sinks["video"].writes.add(Write(trace[Mark.FOLLOWED], trace[Mark.SINK], "lobby", 41))
        world.batch(trace)
        world.finish("gate", trace, "video")
        assert world.verdict("gate") == "queue +200 ms: video wrote lobby frame 41 for 201 ms"

    @pytest.mark.parametrize("part", ["postprocess", "decode", "reorder", "infer"])
    def test_the_garbage_collector(self, world: World, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
        trace = world.trace("gate", **{part: USUAL_MS[part] + 40})
        began = trace[PARTS.index(part)] - 38 * MS
        pause = Pause(began, began + 38 * MS, 2)
        monkeypatch.setattr(GC_PAUSES, "_kept", GC_PAUSES._kept.__class__([pause]))
        world.batch(trace)
        world.finish("gate", trace)
        assert world.verdict("gate").endswith("+40 ms: garbage collection (generation 2) took 38 ms")
        assert late(world, "gate")["slow_frames"][0]["beside"]["pause"] == {"generation": 2, "took_ms": 38.0}

    def test_a_short_collection_is_no_reason(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        trace = world.trace("gate", decode=64)
        pause = Pause(trace[Mark.READ], trace[Mark.READ] + 20 * MS, 2)
        monkeypatch.setattr(GC_PAUSES, "_kept", GC_PAUSES._kept.__class__([pause]))
        world.finish("gate", trace)
        assert world.verdict("gate") == "decode +60 ms"

    def test_a_stalled_read(self, world: World) -> None:
        """With B-frames a frame is shown when later ones are read: these did not come."""
        trace = world.trace("gate", decoder=2000)
        after = world.trace("gate")
        for mark in Mark:
            after[mark] += 1900 * MS - EVERY_MS * MS
        world.finish("gate", after)
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +2.0 s: nothing was read for 1.9 s"

    def test_where_frames_are_thinned_out_nobody_knows_what_was_read(self, world: World) -> None:
        trace = world.trace("gate", decoder=2000)
        world.count["gate"] += 17
        world.finish("gate", world.trace("gate"))
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +2.0 s"

    def test_frames_that_are_shown_before_it_came_after_it(self, world: World) -> None:
        """Two B-frames of a camera, whose packets come when they always do."""
        shown_last, *before = world.trace("gate", decoder=300), world.trace("gate"), world.trace("gate")
        number = shown_last[FRAME]
        for place, trace in enumerate(before):
            trace[FRAME] = number + place
            world.finish("gate", trace)
        shown_last[FRAME] = number + len(before)
        world.finish("gate", shown_last)
        assert world.verdict("gate") == "queue +300 ms: 2 frames shown before it came after it"

    def test_a_reader_that_was_held_up(self, world: World) -> None:
        before = world.trace("gate", scheduler=900)
        trace = world.trace("gate", decoder=800)
        world.finish("gate", before)
        world.finish("gate", trace)
        assert world.verdicts("gate")[0] == "queue +800 ms: its reader was held up with frame 100"

    def test_a_frame_before_it_was_not_ready(self, world: World) -> None:
        before = world.trace("gate", infer=330)
        trace = world.trace("gate", reorder=201)
        for each in (before, trace):
            world.batch(each)
            world.finish("gate", each)
        assert world.verdicts("gate")[0] == "queue +200 ms: frame 100, before it, was not ready"

    def test_follow_was_at_work_for_another(self, world: World) -> None:
        trace = world.trace("gate", reorder=201)
        other = world.trace("lobby")
        other[Mark.FOLLOW], other[Mark.FOLLOWED] = trace[Mark.PARSED], trace[Mark.FOLLOW]
        other[Mark.SINK] = other[Mark.DONE] = trace[Mark.FOLLOW] + MS
        world.finish("lobby", other)
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +200 ms: follow was at work for lobby"

    def test_a_sink_held_follow_up(self, world: World) -> None:
        trace = world.trace("gate", reorder=1001)
        world.ledger.sinks["video"].writes.add(Write(trace[Mark.PARSED], trace[Mark.FOLLOW], "lobby", 41))
        world.finish("gate", trace)
        assert world.verdict("gate") == "queue +1.0 s: video wrote and held follow up"

    def test_what_nobody_knows_is_not_made_up(self, world: World) -> None:
        for part in ("scheduler", "reorder", "decoder", "preprocess", "batch"):
            world.finish("gate", world.trace("gate", **{part: USUAL_MS[part] + 60}))
        verdicts = world.verdicts("gate")
        assert {verdict.partition(":")[2] for verdict in verdicts} == {""}


class TestBounds:
    def test_the_newest_and_the_slowest_are_kept(self) -> None:
        world = World("gate", budget_ms=80)
        world.as_usual("gate")
        times = world.ledger.streams["gate"].times
        for number in range(500):
            world.frame("gate", infer=100 + (number * 37) % 500)
            world.ledger.catch_up(late=True)
        found = times.lateness()
        assert found.counts["frames"] == 500
        assert [one.frame for one in found.newest] == list(range(599, 599 - NEWEST, -1))
        slowest = sorted((100 + (number * 37) % 500 for number in range(500)), reverse=True)[:SLOWEST]
        assert [one.parts["infer"] // MS for one in found.slowest] == slowest

    def test_of_a_block_only_the_slowest_are_explained(self) -> None:
        world = World("gate", budget_ms=20)
        world.as_usual("gate", BLOCK)
        found = world.ledger.streams["gate"].times.lateness()
        assert (found.counts["frames"], len(found.newest)) == (BLOCK, OF_A_BLOCK)

    def test_memory_does_not_grow(self) -> None:
        world = World("gate", budget_ms=20)

        def held(frames: int) -> int:
            world.as_usual("gate", frames)
            world.ledger.streams["gate"].times.lateness()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            first = held(5000)  # journeys and batches fill their own rings of 4096
            assert held(2000) - first < 200_000
        finally:
            tracemalloc.stop()

    def test_an_earlier_life_keeps_its_counts_only(self, world: World) -> None:
        world.frame("gate", infer=200)
        world.ledger.add(StreamLedger("gate", live=True))
        told = late(world, "gate~1")
        assert told["late"]["parts"] == {"infer": 1}
        assert told["slow_frames"] == []

    def test_lives_are_added_up(self) -> None:
        lives = [StreamLedger("gate", live=True) for _ in range(2)]
        for life, counts in zip(lives, ({"infer": 2, "batch": 1}, {"infer": 3}), strict=True):
            life.times.late.parts.update(counts)
        both = StreamLedger.together(*lives)
        assert both.as_dict(0)["late"]["parts"] == {"infer": 5, "batch": 1}


def test_a_late_frame_does_not_wait_for_its_block(world: World) -> None:
    times = world.ledger.streams["gate"].times
    world.ledger.catch_up()
    before = times.frames
    world.frame("gate")
    world.ledger.catch_up(late=True)
    assert times.frames == before, "nothing was late: nobody works"
    world.frame("gate", infer=200)
    world.ledger.catch_up(late=True)
    assert times.frames == before + 2
    assert times.late.frames == 1


def test_to_look_at_the_newest_late_frames_takes_nothing_apart(world: World) -> None:
    """A few frames by themselves, of each stream with news, cost as much as all of a second together."""
    times = world.ledger.streams["gate"].times
    for infer in (200, 300):
        world.frame("gate", infer=infer)
    world.ledger.catch_up(late=True)
    world.frame("gate", infer=400)
    assert [one.parts["infer"] // MS for one in times.newest_late(5)] == [300, 200]
    assert [one.parts["infer"] // MS for one in times.newest_late(1)] == [300]
    assert times.left == 1


def test_who_waits_for_the_end_takes_apart_what_is_much(world: World) -> None:
    """Of all streams together; whoever is on the way of a frame need not."""
    for name in ("gate", "lobby"):
        world.ledger.streams[name].times.lateness()
    apart = {name: account.times.frames for name, account in world.ledger.streams.items()}
    world.as_usual("gate", MUCH // 2)
    world.ledger.catch_up()
    assert {name: account.times.frames for name, account in world.ledger.streams.items()} == apart
    world.as_usual("lobby", MUCH // 2)
    world.ledger.catch_up()
    for name in ("gate", "lobby"):
        times = world.ledger.streams[name].times
        assert (times.left, times.frames) == (0, apart[name] + MUCH // 2)


def test_nobody_on_the_way_of_a_frame_takes_apart_less_than_a_block(world: World) -> None:
    times = world.ledger.streams["gate"].times
    times.lateness()
    before = times.frames
    world.as_usual("gate", BLOCK - 1)
    assert (times.left, times.frames) == (BLOCK - 1, before)
    world.frame("gate")
    assert (times.left, times.frames) == (0, before + BLOCK)


def test_the_ledger_lists_them_with_the_run(world: World) -> None:
    world.frame("gate", infer=200)
    world.ledger.end(10**12)
    told: Mapping[str, Any] = world.ledger.as_dict()["streams"]["gate"]
    assert told["slow_frames"][0]["at_s"] == pytest.approx(1.0 + 100 * EVERY_MS / 1e3 - 0.001)


def test_threads_that_explain_do_not_wait_for_each_other() -> None:
    """Whoever takes one stream's times apart looks at all others, which are taken apart meanwhile."""
    names = [f"s{number}" for number in range(4)]
    world = World(*names, budget_ms=20)
    busy = [Background(lambda name=name: world.as_usual(name, 600)) for name in names]  # type: ignore[misc]
    for _ in range(5):
        world.ledger.as_dict(10**9)
        world.ledger.journal(0)
    for each in busy:
        each.result()
    told = world.ledger.as_dict(10**9)["streams"]
    assert [told[name]["late"]["frames"] for name in names] == [600] * 4


def test_journeys_of_streams_that_ended_are_let_go_in_time() -> None:
    """A replay of a thousand files holds what its last seconds need, not a thousand files' journeys."""
    world = World(*(f"s{number}" for number in range(40)), live=False)
    held = []
    for number, name in enumerate(world.count):
        account = world.ledger.streams[name]
        for _ in range(10):
            trace = world.frame(name)
            for mark in Mark:
                trace[mark] += number * 1000 * MS
            account.last_result_ns = trace[Mark.FOLLOWED]
        world.ledger.settle(account)
        held.append(sum(len(each.times.glance(0)) for each in world.ledger.streams.values()))
    assert held[-1] == held[-10] == 10 * 13, "of the last twelve seconds and the one that ended now"


def test_streams_that_ended_without_a_result_are_let_go_likewise() -> None:
    world = World(*(f"s{number}" for number in range(40)), live=False)
    for number, account in enumerate(list(world.ledger.streams.values())):
        if number % 2:  # every other one never had a frame
            account.last_frame_ns = number * 1000 * MS
            trace = new_trace()
            trace[Mark.READ] = trace[Mark.DECODED] = account.last_frame_ns
            account.lost("stage_error", trace)
        world.ledger.settle(account)
    assert [len(each.times.glance(0)) for each in world.ledger.streams.values()] == [0] * 27 + [1, 0] * 6 + [1]
    assert len(world.ledger._ended) == 7
