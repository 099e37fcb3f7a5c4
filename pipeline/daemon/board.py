# SPDX-License-Identifier: Apache-2.0
"""What a daemon shows to an HTTP server, and the server as the daemon sees it: each knows no more of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import ConfigError, ServerError
from pipeline.flow.stream import NOBODY
from pipeline.ledger import Ledger

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.config.outputs import ServerConfig
    from pipeline.flow import Pipeline
    from pipeline.protocols import Tap

SILENT_TOO_LONG_NS = 10_000_000_000
"""The main thread looks at everything five times a second: it hangs where it was not seen for this long."""


class Serving(Protocol):
    """A server that is bound."""

    @property
    def tap(self) -> Tap:
        """Who looks at results with their pictures."""
        ...

    def start(self) -> None:
        """Answer from now on, in threads of its own."""
        ...

    def close(self) -> None:
        """Stop answering; waits only shortly."""
        ...


class Board:
    """How the daemon is; kept up to date by its main thread, read by others.

    Args:
        facts: ``command``, ``model`` and ``startup_s``, as a report needs them.
        now: monotonic nanoseconds.

    Attributes:
        reload_succeeded: the configuration that was read last is the one that runs.
        reloads: how often it was read again, by what became of it: ``done`` or ``refused``.
        stopping: a stop was asked for.
        leaving: it was asked for twice: nothing is waited for.
    """

    def __init__(self, facts: Callable[[], dict[str, Any]], now: Callable[[], int]) -> None:
        self.facts = facts
        self._now = now
        self._turned_ns = now()
        self._pipeline: Pipeline | None = None
        self.reload_succeeded = True
        self.reloads: Mapping[str, int] = {"done": 0, "refused": 0}
        self.stopping = False
        self.leaving = False

    def turn(self) -> None:
        """The main thread is at work."""
        self._turned_ns = self._now()

    def show(self, pipeline: Pipeline) -> None:
        """It is warm, and its streams were begun."""
        self._pipeline = pipeline

    @property
    def ledger(self) -> Ledger | None:
        """The accounts, or None while nothing runs yet."""
        return None if self._pipeline is None else self._pipeline.ledger

    def alive(self) -> bool:
        """Whether the main thread was at work within the last moments."""
        return self._now() - self._turned_ns < SILENT_TOO_LONG_NS

    def prepared(self) -> bool:
        """Whether the model is warm, the sinks are open, all streams were begun, and no stop was asked for."""
        return self._pipeline is not None and not self.stopping

    def waiting(self) -> dict[str, int]:
        """Network inputs that wait for the detector, per stream."""
        return {} if self._pipeline is None else self._pipeline.waiting()

    def pause(self, name: str, paused: bool) -> bool:
        """Hold a stream or let it go on; False where it has ended or there is none."""
        return self._pipeline is not None and self._pipeline.pause(name, paused)


Beside = Callable[["Config", Board], AbstractContextManager[None]]
"""Begins something that looks at a daemon of this configuration, and ends it; raises ConfigError."""


def nothing_beside(config: Config, board: Board) -> AbstractContextManager[None]:
    """Nobody looks."""
    return nullcontext()


Serve = Callable[["ServerConfig", Board], Serving]
"""Binds a server for a section ``server``; raises ConfigError, and ServerError where a supervisor may try again."""


@contextmanager
def served(serve: Serve | None, config: ServerConfig | None, board: Board, path: Path) -> Iterator[Tap]:
    """Serve for as long as the block lasts, if the configuration in ``path`` says so.

    It begins before the model is loaded, so that a port in use is told at once, and probes are answered meanwhile.
    """
    if config is None or serve is None:
        yield NOBODY
        return
    try:
        serving = serve(config, board)
    except ConfigError as error:
        raise ConfigError([f"{path}: {fault}" for fault in error.faults]) from error
    except ServerError as error:
        raise ServerError(f"{path}: {error}") from error
    try:
        serving.start()
        yield serving.tap
    finally:
        serving.close()
