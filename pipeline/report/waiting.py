# SPDX-License-Identifier: Apache-2.0
"""How much of its end-to-end time a replay made itself, by reading as fast as possible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MUCH: Final = 0.5
"""From this share on it is said: who reads a second and a half would call the model slow."""


def waited_in_queue(report: Mapping[str, Any]) -> float | None:
    """The share of the mean end-to-end time that was waiting for the model.

    None where that is less than :data:`MUCH`, and where a stream has a pace of its own: there it is no choice of the
    reader, but overload.
    """
    total = report["total"]
    whole, queue = total.get("end_to_end"), (total.get("stages") or {}).get("queue")
    if not whole or not queue or any(stream.get("paced", True) for stream in report["streams"].values()):
        return None
    spent_ms = whole["mean_ms"] * whole["count"]
    share = queue["mean_ms"] * queue["count"] / spent_ms if spent_ms else 0.0
    return min(1.0, float(share)) if share >= MUCH else None
