# SPDX-License-Identifier: Apache-2.0
"""A device beside the CPU, by a clock that the test moves: what is queued is done one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.detectors.device_work import DeviceWork
from pipeline.detectors.engine import Submitted
from pipeline.frame import Batch, Detections, InputSpec
from pipeline.testing import ManualClock, one_box

_AHEAD_NS = 7_000_000_000
"""The device's clock is another one: only differences of it mean anything."""


class Device:
    """One stream of it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.done_ns = 0  # with all that is queued, by the host's clock
        self.fault: str | None = None
        self.rate = 1.0  # of its own clock

    def queue(self, duration_ns: int) -> None:
        """Work that takes so long, after all that is queued."""
        self.done_ns = max(self.done_ns, self.clock.now_ns()) + duration_ns

    def event(self) -> DeviceEvent:
        """As :class:`torch.cuda.Event`."""
        return DeviceEvent(self)


class DeviceEvent:
    """Knows when the device passes it; a host that waits for it moves the clock there."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.at_ns: int | None = None

    def record(self, stream: Any = None) -> None:
        self.at_ns = max(self.device.done_ns, self.device.clock.now_ns())

    def synchronize(self) -> None:
        if self.device.fault is not None:
            raise RuntimeError(self.device.fault)
        assert self.at_ns is not None, "nobody recorded it"
        self.device.clock.advance(max(0, self.at_ns - self.device.clock.now_ns()))

    def wait(self, stream: Any = None) -> None:
        """There is one stream, whose work is in order."""

    def elapsed_time(self, end_event: Any) -> float:
        return (end_event.passed_ns() - self.passed_ns()) / 1e6 * self.device.rate

    def passed_ns(self) -> int:
        if self.at_ns is None or self.at_ns > self.device.clock.now_ns():
            raise RuntimeError("CUDA error: device not ready")  # as CUDA has it: reading the time waits for nothing
        return self.at_ns + _AHEAD_NS


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
