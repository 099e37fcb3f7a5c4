# SPDX-License-Identifier: Apache-2.0
"""Runs side by side, from their reports: figures with their ratios to the first run, and who differs how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.report.smirnov import alike
from pipeline.report.verdict import dropped, verdict

FIGURES: Final = ("mean_ms", "p50_ms", "p99_ms")
RUN_FIGURES: Final = (
    "wall_s",
    "frames",
    "fps",
    "steady_fps",
    "first_result_ms",
    "dropped",
    "cpu_ms_per_frame",
    "peak_rss_mb",
)
_SETTINGS: Final = ("machine", "model", "options")
_INDIFFERENT: Final = frozenset(
    {"verdict", "swaps", "swaps_by_outcome", "nonfinite_rows", "nonfinite_frames", "use_tuned"}
)
"""What a run found out about its model, not what it was told to do; and what ``tuned`` tells better."""

_OF_THE_FILE: Final = ("model.sha256", "model.format", "model.adapter", "model.input", "model.input_spec", "model.trim")
"""What comes with another model file, unless the run's own options say otherwise."""

Report = Mapping[str, Any]


def compare(reports: Sequence[tuple[str, Report]]) -> dict[str, Any]:
    """``{"runs", "differences", "only_in", "paired", "total", "streams"}``.

    Args:
        reports: two or more, each with the name of its folder; the others are compared with the first.

    ``runs`` has a document per run; ``differences``: settings (key, and a value per run) that were not the same in all;
    ``only_in``: streams that not all runs had, with the numbers of those that did; ``paired``: whether each run had one
    stream, of another name, and those are compared (as ``lobby / gate``); ``total`` and each of ``streams``:
    ``{series: [per run {"count", *FIGURES, "ratio": {figure: to the first}, "likeness"} or None]}``, of stages, of
    places of waiting behind ``queue``, and ``end_to_end`` at last. ``likeness`` is None for the first run and where a
    report holds no distributions, as those of earlier versions.
    """
    whole = [report for _, report in reports]
    shared = [name for name in whole[0]["streams"] if all(name in report["streams"] for report in whole)]
    everywhere = dict.fromkeys(name for report in whole for name in report["streams"])
    paired = not shared and all(len(report["streams"]) == 1 for report in whole)
    streams = {name: [report["streams"][name] for report in whole] for name in shared}
    if paired:
        names, only = zip(*(next(iter(report["streams"].items())) for report in whole), strict=True)
        streams = {" / ".join(dict.fromkeys(names)): list(only)}
    return {
        "runs": [_run(name, report, whole[0]) for name, report in reports],
        "differences": _differences(whole),
        "only_in": {
            name: [number for number, report in enumerate(whole) if name in report["streams"]]
            for name in everywhere
            if name not in shared and not paired
        },
        "paired": paired,
        "total": _parts([report["total"] for report in whole]),
        "streams": {name: _parts(parts) for name, parts in streams.items()},
    }


def _run(name: str, report: Report, first: Report) -> dict[str, Any]:
    figures, ours = _run_figures(first), _run_figures(report)
    return {
        "folder": name,
        "command": report["command"],
        "created": report.get("created"),
        "version": report.get("version"),
        "verdict": verdict(report),
        **ours,
        "ratio": {key: ratio(ours[key], figures[key]) for key in RUN_FIGURES},
    }


def _run_figures(report: Report) -> dict[str, Any]:
    frames = report["frames"]
    found = {key: report.get(key) for key in RUN_FIGURES}
    return found | {
        "dropped": dropped(report).total(),
        "cpu_ms_per_frame": round(report["cpu_s"] * 1e3 / frames, 3) if frames else None,
    }


def _parts(parts: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any] | None]]:
    stages = dict.fromkeys(stage for part in parts for stage in part["stages"])
    waits = dict.fromkeys(place for part in parts for place in (part.get("waits") or {}))
    names = [name for stage in stages for name in ((stage, *waits) if stage == "queue" else (stage,))]
    return {name: _series(name, parts) for name in (*names, "end_to_end") if any(_stats(part, name) for part in parts)}


def _series(name: str, parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
    found: list[dict[str, Any] | None] = []
    first = _stats(parts[0], name)
    reference = (parts[0].get("distributions") or {}).get(name)
    for number, part in enumerate(parts):
        stats = _stats(part, name)
        if stats is None:
            found.append(None)
            continue
        distribution = (part.get("distributions") or {}).get(name)
        likeness = alike(reference, distribution) if number and reference and distribution else None
        found.append(
            {
                "count": stats["count"],
                **{key: stats[key] for key in FIGURES},
                "ratio": {key: ratio(stats[key], first[key] if first else None) for key in FIGURES},
                "likeness": None if likeness is None else likeness.as_dict() | {"text": str(likeness)},
            }
        )
    return found


def _stats(part: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    if name == "end_to_end":
        return part.get("end_to_end")
    return part["stages"].get(name) or (part.get("waits") or {}).get(name)


def ratio(value: float | None, to: float | None) -> float | None:
    """``value / to``; None where one is missing or there is nothing to divide by."""
    return None if value is None or not to else round(value / to, 4)


def _differences(reports: Sequence[Report]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for group in _SETTINGS:
        settings = [report.get(group) or {} for report in reports]
        for key in dict.fromkeys(key for each in settings for key in each):
            values = [each.get(key) for each in settings]
            if key not in _INDIFFERENT and any(value != values[0] for value in values):
                found[f"{group}.{key}"] = values
    if all((report.get("model") or {}).get("path") for report in reports):
        found.pop("options.model", None)  # None is the built-in detector, too: ``model.path`` tells what ran
    for cause, consequences in (("model.path", ("options.model", *_OF_THE_FILE)), ("model.sha256", _OF_THE_FILE[1:])):
        if cause in found:
            for key in consequences:
                found.pop(key, None)
    for key in ("command", "version"):
        values = [report.get(key) for report in reports]
        if any(value != values[0] for value in values):
            found[key] = values
    return found
