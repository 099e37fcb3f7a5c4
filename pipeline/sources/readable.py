# SPDX-License-Identifier: Apache-2.0
"""Whether there is a video in any of some files: looked at before anything that takes long, as a model does."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.errors import SourceError
from pipeline.sources.file import FileSource
from pipeline.sources.opening import FILE_CODECS
from pipeline.threads import StopFlag


def none_readable(
    files: Mapping[str, Path], max_pixels: int, codecs: Iterable[str] | None, stop: StopFlag
) -> dict[str, SourceError]:
    """Why each of these recordings cannot be opened; empty where one can be.

    Empty as well where one is no regular file: what was read of a pipe would be missing later. The look ends at the
    first that opens.

    Args:
        files: by the names of their streams.
        max_pixels: see :class:`pipeline.sources.opening.Limits`.
        codecs: those that are allowed; None: of recordings.
        stop: ends the look; nothing is known then.
    """
    faults: dict[str, SourceError] = {}
    for name, path in files.items():
        if stop.is_set():
            return {}
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return {}
        except OSError:  # it went since it was found; opening it says so
            pass
        source = FileSource(path, max_pixels=max_pixels, codecs=FILE_CODECS if codecs is None else frozenset(codecs))
        try:
            source.open(stop)
            return {}
        except SourceError as error:
            faults[name] = error
        finally:
            source.close()
    return {} if stop.is_set() else faults
