# SPDX-License-Identifier: Apache-2.0
"""``--trace FILE`` and ``--profile`` of ``replay`` and ``run``."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.ledger import Journal, Ledger
    from pipeline.report.operators import Operators


def add_options(parser: Any, trace: str, profile: str) -> None:
    """Add both to a parser or to a group of it; the arguments are what help says."""
    parser.add_argument("--trace", type=Path, metavar="FILE", help=trace)
    parser.add_argument("--profile", action="store_true", help=profile)


class Tracing:
    """The trace of one run, if one was asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises UsageError."""
        from pipeline.errors import UsageError

        self._path: Path | None = options.trace
        self._profile: bool = options.profile
        self._operators: Operators | None = None
        self._outcome: list[Path | Exception] = []
        if self._path is not None and not self._path.parent.is_dir():
            raise UsageError(f"--trace {self._path}: there is no folder {self._path.parent}")
        if self._path is not None and (self._path.is_dir() or not os.access(self._path.parent, os.W_OK | os.X_OK)):
            reason = "is a folder" if self._path.is_dir() else f"the folder {self._path.parent} cannot be written to"
            raise UsageError(f"--trace {self._path}: {reason}")
        if self._profile and self._path is None:
            raise UsageError("--profile needs --trace FILE, where the operators are to be written")

    def begin_replay(self, ledger: Ledger, device: str) -> None:
        """A replay is about to read its first frame."""
        if self._path is not None:
            ledger.keep_all()
        if self._profile:
            self._look(lambda: ledger, lambda: device, lambda seen: None).wait_until_it_looks()

    def begin_run(self, ledger: Callable[[], Ledger | None], device: Callable[[], str]) -> None:
        """A daemon is about to load its model. With ``--profile`` the file is written as soon as that is over."""

        def over(seen: Operators) -> None:
            found = ledger()
            if found is not None:
                self._save(found.journal(seen.began_ns))
            seen.slices = []  # some ten megabytes, and the daemon goes on for months

        if self._profile:
            self._look(ledger, device, over)

    def save(self, journal: Callable[[], Journal]) -> list[Path]:
        """The run is over: the file, if there is to be one. Raises SinkError where it is not what was asked for."""
        if self._path is None:
            return []
        if self._operators is not None:
            self._operators.end()
        if not self._outcome:
            self._save(journal())
        (outcome,) = self._outcome
        if isinstance(outcome, Exception):
            raise outcome
        return [outcome]

    def _look(
        self, ledger: Callable[[], Ledger | None], device: Callable[[], str], over: Callable[[Operators], None]
    ) -> Operators:
        from pipeline.report.operators import Operators

        self._operators = operators = Operators(ledger, device, over)
        operators.begin()
        return operators

    def _save(self, journal: Journal) -> None:
        from pipeline.errors import SinkError
        from pipeline.report import save_trace

        assert self._path is not None
        seen = self._operators
        try:
            save_trace(journal, self._path, () if seen is None else seen.slices)
            if seen is not None and seen.error is not None:
                raise SinkError(f"{self._path}: {seen.error}")
        except SinkError as error:
            self._outcome = [error]
        else:
            self._outcome = [self._path]
            if seen is not None and seen.slices:
                logging.getLogger("pipeline").info("%s: written, with torch's operators", self._path)
