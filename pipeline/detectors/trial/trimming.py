# SPDX-License-Identifier: Apache-2.0
"""May the padding of a letterboxed input be left off? Found out by showing one picture with and without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline.detectors.adapter import UNREADABLE, Adapter, Limits
from pipeline.detectors.agreement import iou_of_pairs
from pipeline.detectors.loading.load import LoadedModel
from pipeline.detectors.network import Network
from pipeline.detectors.trial.probe import FirstRun
from pipeline.detectors.trial.scenes import probe_picture
from pipeline.errors import InferenceError
from pipeline.frame import Detections, InputSpec

USUAL_STRIDE = 32
"""The coarsest stride of nearly all detectors; assumed where a file does not say its own."""

BUILT_IN_STRIDE = 8
"""Of ``builtin:people``, which adds what its windows need by itself."""

TRIM_RUNS = 4
"""Runs of the network that :func:`trim_of` takes at most."""

_CONFIDENCES = (0.25, 0.05, 0.01, 0.0)
_FEW, _MANY = 50, 1000


def can_be_trimmed(model: LoadedModel, spec: InputSpec) -> bool:
    """Whether trying makes sense: it has padding, and the model does not say that it takes one size."""
    return not (model.signature.takes_list or model.metadata.fixed_size or spec.fit == "stretch")


def trim_of(run: FirstRun, adapter: Adapter, connect: Callable[[InputSpec, int], Network]) -> int:
    """The stride to which inputs of this model may be trimmed (:meth:`pipeline.frame.InputSpec.trimmed`), or 0.

    A picture is shown twice, once within grey padding and once without, as a wide and as a tall one. Candidates of
    the trimmed input, before any suppression, must be found at the same place with the padding: a model with its size
    baked in raises, or answers in other pixels.
    """
    spec = run.spec
    known = connect(spec, run.batch).encoding.stride
    stride = known if known > 1 else USUAL_STRIDE
    network = connect(replace(spec, trim=stride), run.batch)
    try:
        agreed = all(_agrees(network, adapter, run.batch, *sides) for sides in _shapes(spec, stride))
    except (InferenceError, *UNREADABLE):  # an adapter may know one size only
        return 0
    return stride if agreed and _shapes(spec, stride) else 0


def _shapes(spec: InputSpec, stride: int) -> list[tuple[int, int]]:
    """A wide and a tall part (height, width) of the input, so placed that both borders are whole strides."""
    wide = spec.height - 2 * stride * max(1, spec.height // 4 // stride)
    tall = spec.width - 2 * stride * max(1, spec.width // 4 // stride)
    if min(wide, tall) < stride or spec.height % stride or spec.width % stride:
        return []
    return [(wide, spec.width), (spec.height, tall)]


def _agrees(network: Network, adapter: Adapter, batch: int, height: int, width: int) -> bool:
    spec = network.spec
    small = replace(spec, height=height, width=width, trim=0)
    picture = probe_picture(small, 0)
    top, left = (spec.height - height) // 2, (spec.width - width) // 2
    padded = np.full(spec.shape, spec.pad_value, np.uint8)
    padded[top : top + height, left : left + width] = picture
    found = Detections.empty()
    outputs, _ = network.run([picture], batch)
    adapter.check(outputs, batch)
    for confidence in _CONFIDENCES:
        found = _candidates(network, adapter, outputs, small, confidence, _FEW)
        if len(found) >= _FEW // 5:
            break
    outputs, _ = network.run([padded], batch)
    expected = _candidates(network, adapter, outputs, spec, confidence / 10, _MANY)
    shift = np.array([left, top, left, top], np.float32)
    near = (iou_of_pairs(found.xyxy + shift, expected.xyxy) > 0.7) & (found.class_id[:, None] == expected.class_id)
    return bool(len(found)) and float(near.any(1).mean()) >= 0.9


def _candidates(
    network: Network, adapter: Adapter, outputs: object, spec: InputSpec, confidence: float, count: int
) -> Detections:
    with network.scope():
        limits = Limits(confidence=confidence, iou=1.0, max_detections=count)
        return adapter.parse(outputs, 1, limits, spec).detections[0]
