# SPDX-License-Identifier: Apache-2.0
"""Which recordings are meant, and under which names their results are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.redact import SourceUrl
from pipeline.sources.opening import local_path
from pipeline.sources.paths import expand, looks_live


def stream_name(stem: str, taken: set[str]) -> str:
    """A name that fits ``[A-Za-z0-9_-]{1,64}`` and, case aside, is not in ``taken``; ``-2``, ``-3`` on a clash."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_")[:64] or "stream"
    number = 1
    candidate = name
    while candidate.lower() in taken:
        number += 1
        suffix = f"-{number}"
        candidate = name[: 64 - len(suffix)] + suffix
    taken.add(candidate.lower())
    return candidate


def shown(source: SourceUrl) -> str:
    """A source as a report names it: files by their full path, so that they can be told apart. Bytes of it that are no
    text become ``\\xff``, as shells show them."""
    if not source.is_file:
        return str(source)
    return os.fsencode(os.path.abspath(local_path(source.reveal()))).decode("utf-8", "backslashreplace")


def resolve(sources: Sequence[str], known: Mapping[str, str]) -> tuple[dict[str, SourceUrl], dict[str, str]]:
    """Named sources, and names of what cannot be found with the reason; raises UsageError when nothing can be found.

    One missing file among good ones is a failed stream, not a reason to do nothing. ``known`` are names that an earlier
    run gave, by source: they are kept, also when other files have come between.
    """
    found: list[tuple[str, SourceUrl]] = []
    faults: list[tuple[str, str]] = []
    for source in sources:
        try:
            texts = [str(path) for path in expand([source])]
        except UsageError as error:
            faults.append((source, str(error)))
            continue
        for text in texts:
            try:
                found.append((text, SourceUrl.parse(text)))
            except ValueError as error:
                faults.append((text, f"{text!r}: {error}"))
    if not found:
        raise UsageError("; ".join(reason for _, reason in faults) or "no source was given")
    taken = {name.lower() for name in known.values()}
    free = dict(known)
    named = {}
    for text, url in found:
        if looks_live(text):
            raise UsageError(
                f"{url}: a live feed has no end to replay to; put it into streams.yaml and use 'pipeline run'"
            )
        key = shown(url)
        named[free.pop(key) if key in free else stream_name(_stem(url), taken)] = url
    return named, {stream_name(_safe_stem(source), taken): reason for source, reason in faults}


def _stem(url: SourceUrl) -> str:
    return Path(str(url).split("?", 1)[0]).stem or url.scheme


def _safe_stem(source: str) -> str:
    """A name for what was refused; its text may hold credentials."""
    try:
        return _stem(SourceUrl.parse(source))
    except ValueError:
        return "refused"
