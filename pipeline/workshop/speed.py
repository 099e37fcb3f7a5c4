# SPDX-License-Identifier: Apache-2.0
"""Times of several programs on the same work, taken in turns: what disturbs one of them disturbs all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from pipeline.timing import now_ns


def interleaved_ms(
    programs: Sequence[Callable[[int], object]], *, inputs: int, rounds: int, seconds: float = 20.0
) -> list[float]:
    """Median milliseconds of one call of each program.

    Args:
        programs: each is called with the number of an input, 0 to ``inputs`` - 1; two calls of each go before.
        inputs: how many there are.
        rounds: calls of each that are timed; in every round each program has its turn.
        seconds: no round begins later than this, once three were timed.
    """
    times: list[list[int]] = [[] for _ in programs]
    for program in programs:
        for number in range(2):
            program(number % inputs)
    began_ns = now_ns()
    for number in range(max(3, rounds)):
        if number >= 3 and now_ns() - began_ns > seconds * 1e9:
            break
        for program, taken in zip(programs, times, strict=True):
            start_ns = now_ns()
            program(number % inputs)
            taken.append(now_ns() - start_ns)
    return [statistics.median(taken) / 1e6 for taken in times]
