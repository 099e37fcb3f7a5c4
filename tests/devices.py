# SPDX-License-Identifier: Apache-2.0
"""A device beside the CPU, by a clock that the test moves: what is queued is done one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.detectors.device_work import DeviceWork
from pipeline.detectors.engine import Submitted
from pipeline.frame import Batch, Detections, InputSpec
from pipeline.testing import ManualClock, one_box


class Device:
    """One stream of it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.done_ns = 0  # with all that is queued, by the host's clock
        self.fault: str | None = None
        self.rate = 1.0  # of its own clock

    def check(self) -> None:
        """A faulty kernel is told of by every call after it."""
        if self.fault is not None:
            raise torch.AcceleratorError(self.fault)

    def queue(self, duration_ns: int) -> None:
        """Work that takes so long, after all that is queued."""
        self.done_ns = max(self.done_ns, self.clock.now_ns()) + duration_ns

    def event(self) -> DeviceEvent:
        """As :class:`torch.cuda.Event`."""
        return DeviceEvent(self)


class DeviceEvent:
    """Knows when the device passes it; a host that waits for it moves the clock there.

    It raises what torch raises, and where (``c10/cuda/CUDAEvent.h``): after a fault every call fails; to wait for an
    event that nobody recorded is no wait; the time is told of two events that were recorded, and passed.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.at_ns: int | None = None

    def record(self, stream: Any = None) -> None:
        self.device.check()
        self.at_ns = max(self.device.done_ns, self.device.clock.now_ns())

    def query(self) -> bool:
        if self.at_ns is None:
            return True
        self.device.check()
        return self.at_ns <= self.device.clock.now_ns()

    def synchronize(self) -> None:
        if self.at_ns is not None:
            self.device.check()
            self.device.clock.advance(max(0, self.at_ns - self.device.clock.now_ns()))

    def wait(self, stream: Any = None) -> None:
        """There is one stream, whose work is in order."""
        self.device.check()

    def elapsed_time(self, end_event: Any) -> float:
        if self.at_ns is None or end_event.at_ns is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end_event.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        milliseconds: float = (end_event.at_ns - self.at_ns) / 1e6 * self.device.rate
        return milliseconds


@dataclass
class OnDevice:
    """A detector that queues each batch: the host needs ``launch_ns`` for that, the device the next of ``takes_ns``
    (the last one again and again), and the host ``parse_ns`` for the detections."""

    device: Device
    launch_ns: int = 0
    takes_ns: list[int] = field(default_factory=lambda: [100])
    parse_ns: int = 0
    spec: InputSpec = field(default_factory=lambda: InputSpec(32, 32))
    labels: dict[int, str] = field(default_factory=lambda: {0: "thing"})
    max_batch: int = 8
    depth: int = 2

    def warm(self, sizes: Sequence[int]) -> None:
        pass

    def close(self) -> None:
        pass

    def submit(self, batch: Batch) -> Submitted:
        work = DeviceWork.begin(self.device.event)
        self.device.queue(self.takes_ns[0] if len(self.takes_ns) == 1 else self.takes_ns.pop(0))
        work.end()
        self.device.clock.advance(self.launch_ns)
        values = [int(item.input[0, 0, 0]) for item in batch.items]

        def parse() -> list[Detections]:
            self.device.clock.advance(self.parse_ns)
            return [one_box(value) for value in values]

        return Submitted(parse, work)
