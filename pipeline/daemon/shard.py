# SPDX-License-Identifier: Apache-2.0
"""One file of many cameras, several daemons: which of them takes which stream."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, replace

from pipeline.config import LoadedConfig
from pipeline.errors import UsageError
from pipeline.figures import count, listed

log = logging.getLogger("pipeline")


@dataclass(frozen=True, slots=True)
class Shard:
    """The ``index``-th of ``count`` daemons, from 0.

    A stream goes where the hash of shard and name is largest (rendezvous hashing: D. Thaler, C. Ravishankar, 1998). It
    depends on nothing else, so that all daemons agree; with one daemon more, only the streams that it takes move.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``0/4`` to ``3/4``; raises UsageError."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or int(match[1]) >= int(match[2]):
            raise UsageError(f"--shard {text}: expected I/N with I from 0 to N - 1, such as 0/4")
        return cls(int(match[1]), int(match[2]))

    def takes(self, name: str) -> bool:
        """Whether this daemon runs the stream of that name."""
        weights = [hashlib.sha256(f"{shard}:{name}".encode()).digest() for shard in range(self.count)]
        return max(range(self.count), key=weights.__getitem__) == self.index

    def of(self, loaded: LoadedConfig) -> LoadedConfig:
        """The same file with this daemon's streams only."""
        mine = tuple(stream for stream in loaded.config.streams if self.takes(stream.name))
        quarantined = tuple(one for one in loaded.quarantined if one.name is None or self.takes(one.name))
        return replace(loaded, config=loaded.config.model_copy(update={"streams": mine}), quarantined=quarantined)

    def tell(self, loaded: LoadedConfig) -> None:
        """Which streams of the file are this daemon's; of one daemon for all there is nothing to tell."""
        if self.count == 1:
            return
        names = [stream.name for stream in loaded.config.streams if stream.enabled]
        mine = [name for name in names if self.takes(name)]
        if mine:
            log.info("shard %s: %d of %s: %s", self, len(mine), count(len(names), "stream"), listed(mine))
        else:
            log.warning(
                "shard %s: none of %s; which part a stream belongs to depends on its name alone, so a few streams may "
                "share one",
                self, count(len(names), "stream"),
            )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard(0, 1)
"""One daemon for all."""
