# SPDX-License-Identifier: Apache-2.0
"""How much more would go: faster cameras, and more of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from pipeline.plan.costs import Costs
from pipeline.plan.outcome import Load, Outcome, phases
from pipeline.plan.window import Processed

MOST_MISSING: Final = 0.01
"""A plan loses no more than this share of the frames of any stream."""
RESERVE: Final = 0.1
"""Share of the cores, and of a GPU, that is left free by what is said to fit."""
LIMIT_SHARE: Final = 0.9
"""Of the frames of a stream with a budget so many are done within it."""
MOST_STREAMS: Final = 128
"""So many are tried out at most; where they fit, more may."""
MOST_FPS: Final = 6000
"""Faster than so many decoded frames a second in all is not tried out either."""
_TRIES: Final = 10
_NEAR: Final = 1.03

Simulate = Callable[[Sequence[Load], float], Outcome]
"""What so many streams come to, at so many times their rate."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """Attributes:
    speed: all streams together could deliver so many times their frames; below 1 where they deliver too many.
    mean: further cameras that fit, at the mean of these; below 0 where so many have to go.
    most: no more than these, or no faster ones, were tried.
    kinds: by a stream that stands for its kind, how many more of that kind fit.
    memory: there is no memory for one more than fit.
    """

    speed: float
    mean: int
    kinds: dict[str, int]
    most: bool = False
    memory: bool = False


def holds(outcome: Outcome, loads: Sequence[Load]) -> bool:
    """Whether every stream gets its frames done, and those with a budget in time."""
    return all(
        missing(outcome, load) <= MOST_MISSING and in_time(outcome.streams[load.name], load.terms.budget_ns)
        for load in loads
    )


def missing(outcome: Outcome, load: Load) -> float:
    """Share of a stream's frames that are not processed, or whose results a sink loses."""
    predicted = outcome.streams[load.name]
    return max(predicted.missing, predicted.lost["sink"] / max(1, predicted.wanted))


def in_time(stream: Processed, budget_ns: int | None) -> bool:
    """Whether frames are done within the budget of their stream, where it has one."""
    return budget_ns is None or (stream.percentile(100 * LIMIT_SHARE) or 0.0) <= budget_ns / 1e6


def least_ms(load: Load, costs: Costs) -> float:
    """What a frame takes at least, on a machine that has nothing else to do."""
    stream = load.costs
    parts = stream.decode_ms, stream.isolation_ms, stream.prepare_ms, costs.network.mean_ms(stream.spec, 1)
    return sum(parts) + max(load.sinks_ms.values(), default=0.0)


def has_reserve(outcome: Outcome, costs: Costs) -> bool:
    """Whether cores and device have something left for a bad moment."""
    return outcome.cores <= (1 - RESERVE) * costs.cores and outcome.device <= 1 - RESERVE


def has_memory(loads: Sequence[Load], costs: Costs) -> bool:
    """Whether there is memory for the processes of cameras that have their own, with the usual reserve."""
    if costs.memory_limit_mb is None:
        return True
    return _processes_mb(loads) <= max(0.0, (1 - RESERVE) * costs.memory_limit_mb - costs.memory_mb)


def memory_mb(loads: Sequence[Load], costs: Costs) -> float:
    """Of this process and of those of its cameras, MiB."""
    return costs.memory_mb + _processes_mb(loads)


def _processes_mb(loads: Sequence[Load]) -> float:
    return sum(load.costs.isolation_mb for load in loads)


def headroom(loads: Sequence[Load], costs: Costs, outcome: Outcome, simulate: Simulate) -> Headroom:
    """Try out how much fits, with the reserve left free."""

    def fits(more: Sequence[Load], speed: float = 1.0) -> bool:
        if not has_memory(more, costs):
            return False
        result = simulate(more, speed)
        return holds(result, more) and has_reserve(result, costs)

    def more_fit(load: Load, count: int) -> bool:
        return fits(_with_clones(loads, load, count))

    busy = max(outcome.cores / costs.cores, outcome.device, 1e-3)
    guess = (1 - RESERVE) / busy  # by what is busy now; losses hide what is wanted beyond the whole
    fastest = max(1.0, MOST_FPS / sum(load.costs.fps for load in loads))
    speed = _most_speed(guess, lambda each: fits(loads, each), fastest)
    present = len(loads)
    by_mean = _most(lambda count: fits(_many(loads, count)), max(1, round(present * speed)), max(MOST_STREAMS, present))
    kinds = {}
    for name in representatives(loads) if by_mean >= present else []:
        (load,) = (each for each in loads if each.name == name)
        kinds[name] = _most(partial(more_fit, load), max(1, by_mean - present), MOST_STREAMS)
    full = not has_memory(_many(loads, by_mean + 1), costs)
    return Headroom(speed, by_mean - present, kinds, by_mean >= MOST_STREAMS or speed >= fastest, full)


def kind(load: Load) -> tuple[object, ...]:
    """Streams of one kind differ in nothing that costs."""
    costs = load.costs
    rates = round(costs.fps, 0), round(costs.fps * costs.kept, 1)
    return costs.codec, costs.width, costs.height, load.isolated, costs.spec, rates, load.terms, tuple(load.sinks_ms)


def representatives(loads: Sequence[Load], most: int = 6) -> list[str]:
    """The first stream of each kind."""
    first: dict[tuple[object, ...], str] = {}
    for load in loads:
        first.setdefault(kind(load), load.name)
    return list(first.values())[:most]


def _many(loads: Sequence[Load], count: int) -> list[Load]:
    """The first ``count`` streams; of more than there are, the same again."""
    placed = phases(count)
    return [replace(loads[number % len(loads)], name=f"{number}", phase=placed[number]) for number in range(count)]


def _with_clones(loads: Sequence[Load], load: Load, count: int) -> list[Load]:
    placed = phases(count + MOST_STREAMS)[MOST_STREAMS:]  # none of those that are there already
    return [*loads, *(replace(load, name=f"+{number}", phase=placed[number]) for number in range(count))]


def _most(fits: Callable[[int], bool], guess: int, most: int) -> int:
    """The largest count that fits, 0 where not even one does; near ``guess`` it takes the fewest tries."""
    low, high = 0, most + 1
    at = max(1, min(guess, most))
    known = False  # one that does not fit
    while high - low > 1:
        if fits(at):
            low = at
        else:
            high, known = at, True
        if not known:
            at = min(low + max(1, low // 4), most)
        else:
            at = (low + high) // 2 if low else max(1, high * 3 // 4)
    return low


def _most_speed(guess: float, fits: Callable[[float], bool], most: float) -> float:
    """The largest factor that fits, within a few per cent; 0 where none was found."""
    low, high, at = 0.0, float("inf"), min(guess, most)
    for _ in range(_TRIES):
        if fits(at):
            low = at
        else:
            high = at
        if high < _NEAR * low or low >= most:
            break
        at = min(low * 1.25, most) if high == float("inf") else (low * high) ** 0.5 if low else high / 1.5
    return low
