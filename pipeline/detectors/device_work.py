# SPDX-License-Identifier: Apache-2.0
"""What a device did for a batch, between two events in the stream that it works through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch


class Event(Protocol):
    """What of :class:`torch.cuda.Event` is needed: a mark that the device passes when it has done what came before."""

    def record(self, stream: Any = None) -> None:
        """Put it at the end of what the stream (by default the current one) has to do."""
        ...

    def synchronize(self) -> None:
        """Return when the device has passed it; raises RuntimeError when it failed."""
        ...

    def wait(self, stream: Any = None) -> None:
        """Have the stream wait, not the host, before it goes on."""
        ...

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds by the device's clock until it passed ``end_event``; both must have been passed."""
        ...


def timing_event() -> Event:
    """One of CUDA's that knows when it was passed. Who waits for it sleeps: the cores belong to the decoders."""
    event: Event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
    return event


class DeviceWork:
    """The work on a batch in one stream, from :meth:`begin` to :meth:`end`.

    The device passes the first event when all that was queued before is done. So what lies between the two is this
    batch's own, however many are queued. That includes gaps in which the device waits for the host to queue more: where
    a network of many small kernels is launch-bound, as with small batches, it is the time that launching them takes.

    Attributes:
        ended: the outputs are valid after it.
    """

    __slots__ = ("_begun", "ended")

    def __init__(self, begun: Event, ended: Event) -> None:
        self._begun = begun
        self.ended = ended

    @classmethod
    def begin(cls, event: Callable[[], Event]) -> DeviceWork:
        """What is queued from now on belongs to it."""
        work = cls(event(), event())
        work._begun.record()
        return work

    def end(self) -> None:
        """All of it has been queued."""
        self.ended.record()

    def until(self, last: DeviceWork) -> DeviceWork:
        """This and all that was queued up to the end of ``last``, as one."""
        return DeviceWork(self._begun, last.ended)

    def wait(self) -> int:
        """Return when it is done: how many nanoseconds it took, by the device's clock. RuntimeError: the device failed.

        The clock is only read, after the wait that there is anyway.
        """
        self.ended.synchronize()
        return round(self._begun.elapsed_time(self.ended) * 1e6)
