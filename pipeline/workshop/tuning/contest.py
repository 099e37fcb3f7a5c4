# SPDX-License-Identifier: Apache-2.0
"""Which way to run a model is fastest here, among those that find the same? Measured with the user's frames.

Successive halving: recipes first, then batch sizes and threads for the best of them, then a final in which those few
take turns; after each heat the worse half goes. Every candidate is a process of its own; only one works at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.errors import ModelError, ModelLoadError
from pipeline.frame import Capture, Detections, InputSpec
from pipeline.timing import now_ns
from pipeline.workshop.frames import items
from pipeline.workshop.tuning.contender import Contender
from pipeline.workshop.tuning.extras import PER_START, Bench, add_compiled, add_quantized
from pipeline.workshop.tuning.nursery import Nursery
from pipeline.workshop.tuning.space import (
    BATCHES,
    PLAIN,
    QUICK,
    USUAL_BATCH,
    About,
    Effort,
    Setting,
    Subject,
    baseline,
    batches,
    layouts,
    recipes,
    shaped,
)

ALIVE: Final = 6
"""Candidates whose processes live side by side."""

SAME: Final = 0.02
"""Candidates nearer than this to the fastest count as equally fast; then the plainer one is taken."""

CONFIDENCES: Final = (0.05, 0.01, 0.001)
"""Where nothing is found at the usual confidence, detections are compared at the first of these that finds any."""

_REFUSALS: Final = frozenset({"ModelLoadError", "ConfigError", "UsageError"})


@dataclass(frozen=True, slots=True)
class Tuning:
    """What came of it.

    Attributes:
        contenders: those of the final, the fastest first, then those that did not get there; then those that are out.
        choice: one of them.
        baseline: another.
        key: what the result holds for.
        missing: recipes that could not be tried at all, with the reason.
        frames: how many were compared.
        confidence: at which detections were compared; None where nothing is found at any.
        seconds: how long all of it took.
        on_cpu: it runs on CPU cores.
    """

    contenders: tuple[Contender, ...]
    choice: Contender
    baseline: Contender
    key: dict[str, Any]
    missing: dict[str, str]
    frames: int
    confidence: float | None
    seconds: float
    on_cpu: bool


class Tuner:
    """One contest; :meth:`run` it once.

    Args:
        subject: what is tuned.
        captures: frames like those that it is to see.
        effort: how much is tried.
        nursery: where candidates are started.
        folder: for files that candidates are made of: an INT8 copy, a compiled package. They stay there.
        latency_ms: longest time that a batch may take, median; None for any.
        invited: settings that are measured in any case, in the final too.
        tell: progress, a line at a time.
    """

    def __init__(
        self,
        subject: Subject,
        captures: Sequence[Capture],
        effort: Effort,
        nursery: Nursery,
        folder: Path,
        *,
        latency_ms: float | None = None,
        invited: Sequence[Setting] = (),
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.subject = subject
        self.effort = effort
        self.nursery = nursery
        self.folder = folder
        self.tell = tell
        self.missing: dict[str, str] = {}
        self.about: About
        self.inputs = ""
        self._captures = captures
        self._latency_ms = latency_ms
        self._invited: tuple[Setting, ...] = tuple(invited)
        self._began_ns = now_ns()
        self._apart_ns = 0  # for what is not measuring
        self._tried: dict[Setting, Contender] = {}
        self._shares: dict[Any, tuple[float | None, str | None]] = {}
        self._reference: list[Detections] = []
        self._confidence: float | None = None
        picture = captures[0].picture
        self.task = {
            "model": subject.model,
            "given": dict(subject.given),
            "key": dict(subject.key),
            "device": subject.device,
            "picture": [picture.width, picture.height],
            "max_batch": max(effort.batches),
        }

    def run(self) -> Tuning:
        """The whole contest.

        Raises:
            ModelLoadError: the model is refused, as no usable detector.
            ModelError: it crashes or hangs, nothing gets to the end, or nothing is within the latency asked for.
        """
        try:
            first, key = self._first()
            self._screen(first)
            choice = self._final(first)
        finally:
            for contender in self._tried.values():
                contender.close()
        # Figures of the final and those before it are of different minutes, in which the machine had different work.
        order = sorted(self._tried.values(), key=lambda one: (one.left_out is not None, not one.finals, -one.fps))
        seconds = (now_ns() - self._began_ns) / 1e9
        frames = len(self._reference)
        on_cpu = not self.about.cuda
        return Tuning(tuple(order), choice, first, key, self.missing, frames, self._confidence, seconds, on_cpu)

    def enter(self, settings: Iterable[Setting]) -> list[Contender]:
        """Measure settings that were not measured yet, some at a time and in turns; all of them, the old ones too."""
        wanted = list(dict.fromkeys(settings))
        new = [setting for setting in wanted if setting not in self._tried]
        for begin in range(0, len(new), ALIVE):
            group = [self._opened(setting) for setting in new[begin : begin + ALIVE]]
            for _ in range(self.effort.screening):
                for contender in group:
                    contender.measure(self.effort.window_s)
            best = self._ranked()[: self.effort.finalists]
            for contender in self._tried.values():
                if contender not in best:
                    contender.close()
        return [self._tried[setting] for setting in wanted]

    def _first(self) -> tuple[Contender, dict[str, Any]]:
        """The baseline: it says what the model is, and what there is to be found."""
        self.tell("the file as it comes")
        cores = self.subject.cores
        look = Contender(Setting(PLAIN, 1, 1, 1), False)
        facts = look.open(self.nursery, self.task | {"max_batch": max(BATCHES), "precision": "auto"})
        if facts is None:
            if look.kind in _REFUSALS:
                raise ModelLoadError(str(look.left_out))
            raise ModelError(f"{self.subject.model}: it does not run: {look.left_out}")
        self.about = about = About.of(facts, cores)
        look.close()
        self.task["verdict"] = facts["verdict"]
        self.task["max_batch"] = about.fixed or about.largest
        self.task["given"] = {**self.subject.given, "input_size": facts["input_size"]}
        first = Contender(baseline(about), False)
        self._tried[first.setting] = first
        spec = InputSpec(**facts["spec"])
        self._inputs(spec, self.effort.frames)
        if first.open(self.nursery, self.task) is None or not first.ready(self.inputs):
            raise ModelError(f"{self.subject.model}: it does not run: {first.left_out}")
        first.measure(self.effort.window_s)
        if first.windows and first.ms * len(self._captures) / first.setting.batch > 4000.0:
            self._inputs(spec, max(4, int(4000.0 / first.ms)))
            first.ready(self.inputs)
        confidences = (self.subject.given["confidence"], *CONFIDENCES)
        for confidence in confidences:
            found = first.detect(confidence)
            if found is None:
                raise ModelError(f"{self.subject.model}: {first.left_out}")
            self._reference = found
            if any(map(len, found)):
                self._confidence = confidence
                break
        first.agreement = 1.0
        return first, facts["key"]

    def _inputs(self, spec: InputSpec, count: int) -> None:
        picture = self._captures[0].picture
        size = (picture.width, picture.height)
        same = [one for one in self._captures if (one.picture.width, one.picture.height) == size]
        made = items(same[:: max(1, len(same) // count)][:count], spec)
        self.inputs = str(self.folder / f"inputs-{count}.npy")
        np.save(self.inputs, np.stack([item.input for item in made]))

    def _opened(self, setting: Setting) -> Contender:
        contender = Contender(setting, setting.recipe.precision != self.about.precision)
        self._tried[setting] = contender
        if self._late(setting):
            return contender
        self.tell(setting.name)
        if contender.open(self.nursery, self.task) is not None and contender.ready(self.inputs):
            self._compare(contender)
        return contender

    def _late(self, setting: Setting) -> bool:
        """Leave out what there is no time for."""
        if self.effort.budget_s is None or setting in self._invited:
            return False
        spent_s = (now_ns() - self._began_ns - self._apart_ns) / 1e9
        first = next(iter(self._tried.values()))
        batch_s = first.ms / first.setting.batch * first.setting.threads * setting.batch / setting.threads / 1e3
        reason = None
        if spent_s > 0.7 * self.effort.budget_s:
            reason = "no time was left; --thorough measures it"
        elif setting.batch > 1 and 5 * batch_s > 0.2 * self.effort.budget_s:
            reason = f"a batch would take about {batch_s:.1f} s; --thorough measures it"
        self._tried[setting].left_out = reason
        return reason is not None

    def _compare(self, contender: Contender) -> None:
        """Once per recipe: batch size and threads change less than it does; finalists are looked at one by one."""
        recipe = replace(contender.setting.recipe, shape=None)
        if self._confidence is None:
            if contender.reduced:
                contender.leave("nothing is found in these frames, so reduced precision cannot be judged")
            return
        if recipe not in self._shares:
            contender.compare(self._reference, self._confidence)
            self._shares[recipe] = (contender.agreement, contender.left_out)
        contender.agreement, reason = self._shares[recipe]
        if reason is not None:
            contender.leave(reason)

    def _screen(self, first: Contender) -> None:
        about, effort = self.about, self.effort
        sizes, shares = batches(about, effort.batches), layouts(about)
        usual = max((size for size in sizes if size <= USUAL_BATCH), default=sizes[0])
        known, missing = recipes(about)
        self.missing |= missing
        bench = Bench(self.subject, effort, about, self.nursery, self.folder, self.missing, self.tell)
        start = [Setting(shaped(recipe, usual, about), *shares[0], usual) for recipe in known]
        # What a run that nobody tuned does is measured in any case: a choice that did not beat it is none.
        self._invited = (start[0], *self._invited)
        found = self.enter(start)
        before_ns = now_ns()
        made = add_quantized(bench)
        self._apart_ns = now_ns() - before_ns
        found += self.enter(Setting(recipe, *shares[0], usual) for recipe in made)
        if effort.every:
            every = [one.setting for one in found if one.left_out is None]
            sized = [one.with_batch(size, about) for one in every for size in sizes]
            self.enter(one.with_threads(*share) for one in sized for share in shares)
        else:
            # Which recipe is fastest hardly depends on the batch size, so a limit of latency does not matter yet.
            followed = 1 if effort.finalists <= QUICK.finalists else 3
            best = sorted((one for one in found if one.counts), key=lambda one: -one.fps)[:followed]
            self.enter(one.setting.with_batch(size, about) for one in best for size in sizes)
            top = [one.setting for one in (*self._ranked(), *best)]
            sized = [one.with_batch(size, about) for one in top[:1] for size in sizes]
            self.enter(one.with_threads(*share) for one in sized for share in shares[1:])
            self.enter(one.with_threads(*share) for one in top[1:3] for share in shares[1:2])
        self.enter(self._invited)
        exact = [one for one in self._ranked() if not one.reduced]
        if exact:
            for contender in self.enter(add_compiled(bench, exact[0].setting)):
                if contender.setting.recipe.way == "compiled":
                    contender.leave(PER_START)

    def _final(self, first: Contender) -> Contender:
        """Heats in turns, the baseline among them; after each the worse half goes."""
        field: list[Contender] = []
        ranked = [one for one in self._ranked() if one is not first]
        exact = [one for one in ranked if not one.reduced][:1]  # so that the plainer one can win
        invited = [one for one in ranked if one.setting in self._invited]
        for contender in dict.fromkeys((*invited, *exact, *ranked)):
            if len(field) < self.effort.finalists and self._awake(contender):
                field.append(contender)
        if not self._awake(first):
            raise ModelError(f"{self.subject.model}: {first.left_out}")
        field = self._within([first, *field])
        if not field:
            raise self._none_is_left()
        while True:
            self.tell(f"the final: {', '.join(one.setting.name for one in field)}")
            for _ in range(self.effort.heats):
                for contender in dict.fromkeys((first, *field)):
                    contender.measure(self.effort.window_s, final=True)
            field = self._within(sorted((one for one in field if one.counts), key=lambda one: -one.fps))
            if len(field) <= 2:
                break
            field = field[: (len(field) + 1) // 2]
        measured = self._within([one for one in self._tried.values() if one.counts and one.finals])
        if not measured:
            raise self._none_is_left()
        fastest = max(one.fps for one in field or measured)
        equal = [one for one in measured if one.fps >= fastest * (1 - SAME)]
        return min(equal, key=lambda one: (one.reduced, one.setting.recipe.way != "as_is", one.setting.batch, -one.fps))

    def _none_is_left(self) -> ModelError:
        """All crashed, or what was within the limit at first is not any more."""
        counted = [one for one in self._tried.values() if one.counts]
        nearest = min([one for one in counted if one.finals] or counted, key=lambda one: one.ms, default=None)
        if self._latency_ms is None or nearest is None or nearest.ms <= self._latency_ms:
            reasons = [one.left_out for one in self._tried.values() if one.left_out and (one.finals or one.windows)]
            return ModelError(f"{self.subject.model}: no candidate got through the final: {reasons[-1]}")
        return ModelError(
            f"{self.subject.model}: nothing answers within {self._latency_ms:g} ms here; "
            f"the nearest takes {nearest.ms:.1f} ms ({nearest.setting.name})"
        )

    def _awake(self, contender: Contender) -> bool:
        """Its process runs, and what it finds itself was looked at."""
        fresh = contender.child is None
        if fresh and (contender.open(self.nursery, self.task) is None or not contender.ready(self.inputs)):
            return False
        if self._confidence is not None:
            contender.compare(self._reference, self._confidence)
        return contender.left_out is None

    def _ranked(self) -> list[Contender]:
        """Those that may be chosen, the fastest first."""
        counted = [one for one in self._tried.values() if one.counts]
        return sorted(self._within(counted), key=lambda one: -one.fps)

    def _within(self, contenders: list[Contender]) -> list[Contender]:
        return [one for one in contenders if self._latency_ms is None or one.ms <= self._latency_ms]
