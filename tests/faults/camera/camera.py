# SPDX-License-Identifier: Apache-2.0
"""A camera: one clip in a loop at an even rate, sent to all who look."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from tests.faults.camera.access import Access
from tests.faults.camera.clip import Clip, Unit
from tests.faults.camera.faults import Fault, Healthy
from tests.faults.camera.rtp import CLOCK
from tests.faults.camera.wire import Wire

OnSent = Callable[[str, int, int, int], None]
"""Called before a frame leaves: name of the camera, number of the frame, its RTP time stamp (90 kHz, not wrapped), and
the monotonic clock in nanoseconds."""


class Camera:
    """Everybody who looks gets the same frame at the same moment; who comes later begins with the next key frame.

    Args:
        name: last part of its address.
        clip: what it shows.
        fps: frames a second; that of the clip by default.
        access: who may look; everybody by default.
        clock_s: by how much its clock is ahead. It takes a picture when it is due to be sent: a camera that needs a
            while to send it is to others one whose clock is behind.
        faults: what is wrong with its first connection, the second, and so on; the last one is for all later ones.
        on_sent: see :data:`OnSent`.

    Attributes:
        connections: connections that asked for it so far.
        requests: methods that it was asked for, newest last; only the last thousand.
    """

    def __init__(
        self,
        name: str,
        clip: Clip,
        *,
        fps: float | None = None,
        access: Access | None = None,
        clock_s: float = 0.0,
        faults: Sequence[Fault] = (),
        on_sent: OnSent | None = None,
    ) -> None:
        self.name = name
        self.clip = clip
        self.fps = fps or clip.fps
        self.access = access
        self.clock_s = clock_s
        self.faults: list[Fault] = list(faults)
        self.connections = 0
        self.requests: deque[str] = deque(maxlen=1000)
        self._on_sent = on_sent
        self._wires: dict[Wire, Fault] = {}
        self._place = 0
        self._number = 0
        self._stamp = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connect(self) -> Fault:
        """One more connection asks for it; returns what is wrong with it."""
        place = min(self.connections, len(self.faults) - 1)
        self.connections += 1
        return self.faults[place].fresh() if self.faults else Healthy()

    def inflict(self, fault: Fault, later: Sequence[Fault] = ()) -> None:
        """From now on this is wrong with all connections that there are, and these ``faults`` are for later ones."""
        self._wires = {wire: fault.fresh() for wire in self._wires}
        self.faults = [Healthy()] * self.connections + list(later)

    @property
    def watched(self) -> int:
        """How many look."""
        return len(self._wires)

    @property
    def stamp(self) -> int:
        """Time stamp of the next frame."""
        return int(self._stamp)

    def start(self, phase: float) -> None:
        """Begin to send, ``phase`` of an interval from now. In the event loop."""
        self._due_s = asyncio.get_running_loop().time() + phase / self.fps
        self._plan()

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()

    def show(self, clip: Clip) -> None:
        """Another picture from the next frame on, in mid-stream; it keeps its rate."""
        self.clip = clip
        self._place = 0

    def look(self, wire: Wire, fault: Fault) -> None:
        """One more receiver."""
        self._wires[wire] = fault

    def leave(self, wire: Wire) -> None:
        """It hung up."""
        self._wires.pop(wire, None)

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        unit = self._next()
        stamp = int(self._stamp + unit.delay * CLOCK / self.fps)
        if self._on_sent is not None and self._wires:
            self._on_sent(self.name, self._number, stamp, time.monotonic_ns())
        late_ns = int((asyncio.get_running_loop().time() - self._due_s) * 1e9)
        for wire, fault in list(self._wires.items()):
            wire.late_ns = late_ns
            fault.send(wire, unit, stamp)
        self._number += 1
        # A machine that was suspended does not make up for what it missed, but its clock went on.
        late = int(max(0.0, asyncio.get_running_loop().time() - self._due_s - 1.0) * self.fps)
        self._due_s += (1 + late) / self.fps
        self._stamp += (1 + late) * CLOCK / self.fps
        self._plan()

    def _next(self) -> Unit:
        """What is due now."""
        unit = self.clip.units[self._place]
        self._place = (self._place + 1) % len(self.clip.units)  # before a fault that shows another clip
        return unit
