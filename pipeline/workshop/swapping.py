# SPDX-License-Identifier: Apache-2.0
"""Another program in the place of a detector's own, so that it is fed and read exactly as in a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from pipeline.detectors.engine import TorchScriptDetector


@contextlib.contextmanager
def running(detector: TorchScriptDetector, module: torch.nn.Module) -> Iterator[None]:
    """Let the detector run ``module``, which has the same inputs and outputs, for as long as the block lasts."""
    before = detector.program
    detector.program = module
    try:
        yield
    finally:
        detector.program = before
