# SPDX-License-Identifier: Apache-2.0
"""When, in a play, the times of a recording are: as long after its beginning as they were then, or at once."""

from __future__ import annotations

from typing import Final, Protocol

from pipeline.arrivals.reading import Recording
from pipeline.threads import StopFlag
from pipeline.timing import SYSTEM, Clock

VIRTUAL_NS: Final = 1_000_000_000
"""What a virtual clock shows when the recording began: no mark of a frame may be 0."""


class PlayClock(Clock, Protocol):
    """A clock that can be waited for, by times of the recording (nanoseconds since it began)."""

    def reach(self, at_ns: int, stop: StopFlag) -> bool:
        """Return when it is ``at_ns``; False where stop came first."""
        ...


class RealTime:
    """The clock of this machine; all streams of a play share one. Its play begins with the first thing that happened.

    Attributes:
        origin_ns: when, on this machine's clock, the recording would have begun; set by :meth:`begin`.
    """

    def __init__(self, recording: Recording, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._first_ns = recording.first_ns
        self._wall_ns = recording.wall_ns
        self.origin_ns = 0

    def begin(self) -> None:
        """The first thing happens now."""
        self.origin_ns = self._clock.now_ns() - self._first_ns

    def now_ns(self) -> int:
        """Monotonic time of this machine."""
        return self._clock.now_ns()

    def wall_ns(self) -> int:
        """Wall time as it was at this point of the recording: of the capture, not of the play."""
        return self._wall_ns + self._clock.now_ns() - self.origin_ns

    def reach(self, at_ns: int, stop: StopFlag) -> bool:
        """See :class:`PlayClock`."""
        while (left_ns := self.origin_ns + at_ns - self._clock.now_ns()) > 0:
            if stop.wait(left_ns / 1e9):
                return False
        return not stop.is_set()


class Virtual:
    """The clock of one stream of a virtual play: always as late as what was last read of it.

    Attributes:
        at_ns: the time of the recording that it is.
    """

    def __init__(self, recording: Recording) -> None:
        self._wall_ns = recording.wall_ns
        self.at_ns = 0

    def now_ns(self) -> int:
        """Virtual monotonic time."""
        return VIRTUAL_NS + self.at_ns

    def wall_ns(self) -> int:
        """Wall time as it was at this point of the recording."""
        return self._wall_ns + self.at_ns

    def reach(self, at_ns: int, stop: StopFlag) -> bool:
        """Be there."""
        self.at_ns = max(self.at_ns, at_ns)
        return not stop.is_set()
