# SPDX-License-Identifier: Apache-2.0
"""One attempt to put another model in: its course in a thread of its own, and what is told of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.daemon.model import Loaded, Wanted, load
from pipeline.errors import ConfigError, PipelineError
from pipeline.redact import scrub
from pipeline.timing import rfc3339, wall_ns

if TYPE_CHECKING:
    from pipeline.flow import Pipeline
    from pipeline.flow.deployment import Deployment

log = logging.getLogger("pipeline")

State = Literal["loading", "warming", "comparing", "switching", "done", "unchanged", "refused", "superseded", "stopped"]
UNDER_WAY: frozenset[State] = frozenset({"loading", "warming", "comparing", "switching"})
ENDS_S = 5.0
"""How long the workers of a model that is not put in may take to go home."""

HARDLY = 0.2
"""A share of common detections below this is worth a warning: a better model differs, but not in nearly everything."""
EVENT = {"event": True}
"""For log lines about what happened: each is news, and not the same thing said again."""


class _Dropped(Exception):
    """This attempt is no longer wanted."""


class Refused(PipelineError):
    """The new model is not put in; the message says why."""


@dataclass(frozen=True, slots=True)
class InUse:
    """The model in use.

    Attributes:
        wanted: what was asked for when it was put in.
        facts: the section of a report.
    """

    wanted: Wanted
    facts: dict[str, Any]

    @property
    def path(self) -> str:
        """As configured."""
        return self.wanted.model.path


class Attempt:
    """From a configuration to a model in use, or to the reason why not. Runs once, in a thread that may hang.

    Args:
        number: of the attempts of this run, from 1.
        wanted: what is to be put in.
        before: what is in use.
        pipeline: where.
        limit_s: longest that loading and warming may take each.
        now: monotonic nanoseconds.

    Attributes:
        state: how far it is, or how it ended.
        reason: why it ended so; empty where all went well.
        compared: how far both models agree on live frames, once that is known.
        in_use: what is in use by now because of this.
        drained: whether the model before has served what was queued for it within its ``timeout_s``; None before that.
        undrained: that model, where it has not.
    """

    def __init__(
        self, number: int, wanted: Wanted, before: InUse, pipeline: Pipeline, limit_s: float, now: Callable[[], int]
    ) -> None:
        self.number = number
        self.wanted = wanted
        self.state: State = "loading"
        self.reason = ""
        self.compared: dict[str, Any] | None = None
        self.in_use: InUse | None = None
        self.drained: bool | None = None
        self.undrained: Deployment | None = None
        self._before = before
        self._pipeline = pipeline
        self._limit_s = limit_s
        self._now = now
        self._began_ns, self._began_wall_ns = now(), wall_ns()
        self._ended_ns = 0
        self._dropped = threading.Event()
        self._lock = threading.Lock()
        self._deadline: tuple[int, float] | None = None  # when what runs now counts as hanging, and after how long
        self._thread = threading.Thread(target=self._run, name=f"swap:{number}", daemon=True)
        self._thread.start()

    # The main thread's side

    @property
    def running(self) -> bool:
        """Its thread has not ended."""
        return self._thread.is_alive()

    def drop(self, state: Literal["superseded", "stopped"], reason: str) -> None:
        """Leave everything as it is, as soon as possible; nothing happens where it has switched already."""
        self._end(state, reason, unless_switched=True)

    def hangs(self) -> bool:
        """Whether the model has not come back within its limit; then this has ended, and its thread is left behind."""
        with self._lock:
            deadline = self._deadline
        if deadline is None or self._now() < deadline[0]:
            return False
        reason = f"it has not come back for {deadline[1]:g} s while {self.state}"
        return self._end("refused", reason, unless_switched=True)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of its thread; False where it hangs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {
            "number": self.number,
            "from": scrub(self._before.path),
            "to": scrub(self.wanted.model.path),
            "sha256": None if self.in_use is None else self.in_use.facts.get("sha256"),
            "began": rfc3339(self._began_wall_ns),
            "seconds": round(((self._ended_ns or self._now()) - self._began_ns) / 1e9, 3),
            "state": self.state,
            "reason": scrub(self.reason) or None,
            "compared": self.compared,
            "drained": self.drained,
        }

    # Its thread's side

    def _run(self) -> None:
        self._say("loading %s; in use: %s", self.wanted.model.path, self._before.path)
        loaded: Loaded | None = None
        model: Deployment | None = None
        try:
            with self._watched(self._limit_s):
                loaded = load(self.wanted)
            if self._is_in_use(loaded):
                self._end("unchanged", "its file is the one in use")
                return
            model = self._pipeline.models.deploy(loaded.detector, loaded.options)
            self._at("warming")
            with self._watched(self._limit_s):
                model.warm(in_turn=True)
            self._compare(model)
            self._at("switching")
            before = self._pipeline.switch(model)
            if before is None:
                self._end("stopped", "everything ends")
                return
            self.in_use = InUse(self.wanted, loaded.facts)
            loaded, model = None, None  # the pipeline's by now
            self._end("done", "")
            self._let_go(before)
        except _Dropped:
            pass
        except ConfigError as error:
            self._end("refused", "; ".join(error.faults))
        except PipelineError as error:
            self._end("refused", str(error))
        except Exception as error:
            log.debug("model swap %d", self.number, exc_info=True)
            self._end("refused", f"{type(error).__name__}: {error}")
        finally:
            if model is not None:
                model.dismiss(ENDS_S)
            elif loaded is not None:
                loaded.detector.close()

    def _let_go(self, before: Deployment) -> None:
        """Wait until the model that was in use has served what was queued for it, but not for ever."""
        limit_s = self._before.wanted.model.timeout_s
        self.drained = before.ended.wait(limit_s)
        if self.drained:
            self._say("%s has served what was queued for it and is let go", self._before.path)
            return
        self.undrained = before
        left = before.scheduler.waiting_per_stream()
        queued = ", ".join(f"{name} {items}" for name, items in left.items()) or "nothing"
        text = "model swap %d: %s is still at work after %g s (queued there: %s); it stays in memory until that is done"
        log.warning(text, self.number, self._before.path, limit_s, queued, extra=EVENT)

    def _is_in_use(self, loaded: Loaded) -> bool:
        same = not self.wanted.changed(self._before.wanted)
        digest = loaded.facts.get("sha256")
        return same and digest is not None and digest == self._before.facts.get("sha256")

    def _compare(self, model: Deployment) -> None:
        from pipeline.daemon.comparing import compare

        settings = self.wanted.model.swap
        if not settings.frames:
            return
        self._at("comparing")
        timeout_s = self.wanted.model.timeout_s
        with self._watched(self._limit_s):
            model.detector.warm([1])  # for this thread
        with self._pipeline.models.compare(model) as shadow:
            compared = compare(
                shadow,
                model.detector,
                self._pipeline.models.current.labels,
                settings.frames,
                self._pause,
                lambda: self._watched(timeout_s),
                self._now,
            )
        self.compared = compared.as_dict()
        self._say("%s", compared)
        least = settings.min_agreement
        if compared.agreement.count_a and compared.share < HARDLY and least is None:
            text = "model swap %d: it finds hardly any of what %s finds; model.swap.min_agreement would refuse it"
            log.warning(text, self.number, self._before.path, extra=EVENT)
        if least is not None and not compared.agreement.frames:
            raise Refused(f"{compared}, and model.swap.min_agreement asks for that")
        if least is not None and compared.share < least:
            raise Refused(f"it agrees to {compared.share:.2f}; model.swap.min_agreement is {least:g}")

    def _pause(self, seconds: float) -> None:
        if self._dropped.wait(seconds):
            raise _Dropped

    def _at(self, state: State) -> None:
        """Go on to the next step, unless this was given up meanwhile."""
        with self._lock:
            if self.state not in UNDER_WAY:
                raise _Dropped
            self.state = state

    @contextmanager
    def _watched(self, limit_s: float) -> Iterator[None]:
        """Within it the model runs, and counts as hanging after ``limit_s``."""
        with self._lock:
            self._deadline = self._now() + int(limit_s * 1e9), limit_s
        try:
            yield
        finally:
            with self._lock:
                self._deadline = None
                dropped = self.state not in UNDER_WAY
        if dropped:
            raise _Dropped

    def _end(self, state: State, reason: str, *, unless_switched: bool = False) -> bool:
        """The first word on how it ended counts; False where there was one already."""
        with self._lock:
            if self.state not in UNDER_WAY or (unless_switched and self.state == "switching"):
                return False
            self.state, self.reason = state, reason
            self._deadline = None
            self._ended_ns = self._now()
        self._dropped.set()
        if state == "done":
            self._say("%s is in use from here on", self.wanted.model.path)
        elif state == "refused":
            text = "model swap %d: refused, %s stays in use: %s"
            log.error(text, self.number, self._before.path, scrub(reason), extra=EVENT)
        else:
            self._say("ends as %s: %s", state, reason)
        return True

    def _say(self, text: str, *values: object) -> None:
        log.info("model swap %d: " + text, self.number, *values, extra=EVENT)
