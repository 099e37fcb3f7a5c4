# SPDX-License-Identifier: Apache-2.0
"""Who goes when, in a run of one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress

from pipeline.flow.lineup import Lineup
from pipeline.flow.stream import Stream

Readers = deque[tuple[Stream, Generator[None]]]
"""The streams that are open; a step of a generator reads and prepares one frame."""

Drive = Callable[[Readers, Lineup], None]
"""Steps readers and serves batches until nothing is left; streams may come while it runs. May raise Closed at the end.
"""


def take_turns(readers: Readers, models: Lineup) -> None:
    """Each stream reads a frame, then what can be served is; raises Closed when all is done."""
    while True:
        if readers:
            stream, reader = readers.popleft()
            with suppress(StopIteration):
                next(reader)
                readers.append((stream, reader))
        model = models.current
        while model.runner.serve(model.scheduler.poll()):
            pass
