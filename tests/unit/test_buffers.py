# SPDX-License-Identifier: Apache-2.0
"""The buffer pool: reuse, bounds, counters, misuse, and many threads at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pipeline.frame.buffers import ALIGNMENT, BufferPool, PoolStats, aligned

SHAPE = (4, 6, 3)
BYTES = 72


@pytest.mark.parametrize("shape", [(1,), (7, 5, 3), (2, 352, 352, 3)])
def test_new_buffers_are_aligned_contiguous_bytes(shape: tuple[int, ...]) -> None:
    pool = BufferPool()
    for _ in range(5):
        array = pool.acquire(shape)
        assert array.shape == shape
        assert array.dtype == np.uint8
        assert array.ctypes.data % ALIGNMENT == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_a_loop_of_acquire_and_release_lives_on_one_buffer() -> None:
    pool = BufferPool()
    first = pool.acquire(SHAPE)
    pool.release(first)
    for _ in range(1000):
        again = pool.acquire(SHAPE)
        assert again is first
        pool.release(again)
    assert pool.stats == PoolStats(
        allocated=1, in_use=0, in_use_bytes=0, idle=1, idle_bytes=BYTES, peak=1, peak_bytes=BYTES
    )


def test_two_loans_never_share_memory() -> None:
    pool = BufferPool()
    loans = [pool.acquire(SHAPE) for _ in range(20)]
    for value, array in enumerate(loans):
        array[:] = value
    assert [int(array.max()) for array in loans] == list(range(20)) == [int(array.min()) for array in loans]
    assert (pool.stats.in_use, pool.stats.peak, pool.stats.peak_bytes) == (20, 20, 20 * BYTES)


def test_a_shape_is_served_by_its_own_buffers_first() -> None:
    pool = BufferPool()
    tall, wide = pool.acquire((6, 4, 3)), pool.acquire((4, 6, 3))
    for array in (tall, wide):
        pool.release(array)
    assert pool.acquire((4, 6, 3)) is wide
    assert pool.acquire((6, 4, 3)) is tall
    assert pool.stats.allocated == 2


def test_a_shape_without_buffers_takes_over_the_memory_of_another() -> None:
    pool = BufferPool()
    large = pool.acquire((10, 10))
    pool.release(large)
    small = pool.acquire((6, 10))
    assert small.shape == (6, 10)
    assert small.flags.c_contiguous
    assert np.shares_memory(small, large)
    assert (pool.stats.allocated, pool.stats.in_use_bytes, pool.stats.idle_bytes) == (1, 100, 0)
    pool.release(small)
    assert (pool.stats.in_use_bytes, pool.stats.idle_bytes) == (0, 100)
    again = pool.acquire((10, 10))
    assert np.shares_memory(again, large), "the whole block is there again"
    with pytest.raises(ValueError, match="not on loan"):
        pool.release(small)


@pytest.mark.parametrize("shape", [(49,), (101,)])
def test_a_block_that_is_far_too_large_or_too_small_is_left_alone(shape: tuple[int, ...]) -> None:
    pool = BufferPool()
    pool.release(pool.acquire((100,)))
    pool.acquire(shape)
    assert (pool.stats.allocated, pool.stats.idle_bytes) == (2, 100)


def test_any_number_of_shapes_lives_on_the_memory_of_those_in_use_together() -> None:
    pool = BufferPool(max_idle=64)
    rng = np.random.default_rng(0)
    on_loan: list[np.ndarray] = []
    for height in rng.integers(60, 100, 2000):
        on_loan.append(pool.acquire((int(height), 100, 3)))
        on_loan[-1][:] = len(on_loan)
        if len(on_loan) == 8:
            assert [int(array.min()) for array in on_loan] == list(range(1, 9)) == [int(a.max()) for a in on_loan]
            for array in on_loan:
                pool.release(array)
            on_loan.clear()
    assert pool.stats.allocated <= 24
    assert pool.stats.idle_bytes <= 24 * 30_000


def test_idle_bytes_are_bounded() -> None:
    pool = BufferPool(max_idle_bytes=250)
    for array in [pool.acquire((100,)) for _ in range(4)]:
        pool.release(array)
    assert (pool.stats.idle, pool.stats.idle_bytes) == (2, 200)


def test_idle_buffers_are_bounded_and_the_shape_released_longest_ago_goes_first() -> None:
    pool = BufferPool(max_idle=3)
    old = [pool.acquire((8,)) for _ in range(3)]
    new = [pool.acquire((9,)) for _ in range(2)]
    for array in old + new:
        pool.release(array)
    assert (pool.stats.idle, pool.stats.idle_bytes) == (3, 8 + 9 + 9)
    assert {id(pool.acquire((9,))), id(pool.acquire((9,)))} == {id(array) for array in new}
    assert pool.acquire((8,)) is old[2]
    assert pool.stats.idle == 0


def test_a_shape_that_is_still_in_use_outlives_one_that_is_not() -> None:
    pool = BufferPool(max_idle=2)
    current = [pool.acquire((8,)) for _ in range(2)]
    former = pool.acquire((9,))
    for array in (current[0], former, current[1]):
        pool.release(array)
    assert (pool.stats.idle, pool.stats.idle_bytes) == (2, 16)


def test_a_pool_that_keeps_nothing_still_works() -> None:
    pool = BufferPool(max_idle=0)
    pool.release(pool.acquire(SHAPE))
    assert (pool.stats.idle, pool.stats.idle_bytes, pool.stats.in_use) == (0, 0, 0)


def test_trim_forgets_idle_buffers_and_keeps_loans() -> None:
    pool = BufferPool()
    loan, idle = pool.acquire(SHAPE), pool.acquire(SHAPE)
    pool.release(idle)
    pool.trim()
    assert (pool.stats.idle, pool.stats.idle_bytes, pool.stats.in_use) == (0, 0, 1)
    pool.release(loan)
    assert pool.acquire(SHAPE) is loan


def test_a_second_release_raises_and_changes_nothing() -> None:
    pool = BufferPool()
    array = pool.acquire(SHAPE)
    pool.release(array)
    before = pool.stats
    with pytest.raises(ValueError, match="twice"):
        pool.release(array)
    assert pool.stats == before


def test_foreign_arrays_and_views_are_refused() -> None:
    pool = BufferPool()
    mine = pool.acquire(SHAPE)
    theirs = BufferPool().acquire(SHAPE)
    for array in (theirs, np.empty(SHAPE, np.uint8), mine[:], mine[0]):
        with pytest.raises(ValueError, match="not on loan"):
            pool.release(array)
    assert pool.stats.in_use == 1


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        BufferPool(max_idle=-1)
    with pytest.raises(ValueError, match="-5"):
        BufferPool(max_idle_bytes=-5)


def test_the_allocation_function_is_injected() -> None:
    asked: list[tuple[int, ...]] = []

    def special(shape: tuple[int, ...]) -> np.ndarray:
        asked.append(shape)
        return aligned(shape)

    pool = BufferPool(allocate=special)
    array = pool.acquire(SHAPE)
    pool.release(array)
    pool.acquire(SHAPE)
    assert asked == [SHAPE]


def test_a_failed_allocation_leaves_the_counters_alone() -> None:
    def full(shape: tuple[int, ...]) -> np.ndarray:
        raise MemoryError(shape)

    pool = BufferPool(allocate=full)
    with pytest.raises(MemoryError):
        pool.acquire(SHAPE)
    assert (pool.stats.allocated, pool.stats.in_use, pool.stats.peak) == (0, 0, 0)


def test_threads_never_get_the_same_buffer_and_the_counts_add_up() -> None:
    threads, rounds = 8, 300
    pool = BufferPool(max_idle=64)
    start = threading.Barrier(threads)
    clashes: list[int] = []

    def work(mark: int) -> None:
        start.wait()
        for turn in range(rounds):
            one, two = pool.acquire((64,)), pool.acquire((64 + turn % 3,))
            one[:] = mark
            two[:] = mark + 100
            if not ((one == mark).all() and (two == mark + 100).all()):
                clashes.append(mark)
            pool.release(one)
            pool.release(two)

    workers = [threading.Thread(target=work, args=(mark,)) for mark in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stats = pool.stats
    assert clashes == []
    assert (stats.in_use, stats.in_use_bytes) == (0, 0)
    assert stats.peak <= 2 * threads
    assert stats.allocated == stats.idle <= 4 * threads
