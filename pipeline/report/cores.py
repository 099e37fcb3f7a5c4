# SPDX-License-Identifier: Apache-2.0
"""Who had the cores during a run: the program, others, or nobody.

A report is asked for ``machine``, ``model``, ``cpu_s`` and ``wall_s``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

CORES_LEFT: Final = 0.8
"""Less than this of the cores was in use: another thread would find room."""
FULL: Final = 0.9
"""With so much of the cores in use, by whomever, nobody gets much more."""
WORTH_A_WORD: Final = 0.1
"""Share of the cores; what others use below that is what any system does beside."""
STARVED: Final = 0.6
"""A network on the CPU takes about as much CPU time as its batches last. With less than this share of it, all other
work of the program included, its threads waited for cores that somebody else had."""


def contended(own: float, others: float, cores: int) -> bool:
    """Whether hardly a core was left, and others had more than any system needs beside; all in cores."""
    return own + others >= FULL * cores and others >= WORTH_A_WORD * cores


def taken(own: float, others: float, cores: int, lost: float) -> bool:
    """Whether others had what it would have taken not to lose this share of the frames; all in cores."""
    return contended(own, others, cores) and (1 - lost) * others >= lost * own


def are_to_blame(own: float, others: float | None, cores: int, lost: float, core: float | None) -> bool:
    """Whether it is other programs' work that frames were lost to, or time.

    Args:
        own, others, cores: in cores; ``others``: None where that is not known.
        lost: share of the frames that were to be processed.
        core: as :func:`starved` has it, which is all there is where others are not known.
    """
    return core is not None if others is None else taken(own, others, cores, lost)


def starved(report: Mapping[str, Any], under_way_s: float) -> float | None:
    """For what part of the time a network on the CPU had a core at most, where others had the cores; else None.

    Args:
        report: of the run, or of it ``machine``, ``model``, ``cpu_s`` and ``wall_s``.
        under_way_s: how long its batches were under way, all workers together.
    """
    if report["model"].get("device") != "cpu" or not has_cores_left(report):
        return None
    share = report["cpu_s"] / under_way_s if under_way_s else 1.0
    return share if share < STARVED else None


def has_cores_left(report: Mapping[str, Any]) -> bool:
    """Whether another thread of this program would find room."""
    cores = report["machine"].get("cores") or 1
    return not is_virtual(report) and bool(report["cpu_s"] < CORES_LEFT * report["wall_s"] * cores)


def is_virtual(report: Mapping[str, Any]) -> bool:
    """Whether its times are those of another run, and only its CPU time is of this machine: the two do not compare."""
    return bool(report.get("arrivals", {}).get("pace") == "virtual")
