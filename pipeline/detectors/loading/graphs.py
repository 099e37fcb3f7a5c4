# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs: a program's kernels for one input memory, recorded once and launched together from then on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import torch

from pipeline.detectors.torch_messages import one_line

_log = logging.getLogger(__name__)

SETTLING = 3
"""Runs before the recording: TorchScript profiles the first and optimises in the second."""

RECORDINGS = 4
"""Most that one thread makes: for the buffers of the trial at load, then for those of the run, each in its turn."""


_RECORDING: Final = threading.Lock()
"""One thread at a time: each recording begins by waiting for the whole device, which spoils one that is under way."""


class Graphed:
    """A program whose launches are replaced by a recorded graph, in each thread that calls it.

    A graph reads and writes fixed memory. So every thread records one of its own, in the stream that is current, for
    the memory that its feed fills (:class:`pipeline.detectors.feeding.CudaFeed`); inputs elsewhere are run as they
    always were, and so are all where the program cannot be recorded (it asks the CPU something, as suppression inside
    does) or where the replayed graph did not answer what the program answers. Outputs are copied out: the next batch
    may be launched before they are read.

    Args:
        module: takes one tensor on a GPU; returns tensors, in tuples, lists and dicts or alone.
    """

    def __init__(self, module: Callable[..., Any]) -> None:
        self._module = module
        self._threads = threading.local()

    def __call__(self, given: torch.Tensor) -> Any:
        """Run it; the first call of a thread with some memory records."""
        mine = self._threads
        if getattr(mine, "address", None) != given.data_ptr() and getattr(mine, "made", 0) < RECORDINGS:
            mine.address, mine.made = given.data_ptr(), getattr(mine, "made", 0) + 1
            mine.launch = None  # and stays so where the recording raises: for lack of memory, mostly
            mine.launch = self._recorded(given)
        if mine.launch is None or mine.address != given.data_ptr():
            return self._module(given)
        return mine.launch()

    def _recorded(self, given: torch.Tensor) -> Callable[[], Any] | None:
        """A function that runs the graph on what the memory of ``given`` then holds; None where there can be none."""
        for _ in range(SETTLING):
            expected = self._module(given)
        graph = torch.cuda.CUDAGraph()
        try:
            stream = torch.cuda.current_stream(given.device)
            # Other threads go on using the device meanwhile: only what this one does may spoil the recording.
            with _RECORDING, torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                outputs = self._module(given)
        except RuntimeError as exc:
            _log.info("no CUDA graph: %s", one_line(exc))
            return None

        def launch() -> Any:
            graph.replay()
            return copied(outputs)

        if not alike(expected, launch()):
            _log.info("no CUDA graph: replayed, it answers something else")
            return None
        return launch


def copied(outputs: Any) -> Any:
    """The same tuples, lists and dicts, with copies of the tensors."""
    if isinstance(outputs, torch.Tensor):
        return outputs.clone()
    if isinstance(outputs, dict):
        return {key: copied(value) for key, value in outputs.items()}
    if isinstance(outputs, list):
        return [copied(value) for value in outputs]
    if isinstance(outputs, tuple):
        return tuple(copied(value) for value in outputs)
    return outputs


def alike(expected: Any, found: Any) -> bool:
    """The same structure, and numbers that differ by rounding at most."""
    if isinstance(expected, torch.Tensor):
        return (
            isinstance(found, torch.Tensor)
            and expected.shape == found.shape
            and torch.allclose(expected.float(), found.float(), rtol=1e-2, atol=1e-3, equal_nan=True)
        )
    if type(expected) is not type(found):
        return False
    if isinstance(expected, dict):
        return expected.keys() == found.keys() and all(alike(expected[key], found[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(expected) == len(found) and all(map(alike, expected, found))
    return bool(expected == found)
