# SPDX-License-Identifier: Apache-2.0
"""What became of each reload, where ``pipeline reload`` finds it: a file in the folder that systemd gives a service.

The API tells it, too, but not without the token, and under systemd the command of ``ExecReload=`` has no credentials
where the unit has a mount namespace of its own (systemd's issue 35227).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pipeline.host.replacing import replacing
from pipeline.redact import scrub

log = logging.getLogger(__name__)

Outcome = Literal["none", "done", "partial", "refused"]


def report_file(environ: Mapping[str, str]) -> Path | None:
    """``reload.json`` in ``RUNTIME_DIRECTORY`` (systemd.exec(5)); None where there is no such folder."""
    folder = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(folder) / "reload.json" if folder else None


class ReloadReport:
    """Keeps the file as the last reload left it. It never fails: a reload is more than what is told of it."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._path = report_file(os.environ if environ is None else environ)
        self._count = 0
        self._write("none", ())

    def tell(self, outcome: Outcome, faults: Sequence[str]) -> None:
        """One more reload: what became of it, and what was wrong with the file, a line each."""
        self._count += 1
        self._write(outcome, faults)

    def _write(self, outcome: Outcome, faults: Sequence[str]) -> None:
        if self._path is None:
            return
        lines = [scrub(str(fault)) for fault in faults]
        told = {"pid": os.getpid(), "count": self._count, "outcome": outcome, "faults": lines}
        try:
            with replacing(self._path, private=True) as partial:
                partial.write_text(json.dumps(told))
        except OSError as error:
            log.debug("%s: %s", self._path, error)
