# SPDX-License-Identifier: Apache-2.0
"""What candidates and material are called where people read about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.figures import percent

NAMES = {
    "pipeline": "pipeline",
    "pool": "thread pool, OpenCV + TorchScript",
    "loop": "plain loop, OpenCV + TorchScript",
    "streamvision": "streamvision InferencePipeline",
    "ultralytics": "Ultralytics predict",
    "decode": "decode alone",
    "resize": "resize alone",
    "network": "network alone",
}


def name(candidate: str) -> str:
    """The candidate's name in words."""
    return NAMES.get(candidate, candidate)


def work(report: Mapping[str, Any]) -> str:
    """What was done, in one line."""
    material = report["material"]
    return (
        f"{material['files']} clips of {material['width']}x{material['height']} H.264, {material['mbit']:g} Mbit/s, "
        f"{material['fps']} fps, {material['seconds']:g} s each; a small detector at "
        f"{material['input']}x{material['input']}, batches of {report['batch']}"
    )


def machine(report: Mapping[str, Any]) -> str:
    """Where it was done, in one line."""
    facts = report["machine"]
    return (
        f"{facts['cpu']}, {facts['cores']} cores; Python {facts['python']}, torch {facts['torch']}, "
        f"OpenCV {facts['opencv']}, PyAV {facts['pyav']}"
    )


def busy(report: Mapping[str, Any]) -> str | None:
    """A warning when other programs took part of the cores, else None."""
    share = report["free_cores"]
    if share >= 0.9:
        return None
    return (
        f"the machine was busy: only {percent(share)} of its {report['cores']} cores were free; "
        "CPU per frame still means something, frames per second do not, and ratios only over many rounds"
    )
