# SPDX-License-Identifier: Apache-2.0
"""A replay of which no source can be opened ends before it has loaded its model."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import SourceError
from pipeline.ledger import Ledger, StreamLedger
from pipeline.timing import now_ns


def accounts_of_nothing(
    unreadable: Mapping[str, SourceError], missing: Mapping[str, str], sources: Mapping[str, str]
) -> Ledger:
    """The accounts of a run in which every stream failed.

    Args:
        unreadable: why each file cannot be opened.
        missing: why each of the others is not there.
        sources: where the files are, for people.
    """
    ledger = Ledger()
    ledger.begin(now_ns())
    for name, error in unreadable.items():
        ledger.add(StreamLedger(name, source=sources[name]))
        ledger.streams[name].failed(str(error), error.cause)
    for name, reason in missing.items():
        ledger.add(StreamLedger(name))
        ledger.streams[name].failed(reason, "not_found")
    ledger.end(now_ns())
    return ledger
