# SPDX-License-Identifier: Apache-2.0
"""One stream's states, and which of their changes are events: each outage once, each cause, nothing per attempt."""

from __future__ import annotations

import pytest

from pipeline.errors import Cause
from pipeline.events import Condition, StreamEvent, StreamState
from pipeline.frame import StreamInfo
from pipeline.ledger.lifecycle import Lifecycle
from pipeline.redact import register_secret
from pipeline.testing import ManualClock

SECOND = 1_000_000_000


class Life:
    """A lifecycle, its clock, and what it told."""

    def __init__(self, *, live: bool = True) -> None:
        self.clock = ManualClock()
        self.told: list[StreamEvent] = []
        self.life = Lifecycle("gate", StreamInfo("gate", live=live), clock=self.clock)
        self.life.listen(self.told.append)
        self.frames = 0

    def at(self, state: StreamState, cause: Cause | None = None, after_s: float = 0.0, **more: object) -> None:
        self.clock.advance(round(after_s * SECOND))
        self.life.at(Condition(state, None if cause is None else f"camera: {cause}", cause, **more))  # type: ignore[arg-type]

    def frame(self, size: tuple[int, int] = (640, 360), *, epoch: int = 0, breaks: int = 0) -> None:
        self.frames += 1
        self.life.arrived(self.clock.now_ns(), epoch, self.frames, size, breaks)

    def kinds(self) -> list[tuple[str, str | None]]:
        return [(event.kind, event.cause) for event in self.told]


def test_an_outage_is_two_events_however_often_it_is_tried() -> None:
    gate = Life()
    gate.at("connecting")
    gate.at("live", after_s=0.5)
    gate.frame()
    gate.at("backoff", "eof", after_s=60)
    for _ in range(100):
        gate.at("connecting", after_s=10)
        gate.at("backoff", "eof", after_s=5)
    gate.at("connecting", after_s=10)
    gate.at("live")
    assert gate.kinds() == [("up", None), ("down", "eof"), ("up", None)]
    assert [event.after_s for event in gate.told] == [0.5, 60.0, 1510.0]
    assert [event.frame for event in gate.told] == [0, 1, 1]
    assert gate.told[1].detail == "camera: eof"
    assert gate.told[1].wall_ns == gate.told[0].wall_ns + 60 * SECOND
    assert gate.life.told == {("up", ""): 2, ("down", "eof"): 1}


def test_another_cause_of_the_same_outage_is_told_and_the_outage_is_one() -> None:
    gate = Life()
    gate.at("live")
    gate.at("backoff", "timeout", after_s=10)
    gate.at("auth_failed", "auth", after_s=10)
    gate.at("failed", "not_found", after_s=10)
    gate.at("live", after_s=10)
    assert gate.kinds() == [
        ("up", None), ("down", "timeout"), ("down", "auth"), ("down", "not_found"), ("up", None),
    ]  # fmt: skip
    assert [event.state for event in gate.told] == ["live", "backoff", "auth_failed", "failed", "live"]
    assert [event.after_s for event in gate.told] == [0.0, 10.0, 10.0, 20.0, 30.0]


def test_a_stall_becomes_an_outage_or_passes() -> None:
    gate = Life()
    gate.at("live")
    assert gate.life.stands_still("no frame for 4 s")
    assert not gate.life.stands_still("no frame for 5 s"), "it is known"
    gate.at("backoff", "timeout", after_s=2)
    assert not gate.life.moves()
    gate.at("live", after_s=1)
    gate.life.stands_still("no frame for 4 s")
    assert gate.life.moves()
    assert gate.kinds() == [
        ("up", None), ("stalled", "stall"), ("down", "timeout"), ("up", None), ("stalled", "stall"), ("up", None),
    ]  # fmt: skip
    assert gate.life.stalls == 2
    assert gate.told[3].after_s == 3.0


def test_what_is_shown_of_a_camera_that_is_away() -> None:
    gate = Life()
    gate.at("connecting", attempts=1)
    began_ns = gate.life.since_ns
    gate.at("backoff", "refused", after_s=1, attempts=1, pause_s=0.4)
    assert (gate.life.cause, gate.life.detail, gate.life.attempts) == ("refused", "camera: refused", 1)
    assert gate.life.next_try_ns == gate.clock.now_ns() + 400_000_000
    gate.at("connecting", after_s=1, attempts=2)
    assert (gate.life.state, gate.life.cause, gate.life.attempts) == ("connecting", "refused", 2), (
        "not known to be cured"
    )
    assert gate.life.next_try_ns is None
    assert gate.life.since_ns == began_ns, "trying is one thing"
    gate.at("live", after_s=1)
    assert (gate.life.cause, gate.life.detail, gate.life.attempts) == (None, None, 0)
    assert gate.life.since_ns == gate.clock.now_ns()


