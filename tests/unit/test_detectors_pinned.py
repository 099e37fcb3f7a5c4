# SPDX-License-Identifier: Apache-2.0
"""Which memory the pictures for a network lie in, shown without a GPU: what page-locks is injected."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from pipeline.detectors.pinned import allocator
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions
from pipeline.frame.buffers import BufferPool, aligned
from pipeline.testing import FakeDetector

GPU = torch.device("cuda", 0)


def test_on_a_cpu_ordinary_memory_does() -> None:
    assert allocator(torch.device("cpu")) is aligned


def test_for_a_gpu_the_pool_lives_on_page_locked_memory() -> None:
    locked: list[torch.Tensor] = []

    def page_locked(shape: tuple[int, ...]) -> torch.Tensor:
        locked.append(torch.zeros(shape, dtype=torch.uint8))
        return locked[-1]

    pool = BufferPool(allocate=allocator(GPU, page_locked))
    array = pool.acquire((4, 6, 3))
    array[1, 2, 0] = 7
    assert int(locked[0][1, 2, 0]) == 7, "the same memory"
    assert (array.dtype, array.flags.writeable, array.flags.c_contiguous) == (np.uint8, True, True)
    pool.release(array)
    smaller = pool.acquire((4, 5, 3))
    assert np.shares_memory(smaller, array), "what is carved from it is page-locked, too"
    assert len(locked) == 1


def test_where_no_more_can_be_locked_ordinary_memory_takes_over(caplog: pytest.LogCaptureFixture) -> None:
    def page_locked(shape: tuple[int, ...]) -> torch.Tensor:
        raise RuntimeError("CUDA error: out of memory")

    with caplog.at_level(logging.WARNING):
        array = allocator(GPU, page_locked)((4, 6, 3))
    assert array.shape == (4, 6, 3)
    assert "no page-locked memory for an input of (4, 6, 3): CUDA error: out of memory" in caplog.text


def test_the_pipeline_takes_its_detectors_memory() -> None:
    asked: list[tuple[int, ...]] = []

    class Particular(FakeDetector):
        def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
            asked.append(shape)
            return aligned(shape)

    Pipeline(Particular(), [], FlowOptions()).buffers.acquire((2, 2, 3))
    assert asked == [(2, 2, 3)]
    assert Pipeline(FakeDetector(), [], FlowOptions()).buffers.acquire((2, 2, 3)).shape == (2, 2, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_it_is_page_locked_where_there_is_a_gpu() -> None:
    assert torch.from_numpy(allocator(GPU)((4, 6, 3))).is_pinned()
