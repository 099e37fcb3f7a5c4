# SPDX-License-Identifier: Apache-2.0
"""Run a model a few times before the first frame: which input size and which batch sizes does it really take?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.detectors.adapters.tensors import first_tensor
from pipeline.detectors.load import LoadedModel
from pipeline.detectors.network import Network
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


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Batch sizes that the model really takes.

    Attributes:
        largest: how many pictures may be given.
        fixed: how many it must be shown every time, or None.
        why: the reason if ``largest`` is less than what was wanted.
    """

    largest: int
    fixed: int | None = None
    why: str = ""


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
                outputs, _ = connect(spec, size).run([probe_picture(spec, 0)], size)
            except InferenceError as exc:
                first = first or exc
            else:
                return FirstRun(spec, size, outputs)
    tried = f"at {specs[0].height}x{specs[0].width}"
    hint = "set model.input to the size that it was exported with"
    if len(specs) > 1:
        tried = "at any of the usual input sizes"
    elif model.metadata.fixed_size and model.metadata.size != (specs[0].height, specs[0].width):
        only = list(model.metadata.size or ())
        hint = f"it was exported for {only} only: leave model.input out, or export it with dynamic=True"
    raise ModelLoadError(f"{model.path}: it does not run {tried}: {first}. Remedy: {hint}") from first


def batch_sizes(
    model: LoadedModel, run: FirstRun, wanted: int, connect: Callable[[InputSpec, int], Network]
) -> BatchSizes:
    """Find out whether a model that takes one picture also treats two like two single ones.

    A traced model may have its batch size baked in: then further pictures come back empty, in silence, or it raises.

    Args:
        model: which one.
        run: its first run.
        wanted: the largest batch that the user wants.
        connect: makes a network for an input and a largest batch.
    """
    fixed = run.batch if run.batch > 1 else model.metadata.fixed_batch
    if fixed is not None:
        return BatchSizes(min(wanted, fixed), fixed, f"it was exported for batches of {fixed}")
    built_in = not model.digest
    if wanted == 1 or built_in or model.signature.takes_list:
        return BatchSizes(wanted)
    network = connect(run.spec, 2)
    first, second = (probe_picture(run.spec, seed) for seed in (1, 0))
    try:
        both = first_tensor(network.run([first, second], 2)[0])
    except InferenceError as exc:
        return BatchSizes(1, None, f"batches of two fail ({exc})")
    alone = first_tensor(run.outputs)  # of the second picture
    if both.shape[0] != 2 or both.shape[1:] != alone.shape[1:]:
        return BatchSizes(1, None, f"two pictures gave outputs of shape {tuple(both.shape)}")
    if not _alike(alone[0].float(), both[1].float(), network.precision == "fp32"):
        return BatchSizes(1, None, "a picture's outputs change with its neighbours in the batch")
    return BatchSizes(wanted)


def _alike(alone: torch.Tensor, together: torch.Tensor, exact: bool) -> bool:
    """Nearly all values agree to 1 % of the largest (10 % in reduced precision); NaN equals NaN."""
    finite = torch.isfinite(alone)
    if not bool(finite.any()):
        return True
    tolerance = float(alone[finite].abs().amax()) * (0.01 if exact else 0.1)
    close = torch.isclose(alone, together, rtol=0.0, atol=tolerance, equal_nan=True)
    return float(close.float().mean()) > 0.98


def probe_picture(spec: InputSpec, seed: int) -> Uint8Array:
    """A quiet picture of soft waves and little noise, grey levels 70..190, (height, width, 3) uint8; repeatable."""
    noise = np.random.default_rng(seed).integers(-10, 11, spec.shape)
    rows = np.sin(np.arange(spec.height) / (11.0 + 6.0 * seed))[:, None, None]
    columns = np.cos(np.arange(spec.width) / 17.0)[None, :, None]
    tint = np.array([1.0, 0.6, 0.8])
    picture: Uint8Array = (130.0 + 25.0 * (rows + columns) * tint + noise).astype(np.uint8)
    return picture
