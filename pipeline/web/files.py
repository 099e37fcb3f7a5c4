# SPDX-License-Identifier: Apache-2.0
"""The dashboard's files: package data, read once. No request can name a path."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_TYPES: Final = {
    "index.html": "text/html; charset=utf-8",
    "login.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "login.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "favicon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    content: bytes
    media_type: str
    etag: str

    async def __call__(self, request: Request) -> Response:
        """The file, or 304 where the client has it already."""
        headers = {"etag": self.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == self.etag:
            return Response(None, 304, headers)
        return Response(self.content, 200, headers, media_type=self.media_type)


def page_files() -> dict[str, File]:
    """All files, by name."""
    folder = files("pipeline.web").joinpath("static")
    found = {}
    for name, media_type in _TYPES.items():
        content = folder.joinpath(name).read_bytes()
        found[name] = File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found
