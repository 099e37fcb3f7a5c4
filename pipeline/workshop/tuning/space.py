# SPDX-License-Identifier: Apache-2.0
"""What ``model tune`` can try on a model: recipes, batch sizes, and how cores are shared out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.detectors.loading.recipe import DEFAULT, Recipe

PLAIN: Final = Recipe(frozen=False, channels_last=False)
"""The file as it comes."""

BATCHES: Final = (1, 2, 4, 8, 16)
USUAL_BATCH: Final = 4
"""At this batch size recipes are compared with each other first."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried, and for how long.

    Attributes:
        window_s: length of one measurement.
        screening: measurements of each candidate, in turns with others, before the worse ones go.
        heats: measurements of each finalist per heat; after a heat the worse half goes.
        finalists: candidates in the final.
        frames: frames whose detections are compared.
        batches: batch sizes.
        budget_s: measuring should take about this long; candidates that do not fit are left out. None: no limit.
        quantize_s: longest that an INT8 copy may take to be made, on top of that; 0: none is made.
        every: recipes x batches x threads, all of them.
        compilers: torch.compile and AOTInductor too, which take minutes.
    """

    window_s: float
    screening: int
    heats: int
    finalists: int
    frames: int
    batches: tuple[int, ...]
    budget_s: float | None
    quantize_s: float
    every: bool = False
    compilers: bool = False


QUICK: Final = Effort(0.12, 1, 2, 3, 6, (1, 4, 8), 8.0, 0.0)
USUAL: Final = Effort(0.25, 2, 3, 5, 16, BATCHES, 55.0, 40.0)
THOROUGH: Final = Effort(0.4, 3, 5, 8, 32, BATCHES, None, 600.0, every=True, compilers=True)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tuned.

    Attributes:
        model: path, or ``builtin:NAME``.
        device: as in the configuration.
        given: arguments of :func:`pipeline.detectors.build_detector` that the configuration gives.
        key: of these, what a measurement depends on.
        video: where the frames are from; None for the test pattern.
        cores: CPU cores that may be used.
    """

    model: str
    device: str
    given: Mapping[str, Any]
    key: Mapping[str, Any]
    video: str | None
    cores: int


@dataclass(frozen=True, slots=True)
class About:
    """What the first look at a model told.

    Attributes:
        shape: of one picture in the input tensor.
        tensor: it takes one tensor, no list of pictures.
        largest: batch size that the probe allows.
        fixed: the only batch size that it takes, or None.
        exclusive: only one thread may run it at a time.
        precision: its own; what differs from it is a reduced one.
        cuda: it runs on a GPU.
        cores: CPU cores that may be used.
    """

    shape: tuple[int, ...]
    tensor: bool
    largest: int
    fixed: int | None
    exclusive: bool
    precision: str
    cuda: bool
    cores: int

    @classmethod
    def of(cls, facts: Mapping[str, Any], cores: int) -> About:
        """From what a candidate answers to ``open``."""
        cuda = not str(facts["device"]).startswith("cpu")
        names = ("tensor", "largest", "fixed", "exclusive", "precision")
        return cls(tuple(facts["shape"]), **{name: facts[name] for name in names}, cuda=cuda, cores=cores)


@dataclass(frozen=True, slots=True)
class Setting:
    """One candidate.

    Attributes:
        recipe: how the program is made ready.
        workers, threads: threads that run batches, and intra-op threads of each.
        batch: pictures per batch.
    """

    recipe: Recipe
    workers: int
    threads: int
    batch: int

    @property
    def name(self) -> str:
        """In a few words."""
        return f"{self.recipe.name}, batch {self.batch}, {self.workers} x {self.threads}"

    def with_batch(self, batch: int, about: About) -> Setting:
        """The same with another batch size."""
        return replace(self, batch=batch, recipe=shaped(self.recipe, batch, about))

    def with_threads(self, workers: int, threads: int) -> Setting:
        """The same with the cores shared out otherwise."""
        return replace(self, workers=workers, threads=threads)


def shaped(recipe: Recipe, batch: int, about: About) -> Recipe:
    """For inputs of one batch size, where the recipe depends on it."""
    return recipe if recipe.way == "as_is" else replace(recipe, shape=(batch, *about.shape))


def batches(about: About, wanted: tuple[int, ...]) -> list[int]:
    """Batch sizes to try, the smallest first."""
    if about.fixed is not None:
        return [about.largest]
    return [size for size in wanted if size <= about.largest] or [about.largest]


def layouts(about: About) -> list[tuple[int, int]]:
    """Workers and threads of each that fill all cores: many workers first, one last."""
    if about.cuda:
        return [(1, 1), (2, 1)]
    if about.exclusive:
        return [(1, about.cores)]
    found, workers = [], about.cores
    while workers > 1:
        found.append((workers, about.cores // workers))
        workers //= 2
    return [*found, (1, about.cores)]


def baseline(about: About) -> Setting:
    """What everything is compared with: the file as it comes, one picture at a time, all cores for it."""
    recipe = replace(PLAIN, precision=_own(about))
    return Setting(recipe, 1, 1 if about.cuda else about.cores, batches(about, BATCHES)[0])


def recipes(about: About) -> tuple[list[Recipe], dict[str, str]]:
    """Recipes to try, and the names of others with the reason why they are left out."""
    own = replace(DEFAULT, precision=_own(about))
    found = [
        own,
        replace(own, frozen=False, channels_last=False),
        replace(own, channels_last=False),
        replace(own, frozen=False),
    ]
    left_out = {}
    optimized, graphed = replace(own, way="optimized"), replace(own, way="cuda_graph")
    for recipe, fits, reason in (
        (optimized, not about.cuda, "it packs weights for CPUs"),
        (graphed, about.cuda, "CUDA graphs need a GPU"),
    ):
        if not fits:
            left_out[recipe.name] = reason
        elif not about.tensor:
            left_out[recipe.name] = "the model takes a list of pictures, which has no one shape"
        else:
            found.append(recipe)
    for precision in ("bf16", "fp16"):
        reduced = replace(own, precision=precision)
        if about.precision != "fp32":
            left_out[reduced.name] = f"the model computes in {about.precision}"
        elif precision == "fp16" and not about.cuda:
            left_out[reduced.name] = "fp16 needs a GPU"
        else:
            found.append(reduced)
            if graphed in found:
                found.append(replace(graphed, precision=precision))
    return found, left_out


def _own(about: About) -> Any:
    return about.precision if about.precision == "int8" else "fp32"
