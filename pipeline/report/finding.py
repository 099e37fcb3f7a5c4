# SPDX-License-Identifier: Apache-2.0
"""One thing that a reader of a report should know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What did not go as it should.

    Attributes:
        severity: ``error`` (results are missing), ``warning`` (perhaps), ``note``.
        subject: the stream or sink that it is about; empty for the run.
        text: what happened, one line.
    """

    severity: Severity
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" if self.subject else self.text
