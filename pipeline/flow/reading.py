# SPDX-License-Identifier: Apache-2.0
"""The read loop of a stream: it opens the source, sends every frame on its way, and says how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace

from pipeline.errors import SourceError
from pipeline.flow.lineup import Lineup
from pipeline.flow.preparing import Preparer
from pipeline.flow.publishing import Closing, Inbound, Opened
from pipeline.flow.stream import Stream
from pipeline.frame import Capture
from pipeline.threads import Closed, Put

log = logging.getLogger("pipeline")


class Reader:
    """Reads streams. Shared by all of them; a stream is read by one thread.

    Args:
        models: who serves the frames.
        preparer: makes their network inputs.
        emit: takes what goes to the follow loop.
        now: monotonic nanoseconds.
        closed: is told of each stream that has ended.
    """

    def __init__(
        self,
        models: Lineup,
        preparer: Preparer,
        emit: Put[Inbound],
        now: Callable[[], int],
        closed: Callable[[Stream], object],
    ) -> None:
        self._models = models
        self._preparer = preparer
        self._emit = emit
        self._now = now
        self._closed = closed

    def read(self, stream: Stream) -> Generator[None]:
        """Open the source and take its frames until it ends: a frame at each step, so that a thread or
        ``run_inline`` can drive it. Whatever a source or a plug-in raises ends this stream only."""
        source, account = stream.source, stream.account
        try:
            self._open(stream)
            while (capture := source.read()) is not None:
                if not self._take(stream, capture):
                    break
                yield
            stream.check()
            account.ended(source.truncation, at_limit=_at_limit(stream), asked=stream.stop.is_set())
        except SourceError as error:
            if not stream.ended:
                account.failed(str(error), error.cause)
                log.error("%s: %s", account.name, error, extra={"stream": account.name, "in_report": True})
        except Closed:
            if not stream.ended:
                account.ended(None, at_limit=False, asked=True)
        except Exception as error:  # a plug-in may raise anything; it costs this stream only
            if not stream.ended:
                account.failed(f"{type(error).__name__}: {error}")
            log.exception("%s: reading failed", account.name, extra={"stream": account.name})
        finally:
            try:
                source.close()
            except Exception:  # a plug-in may raise anything; the stream has ended anyway
                log.exception("%s: closing failed", account.name, extra={"stream": account.name})
            if self._ends(stream):
                self.close(stream)

    def close(self, stream: Stream) -> None:
        """Tell everybody that a stream has ended: once, by its reader or by whoever gave that up."""
        if stream.opened:
            stream.model.leave(stream.key)
            with suppress(Closed):
                self._emit(Closing(stream, stream.frames))
        self._closed(stream)

    def _open(self, stream: Stream) -> None:
        """Raises SourceError, and Closed where the stream is no longer wanted."""
        info = stream.source.open(stream.stop)
        with stream.fence:
            stream.check()
            if stream.stop.is_set():  # what was asked to stop while it opened has nothing to show
                raise Closed
            model = self._models.current
            info = replace(info, name=stream.account.name, labels=model.labels)
            stream.account.opened(info, stream.source.counters, self._now())
            self._emit(Opened(stream, info))
            model.enter(stream)
            stream.opened = True

    def _take(self, stream: Stream, capture: Capture) -> bool:
        """Count a frame and send it on; False where it was the last one that is wanted."""
        account = stream.account
        with stream.fence:
            stream.check()
            capture = account.numbered(capture)
            # Asked before it is counted: what a plug-in raises here costs the stream, not the balance.
            kept = stream.keep(capture)
            wanted = kept and stream.gate(capture)
            account.arrived(capture.read_ns, capture.pts_s, capture.epoch, capture.corrupt, capture.picture.size)
            if capture.missed:
                account.decoded += capture.missed
                self._preparer.missed(stream, capture)
            if kept:
                self._preparer.prepare(stream, capture, stream.frames, wanted)
                stream.frames += 1
            else:
                account.decimated += 1
            return not _at_limit(stream)

    def _ends(self, stream: Stream) -> bool:
        """Whether its reader has the last word; else it was given up, and has been closed."""
        with stream.fence:
            given_up, stream.ended = stream.ended, True
        return not given_up


def _at_limit(stream: Stream) -> bool:
    """Whether it has had as many frames as are wanted; those that gave way before a frame count with it."""
    return stream.limit is not None and stream.account.decoded >= stream.limit
