# SPDX-License-Identifier: Apache-2.0
"""How numbers are written for people: three digits that count, and the unit."""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = "\N{EN DASH}"


def milliseconds(value: float | None) -> str:
    """``<0.001``, ``0.003``, ``1.23``, ``12.3``, ``123``, ``12,345``; a dash for nothing. Without the unit."""
    if value is None:
        return NOTHING
    if value < 0.0005:
        return "<0.001" if value > 0 else "0"
    if value < 1:
        return f"{value:.3f}"
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def signed(value: float | None, is_change: bool = True) -> str:
    """Milliseconds; a change has its sign: ``+1.23``, ``-0.004``, ``0``."""
    if value is None or not is_change:
        return milliseconds(value)
    if abs(value) < 0.0005:
        return "0"
    return f"{'+' if value > 0 else '-'}{milliseconds(abs(value))}"


def duration(seconds: float | None) -> str:
    """``12 ms``, ``1.23 s``, ``12.3 s``, ``3 min 20 s``, ``2 h 03 min``."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{milliseconds(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"


def rate(per_second: float | None) -> str:
    """Frames per second: ``7.25``, ``81.3``, ``1,234``; a dash for nothing."""
    if per_second is None:
        return NOTHING
    if per_second < 9.995:
        return f"{per_second:.2f}"
    return f"{per_second:.1f}" if per_second < 999.95 else f"{per_second:,.0f}"


def memory(mebibytes: float | None) -> str:
    """``512 MiB``, ``1.50 GiB``."""
    if mebibytes is None:
        return NOTHING
    return f"{mebibytes:,.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.2f} GiB"


def percent(share: float, digits: int = 0) -> str:
    """A share of one: ``37 %``, ``2.5 %`` with ``digits`` after the point."""
    return f"{100 * share:.{digits}f} %"


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """``1 frame``, ``1,234 frames``; ``nouns`` where the plural is not made by an s: ``2 batches``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """``gate, till and 12 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def aligned(value: float | None) -> str:
    """Milliseconds for the column of a table: two decimals always, so that the points stand below each other."""
    if value is None:
        return NOTHING
    return "<0.01" if 0 < value < 0.005 else f"{value:,.2f}"
