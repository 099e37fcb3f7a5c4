# SPDX-License-Identifier: Apache-2.0
"""Pacing and looping: recordings that play the part of a camera."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipeline.errors import SourceInvalid, SourceUnavailable
from pipeline.frame import Capture
from pipeline.sources import Looping, Paced, PatternSource
from pipeline.testing import ManualClock, ScriptedSource
from pipeline.threads import StopFlag

MS = 1_000_000


class Waits(StopFlag):
    """Lets a manual clock run instead of waiting."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waits.append(round(seconds, 6))
        self.clock.advance(round(seconds * 1e9))
        return self.is_set()


class Epochs(ScriptedSource):
    """A scripted source whose epoch grows where pts steps back."""

    epoch = 0
    last = -1.0

    def read(self) -> Capture | None:
        capture = super().read()
        if capture is None:
            return None
        self.epoch += capture.pts_s < self.last
        self.last = capture.pts_s
        return Capture(
            capture.picture, capture.index, capture.pts_s, capture.read_ns, capture.decoded_ns, None, self.epoch
        )


def play(source: Paced, stop: Waits, *, work_ms: dict[int, int] | None = None) -> list[tuple[int, Capture]]:
    """Delivery times in milliseconds from the first frame; reading frame n is followed by work_ms[n] of work."""
    source.open(stop)
    start = None
    delivered = []
    while (capture := source.read()) is not None:
        start = stop.clock.now_ns() if start is None else start
        delivered.append(((stop.clock.now_ns() - start) // MS, capture))
        stop.clock.advance((work_ms or {}).get(capture.index, 0) * MS)
    return delivered


def test_frames_come_at_their_pts() -> None:
    clock = ManualClock()
    stop = Waits(clock)
    delivered = play(Paced(ScriptedSource([0.0, 0.04, 0.1, 1.5], clock=clock), clock), stop)
    assert [at for at, _ in delivered] == [0, 40, 100, 1500]
    assert stop.waits == [0.04, 0.06, 1.4]


def test_the_first_frame_comes_at_once_whatever_its_pts() -> None:
    clock = ManualClock()
    assert [at for at, _ in play(Paced(ScriptedSource([7.0, 7.5], clock=clock), clock), Waits(clock))] == [0, 500]


def test_a_late_frame_does_not_wait_and_the_delay_is_caught_up() -> None:
    clock = ManualClock()
    delivered = play(
        Paced(ScriptedSource([n * 0.04 for n in range(6)], clock=clock), clock), Waits(clock), work_ms={1: 100}
    )
    assert [at for at, _ in delivered] == [0, 40, 140, 140, 160, 200]


def test_a_new_epoch_starts_a_new_time_base_one_interval_later() -> None:
    clock = ManualClock()
    delivered = play(Paced(Epochs([5.0, 5.04, 5.08, 0.0, 0.04], clock=clock), clock), Waits(clock))
    assert [at for at, _ in delivered] == [0, 40, 80, 120, 160]


def test_pacing_is_nobodys_latency() -> None:
    """Marks move with the frame, so that it seems read when it is delivered, and its decoding takes what it took."""
    clock = ManualClock()
    stop = Waits(clock)
    for _, capture in play(Paced(ScriptedSource([0.0, 0.5, 1.0], clock=clock), clock, wall=True), stop):
        assert capture.decoded_ns == capture.read_ns
        assert capture.wall_ns is not None
    source = Paced(ScriptedSource([0.0, 0.5], clock=clock), clock)
    source.open(stop)
    source.read()
    asked_ns = clock.now_ns()
    capture = source.read()
    assert capture is not None
    assert capture.read_ns == asked_ns + 500 * MS
    assert capture.wall_ns is None


def test_stop_ends_a_wait() -> None:
    clock = ManualClock()
    stop = Waits(clock)
    source = Paced(ScriptedSource([0.0, 1000.0], clock=clock), clock)
    source.open(stop)
    assert source.read() is not None
    stop.set()
    assert source.read() is None


def test_truncation_and_counters_are_those_of_the_inner_source() -> None:
    inner = ScriptedSource([0.0], truncation="cut")
    paced = Paced(inner)
    assert paced.counters is inner.counters
    assert paced.truncation == "cut"
    paced.close()
    assert inner.closed == 1


def test_looping_goes_on_in_index_and_pts() -> None:
    laps: list[ScriptedSource] = []

    def make() -> ScriptedSource:
        laps.append(ScriptedSource([0.0, 0.1, 0.2]))
        return laps[-1]

    source = Looping(make)
    info = source.open(StopFlag())
    assert (info.frames, info.duration_s) == (None, None)
    captures = [capture for _ in range(8) if (capture := source.read()) is not None]
    assert [capture.index for capture in captures] == list(range(8))
    assert [capture.pts_s for capture in captures] == pytest.approx([n / 10 for n in range(8)])
    assert [capture.epoch for capture in captures] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert [lap.closed for lap in laps] == [1, 1, 0]
    source.close()
    source.close()
    assert laps[-1].closed == 1
    assert source.read() is None


def test_a_loop_of_a_single_frame_still_advances() -> None:
    source = Looping(lambda: PatternSource("pattern:?frames=1&fps=10"))
    source.open(StopFlag())
    stamps = [capture.pts_s for _ in range(5) if (capture := source.read()) is not None]
    assert [after - before for before, after in pairwise(stamps)] == pytest.approx([0.1] * 4)


def test_a_loop_ends_by_stop_and_by_errors() -> None:
    stop = StopFlag()
    source = Looping(lambda: ScriptedSource([0.0, 0.1]))
    source.open(stop)
    assert source.read() is not None
    stop.set()
    assert source.read() is None

    empty = Looping(lambda: ScriptedSource([]))
    empty.open(StopFlag())
    with pytest.raises(SourceInvalid, match="without frames"):
        empty.read()

    plans = iter([ScriptedSource([0.0]), ScriptedSource([], open_error=SourceUnavailable("gone", cause="not_found"))])
    vanishing = Looping(lambda: next(plans))
    vanishing.open(StopFlag())
    assert vanishing.read() is not None
    with pytest.raises(SourceUnavailable, match="gone"):
        vanishing.read()
    vanishing.close()


def test_a_paced_loop_keeps_one_rhythm() -> None:
    clock = ManualClock()
    stop = Waits(clock)
    source = Paced(Looping(lambda: ScriptedSource([0.0, 0.04, 0.08], clock=clock)), clock)
    source.open(stop)
    start = clock.now_ns()
    times = [(clock.now_ns() - start) // MS for _ in range(9) if source.read() is not None]
    assert times == [40 * n for n in range(9)]
