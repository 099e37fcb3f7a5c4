# SPDX-License-Identifier: Apache-2.0
"""Who may come in: the token in a header, or a session that was begun with it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from pipeline.redact import Secret
from pipeline.timing import SYSTEM, Clock

COOKIE = "pipeline_session"
SESSION_S = 12 * 3600
MOST_SESSIONS = 64
"""The oldest session makes room for the next."""


class Access:
    """Checks in constant time. Sessions live in memory and hold nothing of the token. For the server's loop only."""

    def __init__(self, token: Secret | None, clock: Clock = SYSTEM) -> None:
        """Without a token everybody may come in."""
        self._token = token
        self._now = clock.now_ns
        self._sessions: dict[bytes, int] = {}  # digest of the cookie -> when it ends

    @property
    def needs_token(self) -> bool:
        """Whether a token is asked for."""
        return self._token is not None

    def allows(self, authorization: str | None, cookies: Mapping[str, str]) -> bool:
        """Whether a request with this ``Authorization`` header and these cookies may come in."""
        if self._token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self._session_lives(cookies.get(COOKIE, ""))

    def is_token(self, given: str) -> bool:
        """Whether ``given`` is the token, in a time that tells nothing of how much of it is right."""
        if self._token is None:
            return False
        expected = self._token.reveal().encode()
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected)

    def begin_session(self) -> str:
        """A new session's cookie."""
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        cookie = secrets.token_urlsafe(32)
        self._sessions[_digest(cookie)] = self._now() + SESSION_S * 1_000_000_000
        return cookie

    def end_session(self, cookie: str) -> None:
        """The session of this cookie is over."""
        self._sessions.pop(_digest(cookie), None)

    def _session_lives(self, cookie: str) -> bool:
        digest = _digest(cookie)
        ends_ns = self._sessions.get(digest)
        if ends_ns is None:
            return False
        if self._now() >= ends_ns:
            del self._sessions[digest]
            return False
        return True


def _digest(cookie: str) -> bytes:
    # Looked up by digest, so that the time of the look-up tells nothing of a cookie.
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).digest()
