# SPDX-License-Identifier: Apache-2.0
"""What systemd is told: ready, reloading, stopping, still alive (sd_notify(3)). Silent where nobody listens."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


class Notifier:
    """Datagrams to the socket that ``NOTIFY_SOCKET`` names; never blocks, never fails.

    Args:
        now: monotonic nanoseconds.
        environ: where systemd leaves ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
    """

    def __init__(self, now: Callable[[], int], environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._now = now
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # of the abstract namespace
            self._address = "\0" + self._address[1:]
        self._every_ns = _watchdog_ns(environ) // 2
        self._next_ns = 0

    def ready(self) -> None:
        """The detector is warm; also ends a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """A new configuration is being taken; :meth:`ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={self._now() // 1000}")

    def stopping(self) -> None:
        """What is under way is being finished."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line that ``systemctl status`` shows."""
        self._tell(f"STATUS={text}")

    def alive(self) -> None:
        """The supervising loop turns. Sent twice per watchdog period, however often it is called."""
        if self._every_ns and self._now() >= self._next_ns:
            self._next_ns = self._now() + self._every_ns
            self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as end:
                end.sendto(message.encode(), self._address)
        except OSError as error:
            log.debug("NOTIFY_SOCKET: %s", error)


def _watchdog_ns(environ: Mapping[str, str]) -> int:
    """The period that systemd watches this process with; 0 for none."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) * 1000 if text.isdecimal() else 0
