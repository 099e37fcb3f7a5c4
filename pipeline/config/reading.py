# SPDX-License-Identifier: Apache-2.0
"""From a parsed document to typed sections, each fault noted with its place and nothing given up early."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.config.config import Config
from pipeline.config.credentials import EXPANDED_KEYS, CredentialError, complete_source, expand
from pipeline.config.detection import BatchConfig, ModelConfig
from pipeline.config.document import Document
from pipeline.config.explain import Explained, explain, unknown_key
from pipeline.config.faults import Fault, KeyPath, StreamFault, shown_path
from pipeline.config.outputs import SINK_TYPES, ServerConfig, sink_clash
from pipeline.config.streams import StreamConfig, StreamSettings, inherit
from pipeline.config.telemetry import TelemetryConfig
from pipeline.config.values import NAME_PATTERN, Section
from pipeline.config.wording import did_you_mean, kind_of, one_of
from pipeline.errors import ConfigError

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class Pieces:
    """What could be read of a document.

    Attributes:
        config: all that is valid; a section with a fault is as if it were not there. Not checked as a whole.
        quarantined: the stream entries that were left out.
        unread: ``model`` and ``streams`` where they are in the file and could not be read.
    """

    config: Config
    quarantined: tuple[StreamFault, ...]
    unread: tuple[str, ...]


class Reading:
    """One pass over a document.

    Args:
        document: what to read.
        folder: where relative paths start, or None to leave them.
        environ: environment variables.
        credentials: also try to get every stream's password.

    Attributes:
        faults: everything that was found wrong, in file order once :meth:`read` is done.
    """

    def __init__(
        self, document: Document, folder: Path | None, environ: Mapping[str, str], *, credentials: bool = True
    ) -> None:
        self.faults = list(document.faults)
        self._document = document
        self._context = {"folder": folder}
        self._environ = environ
        self._credentials = credentials

    def read(self, streams_required: bool) -> tuple[Config, tuple[StreamFault, ...]]:
        """The configuration with the streams that are valid, and those that are not.

        Raises:
            ConfigError: a fault outside the stream entries, or no stream entry although one is required.
        """
        pieces = self.pieces(streams_required)
        if any(_entry(fault) is None for fault in self.faults):
            raise ConfigError(list(self.faults))
        sections = {name: getattr(pieces.config, name) for name in Config.model_fields}
        return Config(**sections), pieces.quarantined

    def pieces(self, streams_required: bool) -> Pieces:
        """What is valid, whatever else is wrong; raises nothing."""
        raw = self._expanded(self._document.data, ())
        for key in raw.keys() - Config.model_fields.keys():
            self._explained((), unknown_key((key,), raw[key], Config))
        model = self._section(ModelConfig, raw.get("model"), ("model",))
        batch = self._section(BatchConfig, raw.get("batch"), ("batch",))
        defaults = self._section(StreamSettings, raw.get("defaults"), ("defaults",))
        server, telemetry = (
            self._section(section, raw[key], (key,)) if raw.get(key) is not None else None
            for key, section in (("server", ServerConfig), ("telemetry", TelemetryConfig))
        )
        entries = self._list(raw, "streams")
        sinks = self._sinks(self._list(raw, "sinks"), len(entries))
        if streams_required and not entries and not self._is_faulty(("streams",)):
            self._fault(("streams",), "at least one stream is needed, such as {name: lobby, source: lobby.mp4}")
        streams = self._streams(entries, raw.get("defaults"))
        self.faults.sort(key=lambda fault: fault.mark)
        unread = ["model"] if self._is_faulty(("model",)) else []
        unread += ["streams"] if any(fault.path == ("streams",) for fault in self.faults) and raw.get("streams") else []
        config = Config.model_construct(
            model=model or ModelConfig(),
            batch=batch or BatchConfig(),
            defaults=defaults or StreamSettings(),
            streams=streams,
            sinks=sinks,
            server=server,
            telemetry=telemetry,
        )
        return Pieces(config, self._quarantined(entries), tuple(unread))

    def _streams(self, entries: tuple[Any, ...], defaults: Any) -> tuple[StreamConfig, ...]:
        # What is wrong in defaults is told once, there.
        shared = {
            key: value
            for key, value in (defaults.items() if isinstance(defaults, dict) else ())
            if key in StreamSettings.model_fields and not self._is_faulty(("defaults", key))
        }
        first: dict[str, int] = {}
        streams = []
        for index, entry in enumerate(entries):
            path: KeyPath = ("streams", index)
            own = entry if isinstance(entry, dict) else {}
            stream = self._section(StreamConfig, inherit(shared, own) if own else entry, path)
            name = own.get("name")
            taken = first.setdefault(name.casefold(), index) if isinstance(name, str) else index
            if taken != index:
                line = self._document.mark(("streams", taken)).line
                message = (
                    f"streams[{taken}] in line {line} has this name already; upper and lower case make no difference"
                )
                self._fault((*path, "name"), message)
            if stream is not None and stream.enabled and self._credentials:
                self._try_credentials(stream, own, path)
            if stream is not None and not self._is_faulty(path):
                streams.append(stream)
        return tuple(streams)

    def _try_credentials(self, stream: StreamConfig, own: dict[str, Any], path: KeyPath) -> None:
        try:
            complete_source(stream, self._environ)
        except CredentialError as error:
            inherited = "" if error.key in own else " (inherited from defaults)"
            self._fault((*path, error.key), f"{error}{inherited}")

    def _sinks(self, entries: tuple[Any, ...], streams: int) -> tuple[Any, ...]:
        sinks = []
        for index, entry in enumerate(entries):
            path: KeyPath = ("sinks", index)
            kind = entry.get("type") if isinstance(entry, dict) else None
            if self._is_faulty((*path, "type")):
                continue
            if not isinstance(entry, dict):
                self._fault(path, f"expected a mapping such as {{type: jsonl, path: ...}}, found {kind_of(entry)}")
            elif "type" not in entry:
                self._fault((*path, "type"), f"this key is missing; expected {one_of(SINK_TYPES)}")
            elif not isinstance(kind, str) or kind not in SINK_TYPES:
                hint = did_you_mean(kind, SINK_TYPES) if isinstance(kind, str) else ""
                self._fault((*path, "type"), f"expected {one_of(SINK_TYPES)}{hint}")
            else:
                sinks.append(self._section(SINK_TYPES[kind], entry, path))
        whole = [sink for sink in sinks if sink is not None]
        clash = sink_clash(whole, streams) if len(whole) == len(entries) else None
        if clash is not None:
            self._fault(("sinks", clash[0], "path"), clash[1])
        return tuple(whole)

    def _section(self, section: type[S], raw: Any, path: KeyPath) -> S | None:
        raw = {} if raw is None and len(path) == 1 else raw
        already = self._is_faulty(path)
        if not isinstance(raw, dict):
            if not already:
                keys = ", ".join(name for name, field in section.model_fields.items() if field.is_required())
                such = f" with the keys {keys}" if keys else ""
                self._fault(path, f"expected a mapping{such}, found {kind_of(raw)}")
            return None
        try:
            return section.model_validate(raw, context=self._context)
        except ValidationError as error:
            for explained in explain(error, section):
                # What follows from a value that was already refused is not told.
                if not self._is_faulty((*path, *explained.path)) and not (explained.across and already):
                    self._explained(path, explained)
        return None

    def _list(self, raw: dict[str, Any], key: str) -> tuple[Any, ...]:
        value = raw.get(key)
        if value is None or isinstance(value, tuple):
            return value or ()
        remedy = "; begin each entry with '- '" if isinstance(value, dict) else ""
        self._fault((key,), f"expected a list, found {kind_of(value)}{remedy}")
        return ()

    def _expanded(self, value: Any, path: KeyPath) -> Any:
        """A copy of ``value`` with ``${VARIABLE}`` read where that is allowed; what cannot be read is left out."""
        if isinstance(value, dict):
            pairs = {key: self._expanded(below, (*path, key)) for key, below in value.items()}
            return {key: below for key, below in pairs.items() if below is not _UNREADABLE}
        if isinstance(value, tuple):
            items = (self._expanded(below, (*path, index)) for index, below in enumerate(value))
            return tuple(None if item is _UNREADABLE else item for item in items)
        if not isinstance(value, str) or "${" not in value:
            return value
        key = str(path[-1])
        if key not in EXPANDED_KEYS:
            self._fault(path, f"${{...}} is read in {one_of(sorted(EXPANDED_KEYS))} only; write the value out")
            return _UNREADABLE
        try:
            return expand(value, key, self._environ)
        except CredentialError as error:
            self._fault(path, str(error))
            return _UNREADABLE

    def _explained(self, section_path: KeyPath, explained: Explained) -> None:
        path = (*section_path, *explained.path)
        mark = self._document.mark(path, of_key=explained.at_key)
        shown = (*path[:-1], "?") if explained.hidden else path
        self.faults.append(Fault.at(self._document.file, mark, shown, explained.message))

    def _fault(self, path: KeyPath, message: str) -> None:
        self.faults.append(Fault.at(self._document.file, self._document.mark(path), path, message))

    def _is_faulty(self, path: KeyPath) -> bool:
        """Whether something at ``path`` or below it is known to be wrong."""
        shown = shown_path(path)
        return any(fault.path[: len(shown)] == shown for fault in self.faults)

    def _quarantined(self, entries: tuple[Any, ...]) -> tuple[StreamFault, ...]:
        of_entry: dict[int, list[Fault]] = {}
        for fault in self.faults:
            index = _entry(fault)
            if index is not None:
                of_entry.setdefault(index, []).append(fault)
        return tuple(
            StreamFault(index, _usable_name(entries[index]), tuple(of_entry[index])) for index in sorted(of_entry)
        )


def _entry(fault: Fault) -> int | None:
    """Position of the stream entry that a fault is confined to, or None."""
    match fault.path:
        case ("streams", int(index), *_):
            return index
        case _:
            return None


def _usable_name(entry: Any) -> str | None:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) else None


_UNREADABLE = object()
