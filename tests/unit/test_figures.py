# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

from __future__ import annotations

import pytest

from pipeline import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"), (0, "0"), (0.0004, "<0.001"), (0.0031, "0.003"), (0.93, "0.930"), (1.234, "1.23"),
        (9.994, "9.99"), (9.996, "10.0"), (12.34, "12.3"), (99.96, "100"), (123.4, "123"), (12345.6, "12,346"),
    ],
)  # fmt: skip
def test_milliseconds(value: float | None, text: str) -> None:
    assert figures.milliseconds(value) == text


def test_changes_have_their_sign() -> None:
    assert [figures.signed(value) for value in (1.234, -0.5, 0.0004, -0.0004, 0.0, None)] == [
        "+1.23", "-0.500", "0", "0", "0", "\N{EN DASH}",
    ]  # fmt: skip
    assert figures.signed(0.0004, is_change=False) == "<0.001"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\N{EN DASH}"), (0.0123, "12.3 ms"), (1.234, "1.23 s"), (12.34, "12.3 s"), (59.96, "1 min 00 s"),
        (200, "3 min 20 s"), (3599.6, "1 h 00 min"), (7380, "2 h 03 min"), (360000, "100 h 00 min"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "\N{EN DASH}"), (7.251, "7.25"), (9.996, "10.0"), (81.34, "81.3"), (1234.5, "1,234")]
)
def test_rate(value: float | None, text: str) -> None:
    assert figures.rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "\N{EN DASH}"), (0, "0.00"), (0.004, "<0.01"), (0.005, "0.01"), (1234.567, "1,234.57")]
)
def test_columns_of_a_table_align_at_the_point(value: float | None, text: str) -> None:
    assert figures.aligned(value) == text


def test_memory_and_counts() -> None:
    assert figures.memory(512.4) == "512 MiB"
    assert figures.memory(1536) == "1.50 GiB"
    assert figures.memory(None) == "\N{EN DASH}"
    assert figures.count(1, "frame") == "1 frame"
    assert figures.count(1234, "frame") == "1,234 frames"


def test_shares() -> None:
    assert [figures.percent(share) for share in (0.0, 0.974, 1.0)] == ["0 %", "97 %", "100 %"]
    assert figures.percent(0.025, 1) == "2.5 %"


def test_listed() -> None:
    names = [f"camera-{number}" for number in range(1_010)]
    assert figures.listed([]) == ""
    assert figures.listed(names[:3], 3) == "camera-0, camera-1, camera-2"
    assert figures.listed(names, 2) == "camera-0, camera-1 and 1,008 more"
