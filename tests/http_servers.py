# SPDX-License-Identifier: Apache-2.0
"""HTTP servers on loopback, for what the program asks of others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Quiet(BaseHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def answering(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Where ``handler`` answers, each request in a thread of its own: ``http://127.0.0.1:PORT``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


Answer = Callable[[BaseHTTPRequestHandler, threading.Event], None]


@contextmanager
def http(answer: Answer) -> Iterator[str]:
    """An HTTP server on loopback; ``answer`` gets the request and an event that is set at the end of the test."""
    over = threading.Event()

    class Handler(Quiet):
        def do_GET(self) -> None:
            with suppress(OSError):  # the client hung up
                answer(self, over)

    with answering(Handler) as url:
        try:
            yield url
        finally:
            over.set()


MULTIPART = "multipart/x-mixed-replace; boundary=frame"


def multipart(pictures: list[bytes]) -> bytes:
    """JPEG pictures as a motion JPEG camera sends them."""
    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
    return b"".join(head % (len(picture), picture) for picture in pictures)
