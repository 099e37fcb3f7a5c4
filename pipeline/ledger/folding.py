# SPDX-License-Identifier: Apache-2.0
"""Earlier lives of streams do not pile up: a daemon whose file changes each minute has half a million a year."""

from __future__ import annotations

from typing import Final

from pipeline.ledger.streams import StreamLedger

KEPT: Final = 4
"""Earlier lives of one name: the newest ones by themselves, all before them as one account, under the oldest's key."""
MOST_NAMES: Final = 1000
"""Names that have earlier lives, at most; the oldest beyond that are one account under :data:`OTHERS`."""
OTHERS: Final = "~earlier"


def folded(streams: dict[str, StreamLedger]) -> dict[str, StreamLedger]:
    """The accounts with earlier lives (``name~1``, ``name~2``, ...) added up where there are too many.

    A new dict, for others may be reading the old one. Only what is over and balanced is added up: nothing more will be
    counted there. All sums stay what they were.
    """
    lives: dict[str, list[str]] = {}
    for key, account in streams.items():
        if key not in (account.name, OTHERS):
            lives.setdefault(account.name, []).append(key)
    if len(lives) <= MOST_NAMES and all(len(keys) <= KEPT for keys in lives.values()):
        return streams
    kept = dict(streams)
    for keys in lives.values():
        while len(keys) > KEPT and _join(kept, keys[0], keys[1]):
            del keys[1]
    for name in list(lives)[: max(0, len(lives) - MOST_NAMES)]:
        for key in lives[name]:
            _join(kept, OTHERS, key)
    return kept


def _join(streams: dict[str, StreamLedger], first: str, later: str) -> bool:
    """Put the account of ``later`` into that of ``first``; False where one of them is not over yet."""
    into = streams.get(first) or StreamLedger(OTHERS.strip("~"))
    both = (streams[later], *((streams[first],) if first in streams else ()))
    if not all(account.over and not account.in_flight for account in both):
        return False
    joined = StreamLedger.together(into, streams.pop(later))
    joined.lives -= first not in streams  # the empty one that began it is no life
    streams[first] = joined
    return True
