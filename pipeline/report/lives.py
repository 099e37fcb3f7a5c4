# SPDX-License-Identifier: Apache-2.0
"""A stream that a reload changed or removed has an account for each of its lives: ``gate~1``, ``gate~2``, ``gate``."""

from __future__ import annotations

from collections.abc import Iterable


def names(accounts: Iterable[str]) -> list[str]:
    """The streams that these accounts are of, each once; a stream's name holds no ``~``. Lives of streams that are too
    many to be told apart (``~earlier``) have no name."""
    return list(filter(None, dict.fromkeys(account.partition("~")[0] for account in accounts)))
