# SPDX-License-Identifier: Apache-2.0
"""What every request passes before a route sees it: host, origin, size, token; and what every answer carries."""

from __future__ import annotations

import asyncio
import logging
from itertools import chain
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.web.access import Access
from pipeline.web.answers import HEADERS, refusal
from pipeline.web.hosts import Hosts, foreign_page

log = logging.getLogger("pipeline")

MOST_BODY_BYTES: Final = 4096
MOST_HEAD_BYTES: Final = 16_384
ANSWER_S: Final = 30.0
PUBLIC: Final = frozenset(
    {"/live", "/ready", "/login", "/app.js", "/words.js", "/login.js", "/style.css", "/favicon.svg"}
)
"""Content-free, or the same for everybody."""
ENDLESS: Final = "/video.mjpg"


class Guard:
    """The outermost layer of the application; a request that it refuses reaches nothing else."""

    def __init__(self, app: ASGIApp, *, hosts: Hosts, access: Access) -> None:
        self._app = app
        self._hosts = hosts
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        began = False

        async def send_with_headers(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send_with_headers)
            return
        try:
            async with asyncio.timeout(None if scope["path"].endswith(ENDLESS) else ANSWER_S):
                await self._app(scope, receive, send_with_headers)
        except TimeoutError:
            log.warning("http: an answer was given up after %g s", ANSWER_S)
            if not began:
                await refusal(503, "Timeout", "this took too long")(scope, receive, send_with_headers)
        except ClientDisconnect:
            return  # in the middle of its request: nobody is left to answer, and nothing went wrong here
        except Exception as error:
            # The client learns nothing of it: what went wrong may hold anything.
            log.error("http: %s: %s", type(error).__name__, error, exc_info=log.isEnabledFor(logging.DEBUG))
            if began:
                raise
            await refusal(500, "InternalError", "internal error; see the log")(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        # The protocol bounds a head that is still coming; one that came at once may be longer.
        head = len(scope["query_string"]) + len(scope["raw_path"]) + sum(map(len, chain(*scope["headers"])))
        if head > MOST_HEAD_BYTES:
            return refusal(431, "TooLarge", f"at most {MOST_HEAD_BYTES} bytes of headers are taken")
        headers = Headers(scope=scope)
        given_hosts = headers.getlist("host")
        if len(given_hosts) != 1 or not self._hosts.served(given_hosts[0]):
            return refusal(400, "Host", "this server is not known by that name; add it to server.hosts")
        path, method = scope["path"], scope["method"]
        fetch_site = headers.get("sec-fetch-site")
        # Following a link to a page is harmless; a foreign page that sends, or embeds what is here, is not.
        visit = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if not visit and foreign_page(given_hosts[0], headers.get("origin"), fetch_site):
            return refusal(403, "Origin", "requests from pages of other sites are refused")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal() and len(length) < 12 and int(length) <= MOST_BODY_BYTES):
            return refusal(413, "TooLarge", f"at most {MOST_BODY_BYTES} bytes are taken", {"connection": "close"})
        if path in PUBLIC or self._access.allows(headers.get("authorization"), Request(scope).cookies):
            return None
        if path == "/" and "text/html" in headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return refusal(401, "Token", "a token is needed: Authorization: Bearer ...", {"www-authenticate": "Bearer"})
