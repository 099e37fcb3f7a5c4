# SPDX-License-Identifier: Apache-2.0
"""The routes: all that can be asked for, on one page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.web.access import Access
from pipeline.web.answers import refusal
from pipeline.web.api import Api
from pipeline.web.files import page_files
from pipeline.web.guard import Guard
from pipeline.web.hosts import Hosts
from pipeline.web.login import Login

Handler = Callable[[Request], Awaitable[ASGIApp]]


def application(api: Api, access: Access, hosts: Hosts, *, secure: bool) -> ASGIApp:
    """Everything behind the guard. ``secure``: HTTPS is served."""
    files = page_files()
    login = Login(access, files["login.html"], secure=secure)
    get, post = ["GET"], ["POST"]
    routes: Sequence[tuple[str, Handler, list[str]]] = (
        ("/", files["index.html"], get),
        ("/app.js", files["app.js"], get),
        ("/words.js", files["words.js"], get),
        ("/login.js", files["login.js"], get),
        ("/style.css", files["style.css"], get),
        ("/favicon.svg", files["favicon.svg"], get),
        ("/login", login.form, get),
        ("/login", login.enter, post),
        ("/logout", login.leave, post),
        ("/live", api.live, get),
        ("/ready", api.ready, get),
        ("/metrics", api.metrics, get),
        ("/api/report", api.report, get),
        ("/api/trace", api.trace, get),
        ("/api/streams", api.streams, get),
        ("/api/streams/{name}", api.stream, get),
        ("/api/streams/{name}/frame.jpg", api.still, get),
        ("/api/streams/{name}/video.mjpg", api.video, get),
        ("/api/streams/{name}/pause", api.pause, post),
        ("/api/streams/{name}/resume", api.resume, post),
    )
    by_path: dict[str, dict[str, Handler]] = {}
    for path, handler, methods in routes:
        by_path.setdefault(path, {}).update(dict.fromkeys(methods, handler))
    found = [Route(path, _Endpoint(handlers)) for path, handlers in by_path.items()]
    return Guard(_Answering(Router(found, redirect_slashes=False)), hosts=hosts, access=access)


class _Endpoint:
    """One path: its handlers by method, HEAD as GET."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        handler = self._handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = sorted(self._handlers) + (["HEAD"] if "GET" in self._handlers else [])
            raise HTTPException(405, headers={"allow": ", ".join(allowed)})
        answer: Any = await handler(request)
        await answer(scope, receive, send)


class _Answering:
    """Unknown paths and methods are answered as every other refusal."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: Response
        try:
            await self._app(scope, receive, send)
            return
        except HTTPException as error:
            names = {404: ("NotFound", "there is nothing here"), 405: ("Method", "this path does not take this method")}
            kind, message = names.get(error.status_code, ("Refused", "refused"))
            answer = refusal(error.status_code, kind, message, dict(error.headers or {}))
        await answer(scope, receive, send)
