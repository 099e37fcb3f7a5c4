# SPDX-License-Identifier: Apache-2.0
"""The cameras of a plan and as many more as are said to fit: predicted, and then measured as the plan itself is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from pipeline.errors import ModelHung, PipelineError
from pipeline.plan.copies import Copy
from pipeline.plan.outcome import Load, Outcome, phases
from pipeline.plan.proof import Proof
from pipeline.sources.naming import stream_name


@dataclass(frozen=True, slots=True)
class Growth:
    """Attributes:
    loads: the streams of the plan, and further ones like them.
    predicted: what they come to.
    proof: what was measured then; None where the run failed.
    error: why it did.
    """

    loads: tuple[Load, ...]
    predicted: Outcome
    proof: Proof | None
    error: str = ""


def further(loads: Sequence[Load], count: int) -> list[Load]:
    """So many streams in all: these, and the same again under names of their own, each at its own time."""
    taken = {load.name.lower() for load in loads}
    again = [replace(load, name=stream_name(load.name, taken)) for load in islice(cycle(loads), count - len(loads))]
    return [replace(load, phase=phase) for load, phase in zip([*loads, *again], phases(count), strict=True)]


def grow(
    copies: Sequence[Copy],
    loads: Sequence[Load],
    predicted: Outcome,
    prove: Callable[[Sequence[Copy], Sequence[Load]], Proof],
) -> Growth:
    """Run more streams than were asked for.

    Args:
        copies: what stands in for the streams of the plan.
        loads: what :func:`further` made of them.
        predicted: what they come to.
        prove: measures it.

    Raises ModelHung where the model does not answer.
    """
    named = [_named(copy, load.name) for copy, load in zip(cycle(copies), loads, strict=False)]
    try:
        return Growth(tuple(loads), predicted, prove(named, loads))
    except ModelHung:
        raise  # a thread is left in it
    except PipelineError as failed:
        return Growth(tuple(loads), predicted, None, str(failed))


def _named(copy: Copy, name: str) -> Copy:
    change = {"name": name}
    return replace(copy, stream=copy.stream.model_copy(update=change), config=copy.config.model_copy(update=change))
