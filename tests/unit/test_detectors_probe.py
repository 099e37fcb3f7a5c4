# SPDX-License-Identifier: Apache-2.0
"""The first run of a model on a device that answers later: its outputs are not looked at before they exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.detectors.loading.load import LoadedModel
from pipeline.detectors.loading.metadata import Metadata
from pipeline.detectors.loading.signature import Signature
from pipeline.detectors.trial.probe import FirstRun, first_run
from pipeline.errors import ModelLoadError
from pipeline.frame import InputSpec, Uint8Array

SPEC = InputSpec(64, 64)
MODEL = LoadedModel("m.pt", nn.Identity(), "0" * 64, Metadata(), Signature(takes_list=False))


class Later:
    """A device, and its only batch: the outputs are unfinished memory until somebody waits."""

    def __init__(self, fails: bool = False) -> None:
        self.outputs = torch.full((1, 4), 1e30)
        self.fails = fails

    def run(self, pictures: Sequence[Uint8Array], size: int) -> tuple[Any, Later]:
        return self.outputs, self

    def wait(self) -> None:
        if self.fails:
            raise RuntimeError("device-side assert triggered")
        self.outputs.fill_(1.0)


def run_on(device: Later) -> FirstRun:
    return first_run(MODEL, [SPEC], 1, lambda spec, most: device)  # type: ignore[arg-type, return-value]


def test_the_outputs_of_the_first_run_are_waited_for() -> None:
    assert run_on(Later()).outputs.tolist() == [[1.0] * 4]


def test_a_device_that_fails_meanwhile_is_a_model_that_does_not_run() -> None:
    with pytest.raises(ModelLoadError, match="it does not run at 64x64: the device failed: device-side assert"):
        run_on(Later(fails=True))
