# SPDX-License-Identifier: Apache-2.0
"""Reconnecting: failures are told, waited out and retried for ever; the stream goes on as one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest

from pipeline.errors import SourceError, SourceInvalid, SourceTimeout, SourceUnavailable
from pipeline.frame import Capture
from pipeline.sources import Reconnecting
from pipeline.sources.gate import Gate
from pipeline.testing import ManualClock, ScriptedSource
from pipeline.threads import StopFlag

REFUSED = SourceUnavailable("camera: connection refused", cause="refused")
EOF = SourceUnavailable("camera: the feed ended", cause="eof")
SECOND = 1_000_000_000


class CountingStop(StopFlag):
    """Notes every pause instead of taking it, and stops after ``limit`` of them."""

    def __init__(self, clock: ManualClock, limit: int = 1_000_000) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._clock = clock
        self._limit = limit

    def child(self) -> StopFlag:
        return self

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self._clock.advance(round(seconds * 1e9))
        if len(self.pauses) >= self._limit:
            self.set()
        return self.is_set()


class Full(random.Random):
    """Draws the upper end, so that the bound itself is seen."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0.0
        return b


def timed(script: list[float | BaseException], clock: ManualClock) -> Iterator[float | BaseException]:
    """Frames that arrive at their pts."""
    start = clock.now_ns()
    for step in script:
        if isinstance(step, (int, float)):
            clock.advance(max(0, start + round(step * SECOND) - clock.now_ns()))
        yield step


class Camera:
    """Makes sources one after the other, as told; an error is one that does not open."""

    def __init__(self, clock: ManualClock, connections: list[list[float | BaseException] | BaseException]) -> None:
        self.clock = clock
        self.connections = connections
        self.made: list[ScriptedSource] = []

    def __call__(self) -> ScriptedSource:
        plan = self.connections[min(len(self.made), len(self.connections) - 1)]
        if isinstance(plan, BaseException):
            source = ScriptedSource((), open_error=plan, live=True, clock=self.clock)
        else:
            source = ScriptedSource(timed(plan, self.clock), live=True, clock=self.clock)
        self.made.append(source)
        return source


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def run(
    camera: Callable[[], ScriptedSource], stop: StopFlag, **options: object
) -> tuple[Reconnecting, list[Capture], list[tuple[str, str | None]]]:
    states: list[tuple[str, str | None]] = []
    source = Reconnecting(
        camera, on_state=lambda said: states.append((said.state, said.detail)), jitter=Full(), **options
    )  # type: ignore[arg-type]
    captures = []
    info = source.open(stop)
    assert info.live
    while (capture := source.read()) is not None:
        captures.append(capture)
    source.close()
    return source, captures, states


def test_one_stream_over_three_connections(clock: ManualClock) -> None:
    camera = Camera(clock, [[0.0, 0.04, EOF], REFUSED, [0.0, 0.04, 0.08, EOF], [0.0, EOF]])
    stop = CountingStop(clock, limit=4)
    source, captures, states = run(camera, stop)
    assert [capture.index for capture in captures] == list(range(6))
    assert [capture.epoch for capture in captures] == [0, 0, 1, 1, 1, 2]
    # Pauses of 0.5 s and 1 s before the second connection, 2 s before the third: what really passed shows in pts.
    assert [capture.pts_s for capture in captures] == pytest.approx([0.0, 0.04, 1.54, 1.58, 1.62, 3.62])
    assert source.counters.reconnects == 2
    assert source.counters.reconnects_by_cause == {"eof": 2}
    assert [state for state, _ in states] == [
        *("connecting", "live", "backoff"),
        *("connecting", "backoff"),
        *("connecting", "live", "backoff"),
        *("connecting", "live", "backoff"),
    ]
    assert states[4][1] == "camera: connection refused"
    assert all(made.closed for made in camera.made)


def test_pauses_double_up_to_the_maximum(clock: ManualClock) -> None:
    stop = CountingStop(clock, limit=10)
    run(Camera(clock, [REFUSED]), stop)
    assert stop.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_jitter_is_full_and_comes_from_the_given_source(clock: ManualClock) -> None:
    stop = CountingStop(clock, limit=6)
    expected = random.Random(11)
    source = Reconnecting(Camera(clock, [REFUSED]), jitter=random.Random(11))
    source.open(stop)
    assert stop.pauses == [expected.uniform(0.0, 0.5 * 2**n) for n in range(6)]


