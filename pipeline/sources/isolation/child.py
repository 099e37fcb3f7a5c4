# SPDX-License-Identifier: Apache-2.0
"""The decoding process of an isolated stream: ``python -P -m`` this module, ``SOCKET BEAT MEMORY PARENT NAME``,
and the ``SOCKET`` of :mod:`pipeline.sources.isolation.relay` where its packets are recorded.

One thread listens to the parent, another reads the camera; it never waits for the parent: where nobody takes frames in
time, the oldest one gives way. It ends with its parent, and whenever something is not as it should be.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from pipeline.protocols import Source
from pipeline.sources.isolation.confinement import confine
from pipeline.sources.isolation.connection import Beat, Connection, wants_memory
from pipeline.sources.isolation.orders import Maker
from pipeline.sources.isolation.relay import Relay
from pipeline.sources.isolation.wire import HANG_UP, HELLO, LARGEST, NEXT, OPEN, SAID, parse_freed


class _ToParent(logging.Handler):
    """What is logged here is said there."""

    def __init__(self, line: socket.socket) -> None:
        super().__init__(logging.INFO)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        said = SAID + bytes([min(record.levelno, 255)]) + self.format(record).encode()[:4096]
        with suppress(BlockingIOError):  # what cannot be said at once is left out: nobody waits here for the parent
            self._line.send(said, socket.MSG_DONTWAIT)


def serve(line: socket.socket, beat: Beat, make: Callable[[dict[str, Any], Beat], Source]) -> None:
    """Do what the parent says until it hangs up. ``make`` makes the source of an order."""
    line.send(HELLO)
    connection: Connection | None = None
    while message := line.recv(LARGEST):
        kind = message[:1]
        if kind == NEXT and connection is not None:
            connection.give(parse_freed(message))
        elif kind in (OPEN, HANG_UP):
            if connection is not None and not connection.hang_up():
                return  # its thread hangs: the parent starts another process
            connection = None
            if kind == OPEN:
                number, order = orjson.loads(message[1:])
                connection = Connection(number, make(order, beat), line, beat)
                connection.start()


def _relay(descriptors: list[str]) -> Relay | None:
    return Relay(socket.socket(fileno=int(descriptors[0]))) if descriptors else None


def main(arguments: list[str]) -> None:
    """Run until the parent is gone."""
    descriptor, beat, memory_bytes, parent = (int(argument) for argument in arguments[:4])
    confine(parent, memory_bytes, arguments[4])
    line = socket.socket(fileno=descriptor)
    logging.basicConfig(handlers=[_ToParent(line)], level=logging.INFO, format="%(message)s")
    status = os.EX_OK
    try:
        serve(line, Beat(beat, _relay(arguments[5:])), Maker())
    except ConnectionError:
        pass  # the parent is gone
    except Exception as error:  # noqa: BLE001 - there is no memory to say it with; the status does
        status = os.EX_OSERR if wants_memory(error) else os.EX_SOFTWARE
    finally:
        os._exit(status)  # native code may hold threads that never end


if __name__ == "__main__":
    main(sys.argv[1:])
