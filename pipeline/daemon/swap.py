# SPDX-License-Identifier: Apache-2.0
"""Keeps the model in use as the file says, while everything runs: another one is put in, or it stays, with the reason.

Used by the daemon's main thread, which calls :meth:`Swapper.look` often; whatever may take long or hang happens in a
thread of each :class:`Attempt`.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.daemon.attempt import EVENT, UNDER_WAY, Attempt, InUse
from pipeline.daemon.model import LIMITS, Wanted
from pipeline.errors import ConfigError
from pipeline.host.footprint import keep_for_good

if TYPE_CHECKING:
    from pipeline.flow import Pipeline
    from pipeline.flow.deployment import Deployment

log = logging.getLogger("pipeline")

TOLD = 20
"""Attempts that a report tells of, the latest last."""
MOST_LEFT_BEHIND = 3
"""Models that hang, each with its threads and its memory: then only a new process can load another one."""


class Swapper:
    """Args:
        pipeline: runs the model.
        in_use: the model that it began with.
        limit_s: longest that loading a model may take, by its ``timeout_s``.
        now: monotonic nanoseconds.

    Attributes:
        in_use: the model in use.
        succeeded: it is the one that the file asks for, as far as was tried.
        hung: models that hang while they are loaded, tried or compared.
    """

    def __init__(
        self, pipeline: Pipeline, in_use: InUse, limit_s: Callable[[float], float], now: Callable[[], int]
    ) -> None:
        self.in_use = in_use
        self.succeeded = True
        self.hung = 0
        self._undrained: list[Deployment] = []
        self._pipeline = pipeline
        self._limit_s = limit_s
        self._now = now
        self._attempt: Attempt | None = None
        self._attempts = 0
        self._ended: Counter[str] = Counter()
        self._told: deque[dict[str, Any]] = deque(maxlen=TOLD)
        self._next: Wanted | None = None
        self._tried: Wanted | None = None

    @property
    def left_behind(self) -> int:
        """Models that are in memory beside the one in use, since they hang or still have something to serve."""
        self._undrained = [one for one in self._undrained if not one.ended.is_set()]
        return self.hung + len(self._undrained)

    @property
    def timeout_s(self) -> float:
        """Longest that a batch may take."""
        return self.in_use.wanted.model.timeout_s

    def want(self, config: Config, *, asked: bool) -> None:
        """The file was read. ``asked``: by a signal; then a model file with a new content is taken up as well."""
        wanted, running = Wanted.of(config), self.in_use.wanted
        changed = wanted.changed(running)
        new_file = asked and wanted.file != running.file
        attempt = self._attempt
        if not changed and not new_file:
            self._next = self._tried = None
            self.succeeded = True
            self.in_use = InUse(replace(running, model=wanted.model), self.in_use.facts)
            if attempt is not None:
                attempt.drop("superseded", "the file asks for the model in use again")
                taken_over = attempt.state in ("switching", "done")  # then the one before it has to come back
                if taken_over and wanted.changed(attempt.wanted):
                    self._next = self._tried = wanted
        elif attempt is not None and attempt.state in UNDER_WAY and attempt.wanted == wanted:
            self._next = None
        elif attempt is None and self._next is None and changed <= LIMITS and not new_file:
            self._apply_limits(wanted, changed)
        elif asked or wanted != self._tried:  # what was refused is tried again only when something about it is new
            self._next = self._tried = wanted
            if attempt is not None:
                attempt.drop("superseded", "the file now asks for another model")

    def look(self) -> None:
        """See how far an attempt is, and begin the next one."""
        attempt = self._attempt
        if attempt is not None:
            if attempt.in_use is not None:
                self.in_use = attempt.in_use
            if attempt.hangs():
                self.hung += 1
                log.error("model swap %d: its threads are left behind", attempt.number)
            elif attempt.running:
                return
            if attempt.state != "superseded":
                self.succeeded = attempt.state in ("done", "unchanged")
            if attempt.state == "unchanged":
                self.in_use = InUse(attempt.wanted, self.in_use.facts)
            if attempt.undrained is not None:
                self._undrained.append(attempt.undrained)
            self._ended[attempt.state] += 1
            self._told.append(attempt.as_dict())
            self._attempt = None
            if attempt.state == "done":
                keep_for_good()
        if self._next is not None:
            wanted, self._next = self._next, None
            self._begin(wanted)

    def stop(self) -> None:
        """What is under way is given up."""
        self._next = None
        if self._attempt is not None:
            self._attempt.drop("stopped", "the program stops")

    def hangs(self, timeout_s: float) -> bool:
        """After :meth:`stop`: whether some thread will not end."""
        over = self._attempt is None or self._attempt.join(timeout_s)
        return bool(self.hung) or not over

    def facts(self) -> dict[str, Any]:
        """The model's section of a report: the one in use, and the attempts to put others in. Any thread."""
        attempt = self._attempt
        told = list(self._told)
        in_use = self.in_use
        if attempt is not None:
            told.append(attempt.as_dict())
            in_use = attempt.in_use or in_use
        return in_use.facts | {"swaps": told, "swaps_by_outcome": dict(self._ended)}

    def _begin(self, wanted: Wanted) -> None:
        if self.left_behind >= MOST_LEFT_BEHIND:
            self.succeeded = False
            text = "%s is not loaded: %d models hang already, and only a new process helps; %s stays in use"
            log.error(text, wanted.model.path, self.left_behind, self.in_use.path, extra=EVENT)
            return
        self._attempts += 1
        limit_s = self._limit_s(wanted.model.timeout_s)
        self._attempt = Attempt(self._attempts, wanted, self.in_use, self._pipeline, limit_s, self._now)

    def _apply_limits(self, wanted: Wanted, changed: frozenset[str]) -> None:
        """What counts as a detection is asked at every batch: no other model is needed."""
        from pipeline import build

        detector: Any = self._pipeline.detector
        try:
            detector.limits = build.limits(wanted.model, detector.labels)
        except ConfigError as error:
            self.succeeded, self._tried = False, wanted
            log.error("model: %s; it goes on as it was", "; ".join(error.faults), extra=EVENT)
            return
        self.succeeded, self._tried = True, None
        self.in_use = InUse(replace(wanted, file=self.in_use.wanted.file), self.in_use.facts)
        values = ", ".join(f"{key} {_plain(getattr(wanted.model, key))}" for key in sorted(changed))
        log.info("model: from here on %s", values, extra=EVENT)


def _plain(value: Any) -> str:
    if value is None:
        return "all"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
