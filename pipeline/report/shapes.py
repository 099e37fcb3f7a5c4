# SPDX-License-Identifier: Apache-2.0
"""What the pictures of a report have in common: areas, rows with names, and scales of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from pipeline.report.plotting import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UNITS: Final = ((1e3, "s"), (1.0, "ms"), (1e-3, "\N{MICRO SIGN}s"), (1e-6, "ns"))
"""In milliseconds."""
_SECONDS_MS: Final = 2000
"""From here on a scale has seconds."""


def area(axes: Axes, at: Any, low: Any, high: Any, ink: str, **style: Any) -> None:
    """What lies between two lines, as one path."""
    outline = np.concatenate([at, at[::-1]]), np.concatenate([low, high[::-1]])
    axes.fill(*outline, color=colour(ink), linewidth=0, clip_on=False, **style)


def steps(axes: Axes, edges: Any, low: Any, high: Any, ink: str) -> None:
    """The same of columns between ``edges``, one more than there are columns."""
    area(axes, np.repeat(edges, 2)[1:-1], np.repeat(low, 2), np.repeat(high, 2), ink)


def rows(axes: Axes, names: Sequence[str], *, descending: bool = False) -> None:
    """Names at the left, for rows at 0, 1, 2, ... or at 0, -1, -2, ..."""
    axes.set_yticks([-row if descending else row for row in range(len(names))], names)
    axes.tick_params(axis="y", labelcolor=colour("ink"))
    axes.spines["bottom"].set_visible(False)


def in_milliseconds(axes: Axes, which: Literal["x", "y"], lowest: float, highest: float, numbers: int = 5) -> None:
    """An even scale from one time to another (ms), with about so many numbers; in seconds where these are long."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    per, unit = (1e3, "s") if max(-lowest, highest) >= _SECONDS_MS else (1.0, "ms")
    axes.set(**{f"{which}lim": (lowest, highest)})
    axes.locator_params(axis=which, nbins=numbers)
    axis.set_major_formatter(lambda value, _: f"{value / per:,.6g} {unit}")


def in_powers(axes: Axes, which: Literal["x", "y"], lowest: float, highest: float) -> None:
    """A scale of powers of ten, with 2 and 5 between where there are few."""
    from matplotlib.ticker import LogLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (lowest, highest)})
    between = (1.0, 2.0, 5.0) if highest < 80 * lowest else (1.0,)
    axis.set_major_locator(LogLocator(subs=between, numticks=6 if which == "x" else 5))
    axes.minorticks_off()
    axis.set_major_formatter(lambda value, _: _in_a_unit(value))


def _in_a_unit(value_ms: float) -> str:
    """``1 s``, ``20 ms``, ``500 \N{MICRO SIGN}s``."""
    per, unit = next((each for each in _UNITS if value_ms >= each[0] * 0.999), _UNITS[-1])
    return f"{value_ms / per:.3g} {unit}"
