# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds: a fault with its remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["fault", "warning", "note"]
"""It makes results wrong or ends the program; it costs time or may hurt later; worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        name: of the check that found it.
        severity: how bad it is.
        found: what is the matter, with figures.
        remedy: what to do about it.
    """

    name: str
    severity: Severity
    found: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
