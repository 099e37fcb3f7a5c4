# SPDX-License-Identifier: Apache-2.0
"""The words of messages: kinds of value, and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

# What other programs call it.
_SYNONYMS = {
    "address": "source", "camera": "source", "cameras": "streams", "conf": "confidence", "dest": "path",
    "destination": "path", "disabled": "enabled", "dtype": "precision", "file": "path", "framerate": "fps",
    "image_size": "input", "imgsz": "input", "input_size": "input", "inputs": "streams", "labels": "names",
    "login": "username", "max_batch": "max_size", "max_batch_size": "max_size", "batch_size": "max_size",
    "max_det": "max_detections", "max_latency_ms": "max_wait_ms", "nms": "iou", "nms_threshold": "iou",
    "iou_threshold": "iou", "outputs": "sinks", "output": "sinks", "pass": "password", "passwd": "password",
    "priority": "weight", "protocol": "transport", "pwd": "password", "rate": "fps", "roi": "region",
    "score": "confidence", "sink": "sinks", "size": "input", "sources": "streams", "src": "source",
    "stream": "streams", "threads": "workers", "threshold": "confidence", "timeout": "read_timeout_s",
    "timeout_ms": "max_wait_ms", "uri": "source", "url": "source", "user": "username", "weights": "path",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """What a YAML value is, in words that do not repeat it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value (YAML reads yes, no, on, off, true and false so)"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a mapping" if isinstance(value, dict) else "a list"


def nearest(found: str, valid: Iterable[str]) -> str | None:
    """The valid name that was probably meant, or None."""
    valid = list(valid)
    folded = found.casefold().replace("-", "_")
    if _SYNONYMS.get(folded) in valid:
        return _SYNONYMS[folded]
    return next(iter(difflib.get_close_matches(folded, valid, n=1, cutoff=0.6)), None)


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """``; did you mean 'source'?``, or nothing."""
    near = nearest(found, valid)
    return f"; did you mean '{near}'?" if near else ""


def one_of(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
