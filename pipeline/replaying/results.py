# SPDX-License-Identifier: Apache-2.0
"""Replay from Python: an iterator over results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import SourceError, UsageError
from pipeline.frame import Result
from pipeline.replaying.options import options_of
from pipeline.replaying.run import Replay
from pipeline.threads import Channel, Closed


def replay(sources: Sequence[str | Path] | str | Path, **options: Any) -> Iterator[Result]:
    """Replay recordings and yield one result per processed frame, streams interleaved, each in its own order.

    Args:
        sources: paths, folders, globs or finite URLs.
        options: fields of :class:`ReplayOptions`, such as ``model="yolo.pt"``, ``confidence=0.5``, ``limit=100``.

    Raises:
        UsageError, ConfigError: at once, for what is wrong with the sources or the options.
        ModelLoadError, SinkError: with the first result, when the model or a file cannot be used.
        SourceError: after the last result, when a stream failed.

    The iterator may be closed early; everything it started ends with it.
    """
    many = [sources] if isinstance(sources, str | Path) else list(sources)
    collector = _Collector()
    chosen = options_of(tuple(map(str, many)), options)
    if chosen.inline:
        raise UsageError("an inline run has no thread to iterate in; use Replay(options).start()")
    return _results(Replay(chosen, [collector]), collector)


def _results(run: Replay, collector: _Collector) -> Iterator[Result]:
    run.start()
    if run.over:
        collector.close()
    try:
        with suppress(Closed):
            while True:
                try:
                    result = collector.results.get(1.0)
                except TimeoutError:
                    run.wait(0.0)  # raises what went wrong, a model that hangs included
                else:
                    yield result
        while not run.wait(1.0):
            pass
    finally:
        collector.results.abort()
        run.stop()
        while not run.wait(1.0):
            pass
    failed = [f"{name}: {account.error}" for name, account in run.ledger.streams.items() if account.state == "failed"]
    if failed:
        raise SourceError("; ".join(failed))


class _Collector:
    """The sink behind :func:`replay`: hands results to the caller, who sets the pace."""

    name = "python"
    wants_pictures = False

    def __init__(self) -> None:
        self.results: Channel[Result] = Channel(64)

    def open(self) -> None:
        pass

    def begin(self, stream: object) -> None:
        pass

    def write(self, result: Result) -> None:
        with suppress(Closed):  # once the caller has closed the generator
            self.results.put(result)

    def end(self, stream: str) -> None:
        pass

    def close(self) -> None:
        self.results.close()
