# SPDX-License-Identifier: Apache-2.0
"""Texts as streams.yaml, and what is wrong with them."""

from __future__ import annotations

from typing import Any

from pipeline.config import LoadedConfig, parse_config
from pipeline.errors import ConfigError

GOOD = "streams: [{name: a, source: a.mp4}]\n"


def load(text: str, **options: Any) -> LoadedConfig:
    options.setdefault("environ", {})
    return parse_config(text.encode(), file="s.yaml", **options)


def faults(text: str, **options: Any) -> list[str]:
    """Every fault of a text, in file order."""
    try:
        loaded = load(text, **options)
    except ConfigError as error:
        return error.faults
    return [fault for stream in loaded.quarantined for fault in stream.faults]
