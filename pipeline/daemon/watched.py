# SPDX-License-Identifier: Apache-2.0
"""A file that may change at any time: by an editor, a rename over it, or a link that is switched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Signature = tuple[int, int, int, int]

LOOK_NS = 1_000_000_000
"""Pause between two looks. Looking is one system call; no library watches all of files, binds and network disks."""


class WatchedFile:
    """Says once that a file has changed, when it has kept still from one look to the next.

    Links are followed: where a configuration is mounted as a link that is switched (Kubernetes' ConfigMaps), the
    file's identity changes. While the file is missing nothing has changed yet: it may be about to be replaced.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        self.path = path
        self._now = now
        self._known = self._seen = self._signature()
        self._next_ns = now() + LOOK_NS

    def changed(self) -> bool:
        """Whether there is something new; cheap enough to be asked all the time."""
        if self._now() < self._next_ns:
            return False
        self._next_ns = self._now() + LOOK_NS
        before, self._seen = self._seen, self._signature()
        if self._seen is None or self._seen != before or self._seen == self._known:
            return False
        self._known = self._seen
        return True

    def taken(self) -> None:
        """The file was read just now for another reason: what it was then is not new."""
        self._known = self._seen = self._signature()

    def _signature(self) -> Signature | None:
        try:
            stat = os.stat(self.path)
        except OSError:
            return None
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
