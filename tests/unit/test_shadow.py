# SPDX-License-Identifier: Apache-2.0
"""Live frames for a second model: one at a time, in turns, and no memory stays on loan."""

from __future__ import annotations

import pytest

from pipeline.flow import shadow as shadows
from pipeline.flow.shadow import Shadow
from pipeline.frame import Frame, Geometry, InputSpec, Item, StreamKey
from pipeline.frame.buffers import BufferPool
from pipeline.testing import one_box
from pipeline.timing import new_trace
from tests.background import Background

SPEC = InputSpec(32, 32)


class Model:
    """What a shadow needs of one."""

    spec = SPEC
    labels: dict[int, str] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.buffers = BufferPool()

    def turns_away(self, key: StreamKey, parts: int) -> bool:
        raise AssertionError("a shadow is not asked")

    def offer(self, key: StreamKey, items: object) -> list[Item]:
        raise AssertionError("frames of a shadow are not queued")

    def leave(self, key: StreamKey) -> None:
        raise AssertionError("nor do they have a lane")


def given(shadow: Shadow, stream: str = "a") -> Frame:
    frame = Frame(StreamKey(stream, 1), 0, 7, 0.0, None, 0, 64, 48, None, new_trace())
    shadow.take([Item(frame, SPEC, shadow.model.buffers.acquire(SPEC.shape), Geometry(64, 48, 0.5, 0.5))])
    return frame


def test_a_frame_is_taken_only_when_one_is_asked_for() -> None:
    shadow = Shadow(Model())
    assert not shadow.claim("a")
    waiting = Background(lambda: shadow.next(5)).parked()
    assert shadow.claim("a")
    assert not shadow.claim("b"), "one at a time"
    frame = given(shadow)
    sample = waiting.result()
    assert (sample.stream, sample.index, sample.settled.is_set()) == ("a", 7, False)
    assert frame.observer is not None
    frame.observer(one_box(3), None)
    assert sample.settled.is_set()
    assert len(sample.found) == 1
    shadow.release(sample)
    assert shadow.model.buffers.stats.in_use == 0


def test_none_comes() -> None:
    assert Shadow(Model()).next(0.001) is None


def test_streams_take_turns_unless_one_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 0
    monkeypatch.setattr(shadows, "now_ns", lambda: now_ns)
    shadow = Shadow(Model())
    assert not shadow.claim("slow"), "nobody asks yet, but it is known"

    def turn(stream: str) -> bool:
        assert shadow.next(0.0) is None
        if not shadow.claim(stream):
            return False
        given(shadow, stream)
        sample = shadow.next(0.0)
        assert sample is not None
        shadow.release(sample)
        return True

    assert turn("fast")
    assert not turn("fast"), "the other one has given none"
    assert turn("slow")
    assert turn("fast")
    assert not turn("fast")
    now_ns += shadows.PASSED_OVER_NS
    assert turn("fast"), "the other one is not waited for for ever"


def test_what_making_an_input_raised() -> None:
    shadow = Shadow(Model())
    waiting = Background(lambda: shadow.next(5)).parked()
    assert shadow.claim("a")
    shadow.fail(ValueError("too small"))
    with pytest.raises(ValueError, match="too small"):
        waiting.result()


def test_no_second_frame_is_asked_for_while_one_is_being_prepared() -> None:
    """What comes of both would meet here, and one of them would keep its memory for ever."""
    shadow = Shadow(Model())
    assert shadow.next(0.0) is None
    assert shadow.claim("a")
    assert shadow.next(0.0) is None, "a is slow"
    assert not shadow.claim("b")
    given(shadow)
    assert not shadow.claim("b"), "nor while one waits"
    sample = shadow.next(0.0)
    assert sample is not None
    shadow.release(sample)
    assert shadow.model.buffers.stats.in_use == 0
    assert shadow.next(0.0) is None
    assert shadow.claim("b")


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_frame_that_nobody_takes_gives_its_memory_back(late: bool) -> None:
    shadow = Shadow(Model())
    assert shadow.next(0.0) is None
    assert shadow.claim("a")
    if late:
        shadow.close()
    given(shadow)
    shadow.close()
    assert shadow.model.buffers.stats.in_use == 0
    assert not shadow.claim("a")
