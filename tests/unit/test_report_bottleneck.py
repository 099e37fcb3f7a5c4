# SPDX-License-Identifier: Apache-2.0
"""What a run was limited by: runs that were limited by one thing each."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.ledger import BatchRun, Ledger, SinkLedger, StreamLedger
from pipeline.ledger.busy import Busy
from pipeline.report import compose
from pipeline.report.bottleneck import bottleneck
from pipeline.report.page import page
from pipeline.timing import Mark, new_trace
from tests.ledgers import FACTS, lose

MS = 1_000_000
FRAMES = 100


def a_run(
    *,
    every_ms: int = 20,
    decode_ms: float = 1,
    infer_ms: float = 1,
    follow_ms: float = 0.1,
    write_ms: float = 0.1,
    live: bool = False,
    names: tuple[str, ...] = ("gate",),
    workers: int = 1,
    decimated: int = 0,
) -> Ledger:
    """Frames so far apart, each of which keeps everything busy for so long; two seconds of wall time in all."""
    ledger = Ledger()
    ledger.begin(1000 * MS)
    ledger.sinks = {"video": SinkLedger("video"), "jsonl": SinkLedger("jsonl")}
    for name in names:
        account = StreamLedger(name, live=live)
        ledger.add(account)
        account.opened_ns, account.state = 1000 * MS, "finished"
        for number in range(FRAMES):
            at = (1000 + every_ms * number) * MS
            trace = new_trace()
            for mark, took_ms in (
                (Mark.READ, 0), (Mark.DECODED, decode_ms), (Mark.PREPARE, 0), (Mark.PREPARED, 0.5), (Mark.QUEUED, 0),
                (Mark.COLLECT, 0), (Mark.SEALED, 0), (Mark.INFER, 0), (Mark.INFERRED, infer_ms), (Mark.PARSED, 0),
                (Mark.FOLLOW, 0), (Mark.FOLLOWED, follow_ms), (Mark.SINK, 0), (Mark.DONE, write_ms),
            ):  # fmt: skip
                at += round(took_ms * MS)
                trace[mark] = at
            account.decoded += 1
            account.published(trace)
            account.finished(trace)
            worker = f"detect:{number % workers}"
            ledger.batch(BatchRun(worker, number, 1, trace[Mark.INFER], trace[Mark.INFERRED], trace[Mark.PARSED]))
            ledger.sinks["video"].busy_ns += trace[Mark.DONE] - trace[Mark.SINK]
        account.decoded += decimated
        account.decimated += decimated
    ledger.end(3000 * MS)
    return ledger


def told(
    ledger: Ledger,
    command: str = "replay",
    cpu_s: float = 3.8,
    arrivals: Any = None,
    others: float | None = None,
    hwaccel: str | None = None,
    **model: Any,
) -> dict[str, Any]:
    """The verdict on a machine with two cores, which did so much work in two seconds; ``others``: cores that other
    programs used."""
    facts = FACTS | {"command": command, "model": FACTS["model"] | {"workers": 1} | model}
    facts |= {"arrivals": arrivals} if arrivals else {}
    facts |= {"hwaccel": hwaccel} if hwaccel else {}
    report = compose(ledger.as_dict(), facts)
    report["machine"] = report["machine"] | {"cores": 2}
    report["cpu_s"], report["others_cores"] = cpu_s, others
    found = bottleneck(report)
    assert found is not None
    return found


def test_on_a_virtual_clock_the_cpu_time_of_this_machine_says_nothing() -> None:
    found = [
        told(a_run(infer_ms=18), cpu_s=cpu_s, device="cpu", arrivals={"pace": "virtual"}) for cpu_s in (0.01, 0.2, 1.9)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("device", "cpu_s", "starved"), [("cpu", 0.4, True), ("cpu", 1.8, False), ("cuda:0", 0.4, False)]
)
def test_a_network_that_waits_for_cores_of_others_is_told_from_a_slow_one(
    device: str, cpu_s: float, starved: bool
) -> None:
    found = told(a_run(infer_ms=18), cpu_s=cpu_s, device=device)
    assert found["kind"] == "network"
    assert (", but had a core for at most 22 % of that: the machine had other work" in found["text"]) is starved
    assert (found["advice"] == "less of that work, or a lower --fps") is starved
    sink = told(a_run(write_ms=19), cpu_s=cpu_s, device=device)
    assert "core" not in sink["text"]


@pytest.mark.parametrize(
    ("cpu_s", "others", "said"),
    [
        (2.2, 0.9, "; other programs used 0.9 of 2 cores"),
        (0.4, 1.8, ", but had a core for at most 22 % of that: other programs used 1.8 of 2 cores"),
        (0.4, 0.3, ", but had a core for at most 22 % of that"),  # nobody else had it: a quota
        (3.8, 0.1, ""),
        (2.2, 0.5, ""),  # a core was left
    ],
)
def test_who_else_had_the_cores_is_told(cpu_s: float, others: float, said: str) -> None:
    text = told(a_run(infer_ms=18), cpu_s=cpu_s, device="cpu", others=others)["text"]
    assert text.partition(" of the time")[2] == said
    text = told(a_run(infer_ms=18), cpu_s=cpu_s, device="cpu", others=others, arrivals={"pace": "virtual"})["text"]
    assert "core" not in text
    assert "core" not in told(a_run(write_ms=19), cpu_s=cpu_s, others=others)["text"]


@pytest.mark.parametrize(
    ("command", "dropped", "cpu_s", "others", "blamed"),
    [
        ("run", 20, 2.0, 1.0, True),  # beside 100 frames: a fifth of a core more would have been enough
        ("run", 200, 2.0, 1.0, False),  # two cores more would
        ("run", 20, 2.0, 0.5, False),  # there was half a core left
        ("replay", 0, 1.6, 1.2, True),
        ("replay", 0, 2.6, 0.7, False),
    ],
)
def test_others_are_to_blame_where_they_had_what_was_missing(
    command: str, dropped: int, cpu_s: float, others: float, blamed: bool
) -> None:
    ledger = a_run(infer_ms=19, live=command == "run")
    ledger.streams["gate"].decoded += dropped
    lose(ledger.streams["gate"], "overflow", dropped)
    found = told(ledger, command, cpu_s, device="cpu", others=others)
    assert found["kind"] == "network"
    assert (found["advice"] or "").startswith("less of that work") is blamed
    sink = told(a_run(write_ms=19), cpu_s=cpu_s, others=others)
    assert "other programs" not in (sink["advice"] or "")


def test_with_all_cores_in_use_more_workers_than_cores_are_not_the_work_of_others() -> None:
    found = told(a_run(infer_ms=76, workers=4), cpu_s=3.9, device="cpu", workers=4)
    assert found["kind"] == "network"
    assert "other work" not in found["text"]


def test_the_network_is_the_limit() -> None:
    found = told(a_run(infer_ms=19.4))
    assert (found["kind"], found["share"], found["who"]) == ("network", 0.97, None)
    assert found["text"] == "network-bound: the network was busy 97 % of the time"
    assert found["advice"] == "`pipeline model tune m.pt`, once"
    assert found["shares"] == {"network": 0.97, "decode": 0.075, "follow": 0.005, "sink": 0.005}


def test_a_tuned_network_needs_less_work() -> None:
    assert told(a_run(infer_ms=19.4), tuned={"batch": 4})["advice"] == "a smaller model.input, or a lower --fps"
    assert told(a_run(infer_ms=19.4), "run", tuned={"batch": 4})["advice"] == "a smaller model.input, or a lower fps"


def test_who_does_not_want_tuning_is_not_sent_to_it() -> None:
    assert told(a_run(infer_ms=19.4), use_tuned=True)["advice"] == "`pipeline model tune m.pt`, once"
    assert told(a_run(infer_ms=19.4), use_tuned=False)["advice"] == "a smaller model.input, or a lower --fps"


@pytest.mark.parametrize(("wall_s", "frames", "says"), [(1.9, 100, False), (2.0, 19, False), (2.0, 20, True)])
def test_of_a_very_short_run_nothing_is_concluded(wall_s: float, frames: int, says: bool) -> None:
    report = compose(a_run(infer_ms=19.4).as_dict(), FACTS) | {"wall_s": wall_s, "frames": frames}
    found = bottleneck(report)
    assert found is not None
    assert found["text"].startswith("network-bound: " if says else "too short a run to tell ")
    assert (found["advice"] is not None) is says
    assert found["shares"]["network"] > 0.4, "the figures are there all the same"


def test_cores_that_nobody_uses_can_run_another_worker() -> None:
    report = compose(a_run(infer_ms=19.4).as_dict(), FACTS | {"model": FACTS["model"] | {"workers": 1}})
    report["machine"], report["cpu_s"] = report["machine"] | {"cores": 8}, 1.9
    found = bottleneck(report)
    assert found is not None
    assert found["advice"] == "--workers 8, as many as there are cores"


def test_the_share_of_several_workers_is_their_mean() -> None:
    found = told(a_run(infer_ms=19.4, workers=2), workers=2)
    assert found["shares"]["network"] == 0.485
    assert told(a_run(infer_ms=19.4), workers=2)["shares"]["network"] == 0.485, "one never had anything to do"


def test_decoding_is_the_limit() -> None:
    found = told(a_run(decode_ms=18, names=("gate", "lobby")))
    assert (found["kind"], found["who"]) == ("decode", "gate")
    assert found["text"] == "decode-bound: the decoder of gate was busy 93 % of the time"
    assert found["advice"].startswith("`skip: nonref` in a --config")
    assert found["cost"] == "it took 18.5 ms a frame"
    assert "skip: nonref" in told(a_run(decode_ms=19, live=True), "run")["advice"]
    ledger = a_run(decode_ms=19, live=True)
    ledger.streams["gate"].counters.skipped = 7
    assert told(ledger, "run")["advice"] == "a smaller stream of the camera, or `hwaccel: auto`"
    assert "skip" not in told(ledger)["advice"], "it is done already"


def test_decoding_in_hardware_is_not_advised_to_those_who_asked_for_it() -> None:
    ledger = a_run(decode_ms=19)
    assert "hwaccel" in told(ledger, hwaccel="none")["advice"]
    assert told(ledger, hwaccel="auto")["advice"] == "`skip: nonref` in a --config, where frames may be left out"
    ledger.streams["gate"].counters.skipped = 7
    assert told(ledger, hwaccel="auto")["advice"] is None, "all of it is done"
    ledger.streams["gate"].counters.decoder = "cuda"
    assert told(ledger)["advice"] is None
    live = a_run(decode_ms=19, live=True)
    live.streams["gate"].counters.decoder = "cuda"
    assert told(live, "run")["advice"] == "a smaller stream of the camera, or `skip: nonref`"


def test_files_that_waited_for_each_other_can_be_read_at_once() -> None:
    ledger = a_run(decode_ms=18, names=("gate", "lobby"))
    assert "--parallel" not in told(ledger, cpu_s=1.0)["advice"], "both were open all the time"
    first, second = (ledger.streams[name] for name in ("gate", "lobby"))
    for account in (first, second):
        account.opened_ns += 1000 * MS  # of a wall time of two seconds
    assert told(ledger, cpu_s=1.0)["advice"] == "--parallel 2, so that more files are decoded at once"
    assert "--parallel" not in told(ledger, cpu_s=3.8)["advice"], "no core is left for it"


def test_frames_that_are_thinned_out_are_decoded_as_well() -> None:
    few, many = (told(a_run(decode_ms=4, decimated=frames))["shares"]["decode"] for frames in (0, 300))
    assert many / few == pytest.approx((0.225 + 0.6) / 0.225, rel=1e-3)


def test_a_sink_is_the_limit() -> None:
    found = told(a_run(write_ms=19))
    assert (found["kind"], found["who"]) == ("sink", "video")
    assert found["text"] == "sink-bound: sink video was busy 95 % of the time"
    assert found["advice"] == "--save without video, or a lower --fps"
    assert found["cost"] is None, "nothing was written, by the sink's own count"
    ledger = a_run(write_ms=19)
    ledger.sinks["video"].written = FRAMES
    ledger.sinks["video"].lost["overflow"] = 1
    assert told(ledger)["cost"] == "it took 19.0 ms a result; 1 result was lost"


def test_following_is_the_limit() -> None:
    assert told(a_run(follow_ms=15))["text"] == "follow-bound: following was busy 75 % of the time"


def test_sources_with_a_pace_of_their_own_are_the_limit_and_all_is_well() -> None:
    found = told(a_run(infer_ms=14, live=True), "run")
    assert (found["kind"], found["cost"], found["advice"]) == ("source", None, None)
    assert found["text"] == "source-bound: frames come no faster; the network was busy 70 % of the time"


def test_frames_that_had_to_be_given_up_are_not_well() -> None:
    ledger = a_run(infer_ms=14, live=True)
    ledger.streams["gate"].decoded += 5
    lose(ledger.streams["gate"], "stale", 5)
    assert told(ledger, "run")["kind"] == "network"


def test_what_it_costs_is_the_time_of_a_frame_and_what_was_given_up() -> None:
    assert told(a_run(infer_ms=19.4))["cost"] == "it took 19.4 ms a frame"
    assert told(a_run(infer_ms=19.4, workers=2), workers=2)["cost"] == "it took 19.4 ms a frame on each of 2 workers"
    ledger = a_run(infer_ms=14, live=True)
    gate = ledger.streams["gate"]
    gate.decoded += 25
    for reason, frames in (("stale", 5), ("overflow", 15), ("stage_error", 5)):
        lose(gate, reason, frames)
    gate.times.watch(10 * MS, ledger.around)
    late = gate.as_dict(0)["late"]["frames"]
    assert late > 0
    assert told(ledger, "run")["cost"] == (
        f"it took 14.0 ms a frame; 20 of 125 frames (16 %) were dropped; {late} frames were over budget"
    )


def test_what_fps_leaves_out_is_no_part_of_what_was_lost_of_it() -> None:
    ledger = a_run(infer_ms=14, live=True, decimated=900)
    ledger.streams["gate"].decoded += 25
    lose(ledger.streams["gate"], "overflow", 25)
    assert told(ledger, "run")["cost"] == "it took 14.0 ms a frame; 25 of 125 frames (20 %) were dropped"


def test_what_fps_leaves_out_does_not_make_a_loss_small() -> None:
    """25 of 125 frames, of 12,500 that came."""
    ledger = a_run(decode_ms=0.1, infer_ms=14, live=True, decimated=12_375)
    ledger.streams["gate"].decoded += 25
    lose(ledger.streams["gate"], "overflow", 25)
    assert told(ledger, "run")["kind"] == "network"
    found = told(ledger, "run", cpu_s=1.0, others=1.4)
    assert found["advice"] == "less of that work, or a lower fps", "others had what a fifth more would have taken"
    found = told(ledger, "run", cpu_s=3.6, others=0.2)
    assert "tune" in found["advice"], "others had less than that"


def test_late_frames_are_a_share_of_those_that_were_wanted() -> None:
    ledger = a_run(infer_ms=14, live=True, decimated=900)
    ledger.streams["gate"].times.watch(10 * MS, ledger.around)
    assert told(ledger, "run")["kind"] == "network"


def test_a_single_frame_that_was_given_up_is_not_none() -> None:
    ledger = a_run(infer_ms=19.4, live=True)
    ledger.streams["gate"].decoded += 101
    lose(ledger.streams["gate"], "stale", 1)
    assert told(ledger, "run")["cost"] == "it took 19.4 ms a frame; 1 of 201 frames (less than 1 %) was dropped"


def test_budgets_that_b_frames_break_are_no_fault_of_the_machine() -> None:
    """Every second frame waited in the decoder for those that are shown before it."""
    ledger = a_run(live=True)
    ledger.streams["gate"].times.watch(100 * MS, ledger.around)
    ledger.streams["gate"].times.late.parts["decoder"] = FRAMES // 2
    found = told(ledger, "run")
    assert found["kind"] == "source"
    assert found["text"].endswith("; 50 frames were over budget since frames shown before them came after them")
    assert found["advice"] == "a stream without B-frames, which is a setting of the camera"


def test_budgets_that_are_not_kept_are_not_well() -> None:
    ledger = a_run(infer_ms=14, live=True)
    ledger.streams["gate"].times.watch(10 * MS, ledger.around)
    assert told(ledger, "run")["kind"] == "network"


def test_a_sink_that_loses_results_is_not_well() -> None:
    ledger = a_run(write_ms=15, live=True)
    ledger.sinks["video"].lost["overflow"] += 1
    assert told(ledger, "run")["kind"] == "sink"


def test_a_run_without_results_has_no_verdict() -> None:
    ledger = Ledger()
    ledger.begin(1)
    ledger.add(StreamLedger("gate"))
    ledger.end(10**9)
    assert compose(ledger.as_dict(), FACTS)["bottleneck"] is None


def test_two_batches_at_a_time_are_one_time_at_work() -> None:
    """With two under way on a GPU the second begins while the first is there: what they share counts once."""
    busy = Busy()
    for number, (began, ended) in enumerate([(0, 30), (10, 50), (20, 45), (60, 70)]):
        busy.add(BatchRun("detect:0", number, 1, began * MS, ended * MS, ended * MS))
    busy.add(BatchRun("detect:0@2", 5, 1, 80 * MS, 81 * MS, 81 * MS))
    busy.add(BatchRun("detect:1", 6, 1, 80 * MS, 81 * MS, 81 * MS))
    assert busy.spent_ns == {"detect:0": 61 * MS, "detect:1": MS}


def test_the_page_tells_it() -> None:
    report = compose(a_run(infer_ms=19.4).as_dict(), FACTS | {"model": FACTS["model"] | {"workers": 1}})
    report["bottleneck"] = bottleneck(report | {"cpu_s": 3.8})
    assert "network-bound: the network was busy 97 % of the time; it took 19.4 ms a frame" in page(report)
