# SPDX-License-Identifier: Apache-2.0
"""A pipeline that runs for a while to be looked at. It ends in any case: by itself, by an error, or by a signal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final

from pipeline.errors import PipelineError
from pipeline.flow import Pipeline
from pipeline.timing import now_ns

log = logging.getLogger("pipeline")

LOOK_S: Final = 0.5
"""How often it is looked whether the model answers."""
LONGEST_START_S: Final = 30.0
"""Until every stream has a result."""
LONGEST_END_S: Final = 10.0
"""What is under way then is lost; a thread that hangs even so is left behind."""


class Trial:
    """Runs a pipeline for as long as the block lasts. The model's own threads are warm when it begins.

    Args:
        pipeline: not started yet; whoever made its detector closes it.
        timeout_s: a batch that takes longer means that the model hangs.

    Raises SinkError or ModelError at its beginning.
    """

    def __init__(self, pipeline: Pipeline, timeout_s: float) -> None:
        self.pipeline = pipeline
        self.ledger = pipeline.ledger
        self._timeout_s = timeout_s

    def __enter__(self) -> Trial:
        try:
            self.pipeline.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def go(self, seconds: float) -> None:
        """Let time pass; raises what ended the run meanwhile, and ModelHung where the model does not answer."""
        until_ns = now_ns() + int(seconds * 1e9)
        while (left_s := (until_ns - now_ns()) / 1e9) > 0:
            if self.pipeline.join(min(left_s, LOOK_S)):
                raise PipelineError(f"all streams have ended{self.reasons()}")
            self.pipeline.check_model(self._timeout_s)
            self.ledger.catch_up()  # as a daemon does, else the sinks would have to

    def go_until_all_have_a_result(self) -> list[str]:
        """At most :data:`LONGEST_START_S`; the names of those that have none even then. Raises as :meth:`go` does."""
        until_ns = now_ns() + int(LONGEST_START_S * 1e9)
        while (silent := [name for name, one in self.ledger.streams.items() if not one.processed]) and (
            now_ns() < until_ns
        ):
            self.go(0.05)
        return silent

    def go_while(self, more: Callable[[], bool], at_most_s: float) -> None:
        """Let time pass as long as ``more`` says so; raises as :meth:`go` does."""
        until_ns = now_ns() + int(at_most_s * 1e9)
        while now_ns() < until_ns and more():
            self.go(0.05)

    def drain(self) -> None:
        """Read no further, and wait for what is under way, but not for ever."""
        self.pipeline.stop()
        self.pipeline.join(LONGEST_END_S)

    def reasons(self) -> str:
        """Why streams failed, to be added to a message."""
        return "".join(f"; {name}: {one.error}" for name, one in self.ledger.streams.items() if one.error)

    def _end(self) -> None:
        self.pipeline.abort()
        if not self.pipeline.join(LONGEST_END_S):
            log.debug("left behind: %s", ", ".join(self.pipeline.alive()))
