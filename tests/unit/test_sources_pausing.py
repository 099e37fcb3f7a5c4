# SPDX-License-Identifier: Apache-2.0
"""A stream is held and goes on: recordings stand still, cameras are hung up, and a stop ends the wait."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pipeline.errors import SourceUnavailable
from pipeline.events import Condition
from pipeline.frame import Capture
from pipeline.protocols import Source
from pipeline.sources import Pausable, Reconnecting
from pipeline.testing import ScriptedSource
from pipeline.threads import StopFlag
from tests.background import until


class States:
    """What the source says of itself, to be waited for."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._changed = threading.Condition()

    def at(self, condition: Condition) -> None:
        with self._changed:
            self.said.append(condition.state)
            self._changed.notify_all()

    def until(self, state: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.said[-1:] == [state], timeout=10), self.said


def reading(source: Source, stop: StopFlag) -> tuple[threading.Thread, list[Capture | None]]:
    """Open and read to the end in a thread of its own."""
    got: list[Capture | None] = []

    def read() -> None:
        source.open(stop)
        while (capture := source.read()) is not None:
            got.append(capture)
        got.append(None)
        source.close()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, got


def test_a_recording_stands_still_and_goes_on_in_a_new_epoch() -> None:
    states, stop = States(), StopFlag()
    source = Pausable(ScriptedSource([0.0, 0.1, 0.2]), on_state=states.at)
    source.open(stop)
    first = source.read()
    source.pause(True)
    source.pause(True)
    thread = threading.Thread(target=lambda: rest.extend([source.read(), source.read(), source.read()]))
    rest: list[Capture | None] = []
    thread.start()
    states.until("paused")
    assert rest == []
    source.pause(False)
    thread.join(10)
    assert states.said == ["paused", "live"]
    assert first is not None
    assert [c and (c.index, c.epoch) for c in (first, *rest)] == [(0, 0), (1, 1), (2, 1), None]


def test_paused_before_it_opens() -> None:
    states, stop = States(), StopFlag()
    source = Pausable(ScriptedSource([0.0]), on_state=states.at)
    source.pause(True)
    thread, got = reading(source, stop)
    states.until("paused")
    source.pause(False)
    thread.join(10)
    assert [c and c.index for c in got] == [0, None]


@pytest.mark.parametrize("hang_up", [False, True])
def test_a_stop_ends_the_pause(hang_up: bool) -> None:
    states, stop = States(), StopFlag()
    source = Pausable(ScriptedSource([0.0, 0.1]), on_state=states.at, hang_up=hang_up)
    source.pause(True)
    thread, got = reading(source, stop)
    states.until("paused")
    stop.set()
    thread.join(10)
    assert got == [None]


def camera(made: list[ScriptedSource], script: Callable[[], list[object]]) -> Callable[[], Source]:
    def make() -> Source:
        made.append(ScriptedSource(script(), live=True))  # type: ignore[arg-type]
        return made[-1]

    return make


def test_a_camera_is_hung_up_and_called_again() -> None:
    states, stop, made = States(), StopFlag(), list[ScriptedSource]()
    inner = Reconnecting(camera(made, lambda: [0.0, 0.1, threading.Event()]), on_state=states.at)
    source = Pausable(inner, on_state=states.at, hang_up=True)
    thread, got = reading(source, stop)
    states.until("live")
    source.pause(True)
    states.until("paused")
    assert [one.closed for one in made] == [1]
    source.pause(False)
    states.until("live")
    assert len(made) == 2
    stop.set()
    thread.join(10)
    assert got[-1] is None
    epochs = [c.epoch for c in got if c is not None]
    indices = [c.index for c in got if c is not None]
    assert epochs[0] == 0
    assert epochs[-1] == 1
    assert indices == list(range(len(indices)))
    assert inner.counters.reconnects == 0, "a pause is no fault of the camera"


def test_a_camera_that_is_not_there_is_not_called_while_it_is_paused() -> None:
    states, stop = States(), StopFlag()
    calls: list[int] = []

    def gone() -> Source:
        calls.append(1)
        return ScriptedSource([], open_error=SourceUnavailable("no route"))

    source = Pausable(
        Reconnecting(gone, on_state=states.at, first_backoff_s=3600, max_backoff_s=3600),
        on_state=states.at,
        hang_up=True,
    )
    thread, _ = reading(source, stop)
    states.until("backoff")
    source.pause(True)
    states.until("paused")
    tried = len(calls)
    source.pause(False)
    states.until("backoff")
    assert len(calls) == tried + 1
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_child_is_set_with_its_parent_and_not_the_other_way_round() -> None:
    parent = StopFlag()
    child, other = parent.child(), parent.child()
    other.set()
    assert (parent.is_set(), child.is_set()) == (False, False)
    parent.set()
    assert child.is_set()
    assert parent.child().is_set()


def test_a_pause_that_is_over_before_the_reader_notices_does_not_end_a_camera() -> None:
    """Its connection is hung up all the same, and made again."""
    asked, go_on, made = threading.Event(), threading.Event(), []

    class Slow(ScriptedSource):
        def read(self) -> Capture | None:
            if len(made) == 1:
                asked.set()
                assert go_on.wait(10)
            return super().read()

    def make() -> Source:
        made.append(Slow([0.0, 0.1, 0.2], live=True))
        return made[-1]

    stop = StopFlag()
    source = Pausable(Reconnecting(make, first_backoff_s=0.001), hang_up=True)
    thread, got = reading(source, stop)
    assert asked.wait(10)
    source.pause(True)
    source.pause(False)
    go_on.set()
    until(lambda: len(got) >= 3, "frames of the next connection")
    assert None not in got
    stop.set()
    thread.join(10)
    assert got[-1] is None
    assert made[0].closed
