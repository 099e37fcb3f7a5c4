# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a camera, one connection at a time. All of it is reproducible: random bytes have a seed."""

from __future__ import annotations

import copy
import random
import time
from typing import Self

from tests.faults.camera.clip import Clip, Unit, make_unit, nal_type
from tests.faults.camera.rtp import CLOCK
from tests.faults.camera.wire import Wire


class Fault:
    """Nothing is wrong for ``after`` access units; then :meth:`strike` is called in place of each.

    A fault is made once and copied for each connection that it is for, see :meth:`fresh`.
    """

    def __init__(self, after: int = 0) -> None:
        self.after = after

    def fresh(self) -> Self:
        """One for another connection."""
        return copy.deepcopy(self)

    def status(self, method: str) -> int | None:
        """Status of the answer to a request that is in order; None: it is never answered."""
        return 200

    def send(self, wire: Wire, unit: Unit, stamp: int) -> None:
        """Called with each access unit when it is due."""
        if wire.sent < self.after:
            wire.send(unit, stamp)
        else:
            self.strike(wire, unit, stamp)

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        """What is sent, or done, in the place of an access unit."""
        raise NotImplementedError


class Healthy(Fault):
    """None."""

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        wire.send(unit, stamp)


class Answers(Healthy):
    """Answers all requests of a method with this status, 401 or 404 say; None: it reads them and is silent."""

    def __init__(self, status: int | None, method: str = "DESCRIBE") -> None:
        super().__init__()
        self._status = status
        self._method = method

    def status(self, method: str) -> int | None:
        return self._status if method == self._method else 200


class Stalls(Fault):
    """Sends nothing more and stays. With ``after=0``, the default: PLAY is answered and no media comes."""

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        pass


class Trickles(Fault):
    """Sends a byte of a packet each ``every_s``."""

    def __init__(self, after: int = 0, every_s: float = 1.0) -> None:
        super().__init__(after)
        self._every_s = every_s
        self._next_s = 0.0
        self._rest = b""

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + self._every_s
        self._rest = self._rest or b"$\0\x04\0" + b"".join(wire.sender.packets(unit.payloads, stamp))
        wire.raw(self._rest[:1])
        self._rest = self._rest[1:]


class HangsUp(Fault):
    """Closes the connection (FIN)."""

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        wire.close()


class Resets(Fault):
    """Closes the connection without a word (RST)."""

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        wire.reset()


class SaysGoodbye(Fault):
    """RTCP BYE; the connection stays open."""

    def __init__(self, after: int = 0) -> None:
        super().__init__(after)
        self._said = False

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        if not self._said:
            self._said = True
            wire.goodbye()


class Babbles(Fault):
    """Random bytes in the place of packets, on the connection."""

    def __init__(self, after: int = 0, seed: int = 1) -> None:
        super().__init__(after)
        self._random = random.Random(seed)

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        wire.raw(self._random.randbytes(1000))


class Corrupts(Fault):
    """Flips bytes of slices, in a ``share`` of the access units; parameter sets stay."""

    def __init__(self, after: int = 0, share: float = 1.0, flips: int = 10, seed: int = 1) -> None:
        super().__init__(after)
        self._share = share
        self._flips = flips
        self._random = random.Random(seed)

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        damaged = None
        if self._random.random() < self._share:
            codec = wire.codec
            nals = tuple(self._flipped(nal) if is_slice(codec, nal) else nal for nal in unit.nals)
            damaged = make_unit(codec, nals, key=unit.key).payloads
        wire.send(unit, stamp, damaged)

    def _flipped(self, nal: bytes) -> bytes:
        data = bytearray(nal)
        for _ in range(self._flips):
            data[self._random.randrange(2, len(data))] ^= 1 << self._random.randrange(8)
        return bytes(data)


class Loses(Fault):
    """A ``share`` of the access units is never sent; the numbers of the packets do not show it."""

    def __init__(self, share: float, after: int = 0, seed: int = 1) -> None:
        super().__init__(after)
        self._share = share
        self._random = random.Random(seed)

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        if self._random.random() >= self._share:
            wire.send(unit, stamp)


class Jumps(Fault):
    """Time stamps are ``seconds`` off, forth or back."""

    def __init__(self, seconds: float, after: int = 0) -> None:
        super().__init__(after)
        self._ticks = int(seconds * CLOCK)

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        wire.send(unit, stamp + self._ticks)


class TellsNoTime(Fault):
    """All time stamps are the same."""

    def __init__(self, after: int = 0) -> None:
        super().__init__(after)
        self._stamp: int | None = None

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        if self._stamp is None:
            self._stamp = stamp
        wire.send(unit, self._stamp)


class Freezes(Fault):
    """The same picture again and again, with time stamps that go on."""

    def __init__(self, after: int = 0) -> None:
        super().__init__(after)
        self._picture: Unit | None = None

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        if self._picture is None and unit.key:
            self._picture = unit
        wire.send(self._picture or unit, stamp)


class Shows(Fault):
    """Another clip in mid-stream: another size, shape or codec. It concerns the camera, so all who look."""

    def __init__(self, clip: Clip, after: int = 0) -> None:
        super().__init__(after)
        self._clip = clip
        self._done = False

    def fresh(self) -> Self:
        return copy.copy(self)

    def strike(self, wire: Wire, unit: Unit, stamp: int) -> None:
        if not self._done:
            self._done = True
            wire.show(self._clip)
        else:
            wire.send(unit, stamp)


def is_slice(codec: str, nal: bytes) -> bool:
    """Whether a NAL unit is a part of a picture."""
    kind = nal_type(codec, nal)
    return 1 <= kind <= 5 if codec == "h264" else kind < 32
