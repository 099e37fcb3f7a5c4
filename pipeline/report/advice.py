# SPDX-License-Identifier: Apache-2.0
"""Which setting helps most, by what limits a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from pipeline.report.cores import has_cores_left

Kind = Literal["network", "decode", "follow", "sink", "source"]

ONE_BY_ONE: Final = 0.75
"""Of the streams fewer were open in the mean: they waited for each other."""


class Decoding(NamedTuple):
    """How streams are decoded: ``at_once``: how many were open in the mean; ``skips``: decoders leave out frames;
    ``hardware``: a decoder in hardware was asked for, or is at work."""

    at_once: float
    skips: bool = False
    hardware: bool = False


def advice(
    kind: Kind,
    report: Mapping[str, Any],
    streams: int,
    who: str = "",
    decoding: Decoding | None = None,
) -> str | None:
    """The setting that helps most where ``kind`` is what limits; None for the sources.

    Args:
        kind: what limits.
        report: of the run, or of it ``command``, ``machine``, ``model``, ``cpu_s`` and ``wall_s``.
        streams: how many there are.
        who: which sink.
        decoding: how the streams are decoded; None: all at once, every frame, on the CPU.
    """
    match kind:
        case "source":
            return None
        case "network":
            return _for_network(report)
        case "decode":
            return _for_decoding(report, streams, decoding or Decoding(streams))
        case "follow":
            return f"a lower {option(report, '--fps', 'fps')}, or less to follow"
        case "sink":
            leaner = (
                f"{option(report, '--save', 'sinks')} without video" if who.startswith("video") else "a faster disk"
            )
            return f"{leaner}, or a lower {option(report, '--fps', 'fps')}"


def _for_network(report: Mapping[str, Any]) -> str:
    model = report["model"]
    cores, workers = report["machine"].get("cores") or 1, model.get("workers") or 1
    if model.get("device") == "cpu" and workers < cores and has_cores_left(report):
        return f"{option(report, '--workers', 'batch.workers:')} {cores}, as many as there are cores"
    if model.get("path") and not model.get("tuned") and model.get("use_tuned", True):
        return f"`pipeline model tune {model['path']}`, once"
    return f"a smaller model.input, or a lower {option(report, '--fps', 'fps')}"


def _for_decoding(report: Mapping[str, Any], streams: int, decoding: Decoding) -> str | None:
    if report["command"] == "replay":
        if decoding.at_once < ONE_BY_ONE * streams and has_cores_left(report):
            return f"--parallel {streams}, so that more files are decoded at once"
        return _either(
            "" if decoding.skips else "`skip: nonref` in a --config, where frames may be left out",
            "" if decoding.hardware else "--hwaccel auto, where there is a decoder in hardware",
        )
    return _either(
        "a smaller stream of the camera",
        "" if decoding.skips else "`skip: nonref`",
        "" if decoding.hardware else "`hwaccel: auto`",
    )


def _either(*ways: str) -> str | None:
    """``a, b, or c``, without those that are empty."""
    found = [way for way in ways if way]
    return ", or ".join(filter(None, (", ".join(found[:-1]), *found[-1:]))) or None


def option(report: Mapping[str, Any], replay: str, run: str) -> str:
    """What it is called on the command line, or in the file."""
    return replay if report["command"] == "replay" else run
