# SPDX-License-Identifier: Apache-2.0
"""Page-locked memory for the pictures that cross to a GPU: the device reads it without a detour."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from pipeline.detectors.torch_messages import one_line
from pipeline.frame import Uint8Array
from pipeline.frame.buffers import Allocate, Shape, aligned

_log = logging.getLogger(__name__)


def _page_locked(shape: Shape) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


def allocator(device: torch.device, page_locked: Callable[[Shape], torch.Tensor] = _page_locked) -> Allocate:
    """What makes the memory of pictures for a network on this device.

    Args:
        device: on a CPU ordinary memory does.
        page_locked: makes a page-locked uint8 tensor of a shape. Where the system gives no more of it, ordinary
            memory takes its place, slower and otherwise the same.
    """
    if device.type != "cuda":
        return aligned

    def allocate(shape: Shape) -> Uint8Array:
        try:
            array: Uint8Array = page_locked(shape).numpy()  # the array keeps the tensor alive
        except RuntimeError as exc:
            _log.warning("no page-locked memory for an input of %s: %s", shape, one_line(exc))
            return aligned(shape)
        return array

    return allocate
