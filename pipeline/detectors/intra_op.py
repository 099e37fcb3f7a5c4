# SPDX-License-Identifier: Apache-2.0
"""How many threads torch uses inside one operator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads per operator in this thread, for as long as the block lasts.

    On a busy machine more of them than cores wait for each other for seconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
