# SPDX-License-Identifier: Apache-2.0
"""The listening socket: it counts whom it lets in, all together and by address, and hangs up on the rest."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

_LOCAL: Final = "this machine"
_OTHERS: Final = "others"
_REFUSED_AT_ONCE: Final = 64
"""Hung up on before the loop gets its turn again."""


class Door(socket.socket):
    """Counts sockets rather than connections: a TLS client is one before its handshake, too, and takes as much.

    Peers on this machine are counted by themselves, all of them together: a proxy on it brings everybody, and whatever
    others hold open, its health checks come through. For the thread of the server's loop only, once it is bound.

    Attributes:
        most: open at once, of this machine, and as many of all others.
        most_each: open at once of one other address; an IPv6 network of 64 bits counts as one.
    """

    most = 128
    most_each = 32

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open: Counter[str] = Counter()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next one that is let in; raises BlockingIOError where nobody waits."""
        for _ in range(_REFUSED_AT_ONCE):
            accepted, address = super().accept()
            counted = _groups(address)
            if self._has_room(counted):
                self._open.update(counted)
                return _Counted(accepted, partial(self._left, counted)), address
            accepted.close()
        raise BlockingIOError

    def _has_room(self, counted: tuple[str, ...]) -> bool:
        return all(self._open[each] < (self.most if each in (_LOCAL, _OTHERS) else self.most_each) for each in counted)

    def _left(self, counted: tuple[str, ...]) -> None:
        self._open -= Counter(counted)  # forgets who has none open


class _Counted(socket.socket):
    """``accepted``, taken over; says once that it is closed."""

    def __init__(self, accepted: socket.socket, closed: Callable[[], None]) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._closed_now: Callable[[], None] | None = closed

    def close(self) -> None:
        super().close()
        closed, self._closed_now = self._closed_now, None
        if closed is not None:
            closed()


def _groups(address: Any) -> tuple[str, ...]:
    peer = ip_address(address[0].partition("%")[0])
    if isinstance(peer, IPv6Address):
        peer = peer.ipv4_mapped or peer
    if peer.is_loopback:
        return (_LOCAL,)
    return (_OTHERS, peer.exploded[:19] if isinstance(peer, IPv6Address) else str(peer))
