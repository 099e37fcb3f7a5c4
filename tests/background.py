# SPDX-License-Identifier: Apache-2.0
"""Calls in threads of their own whose every wait has a deadline, and that can be seen waiting."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from pipeline.timing import now_ns

DEADLINE_S = 30.0  # reached only by what never happens; a thread may wait for a core for seconds


def until(condition: Callable[[], object], what: str = "what was waited for") -> None:
    """Return as soon as ``condition`` holds; fail when it does not within the deadline."""
    pause = threading.Event()
    deadline_ns = now_ns() + int(DEADLINE_S * 1e9)
    while not condition():
        assert now_ns() < deadline_ns, f"{what} did not happen"
        pause.wait(0.001)


class Background:
    """``call()`` in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again by result
            self._error = error

    def parked(self) -> Background:
        """Return once the call waits at a condition: whoever takes the condition's lock next finds it waiting."""
        until(self._waits, "the call's wait")
        return self

    def _waits(self) -> bool:
        assert self._thread.is_alive(), f"the call did not wait: {self._error or self._value!r}"
        frame = sys._current_frames().get(self._thread.ident or 0)
        return frame is not None and frame.f_code is threading.Condition.wait.__code__

    def ended_within(self, seconds: float) -> bool:
        """Give it so long to end."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> Any:
        """What the call returned or raised; fails when it does not end within the deadline."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the call is stuck: nobody woke it"
        if self._error is not None:
            raise self._error
        return self._value