def test_a_short_connection_does_not_reset_the_pauses_but_ten_seconds_of_frames_do(clock: ManualClock) -> None:
    short: list[float | BaseException] = [0.0, 9.9, EOF]
    long: list[float | BaseException] = [0.0, 5.0, 10.0, EOF]
    stop = CountingStop(clock, limit=5)
    run(Camera(clock, [short, short, short, long, short]), stop)
    assert stop.pauses == [0.5, 1.0, 2.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (SourceUnavailable("camera: authentication failed", cause="auth"), "auth_failed"),
        (SourceUnavailable("camera: not found", cause="not_found"), "failed"),
        (SourceInvalid("camera: codec av1 is not allowed"), "failed"),
    ],
)
def test_what_only_a_person_cures_waits_in_the_slow_lane(clock: ManualClock, error: SourceError, state: str) -> None:
    stop = CountingStop(clock, limit=4)
    _, captures, states = run(Camera(clock, [error, error, [0.0, EOF]]), stop)
    assert stop.pauses == [60.0, 60.0, 0.5, 1.0], "and leaves the other lane alone"
    assert [name for name, _ in states[:4]] == ["connecting", state, "connecting", state]
    assert len(captures) == 2


def test_a_timeout_is_a_failure_like_any_other(clock: ManualClock) -> None:
    stop = CountingStop(clock, limit=1)
    source, captures, states = run(Camera(clock, [[0.0, SourceTimeout("camera: no data")]]), stop)
    assert len(captures) == 1
    assert states[-1] == ("backoff", "camera: no data")
    assert source.counters.reconnects == 0, "none followed"


def test_a_quiet_end_of_a_feed_is_a_failure(clock: ManualClock) -> None:
    stop = CountingStop(clock, limit=2)
    source, captures, _ = run(Camera(clock, [[0.0, 0.04]]), stop)
    assert len(captures) == 4
    assert source.counters.reconnects_by_cause == {"eof": 1}


def test_stop_before_the_first_connection(clock: ManualClock) -> None:
    stop = CountingStop(clock, limit=1)
    source = Reconnecting(Camera(clock, [REFUSED]))
    assert source.open(stop).width == 0
    assert source.read() is None
    source.close()
    source.close()


def test_counters_add_up_over_connections(clock: ManualClock) -> None:
    camera = Camera(clock, [[0.0, EOF], [0.0, EOF]])

    def failing() -> ScriptedSource:
        source = camera()
        source.counters.decode_errors = 3
        source.counters.discontinuities = 1
        return source

    source, _, _ = run(failing, CountingStop(clock, limit=2))
    assert (source.counters.decode_errors, source.counters.discontinuities) == (6, 2)


def test_other_errors_are_bugs_and_pass_through(clock: ManualClock) -> None:
    source = Reconnecting(Camera(clock, [ZeroDivisionError()]))
    with pytest.raises(ZeroDivisionError):
        source.open(CountingStop(clock))


def test_who_was_not_answered_in_time_knocks_before_it_takes_a_turn(clock: ManualClock) -> None:
    """Cameras that are switched off would hold all places; what refuses or answers does so at once."""
    late = SourceTimeout("camera: no data")
    camera = Camera(clock, [late, late, REFUSED, [0.0, EOF]])
    gate, knocks = Gate(1), list[int]()

    def knock() -> None:
        assert not gate._inside, "no place is held meanwhile"
        knocks.append(len(camera.made))
        if len(knocks) == 2:
            raise late

    _, captures, states = run(camera, CountingStop(clock, limit=6), gate=gate, knock=knock)
    assert knocks == [2, 3, 4], "after the first, the second, and that of the knock itself"
    assert [name for name, _ in states].count("backoff") == 6
    assert captures


def test_the_gate_bounds_connects_and_is_given_back(clock: ManualClock) -> None:
    gate = Gate(1)
    run(Camera(clock, [REFUSED, [0.0, EOF]]), CountingStop(clock, limit=3), gate=gate)
    assert not gate._inside, "given back after success and failure"
    stop = StopFlag()
    told: list[str] = []
    source = Reconnecting(Camera(clock, [[0.0]]), gate=gate, on_state=lambda said: told.append(said.state))
    with gate.turn(StopFlag()):
        threading.Timer(0.05, stop.set).start()
        source.open(stop)
    assert told == [], "it did not connect"
    assert source.counters.reconnects == 0
    assert source.read() is None, "stop is heard in front of a closed gate"
