# SPDX-License-Identifier: Apache-2.0
"""The model is loaded and warmed in a thread of its own, while the main thread listens to signals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from pipeline.daemon.board import Board
from pipeline.daemon.signals import Signals
from pipeline.errors import ModelHung

log = logging.getLogger("pipeline")

TOO_LONG_NS = 60_000_000_000
"""After this time a model that is still being loaded is worth a log line, and again whenever as much has passed."""
STOPPED_S = 2.0
"""How long a stop waits for a model that is being loaded before it leaves it behind."""

T = TypeVar("T")


def loading_limit_s(timeout_s: float) -> float:
    """Longest that loading, trying and warming a model may take, by the ``model.timeout_s`` of a batch, in seconds."""
    return max(10.0 * timeout_s, 300.0)


def in_its_own_thread(
    load: Callable[[], T | None], timeout_s: float, signals: Signals, board: Board, now: Callable[[], int]
) -> T | None:
    """What ``load`` returns, or None when a signal came before it did; raises what it raised.

    A model file is a program: its first run may never end, and in the main thread no signal would be heard.

    Args:
        load: to be called; it is left behind where it does not come back.
        timeout_s: ``model.timeout_s``.
        signals: end the wait.
        board: is told that the main thread is at work.
        now: monotonic nanoseconds.

    Raises:
        ModelHung: it takes longer than :func:`loading_limit_s`.
    """
    outcome: list[T | BaseException | None] = []

    def work() -> None:
        try:
            outcome.append(load())
        except BaseException as error:  # noqa: BLE001 - raised again by the main thread
            outcome.append(error)

    loader = threading.Thread(target=work, name="load", daemon=True)
    loader.start()
    limit_s = loading_limit_s(timeout_s)
    since_ns = said_ns = now()
    while loader.is_alive() and not signals.stops:
        loader.join(0.1)
        board.turn()
        if now() - said_ns > TOO_LONG_NS:
            said_ns = now()
            log.warning("the model is still being loaded, after %.0f s", (said_ns - since_ns) / 1e9)
        if now() - since_ns > limit_s * 1e9 and loader.is_alive():
            raise ModelHung(f"the model was not ready within {limit_s:g} s (model.timeout_s is {timeout_s:g})")
    if signals.stops:
        loader.join(STOPPED_S)
    loaded = outcome[0] if outcome else None
    if isinstance(loaded, BaseException):
        if signals.stops:
            return None
        raise loaded
    return loaded  # what runs by now is stopped as it is at any other time
