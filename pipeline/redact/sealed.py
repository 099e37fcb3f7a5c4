# SPDX-License-Identifier: Apache-2.0
"""A text that is shown to nobody who does not ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from pipeline.redact.patterns import MASK
from pipeline.redact.scrubbing import register_secret


class Sealed:
    """An immutable holder of one text that neither ``repr``, ``str``, ``vars``, JSON nor ``asdict`` gives away."""

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """The true text, secrets included. Only for the call that needs it; never for a message."""
        return self._text

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Sealed) and other.reveal() == self.reveal()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.reveal()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[[str], Sealed], tuple[str]]:
        return (type(self), (self.reveal(),))


class Secret(Sealed):
    """A password or token. Its text form is ``***``; making one registers it with :func:`scrub`."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        super().__init__(text)
        register_secret(text)

    def __str__(self) -> str:
        return MASK
