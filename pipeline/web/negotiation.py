# SPDX-License-Identifier: Apache-2.0
"""Which of several forms of an answer a client would rather have: RFC 9110, section 12.5.1."""

from __future__ import annotations

from collections.abc import Sequence


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """The one of ``offered`` media types that ``accept`` (the header, None: there is none) wants most.

    The first one where it says nothing of any, or as much for several. Of a type's parameters only those count that
    the offer has as well, such as ``version``.
    """
    wanted = [_parsed(part) for part in (accept or "").split(",")]
    return max(offered, key=lambda offer: _quality(offer, wanted))


Range = tuple[str, dict[str, str]]


def _quality(offer: str, wanted: Sequence[Range]) -> float:
    """By the most specific range that fits; 0 where none does."""
    kind, has = _parsed(offer)
    fitting = []
    for pattern, asked in wanted:
        fits = pattern in (kind, "*/*", kind.partition("/")[0] + "/*")
        if fits and all(has[name] == value for name, value in asked.items() if name in has and name != "q"):
            exactness = (pattern == kind, pattern != "*/*", len(asked.keys() & has.keys()))
            fitting.append((exactness, _number(asked.get("q", "1"))))
    return max(fitting, default=((), 0.0))[1]


def _parsed(text: str) -> Range:
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    pairs = (part.partition("=") for part in parameters)
    return kind, {name.strip(): value.strip().strip('"') for name, _, value in pairs}


def _number(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
