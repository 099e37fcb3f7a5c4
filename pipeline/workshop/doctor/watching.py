# SPDX-License-Identifier: Apache-2.0
"""A program with somebody beside it who sees what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch


class Watched(torch.nn.Module):
    """Calls ``inner`` with ``change`` of what it is given and shows the outputs to ``look``."""

    def __init__(
        self,
        inner: torch.nn.Module,
        look: Callable[[Any], object],
        change: Callable[[torch.Tensor], torch.Tensor] = lambda given: given,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.look = look
        self.change = change

    def forward(self, given: Any, *more: Any) -> Any:
        """As ``inner``."""
        changed = [self.change(one) for one in given] if isinstance(given, list) else self.change(given)
        outputs = self.inner(changed, *more)
        self.look(outputs)
        return outputs


def tensors(outputs: Any) -> Iterator[torch.Tensor]:
    """All floating-point tensors in what a network returned."""
    if isinstance(outputs, torch.Tensor):
        if outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, dict):
        for value in outputs.values():
            yield from tensors(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from tensors(value)
