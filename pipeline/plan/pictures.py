# SPDX-License-Identifier: Apache-2.0
"""The pictures of a plan. What each shows stands in a table beside it, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pipeline.figures import milliseconds
from pipeline.plan.facts import CURVE
from pipeline.report.plotting import colour, drawn
from pipeline.report.shapes import in_milliseconds, in_powers, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INKS: Final = {
    "decode": "decode",
    "preprocess": "preprocess",
    "network": "infer",
    "sinks": "sink",
    "other": "follow",
}
"""Parts of the work, and the stage whose colour each has."""
_WIDE: Final = 20
"""Where the slowest takes so many times as long as the fastest, times are drawn on a scale of powers of ten."""


def load(predicted: Mapping[str, Any], cores: float) -> str:
    """Who needs how many cores, and how many there are."""
    use = {name: predicted["use"].get(name, 0.0) for name in INKS}
    if not sum(use.values()):
        return ""

    def paint(axes: Axes) -> None:
        at = 0.0
        for name, used in use.items():
            axes.barh(0, used, left=at, height=0.62, color=colour(INKS[name]), clip_on=False)
            at += used
        axes.axvline(cores, color=colour("ink"), linewidth=1.2)
        axes.annotate(
            f"{cores:.2f} cores", (cores, 0.5), (-5, 0), textcoords="offset points", ha="right", va="center",
            color=colour("ink"),
        )  # fmt: skip
        axes.set_xlim(0, max(1.02 * cores, at))
        axes.set_ylim(-0.4, 0.65)
        axes.set_yticks([])
        axes.grid(visible=False, axis="y")

    label = "cores busy: " + ", ".join(f"{name} {used:.2f}" for name, used in use.items() if used >= 0.005)
    return drawn(f"{label}; of {cores:.2f}", (92,), paint, left=10)


def latencies(predicted: Mapping[str, Any], proof: Mapping[str, Any] | None) -> str:
    """How many of the frames are done within which time, as predicted and as measured."""
    curves = {"predicted": predicted["curve"]} | ({"measured": proof["curve"]} if proof else {})
    curves = {name: values for name, values in curves.items() if values}
    if not curves:
        return ""

    def paint(axes: Axes) -> None:
        ends = [value for values in curves.values() for value in (values[0], values[-1])]
        for name, values in curves.items():
            ink = "accent" if name == "measured" else "soft"
            style: Any = "-" if name == "measured" else (0, (4, 2))
            axes.plot(values, CURVE, color=colour(ink), linewidth=1.8, linestyle=style, clip_on=False)
        if max(ends) > _WIDE * max(min(ends), 1e-3):
            in_powers(axes, "x", max(min(ends), 1e-3), max(ends))
        else:
            in_milliseconds(axes, "x", 0, max(ends) * 1.02)
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 50, 99], ["0 %", "50 %", "99 %"])

    label = "end-to-end times: " + "; ".join(
        f"{name}: half of the frames within {milliseconds(values[49])} ms, 99 % within {milliseconds(values[98])} ms"
        for name, values in curves.items()
    )
    return drawn(label, (170,), paint)


def batches(network: Sequence[Mapping[str, Any]]) -> str:
    """What a frame costs the network, by how many go through it together."""
    if not network:
        return ""
    shapes = list(dict.fromkeys(tuple(row["input"]) for row in network))
    shown = [row for row in network if tuple(row["input"]) == shapes[0]]

    def paint(axes: Axes) -> None:
        names = [f"batch of {row['batch']}" for row in shown]
        for number, row in enumerate(shown):
            took = row["ms_per_frame"]
            axes.barh(-number, took, height=0.66, color=colour("infer"), clip_on=False)
            axes.annotate(
                milliseconds(took), (took, -number), (5, 0), textcoords="offset points", va="center", ha="left",
                color=colour("ink"),
            )  # fmt: skip
        in_milliseconds(axes, "x", 0, 1.12 * max(row["ms_per_frame"] for row in shown))
        axes.set_ylim(0.6 - len(shown), 0.6)
        axes.grid(visible=False, axis="y")
        rows(axes, names, descending=True)

    label = "the network's time per frame: " + ", ".join(
        f"{milliseconds(row['ms_per_frame'])} ms in batches of {row['batch']}" for row in shown
    )
    return drawn(label, (21 * len(shown) + 30,), paint, left=78)
