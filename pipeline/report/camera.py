# SPDX-License-Identifier: Apache-2.0
"""What is true of a camera, as a few words for ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.figures import milliseconds, rate

_APART_S: Final = 0.05
"""Two clocks that are set by NTP differ by less, and frames may seem to come from the future for that."""


def camera_facts(camera: Mapping[str, Any] | None) -> list[tuple[str, str | None]]:
    """Of ``camera`` of a stream in a report: names, and what to say, None where there is nothing to. An earlier
    version's report may lack some of it."""
    known = camera or {}
    declared, measured = known.get("declared_fps"), known.get("measured_fps")
    drift, behind, glass = known.get("drift_ppm"), known.get("behind"), known.get("capture_to_result")
    said = "" if declared is None else f", declared {rate(declared)}"
    apart_s = (known.get("delay_ms") or 0) / 1e3 if known.get("clocks_apart") else 0
    return [
        ("camera's rate", None if measured is None else f"{rate(measured)} fps{said}"),
        ("camera's clock", None if drift is None else f"{drift:+g} ± {known['drift_error_ppm']:g} ppm"),
        ("frames behind the promptest, p99", f"{milliseconds(behind['p99_ms'])} ms" if behind else None),
        ("lens to result, p50 and p99", _both(glass) if glass else None),
        ("its wall clock and this one's differ by", f"{-apart_s:+,.1f} s" if abs(apart_s) >= _APART_S else None),
        ("freezes, largest gap", _gaps(known) if known.get("freezes") else None),
        ("pictures identical to the one before", f"{known['duplicates']:,}" if known.get("duplicates") else None),
    ]


def _gaps(known: Mapping[str, Any]) -> str:
    return f"{known['freezes']:,}, {milliseconds(known['largest_gap_ms'])} ms"


def _both(told: Mapping[str, Any]) -> str:
    return f"{milliseconds(told['p50_ms'])} and {milliseconds(told['p99_ms'])} ms"
