# SPDX-License-Identifier: Apache-2.0
"""What credentials look like in a text."""

from __future__ import annotations

import re

MASK = "***"

NETWORK_SCHEMES = "rtsps?|https?|rtmps?|rtp|udp|tcp|srt|ftps?|wss?|mqtts?|amqps?|rediss?"
_SECRET_KEYS = (
    r"(?:[\w.-]{0,40}(?:pass|passwd|password|passphrase|passcode|pwd|psw|secret|token|api_?key|access_?key|auth"
    r"|authorization|credentials?|signature|sig|session(?:_?id)?|psk)|pw)"
)
_KEYS = rf"(?:{_SECRET_KEYS}|key|user|usr|user_?name|login|account)"
_QUOTE_ENDS = r"'(?:$|[\s:;,)\]}])"
# name=value in a query, where only "&" ends a value, or in the path, as some recorders have it
# (/user=..._password=..._channel=1).
PAIR = re.compile(
    rf"(?i)([?&]{_KEYS}=)((?:(?!{_QUOTE_ENDS})[^&\s\"<>])+)"
    rf"|(?<![A-Za-z])({_KEYS}=)((?:(?!_[A-Za-z]+=|{_QUOTE_ENDS})[^&\s\"<>])+)"
)
QUOTED_PAIR = re.compile(rf"(?i)(([\"']){_SECRET_KEYS}\2\s*:\s*)([\"'])(?:\\.|(?!\3).)*\3")
HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization\s*[:=]\s*(?:(?:basic|bearer|digest|token)\s+)?)[^\s][^\r\n]*")
# A run of text after "//": ends at white space, at a double quote or angle bracket, and where the next URL begins.
URL = re.compile(
    rf"(?i)((?:[a-z][a-z0-9+.-]{{0,20}}:)?//|\b(?:{NETWORK_SCHEMES}):/?)"
    r"((?:(?!\b[a-z][a-z0-9+.-]{0,20}://)[^\s\"<>`])+)"
)
USER_KEY = re.compile(r"(?i)(?:user|usr|user_?name|login|account)=$")
ENCODED_URL = re.compile(r"(?i)(%3A%2F%2F)(?:(?!%3A%2F%2F)[^\s\"<>&])*%40")


def mask_pairs(text: str) -> str:
    """``text`` without the values of pairs such as ``password=...``, and without user info that is percent-encoded."""
    if "%40" in text:
        text = ENCODED_URL.sub(r"\1", text)
    return PAIR.sub(rf"\1\3{MASK}", text) if "=" in text else text
