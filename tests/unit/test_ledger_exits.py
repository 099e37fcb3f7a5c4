# SPDX-License-Identifier: Apache-2.0
"""Who made it unsteady: jitter at each exit, worked by hand and against numpy, and what each part adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.ledger import StreamLedger
from pipeline.ledger.exits import EXITS, added_by_stage
from pipeline.timing import EPOCH, PTS, STAGES, Mark, new_trace

MS = 1_000_000
S = 1_000_000_000
EVERY = 40 * MS


def feed(delays_ms: dict[Mark, list[float]], frames: int, *, epochs: list[int] | None = None) -> dict[str, Any]:
    """A camera of 25 fps, each of whose frames passes each mark 1 ms after the one before, or as much later as said."""
    account = StreamLedger("a", live=True)
    for number in range(frames):
        trace = new_trace()
        trace[PTS] = number * EVERY
        trace[EPOCH] = epochs[number] if epochs else 0
        at = S + number * EVERY
        for mark in Mark:
            at += MS + round(delays_ms.get(mark, [0.0] * frames)[number] * MS)
            trace[mark] = at
        account.published(trace)
        account.finished(trace)
    jitter: dict[str, Any] = account.as_dict(0)["jitter"]
    return jitter


def test_a_steady_camera_through_steady_parts_has_none() -> None:
    jitter = feed({}, 100)
    assert list(jitter["exits"]) == list(EXITS)
    for part in jitter["exits"].values():
        assert (part["transit_ms"], part["interval_ms"], part["freezes"]) == (0.0, 0.0, 0)
        assert part["largest_gap_ms"] == 40.0
    assert jitter["nominal_interval_ms"] == pytest.approx(40, rel=0.01)
    assert all(added == {"transit_added_ms": 0, "interval_added_ms": 0} for added in jitter["added"].values())
    assert list(jitter["added"]) == list(STAGES)


def test_rfc_3550_by_hand_at_the_exit_of_the_part_that_did_it() -> None:
    # infer takes 1, 17, 17, 1 ms: |D| is 16, 0, 16, so J is 1, 0.9375, 1.87890625.
    jitter = feed({Mark.INFERRED: [0, 16, 16, 0]}, 4)
    parts = list(EXITS)
    for part, exit_ in jitter["exits"].items():
        after = parts.index(part) >= parts.index("infer")
        assert exit_["transit_ms"] == (1.87890625 if after else 0.0)
    added = {stage: figures["transit_added_ms"] for stage, figures in jitter["added"].items()}
    assert added == {stage: 1.87890625 if stage == "infer" else 0.0 for stage in STAGES}


def test_a_part_may_smooth_what_came_before() -> None:
    late = [0, 16, 16, 0] * 5
    jitter = feed({Mark.SEALED: late, Mark.FOLLOW: [20 - each for each in late]}, 20)
    exits = jitter["exits"]
    assert exits["batch"]["transit_added_ms"] > 5
    assert exits["reorder"]["transit_added_ms"] == -exits["batch"]["transit_added_ms"]
    assert jitter["added"]["queue"]["transit_added_ms"] == 0.0, "queue is both"


@pytest.mark.parametrize("seed", range(5))
def test_what_all_parts_add_is_what_the_pipeline_added(seed: int) -> None:
    # 2 ms at most in each part: no frame overtakes the one before it.
    delays = np.random.default_rng(seed).uniform(0, 2, (150, len(Mark))).tolist()
    columns = {mark: [frame[mark] for frame in delays] for mark in Mark}
    jitter = feed(columns, len(delays))
    exits = jitter["exits"]
    for kind in ("transit", "interval"):
        whole = exits["sink"][f"{kind}_ms"] - exits["arrival"][f"{kind}_ms"]
        assert sum(part[f"{kind}_added_ms"] for part in list(exits.values())[1:]) == pytest.approx(whole, abs=1e-6)
        assert sum(stage[f"{kind}_added_ms"] for stage in jitter["added"].values()) == pytest.approx(whole, abs=1e-6)
    # the exit of the network, against numpy
    arrived = S + np.arange(len(delays)) * EVERY
    left = arrived + sum((MS + np.round(np.array(columns[mark]) * MS)) for mark in list(Mark)[: Mark.INFERRED + 1])
    assert exits["infer"]["interval_ms"] == pytest.approx(np.std(np.diff(left)) / 1e6, abs=1e-6)
    assert exits["infer"]["largest_gap_ms"] == pytest.approx(max(0, *np.diff(left)) / 1e6, abs=1e-6)


def test_a_freeze_is_a_gap_beyond_webrtcs_rule() -> None:
    # Nominal 40 ms: a freeze is a gap above max(120, 190) ms.
    late = [0.0] * 200
    late[120:124], late[150:154] = [149, 109, 69, 29], [151, 111, 71, 31]  # gaps of 189 and 191 ms, then caught up
    exits = feed({Mark.INFERRED: late}, 200)["exits"]
    assert (exits["batch"]["freezes"], exits["infer"]["freezes"], exits["sink"]["freezes"]) == (0, 1, 1)
    assert exits["infer"]["largest_gap_ms"] == 191.0


@pytest.mark.parametrize("frames", [13, 60])
def test_a_freeze_among_the_very_first_frames_counts(frames: int) -> None:
    """A run that is over before much was measured: what is expected is known by its end."""
    late = [0.0] * frames
    late[3:13] = range(400, 0, -40)  # then caught up
    exits = feed({Mark.INFERRED: late}, frames)["exits"]
    assert (exits["batch"]["freezes"], exits["infer"]["freezes"]) == (0, 1)


def test_what_is_expected_is_the_interval_of_arrivals_and_not_of_a_decoder_that_gives_four_at_once() -> None:
    jitter = feed({Mark.DECODED: [40.0 * (3 - number % 4) for number in range(200)]}, 200)
    assert jitter["nominal_interval_ms"] == pytest.approx(40, rel=0.01)
    assert jitter["exits"]["decode"]["interval_added_ms"] > 60


def test_b_frames_arrive_in_another_order_than_they_are_shown_in() -> None:
    """Groups of four at 40 ms, the one that is shown last first. A steady camera is steady where it arrives; what the
    decoder waits for to show them in order makes it no steadier."""
    account = StreamLedger("a", live=True)
    for number in range(400):
        packet = number // 4 * 4 + (number + 1) % 4
        trace = new_trace()
        trace[PTS] = number * EVERY
        for mark in Mark:
            trace[mark] = S + (packet if mark <= Mark.DECODED else number + 3) * EVERY + mark * MS
        account.published(trace)
        account.finished(trace)
        if number % 37 == 0:  # whoever asks meanwhile
            account.as_dict(0)
    jitter = account.as_dict(0)["jitter"]
    assert {part["freezes"] for part in jitter["exits"].values()} == {0}
    assert jitter["exits"]["arrival"]["interval_ms"] < 10
    assert jitter["nominal_interval_ms"] == pytest.approx(40, rel=0.01)


def test_a_reconnect_is_no_jitter() -> None:
    epochs = [0] * 50 + [1] * 50
    late = [0.0] * 50 + [60_000.0] * 50
    exits = feed({Mark.READ: late}, 100, epochs=epochs)["exits"]
    assert {part["transit_ms"] for part in exits.values()} == {0.0}
    assert {part["largest_gap_ms"] for part in exits.values()} == {40.0}


def test_frames_that_pass_a_part_now_and_then_do_not_make_it_unsteady() -> None:
    """Under overload workers prepare what they take, so that frames leave no mark at the exit of `preprocess`."""
    account = StreamLedger("a", live=True)
    for number in range(200):
        trace = new_trace()
        trace[PTS] = number * EVERY
        for mark in Mark:
            trace[mark] = S + number * EVERY + mark * MS
        absent = (Mark.PREPARE, Mark.PREPARED) if 50 <= number < 150 else (Mark.MAKE, Mark.MADE)
        for mark in absent:
            trace[mark] = 0
        account.published(trace)
        account.finished(trace)
    jitter = account.as_dict(0)["jitter"]
    assert list(jitter["exits"]) == list(EXITS)
    assert jitter["exits"]["preprocess"]["largest_gap_ms"] <= 42.0
    for stage in jitter["added"].values():
        assert all(abs(value) < 0.3 for value in stage.values()), jitter["added"]


def test_parts_that_nobody_passed_are_left_out() -> None:
    account = StreamLedger("a", live=True)
    for number in range(5):
        trace = new_trace()
        trace[PTS], trace[Mark.READ], trace[Mark.FOLLOWED] = number * EVERY, number * EVERY + 1, number * EVERY + MS
        account.finished(trace)
    jitter = account.as_dict(0)["jitter"]
    assert list(jitter["exits"]) == ["arrival", "follow"]
    assert list(jitter["added"]) == ["follow"]
    assert added_by_stage({}) == {}


def test_frames_that_are_read_as_fast_as_possible_have_no_arrival_to_compare_with() -> None:
    account = StreamLedger("a")
    for number in range(5):
        trace = new_trace()
        for mark in Mark:
            trace[mark] = S + number * EVERY + mark
        account.published(trace)
        account.finished(trace)
    jitter = account.as_dict(0)["jitter"]
    assert (jitter["arrival_ms"], jitter["exits"], jitter["added"]) == (None, {}, {})
    assert account.as_dict(0)["stages"]["infer"]["delay_variation_ms"] == 0.0
