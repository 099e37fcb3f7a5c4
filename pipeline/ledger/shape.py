# SPDX-License-Identifier: Apache-2.0
"""The shape of a stream's figures for its report: whole distributions, and its course; small where it is over."""

from __future__ import annotations

from typing import Any

import orjson

from pipeline.ledger.course import Course
from pipeline.ledger.stats import Distributions


def shape(distributions: Distributions, course: Course, start_ns: int) -> dict[str, Any]:
    """``{"distributions": {series: {"buckets", "counts"}}, "over_time": {...} | None}``, counted from ``start_ns``: see
    :data:`pipeline.ledger.stats.Distributions` and :meth:`pipeline.ledger.course.Course.as_dict`."""
    return {"distributions": distributions, "over_time": course.as_dict(start_ns)}


def pack(distributions: Distributions, course: Course) -> bytes:
    """A few kilobytes, however many frames there were: a run may have thousands of streams that have ended."""
    return orjson.dumps(shape(distributions, course, 0))


def unpack(packed: bytes, start_ns: int) -> dict[str, Any]:
    """What :func:`shape` returns."""
    found: dict[str, Any] = orjson.loads(packed)
    if found["over_time"] is not None:
        found["over_time"]["start_s"] = round(found["over_time"]["start_s"] - start_ns / 1e9, 3)
    return found
