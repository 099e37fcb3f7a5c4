# SPDX-License-Identifier: Apache-2.0
"""Logging in and out with a browser: the token goes into a form once, a cookie that holds nothing of it comes back."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pipeline.web.access import COOKIE, SESSION_S, Access
from pipeline.web.answers import refusal
from pipeline.web.files import File
from pipeline.web.guard import MOST_BODY_BYTES

_MESSAGE: Final = b"<!--message-->"
_WRONG: Final = b'<p class="error" role="alert">That is not the token of this server.</p>'
_BODY_S: Final = 10.0
_MOST_FIELDS: Final = 4


class Login:
    """The routes ``/login`` and ``/logout``."""

    def __init__(self, access: Access, page: File, *, secure: bool) -> None:
        """``secure``: the cookie travels over HTTPS only."""
        self._access = access
        self._page = page
        self._secure = secure

    async def form(self, request: Request) -> Response:
        """The form; straight to the dashboard where no token is needed."""
        if not self._access.needs_token:
            return RedirectResponse("/", 303)
        return Response(self._page.content, media_type=self._page.media_type)

    async def enter(self, request: Request) -> Response:
        """``token=...``, as forms are sent."""
        body = b""
        try:
            async with asyncio.timeout(_BODY_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MOST_BODY_BYTES:
                        return refusal(413, "TooLarge", f"at most {MOST_BODY_BYTES} bytes are taken")
        except TimeoutError:
            return refusal(408, "Timeout", "the request did not arrive in time", {"connection": "close"})
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS, keep_blank_values=True)
        except ValueError:
            return refusal(400, "Form", f"a form of at most {_MOST_FIELDS} fields is expected")
        given = fields.get("token", [""])[0]
        if not self._access.is_token(given.strip()):
            page = self._page.content.replace(_MESSAGE, _WRONG)
            return Response(page, 401, media_type=self._page.media_type)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            self._access.begin_session(),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )
        return answer

    async def leave(self, request: Request) -> Response:
        """End the session."""
        self._access.end_session(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=self._secure)
        return answer
