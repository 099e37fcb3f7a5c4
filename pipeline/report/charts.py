# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report. What each shows stands in a table beside it, too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.figures import count, duration, milliseconds, signed
from pipeline.measures import bucket_start
from pipeline.report.plotting import colour, drawn
from pipeline.report.shapes import area, in_milliseconds, in_powers, rows, steps
from pipeline.timing import PARTS, WAITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW: Final = 19
"""Height of a row in pictures that have a row per stage."""
_PER_OCTAVE: Final = 8
"""Columns per doubling of the time in which a distribution is drawn."""
_ENOUGH: Final = 8
"""Results that a column of a rate should stand for, at least in the mean."""
_LATE: Final = 20
"""Where the slowest takes so many times as long as usual, times are drawn on a scale of powers of ten."""


def over_time(course: Mapping[str, Any] | None) -> str:
    """End-to-end times over the run, and below them frames per second, losses and reconnects.

    Args:
        course: see :meth:`pipeline.ledger.course.Course.as_dict`.
    """
    if not course or len(course["results"]) < 2 or not any(course["results"]):
        return ""
    step_s = course["step_s"]
    span_s = step_s * len(course["results"])
    unit, unit_s = next((name, each) for name, each in _UNITS if span_s >= 3 * each or each == 1)
    dropped, reconnects = sum(course["dropped"]), sum(course["reconnects"])

    def paint(times: Axes, rates: Axes) -> None:
        middles = np.array(course["start_s"] + step_s * (np.arange(len(course["results"])) + 0.5)) / unit_s
        for part in _stretches(course):
            at = middles[part]
            p50, p99 = (np.array([course[key][slot] for slot in part], float) for key in ("p50_ms", "p99_ms"))
            area(times, at, p50, p99, "accent", alpha=0.22)
            times.plot(at, p99, color=colour("accent"), linewidth=0.8, alpha=0.75, clip_on=False)
            times.plot(at, p50, color=colour("accent"), linewidth=1.7, clip_on=False)
        known = [value for value in course["p99_ms"] if value is not None]
        usual = float(np.median([value for value in course["p50_ms"] if value is not None]))
        if usual > 0 and max(known) > _LATE * usual:
            in_powers(times, "y", min(value for value in course["p50_ms"] if value), max(known))
        else:
            in_milliseconds(times, "y", 0, max(max(known) * 1.05, 1e-3), 4)
        edges_s, (done, lost) = _rates(course)
        edges = edges_s / unit_s
        steps(rates, edges, np.zeros_like(done), done, "queue")
        for begin, end in _runs(lost > 0):
            steps(rates, edges[begin : end + 1], done[begin:end], (done + lost)[begin:end], "bad")
        for slot in np.flatnonzero(course["reconnects"]):
            for diagram in (times, rates):
                diagram.axvline(middles[slot], color=colour("warning"), linewidth=1.3, linestyle=(0, (3, 2)))
        begin_s = min(0.0, course["start_s"])
        for diagram in (times, rates):
            diagram.set_xlim(begin_s / unit_s, (course["start_s"] + span_s) / unit_s)
            diagram.locator_params(axis="x", nbins=6)
        times.tick_params(labelbottom=False)
        rates.set_ylim(0)
        rates.locator_params(axis="y", nbins=2)
        rates.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        rates.xaxis.set_major_formatter(lambda value, _: f"{value:g} {unit}")

    label = (
        f"end-to-end time and frames per second over {span_s / unit_s:.3g} {unit}; {dropped:,} dropped, "
        f"{count(reconnects, 'reconnect')}"
    )
    return drawn(label, (128, 74), paint)


_UNITS: Final = (("h", 3600), ("min", 60), ("s", 1))


def _rates(course: Mapping[str, Any]) -> tuple[Any, tuple[Any, Any]]:
    """Edges of columns in seconds, results and drops per second in each: as wide as a mean of :data:`_ENOUGH` results
    asks for, since with less a column says when a batch came and not how many frames there are in a second."""
    slots = len(course["results"])
    every = math.ceil(_ENOUGH * slots / sum(course["results"]))
    begins = np.arange(0, slots, every)
    edges_s = course["start_s"] + course["step_s"] * np.array([*begins, slots])
    done, lost = (np.add.reduceat(course[key], begins) / np.diff(edges_s) for key in ("results", "dropped"))
    return edges_s, (done, lost)


