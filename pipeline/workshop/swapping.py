# SPDX-License-Identifier: Apache-2.0
"""Another program in the place of a detector's own, so that it is fed and read exactly as in a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from pipeline.detectors.engine import TorchScriptDetector


def own_program(detector: TorchScriptDetector) -> torch.nn.Module:
    """The program that the detector runs; raises ValueError where the detector is closed."""
    module = detector._network.module
    if module is None:
        raise ValueError("the detector is closed")
    return module


@contextlib.contextmanager
def running(detector: TorchScriptDetector, module: torch.nn.Module) -> Iterator[None]:
    """Let the detector run ``module``, which has the same inputs and outputs, for as long as the block lasts."""
    network = detector._network
    before = network.module
    network.module = module
    try:
        yield
    finally:
        network.module = before
