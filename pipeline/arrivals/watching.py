# SPDX-License-Identifier: Apache-2.0
"""How a stream is joined with its recorder, where there is one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from pipeline.arrivals.recorder import Recorder
from pipeline.arrivals.stream_recorder import StreamRecorder
from pipeline.config.streams import StreamConfig
from pipeline.events import Condition
from pipeline.sources.reader import PacketWatcher

log = logging.getLogger("pipeline")


class Watchable(Protocol):
    """A source whose packets can be looked at as they come."""

    def watch(self, watcher: PacketWatcher) -> None:
        """Let somebody see each packet; to be called before it is opened."""
        ...


SourceT = TypeVar("SourceT", bound=Watchable)


def watching(config: StreamConfig, recorder: Recorder | None, kind: str) -> StreamRecorder | None:
    """Who records a stream; None where nobody does, with a warning where its packets do not pass through here."""
    if recorder is None:
        return None
    if config.source.scheme == "pattern":
        log.warning("%s: its arrivals are not recorded: a test pattern has no packets", config.name)
        return None
    return recorder.stream(config.name, kind)


def watched(source: SourceT, watcher: StreamRecorder | None) -> SourceT:
    """The source, seen by its recorder."""
    if watcher is not None:
        source.watch(watcher)
    return source


def told_to(on_state: Callable[[Condition], None], watcher: StreamRecorder | None) -> Callable[[Condition], None]:
    """Who is told how the source is: ``on_state``, and its recorder after that."""
    if watcher is None:
        return on_state

    def tell(condition: Condition) -> None:
        on_state(condition)
        watcher.at(condition)

    return tell