def _stretches(course: Mapping[str, Any]) -> list[list[int]]:
    """The slots with results, parted where there were none for much longer than usual."""
    slots = [slot for slot, number in enumerate(course["results"]) if number]
    gaps = np.diff(slots)
    most = max(3, 3 * int(np.median(gaps))) if len(gaps) else 3
    cuts = [number + 1 for number, gap in enumerate(gaps) if gap > most]
    return [slots[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(slots)], strict=True)]


def _runs(where: Any) -> list[tuple[int, int]]:
    """Begin and end of each stretch of slots of which something is true."""
    turns = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(int), [0]])))
    return list(zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True))


def distributions(found: Mapping[str, Mapping[str, Sequence[int]]], stages: Sequence[str]) -> str:
    """How long frames spent in each stage and on the whole way: where it is wide there were many.

    Args:
        found: see :data:`pipeline.ledger.stats.Distributions`.
        stages: in their order; ``end_to_end`` comes last.
    """
    shown = [name for name in (*stages, "end_to_end") if found.get(name)]
    if not shown:
        return ""

    def paint(axes: Axes) -> None:
        least, most = [], []
        for row, name in enumerate(reversed(shown)):
            edges, shares = _columns(found[name]["buckets"], found[name]["counts"])
            half = 0.44 * shares / shares.max()
            ink = "accent" if name == "end_to_end" else name
            steps(axes, edges, row - half, row + half, ink)
            axes.plot(edges[[0, -1]], [row, row], color=colour(ink), linewidth=1, clip_on=False)
            p50, p99 = (_percentile(found[name], percent) for percent in (50, 99))
            axes.plot([p50, p50], [row - 0.44, row + 0.44], color=colour("ink"), linewidth=1.6, clip_on=False)
            axes.plot([p99, p99], [row - 0.3, row + 0.3], color=colour("ink"), linewidth=1, clip_on=False)
            least.append(edges[0])
            most.append(edges[-1])
        in_powers(axes, "x", max(min(least), 1e-4), max(most))
        axes.set_ylim(-0.6, len(shown) - 0.4)
        rows(axes, [name.replace("_", " ") for name in reversed(shown)])

    label = ", ".join(
        f"{name.replace('_', ' ')}: half of the frames within {milliseconds(_percentile(found[name], 50))} ms, "
        f"99 % within {milliseconds(_percentile(found[name], 99))} ms"
        for name in shown
    )
    return drawn(label, (_ROW * len(shown) + 30,), paint, left=78)


def waterfall(part: Mapping[str, Any]) -> str:
    """The journey of the mean frame: each stage and each wait begins where the one before it ends.

    Parts are per frame of the end-to-end count, so that together they are its mean even where some frames did not pass
    every one.
    """
    parts = mean_parts(part)
    whole = sum(parts.values())
    if whole <= 0:
        return ""

    def paint(axes: Axes) -> None:
        at = 0.0
        for row, (name, took) in enumerate(parts.items()):
            ink = colour("queue" if name in WAITS else name)
            least = whole / 400  # else a short part would not be seen at all
            axes.barh(-row, max(took, least), left=min(at, whole - least), height=0.66, color=ink, clip_on=False)
            if row:
                axes.plot([at, at], [0.67 - row, 0.33 - row], color=colour("soft"), linewidth=0.7, clip_on=False)
            before, at = at, at + took
            ahead = at < 0.75 * whole  # room for its time behind it, else before it, else on it
            beside = at if ahead or before < 0.25 * whole else before
            axes.annotate(
                duration(took / 1e3), (beside, -row), (5 if ahead else -5, 0),
                textcoords="offset points", va="center", ha="left" if ahead else "right", color=colour("ink"),
            )  # fmt: skip
        in_milliseconds(axes, "x", 0, whole)
        axes.set_ylim(0.6 - len(parts), 0.6)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", color=colour("line"), linewidth=0.7)
        rows(axes, list(parts), descending=True)

    label = "mean time per frame: " + ", ".join(f"{name} {duration(took / 1e3)}" for name, took in parts.items())
    return drawn(label, (_ROW * len(parts) + 30,), paint, left=78)


