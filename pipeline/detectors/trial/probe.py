# SPDX-License-Identifier: Apache-2.0
"""The first run of a model: which input does it take at all?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.detectors.loading.load import LoadedModel
from pipeline.detectors.network import Network
from pipeline.detectors.torch_messages import one_line
from pipeline.detectors.trial.scenes import probe_picture
from pipeline.errors import InferenceError, ModelLoadError
from pipeline.frame import InputSpec, Uint8Array

COMMON_SIDES = (640, 320, 416, 352, 512, 384, 448, 300, 256, 224, 800, 1024, 1280)
"""Square input sizes that are tried, in this order, on a model that does not say its own."""

_COMMON_BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class FirstRun:
    """The first run that succeeded.

    Attributes:
        spec: the input that it took.
        batch: how many pictures it took; more than 1 only when it takes nothing less.
        outputs: what it returned.
    """

    spec: InputSpec
    batch: int
    outputs: Any


def first_run(
    model: LoadedModel, specs: Sequence[InputSpec], batch: int | None, connect: Callable[[InputSpec, int], Network]
) -> FirstRun:
    """Find an input that the model takes.

    Args:
        model: for the messages.
        specs: inputs to try, in this order.
        batch: the batch size to use, or None: a single picture, and more only if the one given input refuses that.
        connect: makes a network for an input and a largest batch.

    Raises:
        ModelLoadError: nothing works; the first failure is told.
    """
    batches = (batch,) if batch else _COMMON_BATCHES if len(specs) == 1 else _COMMON_BATCHES[:1]
    first: InferenceError | None = None
    for spec in specs:
        for size in batches:
            try:
                outputs = _finished(connect(spec, size), probe_picture(spec, 0), size)
            except InferenceError as exc:
                first = first or exc
            else:
                return FirstRun(spec, size, outputs)
    tried = f"at {specs[0].width}x{specs[0].height}"
    hint = "set model.input to the size that it was exported with"
    if len(specs) > 1:
        tried = "at any of the usual input sizes"
    elif model.metadata.fixed_size and model.metadata.size != (specs[0].height, specs[0].width):
        only = list(model.metadata.size or ())
        hint = f"it was exported for {only} only: leave model.input out, or export it with dynamic=True"
    raise ModelLoadError(f"{model.path}: it does not run {tried}: {first}. Remedy: {hint}") from first


def _finished(network: Network, picture: Uint8Array, size: int) -> Any:
    """The outputs, once they exist: what they are is read off their values, in no particular stream of a GPU."""
    outputs, work = network.run([picture], size)
    if work is not None:
        try:
            work.wait()
        except RuntimeError as exc:
            raise InferenceError(f"the device failed: {one_line(exc)}") from exc
    return outputs
