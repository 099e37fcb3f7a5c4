# SPDX-License-Identifier: Apache-2.0
"""A function as a sink, for those who use the pipeline from Python."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.errors import SinkError
from pipeline.frame import Result, StreamInfo


class CallbackSink:
    """Calls ``function(result)`` for every result, in the thread of this sink. What it raises becomes a SinkError."""

    def __init__(
        self, function: Callable[[Result], object], *, name: str = "callback", wants_pictures: bool = False
    ) -> None:
        self.name = name
        self.wants_pictures = wants_pictures
        self._function = function

    def open(self) -> None:
        """Nothing to do."""

    def begin(self, stream: StreamInfo) -> None:
        """Nothing to do."""

    def write(self, result: Result) -> None:
        """Call the function; raises SinkError when it raises."""
        try:
            self._function(result)
        except Exception as error:
            raise SinkError(
                f"{self.name}: {result.stream} frame {result.frame}: {type(error).__name__}: {error}"
            ) from error

    def end(self, stream: str) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