def mean_parts(part: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of each stage, and of each place of waiting instead of ``queue``, per frame of the end-to-end count,
    in the order of the route."""
    whole = part.get("end_to_end")
    if not whole:
        return {}
    places = {**part["stages"], **(part.get("waits") or {})}
    if part.get("waits"):
        places.pop("queue", None)
    order = {name: number for number, name in enumerate(dict.fromkeys(PARTS))}
    known = sorted((name for name, stats in places.items() if stats), key=lambda name: order.get(name, len(order)))
    return {name: places[name]["mean_ms"] * places[name]["count"] / whole["count"] for name in known}


def jitter_added(added: Mapping[str, Mapping[str, float | None]]) -> str:
    """What each stage added to the unsteadiness of the intervals between frames; it smoothed where it is below nothing.

    Args:
        added: ``jitter.added`` of a stream.
    """
    figures = {stage: each["interval_added_ms"] or 0.0 for stage, each in added.items()}
    if not any(figures.values()):
        return ""

    def paint(axes: Axes) -> None:
        largest = max(map(abs, figures.values()))
        for row, (stage, value) in enumerate(figures.items()):
            axes.barh(-row, value, height=0.66, color=colour(stage), clip_on=False)
            axes.annotate(
                signed(value), (value, -row), (5 if value >= 0 else -5, 0), textcoords="offset points", va="center",
                ha="left" if value >= 0 else "right", color=colour("ink"),
            )  # fmt: skip
        axes.axvline(0, color=colour("soft"), linewidth=0.8)
        lowest, highest = min(0.0, *figures.values()), max(0.0, *figures.values())
        room = 0.22 * (highest - lowest or largest)
        in_milliseconds(axes, "x", lowest - (room if lowest < 0 else 0), highest + (room if highest > 0 else 0))
        axes.set_ylim(0.6 - len(figures), 0.6)
        axes.grid(visible=False, axis="y")
        rows(axes, list(figures), descending=True)

    label = "added to the deviation of intervals: " + ", ".join(
        f"{stage} {signed(value)} ms" for stage, value in figures.items()
    )
    return drawn(label, (_ROW * len(figures) + 30,), paint, left=78)


def batches(sizes: Mapping[str, int]) -> str:
    """How many batches there were of each size."""
    counts = {int(size): number for size, number in sizes.items()}
    if not counts:
        return ""

    def paint(axes: Axes) -> None:
        axes.bar(list(counts), list(counts.values()), width=0.78, color=colour("accent"), clip_on=False)
        axes.set_xlim(0.5, max(counts) + 0.5)
        axes.locator_params(axis="both", integer=True)
        axes.locator_params(axis="y", nbins=4)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    label = "batches: " + ", ".join(f"{number:,} of {size}" for size, number in sorted(counts.items()))
    return drawn(label, (130,), paint, left=52)


def _columns(buckets: Sequence[int], counts: Sequence[int]) -> tuple[Any, Any]:
    """Edges in milliseconds, one more than there are columns, and the share of the frames in each column."""
    begins = np.array([bucket_start(bucket) for bucket in buckets], float)
    ends = np.array([bucket_start(bucket + 1) for bucket in buckets], float)
    places = np.floor(np.log2(np.maximum((begins + ends) / 2, 1)) * _PER_OCTAVE).astype(int)
    first = int(places.min())
    shares = np.bincount(places - first, np.array(counts, float))
    return 2.0 ** ((first + np.arange(len(shares) + 1)) / _PER_OCTAVE) / 1e6, shares


def _percentile(distribution: Mapping[str, Sequence[int]], percent: float) -> float:
    """Milliseconds, by the middle of the bucket."""
    sums = np.cumsum(distribution["counts"])
    bucket = distribution["buckets"][int(np.searchsorted(sums, np.ceil(sums[-1] * percent / 100)))]
    return (bucket_start(bucket) + bucket_start(bucket + 1)) / 2e6
