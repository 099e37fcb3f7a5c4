# SPDX-License-Identifier: Apache-2.0
"""What a changed streams.yaml asks for, stream by stream."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import Config, LoadedConfig, StreamConfig
from pipeline.figures import listed

AT_START = ("sinks", "server", "telemetry")
"""Sections that are read when the daemon starts, and not again."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be done so that what runs is what the file says.

    Attributes:
        remove: names of streams to stop.
        change: streams to stop and to start anew with other settings.
        add: streams to start.
        untouched: how many go on as they are.
        kept: streams whose new entry is faulty: they run on with the settings that they have.
        at_start: sections that changed and take effect at the next start.
    """

    remove: tuple[str, ...]
    change: tuple[StreamConfig, ...]
    add: tuple[StreamConfig, ...]
    untouched: int
    kept: tuple[str, ...]
    at_start: tuple[str, ...]

    def __str__(self) -> str:
        names = {
            "added": [stream.name for stream in self.add],
            "changed": [stream.name for stream in self.change],
            "removed": list(self.remove),
        }
        counts = ", ".join(f"{len(each)} {what}" for what, each in names.items())
        which = "; ".join(f"{what} {listed(each)}" for what, each in names.items() if each)
        return f"{counts}, {self.untouched} untouched" + (f" ({which})" if which else "")


def enabled(config: Config) -> dict[str, StreamConfig]:
    """The streams that are to run, by name."""
    return {stream.name: stream for stream in config.streams if stream.enabled}


def difference(before: Config, running: dict[str, StreamConfig], wanted: LoadedConfig) -> Difference:
    """From the file as it was last taken and the streams that run by now to the file as it is.

    A stream that ended by itself counts as running: it is started again when its entry changes, not when others do.
    """
    asked = enabled(wanted.config)
    faulty = {stream.name for stream in wanted.quarantined}
    kept = tuple(name for name in running if name in faulty and name not in asked)
    change = tuple(stream for name, stream in asked.items() if name in running and stream != running[name])
    return Difference(
        remove=tuple(name for name in running if name not in asked and name not in kept),
        change=change,
        add=tuple(stream for name, stream in asked.items() if name not in running),
        untouched=sum(name in running for name in asked) - len(change) + len(kept),
        kept=kept,
        at_start=tuple(name for name in AT_START if getattr(before, name) != getattr(wanted.config, name)),
    )
