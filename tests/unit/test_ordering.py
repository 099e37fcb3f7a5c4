# SPDX-License-Identifier: Apache-2.0
"""Frames come back in order, out of whichever parts, in whichever order these were ready."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.ordering import Joined, StreamOrder, join
from pipeline.frame import Detections, DropReason, Frame, Outcome, StreamKey
from pipeline.timing import SLOTS, Mark, new_trace


def frame(sequence: int = 0) -> Frame:
    return Frame(StreamKey("a", 1), sequence, sequence, 0.0, None, 0, 8, 8, None, new_trace())


def found(*values: int) -> Detections:
    """One box per value that carries it in every column."""
    column = np.array(values, np.float32)
    return Detections(np.stack([column] * 4, axis=1).reshape(-1, 4), column / 100, column.astype(np.int64))


def part(
    whole: Frame,
    number: int,
    of: int,
    detections: Detections | None = None,
    dropped: DropReason | None = None,
    ready_ns: int = 1,
) -> Outcome:
    return Outcome(whole, detections, dropped, number, of, (ready_ns - 2, ready_ns - 1, ready_ns))


def classes(joined: Joined) -> list[int]:
    assert joined.detections is not None
    return joined.detections.class_id.tolist()


class TestJoin:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_parts_stand_in_the_order_of_their_numbers(self, order: tuple[int, ...]) -> None:
        whole = frame()
        pieces = [found(10, 11), found(), found(30)]
        joined = join([part(whole, number, 3, pieces[number]) for number in order])
        assert joined.frame is whole
        assert joined.dropped is None
        assert joined.detections is not None
        assert classes(joined) == [10, 11, 30]
        np.testing.assert_array_equal(joined.detections.xyxy, [[10] * 4, [11] * 4, [30] * 4])
        np.testing.assert_allclose(joined.detections.confidence, [0.1, 0.11, 0.3])

    @pytest.mark.parametrize("ready", list(itertools.permutations((1100, 1200, 1300))))
    def test_the_frame_has_the_marks_of_the_part_that_was_ready_last(self, ready: tuple[int, ...]) -> None:
        whole = frame()
        # The later a part was ready, the earlier it began: only the last mark tells which one held the frame up.
        parts = [
            Outcome(
                whole,
                found(number),
                part=number,
                of=3,
                marks=(1, 2, 3, 4, 5, 2000 - ready_ns, 2050 - ready_ns, ready_ns),
            )
            for number, ready_ns in enumerate(ready)
        ]
        join(parts)
        assert [whole.trace[mark] for mark in (Mark.INFER, Mark.INFERRED, Mark.PARSED)] == [700, 750, 1300]
        assert [at for mark, at in enumerate(whole.trace) if mark not in range(4, 12)] == [0] * (SLOTS - 8)

    @pytest.mark.parametrize("lost", [0, 1, 2])
    def test_a_lost_part_loses_the_frame(self, lost: int) -> None:
        whole = frame()
        parts = [part(whole, number, 3, found(number)) for number in range(3)]
        parts[lost] = part(whole, lost, 3, dropped="inference_error")
        joined = join(parts)
        assert (joined.dropped, joined.detections) == ("inference_error", None)

    def test_one_part_is_passed_on_as_it_is(self) -> None:
        detections = found(7)
        assert join([part(frame(), 0, 1, detections)]).detections is detections

    def test_nobody_looked_is_not_the_same_as_nothing_found(self) -> None:
        assert join([Outcome(frame())]).detections is None
        looked = join([part(frame(), 0, 1, found())])
        assert looked.detections is not None
        assert len(looked.detections) == 0

    def test_parts_that_nobody_looked_at_add_nothing(self) -> None:
        whole = frame()
        assert classes(join([part(whole, 1, 3, found(5)), part(whole, 0, 3), part(whole, 2, 3, found(6))])) == [5, 6]
        assert join([part(whole, 0, 2), part(whole, 1, 2)]).detections is None


class TestOrder:
    def released(self, order: StreamOrder, *outcomes: Outcome) -> list[int]:
        return [joined.frame.sequence for outcome in outcomes for joined in order.add(outcome)]

    def test_a_frame_waits_for_those_before_it(self) -> None:
        order = StreamOrder()
        assert self.released(order, Outcome(frame(2)), Outcome(frame(1))) == []
        assert self.released(order, Outcome(frame(0))) == [0, 1, 2]
        assert self.released(order, Outcome(frame(3))) == [3]

    def test_a_frame_waits_for_all_its_parts(self) -> None:
        order = StreamOrder()
        whole = frame(0)
        assert self.released(order, part(whole, 1, 3), Outcome(frame(1)), part(whole, 0, 3)) == []
        assert self.released(order, part(whole, 2, 3)) == [0, 1]

    def test_it_is_complete_once_every_frame_up_to_the_end_was_released(self) -> None:
        order = StreamOrder()
        assert not order.complete
        self.released(order, Outcome(frame(1)))
        order.end(2)
        assert not order.complete
        self.released(order, Outcome(frame(0)))
        assert order.complete

    def test_the_end_may_come_after_the_last_frame(self) -> None:
        order = StreamOrder()
        self.released(order, Outcome(frame(0)))
        assert not order.complete  # more may come
        order.end(1)
        assert order.complete

    def test_a_stream_without_frames_is_complete_at_its_end(self) -> None:
        order = StreamOrder()
        assert not order.complete
        order.end(0)
        assert order.complete

    @given(st.lists(st.integers(1, 3), min_size=1, max_size=8).flatmap(lambda of: st.tuples(st.just(of), shuffled(of))))
    def test_any_order_of_arrival_gives_the_same(self, case: tuple[list[int], list[tuple[int, int]]]) -> None:
        parts_of, arrivals = case
        frames = [frame(sequence) for sequence in range(len(parts_of))]
        order = StreamOrder()
        order.end(len(frames))
        released: list[tuple[int, list[int]]] = []
        for sequence, number in arrivals:
            assert not order.complete
            outcome = part(frames[sequence], number, parts_of[sequence], found(10 * sequence + number))
            released += [(joined.frame.sequence, classes(joined)) for joined in order.add(outcome)]
        expected = [(number, [10 * number + piece for piece in range(of)]) for number, of in enumerate(parts_of)]
        assert released == expected
        assert order.complete


def shuffled(parts_of: list[int]) -> st.SearchStrategy[list[tuple[int, int]]]:
    """All (frame, part) in any order."""
    return st.permutations([(sequence, number) for sequence, of in enumerate(parts_of) for number in range(of)])
