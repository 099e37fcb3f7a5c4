# SPDX-License-Identifier: Apache-2.0
"""Texts that others made, without the secrets in them."""

from __future__ import annotations

import json
import re
import threading

from pipeline.redact.authority import without_user_info
from pipeline.redact.patterns import HEADER, MASK, QUOTED_PAIR, URL, mask_pairs

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}


class Scrubber:
    """Knows secrets and removes them from texts. Threads may share one."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def register(self, secret: str) -> None:
        """Remember a text that must never be shown. Empty texts and mere asterisks are not secrets."""
        if not secret.strip("*"):
            return
        with self._lock:
            if secret not in self._secrets:
                self._secrets.add(secret)
                self._pattern = None

    def scrub(self, text: str) -> str:
        """``text`` without secrets; see :func:`scrub`."""
        pattern = self._known()
        if pattern is not None:
            text = pattern.sub(MASK, text)
        if "@" in text:
            text = URL.sub(lambda match: match[1] + without_user_info(match[2]), text)
        if "uthorization" in text or "UTHORIZATION" in text:
            text = HEADER.sub(rf"\1{MASK}", text)
        if '"' in text or "'" in text:
            text = QUOTED_PAIR.sub(rf"\1\3{MASK}\3", text)
        return mask_pairs(text)

    def _known(self) -> re.Pattern[str] | None:
        with self._lock:
            if self._pattern is None and self._secrets:
                longest_first = sorted(self._secrets, key=lambda secret: (-len(secret), secret))
                self._pattern = re.compile("|".join(map(_any_rendering, longest_first)))
            return self._pattern


_SCRUBBER = Scrubber()


def register_secret(text: str) -> None:
    """Remember ``text`` as a secret of this process: :func:`scrub` removes it from now on.

    A secret of fewer than four characters is removed only where no letter or digit touches it; anything else would
    leave no log line readable.
    """
    _SCRUBBER.register(text)


def scrub(text: str) -> str:
    """``text`` with every registered secret replaced by ``***`` and without whatever else looks like credentials.

    A registered secret is found raw, percent-encoded wholly or in part (once or several times), and escaped as in JSON,
    in a Python literal and in HTML. Beyond that go: the user info of anything that looks like a URL, the values of
    ``password=``, ``user=``, ``token=`` and the like, and the value of an ``Authorization`` header.
    """
    return _SCRUBBER.scrub(text)


def _any_rendering(secret: str) -> str:
    """A regular expression for ``secret`` in which each character may be written in any usual way."""
    pattern = "".join(map(_any_rendering_of_character, secret))
    return pattern if len(secret) >= 4 else rf"(?<![^\W_]){pattern}(?![^\W_])"


def _any_rendering_of_character(character: str) -> str:
    octets = character.encode("utf-8", "surrogatepass")
    percent = "".join(f"%(?:25)*{octet:02x}" for octet in octets)
    literals = {
        character,
        json.dumps(character)[1:-1],
        repr(character)[1:-1],
        ascii(character)[1:-1],
        _HTML.get(character, character),
        "\\" + character if character in "\"'/" else character,
        "+" if character == " " else character,
    }
    forms = [re.escape(literal) for literal in sorted(literals, key=len, reverse=True)]
    return f"(?:{'|'.join(forms)}|(?i:{percent}))"
