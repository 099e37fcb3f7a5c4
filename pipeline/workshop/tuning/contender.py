# SPDX-License-Identifier: Apache-2.0
"""One candidate in the contest: its process, what was measured of it, and why it is out where it is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from pipeline.detectors.agreement import agreement
from pipeline.figures import percent
from pipeline.frame import Detections
from pipeline.workshop.tuning.nursery import Child, Lost, Nursery
from pipeline.workshop.tuning.space import Setting

OPEN_S: Final = 60.0
COMPILE_S: Final = 300.0
ANSWER_S: Final = 60.0

EXACT: Final = (0.9, 0.98)
"""Least share of boxes matched, and from which IoU, of a candidate that computes as the file does."""
REDUCED: Final = (0.75, 0.95)
"""The same in reduced precision."""


@dataclass(slots=True, eq=False)
class Contender:
    """Attributes:
    setting: what is tried.
    reduced: it computes in less than the model's own precision.
    windows: pictures per second and milliseconds per batch, of each measurement while many are compared.
    finals: the same, of the final.
    used: share of the CPU time that its threads asked for which they got, per measurement of the final.
    agreement: share of boxes that are the same as the baseline's, or None where that was not looked at.
    left_out: why it is out of the contest, or None.
    kind: class of the error that its process told of; empty where it crashed, hung, or nothing was wrong.
    """

    setting: Setting
    reduced: bool
    windows: list[tuple[float, float]] = field(default_factory=list)
    finals: list[tuple[float, float]] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    agreement: float | None = None
    left_out: str | None = None
    kind: str = ""
    child: Child | None = None

    @property
    def fps(self) -> float:
        """Median of the final, else the best of what was measured before: others disturb, nobody helps."""
        if self.finals:
            return statistics.median(fps for fps, _ in self.finals)
        return self.first_fps

    @property
    def first_fps(self) -> float:
        """The best before the final."""
        return max((fps for fps, _ in self.windows), default=0.0)

    @property
    def ms(self) -> float:
        """Median time of a batch while all workers are busy."""
        return statistics.median(ms for _, ms in self.finals or self.windows)

    @property
    def counts(self) -> bool:
        """It was measured and is not out."""
        return self.left_out is None and bool(self.windows or self.finals)

    def open(self, nursery: Nursery, task: Mapping[str, Any]) -> dict[str, Any] | None:
        """Start its process and load the model; None where that fails, and then it is left out."""
        setting = self.setting
        command = {
            "do": "open",
            "recipe": setting.recipe.as_dict(),
            "precision": setting.recipe.precision,
            "workers": setting.workers,
            "threads": setting.threads,
            "batch": setting.batch,
            **task,
        }
        self.child = nursery.child()
        return self._asked(command, COMPILE_S if setting.recipe.way == "compiled" else OPEN_S)

    def ready(self, inputs: str) -> bool:
        """Give it its inputs and warm it."""
        limit_s = COMPILE_S if self.setting.recipe.way == "compiled" else OPEN_S
        return self._asked({"do": "ready", "inputs": inputs}, limit_s) is not None

    def measure(self, seconds: float, *, final: bool = False) -> None:
        """One window."""
        said = self._asked({"do": "measure", "seconds": seconds}, ANSWER_S + 10 * seconds)
        if said is not None:
            (self.finals if final else self.windows).append((said["fps"], said["ms"]))
            if final:
                self.used.append(said["used"])

    def detect(self, confidence: float) -> list[Detections] | None:
        """What it finds in the inputs, boxes in pixels of the network's input."""
        said = self._asked({"do": "detect", "confidence": confidence}, ANSWER_S)
        return None if said is None else [_detections(rows) for rows in said["found"]]

    def compare(self, reference: Sequence[Detections], confidence: float) -> None:
        """Look at what it finds, and leave it out where that differs too much from the reference."""
        found = self.detect(confidence)
        if found is None:
            return
        at, least = REDUCED if self.reduced else EXACT
        self.agreement = agreement(reference, found).matched[at]
        if self.agreement < least:
            self.leave(
                f"only {percent(self.agreement, 1)} of its boxes are the same (IoU {at}; {percent(least)} are needed)"
            )

    def leave(self, reason: str) -> None:
        """Out of the contest, for a reason."""
        self.left_out = self.left_out or reason
        self.close()

    def close(self) -> None:
        """End its process; what was measured stays."""
        if self.child is not None:
            self.child.close()
            self.child = None

    def as_dict(self, baseline: Contender) -> dict[str, Any]:
        """For JSON; ``ratio`` is to what the baseline did in the same part of the contest."""
        baseline_fps = baseline.fps if self.finals else baseline.first_fps
        measured = bool(self.windows or self.finals)
        return {
            "name": self.setting.name,
            "recipe": self.setting.recipe.as_dict(),
            "workers": self.setting.workers,
            "threads": self.setting.threads,
            "batch": self.setting.batch,
            "ms": round(self.ms, 4) if measured else None,
            "fps": round(self.fps, 3) if measured else None,
            "ratio": round(self.fps / baseline_fps, 4) if measured else None,
            "agreement": None if self.agreement is None else round(self.agreement, 6),
            "final": bool(self.finals),
            "left_out": self.left_out,
        }

    def _asked(self, command: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        if self.child is None:
            return None
        try:
            return self.child.ask(command, timeout_s)
        except Lost as lost:
            self.left_out, self.kind = str(lost), lost.kind
            if self.reduced and lost.kind in ("ModelLoadError", "InferenceError"):
                # Its remedy is for a file that runs in no way; this one does, in its own precision.
                reason = str(lost).partition(". Remedy: ")[0]
                self.left_out = f"this model does not run in {self.setting.recipe.precision}: {reason}"
            self.child = None
            return None


def _detections(rows: Sequence[Sequence[float]]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))
