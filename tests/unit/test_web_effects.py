# SPDX-License-Identifier: Apache-2.0
"""No route writes a file, reads a path, runs a command or opens a connection: the interpreter itself watches."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from pipeline.web.access import Access
from pipeline.web.api import Api
from pipeline.web.app import application
from pipeline.web.drawn import drawn
from pipeline.web.history import History
from pipeline.web.hosts import Hosts
from pipeline.web.live import LiveView
from tests.boards import FakeBoard, picture_result

FORBIDDEN = (
    *("open", "os.", "subprocess.", "socket.connect", "socket.bind", "shutil.", "tempfile.", "pty.", "ctypes.dlopen"),
    *("exec", "compile", "marshal.loads", "pickle.", "ftplib.", "urllib."),
)
NAMES = ["gate", "nobody", "..", "%2e%2e", "%2fetc%2fpasswd", "....//etc/passwd", "gate%00", "$(touch x)", "{stream}"]
QUERIES = ["", "path=/etc/passwd", "config=x.yaml&cmd=touch%20x", "url=http://10.0.0.9/", "src=exec:touch"]

seen: list[str] = []
watching: set[int] = set()  # threads


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and threading.get_ident() in watching and event.startswith(FORBIDDEN):
        seen.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(hook)


@contextmanager
def watched() -> Iterator[list[str]]:
    seen.clear()
    watching.add(threading.get_ident())
    try:
        yield seen
    finally:
        watching.clear()


class SameThread:
    """An executor that does it at once, where it is watched."""

    def submit(self, work: Any, *arguments: Any) -> Any:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001
            future.set_exception(error)
        return future


@pytest.fixture
def app() -> Any:
    board = FakeBoard()
    view = LiveView(drawn, SameThread())  # type: ignore[arg-type]
    api = Api(
        board, History(), view, metrics=lambda: b"", metrics_type="text/plain", report=dict,
        executor=SameThread(),  # type: ignore[arg-type]
    )  # fmt: skip
    app = application(api, Access(None), Hosts(loopback_only=True), secure=False)
    return app, view


def asked(app: Any, view: LiveView) -> set[int]:
    async def main() -> set[int]:
        codes = set()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:

            async def feed() -> None:
                while True:
                    if view.wants("gate"):
                        view.show(picture_result("gate"))
                    await asyncio.sleep(0)

            feeder = asyncio.create_task(feed())
            for name in NAMES:
                for path in (f"/api/streams/{name}", f"/api/streams/{name}/frame.jpg", f"/{name}", f"/static/{name}"):
                    for query in QUERIES:
                        codes.add((await http.get(f"{path}?{query}")).status_code)
                for verb in ("pause", "resume", "config", "reload"):
                    for method in ("POST", "PUT", "DELETE", "PATCH"):
                        answer = await http.request(method, f"/api/streams/{name}/{verb}", content=b"streams: []")
                        codes.add(answer.status_code)
            pages = ("/", "/app.js", "/words.js", "/login")
            for path in (*pages, "/live", "/ready", "/metrics", "/api/streams", "/api/report"):
                for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"):
                    codes.add((await http.request(method, path, content=b"token=x&path=/etc/passwd")).status_code)
            feeder.cancel()
        return codes

    return asyncio.run(main())


def test_no_route_does_anything_to_the_machine(app: Any) -> None:
    asked(*app)  # whatever is imported when it is first used
    with watched() as found:
        codes = asked(*app)
    assert found == []
    assert {200, 202, 404, 405} <= codes
    assert codes <= {200, 202, 303, 400, 401, 404, 405, 409}


def test_the_watching_works() -> None:
    with watched() as found:
        open("/dev/null").close()
    assert [each.partition(" ")[0] for each in found] == ["open"]
