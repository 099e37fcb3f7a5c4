# SPDX-License-Identifier: Apache-2.0
"""The shapes of an answer: JSON, errors, and the headers that all answers carry."""

from __future__ import annotations

from typing import Any, Final

import orjson
from starlette.responses import Response

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""On every answer, unless the answer says otherwise."""


def written(content: Any) -> bytes:
    """``content`` as JSON: a report is some megabytes, which are not written in the server's loop."""
    return orjson.dumps(content)


def json_answer(content: bytes, status: int = 200) -> Response:
    """JSON that is written already."""
    return Response(content, status, media_type="application/json")


def undrawable() -> Response:
    """Of a picture that cannot be drawn or written as a JPEG; another one may be."""
    return refusal(503, "NoPicture", "this picture cannot be drawn", {"retry-after": "5"})


def refusal(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """``{"error": {"kind", "message"}}``; repeats nothing that the client sent."""
    body = orjson.dumps({"error": {"kind": kind, "message": message}})
    return Response(body, status, headers, media_type="application/json")
