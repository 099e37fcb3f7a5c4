# SPDX-License-Identifier: Apache-2.0
"""What report.html says of a camera."""

from __future__ import annotations

from typing import Any

from pipeline.report.camera import camera_facts

CAMERA: dict[str, Any] = {
    "declared_fps": 25.0, "measured_fps": 24.98, "drift_ppm": -16.7, "drift_error_ppm": 3.5,
    "behind": {"p99_ms": 12.25}, "delay_ms": 40.0, "clocks_apart": 0,
    "capture_to_result": {"p50_ms": 101.5, "p99_ms": 160.25}, "duplicates": 1234,
}  # fmt: skip


def told(**changed: Any) -> dict[str, str]:
    return {name: text for name, text in camera_facts(CAMERA | changed) if text is not None}


def test_all_of_it() -> None:
    assert told() == {
        "camera's rate": "25.0 fps, declared 25.0",
        "camera's clock": "-16.7 ± 3.5 ppm",
        "frames behind the promptest, p99": "12.2 ms",
        "lens to result, p50 and p99": "102 and 160 ms",
        "pictures identical to the one before": "1,234",
    }


def test_freezes() -> None:
    assert told(freezes=3, largest_gap_ms=2000.0)["freezes, largest gap"] == "3, 2,000 ms"
    assert "freezes, largest gap" not in told(freezes=0, largest_gap_ms=41.0)


def test_clocks_that_differ() -> None:
    found = told(clocks_apart=7, delay_ms=-3_600_000.0, capture_to_result=None)
    assert found["its wall clock and this one's differ by"] == "+3,600.0 s"
    assert "lens to result, p50 and p99" not in found


def test_clocks_that_differ_by_less_than_can_be_told_are_alike() -> None:
    assert "its wall clock and this one's differ by" not in told(clocks_apart=9, delay_ms=0.58)


def test_a_rate_that_was_not_declared() -> None:
    assert told(declared_fps=None)["camera's rate"] == "25.0 fps"


def test_nothing_known_is_nothing_said() -> None:
    assert {text for _, text in camera_facts(None)} == {None}
    assert {text for _, text in camera_facts({"declared_fps": 25.0, "measured_fps": None, "drift_ppm": None})} == {None}