def test_pauses_and_the_end() -> None:
    gate = Life()
    gate.at("live")
    gate.at("paused", after_s=5)
    gate.at("connecting", after_s=100)
    gate.at("live")
    gate.life.end("stopped")
    assert [(event.kind, event.state) for event in gate.told] == [
        ("up", "live"), ("paused", "paused"), ("up", "live"), ("ended", "stopped"),
    ]  # fmt: skip
    assert gate.told[2].after_s == 100.0


def test_a_recording_is_up_when_it_is_open_and_a_feed_with_its_first_frame() -> None:
    file, feed = Life(live=False), Life()
    file.life.opened(StreamInfo("gate", 640, 360, codec="h264"))
    feed.life.opened(StreamInfo("gate", live=True, codec="h264"))
    assert (file.kinds(), feed.kinds()) == ([("up", None)], [])
    feed.frame()
    assert feed.kinds() == [("up", None)]
    file.life.end("finished")
    assert (file.told[-1].kind, file.told[-1].state) == ("ended", "finished")


def test_size_and_codec_are_told_when_they_change() -> None:
    gate = Life()
    gate.life.opened(StreamInfo("gate", live=True, codec="h264"))
    gate.at("live", info=StreamInfo("", codec="h264"))
    gate.frame((640, 360))
    assert (gate.life.info.width, gate.life.info.height) == (640, 360), "not known when it opened, and no change"
    gate.frame((640, 360))
    gate.frame((320, 240))
    gate.clock.advance(2 * SECOND)
    gate.at("backoff", "eof")
    gate.at("live", info=StreamInfo("", codec="hevc", fps=10.0))
    gate.frame((320, 240), epoch=1)
    changes = [event for event in gate.told if event.kind == "params_changed"]
    assert [event.detail for event in changes] == ["640x360 h264, now 320x240 h264", "320x240 h264, now 320x240 hevc"]
    assert [(event.width, event.codec, event.frame, event.epoch) for event in changes] == [
        (320, "h264", 3, 0), (320, "hevc", 4, 1),
    ]  # fmt: skip
    assert gate.life.param_changes == 2
    assert gate.life.info.fps == 10.0


def test_what_may_happen_with_every_frame_is_told_once_a_second() -> None:
    gate = Life()
    for number in range(100):
        gate.frame((640, 360) if number % 2 else (320, 240), breaks=number)
        gate.clock.advance(SECOND // 25)
    kinds = [event.kind for event in gate.told]
    assert kinds.count("discontinuity") == kinds.count("params_changed") == 4
    assert gate.life.param_changes == 99
    gate.clock.advance(SECOND)
    gate.frame((640, 360), breaks=99)
    assert gate.told[-1].kind in ("discontinuity", "params_changed"), "the last one is told when its time has come"
    assert gate.told[-1].detail in ("the time stamps broke, 99 times so far", "320x240, now 640x360")


def test_who_was_left_behind_is_not_heard_and_secrets_are_not_told() -> None:
    gate = Life()
    register_secret("hunter2-of-lifecycle")
    gate.life.at(Condition("backoff", "no answer from viewer:hunter2-of-lifecycle@camera", "io"))
    assert "hunter2" not in str(gate.told[0].detail)
    gate.life.end("failed", "its reader hung", "hung")
    gate.life.closed = True
    gate.at("live")
    assert gate.life.state == "failed"
    assert gate.kinds() == [("down", "io"), ("ended", "hung")]


@pytest.mark.parametrize("state", ["finished", "truncated", "failed"])
def test_an_end_is_told_once(state: StreamState) -> None:
    gate = Life(live=False)
    gate.life.end(state, "why")
    gate.life.end(state, "why")
    assert [(event.kind, event.state, event.detail) for event in gate.told] == [("ended", state, "why")]


def test_frames_of_which_nothing_can_be_made_are_a_cause_and_no_event() -> None:
    gate = Life()
    gate.life.fails("before it is live")
    gate.at("live")
    gate.frame()
    gate.life.works()
    assert (gate.life.state, gate.life.cause) == ("live", None)
    gate.life.fails("the region leaves the picture")
    assert (gate.life.state, gate.life.cause, gate.life.detail) == ("live", "stage", "the region leaves the picture")
    assert gate.life.stands_still("no frame for 3 s")
    gate.life.works()  # one that was under way
    assert (gate.life.state, gate.life.cause) == ("stalled", "stall")
    assert gate.life.moves()
    gate.life.fails("the region leaves the picture")
    gate.life.works()
    assert (gate.life.state, gate.life.cause, gate.life.detail) == ("live", None, None)
    gate.life.fails("the region leaves the picture")
    gate.life.end("stopped")
    assert (gate.life.cause, gate.life.detail) == ("stage", "the region leaves the picture"), "worth keeping"
    assert gate.kinds() == [("up", None), ("stalled", "stall"), ("up", None), ("ended", "stage")]
