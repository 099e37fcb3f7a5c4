# SPDX-License-Identifier: Apache-2.0
"""Who may look: Basic and Digest authentication (RFC 7617, RFC 2617 without qop)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Literal

Scheme = Literal["basic", "digest"]
_REALM = "camera"


class Access:
    """One user and a password that may be changed at any time."""

    def __init__(self, user: str, password: str, scheme: Scheme = "digest") -> None:
        self.user = user
        self.password = password
        self._scheme = scheme
        self._nonce = secrets.token_hex(8)

    @property
    def challenge(self) -> str:
        """Value of WWW-Authenticate."""
        if self._scheme == "basic":
            return f'Basic realm="{_REALM}"'
        return f'Digest realm="{_REALM}", nonce="{self._nonce}"'

    def allows(self, method: str, authorization: str | None) -> bool:
        """Whether a request with this Authorization header may pass."""
        if authorization is None:
            return False
        if self._scheme == "basic":
            return authorization == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        fields = dict(re.findall(r'(\w+)="([^"]*)"', authorization))
        secret = _md5(f"{self.user}:{_REALM}:{self.password}")
        asked = _md5(f"{method}:{fields.get('uri', '')}")
        expected = _md5(f"{secret}:{self._nonce}:{asked}")
        return fields.get("username") == self.user and fields.get("response") == expected


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
