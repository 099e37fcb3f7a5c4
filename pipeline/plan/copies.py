# SPDX-License-Identifier: Apache-2.0
"""What stands in for the streams while a plan is made: recordings themselves, and some seconds of each camera."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline import build
from pipeline.config import Config, StreamConfig
from pipeline.errors import ConfigError, SourceError, SourceUnavailable
from pipeline.plan.capture import capture
from pipeline.redact import SourceUrl
from pipeline.sources import expand, local_path, looks_live
from pipeline.sources.naming import stream_name
from pipeline.threads import StopFlag

AT_ONCE: Final = 16
"""Sources that are opened at the same time."""
log = logging.getLogger("pipeline")

_NO_SECRETS: Final = dict.fromkeys(("username", "password", "password_env", "password_file"))


@dataclass(frozen=True, slots=True)
class Copy:
    """A stream, and what stands in for it.

    Attributes:
        stream: as it was asked for.
        config: as it is run: a recording at the pace of its time stamps, again and again, with all that was asked for.
        seconds: how much of a camera was kept; None of what is not a camera.
    """

    stream: StreamConfig
    config: StreamConfig
    seconds: float | None = None

    @property
    def isolated(self) -> bool:
        """Whether it is of a camera that is read in a process of its own, and is to be read so, too."""
        return self.seconds is not None and self.stream.isolation == "process"


@dataclass(frozen=True, slots=True)
class Copies:
    """Attributes:
    made: in the order of the streams.
    unreachable: names and reasons of those that did not open.
    """

    made: tuple[Copy, ...]
    unreachable: dict[str, str]


def spread(streams: Sequence[StreamConfig]) -> list[StreamConfig]:
    """The same, with a stream for each video where a source is a folder: they play as many cameras.

    Raises UsageError where there is no video in it.
    """
    taken = {stream.name.lower() for stream in streams}
    found = []
    for stream in streams:
        if not (stream.source.is_file and local_path(stream.source.reveal()).is_dir()):
            found.append(stream)
            continue
        for path in expand([stream.source.reveal()]):
            name = stream_name(f"{stream.name}-{Path(path).stem}", taken)
            found.append(stream.model_copy(update={"name": name, "source": SourceUrl.parse(str(path))}))
    return found


def make_copies(
    streams: Sequence[StreamConfig], folder: Path, seconds: float, stop: StopFlag, say: Callable[[str], None]
) -> Copies:
    """Open every stream, and keep ``seconds`` of each camera in ``folder``."""
    made: dict[str, Copy] = {}
    unreachable: dict[str, str] = {}
    with ThreadPoolExecutor(max(1, min(AT_ONCE, len(streams))), "copy") as pool:
        under_way = [
            pool.submit(_copy, stream, folder / f"{number}.mkv", seconds, stop) for number, stream in enumerate(streams)
        ]
        try:
            for number, (stream, copying) in enumerate(zip(streams, under_way, strict=True)):
                say(f"opening the sources: {number} of {len(streams)}")
                try:
                    made[stream.name] = copying.result()
                except (SourceError, ConfigError) as error:
                    unreachable[stream.name] = str(error)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Copies(tuple(made[stream.name] for stream in streams if stream.name in made), unreachable)


def redirected(config: Config, folder: Path) -> Config:
    """The same with sinks that write into ``folder``, whatever they write to otherwise."""
    sinks = []
    for number, sink in enumerate(config.sinks):
        own = folder / f"sink-{number}"
        own.mkdir(exist_ok=True)
        changes: dict[str, object] = {"path": str(own if sink.type == "coco" else own / _file_name(sink.path))}
        if sink.type == "jsonl" and sink.events:
            changes["events"] = str(own / _file_name(sink.events))
        sinks.append(sink.model_copy(update=changes))
    return config.model_copy(update={"sinks": tuple(sinks), "server": None})


def _file_name(template: str) -> str:
    """Of a file in one folder, for each stream its own, where it has its own in the template."""
    name = Path(template).name
    return f"{{stream}}-{name}" if "{stream}" in template and "{stream}" not in name else name


def _copy(stream: StreamConfig, path: Path, seconds: float, stop: StopFlag) -> Copy:
    """Raises SourceError or ConfigError."""
    stand_in = {"loop": True, "pace": "realtime", "policy": stream.policy or "freshest"}  # as a camera has it
    address = stream.source.reveal()
    source = build.glance(stream)
    if stream.source.scheme == "pattern" or not looks_live(address):
        with closing(source):
            source.open(stop)
            if source.read() is None:
                raise SourceUnavailable(f"{stream.source}: not one frame can be read", cause="decode")
        return Copy(stream, stream.model_copy(update=stand_in))
    try:
        kept_s = capture(source, path, seconds, stop)
    except OSError as error:
        raise SourceUnavailable(f"{path.parent} takes no copy of it: {error.strerror or error}") from error
    log.debug("%s: %.1f s of its packets are kept in %s", stream.name, kept_s, path)
    copied = stand_in | _NO_SECRETS | {"source": SourceUrl.parse(str(path)), "codecs": None}
    return Copy(stream, stream.model_copy(update=copied), kept_s)
