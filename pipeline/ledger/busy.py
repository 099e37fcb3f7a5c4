# SPDX-License-Identifier: Apache-2.0
"""How long the detect workers had something to do."""

from __future__ import annotations

from collections import Counter

from pipeline.ledger.journal import BatchRun


class Busy:
    """Time with a batch under way, by worker, in integer nanoseconds. Not locked.

    Time that two batches of a worker share counts once. The workers of a model that was swapped in go on with the
    accounts of those before.
    """

    def __init__(self) -> None:
        self.spent_ns: Counter[str] = Counter()
        self._until_ns: dict[str, int] = {}

    def add(self, run: BatchRun) -> None:
        """A batch is done; each worker's come in the order in which they ended."""
        worker = run.worker.partition("@")[0]
        since_ns = max(run.taken_ns, self._until_ns.get(worker, 0))
        self.spent_ns[worker] += max(0, run.parsed_ns - since_ns)
        self._until_ns[worker] = run.parsed_ns

    def as_dict(self) -> dict[str, float]:
        """Seconds by worker."""
        return {worker: round(spent_ns / 1e9, 6) for worker, spent_ns in sorted(self.spent_ns.items())}
