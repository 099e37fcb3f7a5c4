# SPDX-License-Identifier: Apache-2.0
"""streams.yaml to a typed configuration: all faults at once, and a faulty stream never stops the others."""

from __future__ import annotations

import codecs
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.config import Config
from pipeline.config.document import Document, read_document
from pipeline.config.faults import NOWHERE, Fault, KeyPath, StreamFault
from pipeline.config.nodes import MAX_BYTES
from pipeline.config.reading import Reading
from pipeline.errors import ConfigError
from pipeline.host.nearby import meant
from pipeline.redact import SourceUrl

_log = logging.getLogger(__name__)
_HEAD = 4096
"""So many bytes tell what kind of file it is."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and what is to be said about it.

    Attributes:
        config: with the streams that are valid.
        quarantined: the stream entries that were left out.
        warnings: one line each: accepted, but to be changed.
        document: where everything stands.
    """

    config: Config
    quarantined: tuple[StreamFault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    document: Document = field(default_factory=lambda: Document("streams.yaml"))


@dataclass(frozen=True, slots=True)
class Survey:
    """All that is to be said about a file, and what of it can be used.

    Attributes:
        config: what is valid; a section with a fault is as if it were not there.
        faults: everything that is wrong, in file order.
        quarantined: the stream entries that were left out.
        unread: ``model`` and ``streams`` where they are in the file and could not be read.
        warnings: accepted, but to be changed.
        document: where everything stands.
    """

    config: Config
    faults: tuple[Fault, ...]
    quarantined: tuple[StreamFault, ...]
    unread: tuple[str, ...]
    warnings: tuple[Fault, ...]
    document: Document


def load_config(path: str | Path, *, environ: Mapping[str, str] | None = None, streams_required: bool = True) -> Config:
    """Read a streams.yaml in which nothing may be wrong. Warnings go to the log.

    ``password_env`` and ``password_file`` are not looked up yet: :func:`resolve_source` does that, stream by stream.

    Args:
        path: the file. Relative paths in it start at its folder.
        environ: environment variables; those of the process unless given.
        streams_required: refuse a file without streams (``replay --config`` does without).

    Raises:
        ConfigError: with every fault, in file order.
    """
    loaded = _load(path, environ, streams_required, credentials=False)
    if loaded.quarantined:
        raise ConfigError([fault for stream in loaded.quarantined for fault in stream.faults])
    for warning in loaded.warnings:
        _log.warning("%s", warning)
    return loaded.config


def load_config_quarantining(path: str | Path, *, environ: Mapping[str, str] | None = None) -> LoadedConfig:
    """Read a streams.yaml and leave out faulty stream entries, also those whose password cannot be had.

    Args:
        path: the file. Relative paths in it start at its folder.
        environ: environment variables; those of the process unless given.

    Raises:
        ConfigError: a fault outside the stream entries, or no valid stream; with every fault, in file order.
    """
    loaded = _load(path, environ, True, credentials=True)
    if not loaded.config.streams:
        raise ConfigError([fault for stream in loaded.quarantined for fault in stream.faults])
    return loaded


def survey_config(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Survey:
    """Read a streams.yaml as far as it can be read, whatever is wrong in it; it is not fit to be run.

    Args:
        path: the file. Relative paths in it start at its folder.
        environ: environment variables; those of the process unless given.

    Raises:
        ConfigError: there is no such file, or it is no YAML: nothing of it is known.
    """
    data, shared = _content(path)
    document = read_document(data, str(path))
    reading = Reading(document, Path(path).absolute().parent, os.environ if environ is None else environ)
    pieces = reading.pieces(True)
    warnings = _warnings(document, pieces.config, shared)
    faults = tuple(reading.faults)
    return Survey(pieces.config, faults, pieces.quarantined, pieces.unread, tuple(warnings), document)


def parse_config(
    data: bytes,
    *,
    file: str = "streams.yaml",
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    streams_required: bool = True,
    credentials: bool = True,
    shared: bool = False,
) -> LoadedConfig:
    """The same for a text in memory; ``config.streams`` may be empty when all entries are quarantined.

    Args:
        data: the file's content.
        file: how messages call it.
        folder: where relative paths start; unchanged when None.
        environ: environment variables; those of the process unless given.
        streams_required: refuse a text without stream entries.
        credentials: quarantine streams whose password cannot be had.
        shared: other users can read the file.

    Raises:
        ConfigError: a fault outside the stream entries; with every fault, in file order.
    """
    document = read_document(data, file)
    reading = Reading(document, folder, os.environ if environ is None else environ, credentials=credentials)
    config, quarantined = reading.read(streams_required)
    return LoadedConfig(config, quarantined, tuple(_warnings(document, config, shared)), document)


def _load(
    path: str | Path, environ: Mapping[str, str] | None, streams_required: bool, *, credentials: bool
) -> LoadedConfig:
    data, shared = _content(path)
    return parse_config(
        data,
        file=str(path),
        folder=Path(path).absolute().parent,
        environ=environ,
        streams_required=streams_required,
        credentials=credentials,
        shared=shared,
    )


def _content(path: str | Path) -> tuple[bytes, bool]:
    """The bytes of a file, and whether other users can read it; raises ConfigError."""
    file = str(path)
    try:
        with open(path, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            data = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([Fault.at(file, NOWHERE, (), f"no such file{meant(Path(path), folders=False)}")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is not a usable path"
        raise ConfigError([Fault.at(file, NOWHERE, (), f"cannot be read: {reason}")]) from None
    if b"\0" in data[:_HEAD]:  # which no YAML in UTF-8 holds, and every container of video does
        message = (
            "this is not text; expected a streams.yaml. A video is looked at with 'pipeline probe', processed with "
            "'pipeline replay'"
        )
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            message = "this text is in UTF-16; save it in UTF-8"
        raise ConfigError([Fault.at(file, NOWHERE, (), message)])
    return data, bool(mode & (stat.S_IRGRP | stat.S_IROTH))


def _warnings(document: Document, config: Config, shared: bool) -> list[Fault]:
    def warning(path: KeyPath, message: str) -> Fault:
        return Fault.at(document.file, document.mark(path), path, message)

    warnings = []
    in_urls = [path for path in _texts(document.data, "source") if _has_user_info(_at(document.data, path))]
    if in_urls:
        others = f" (so do {len(in_urls) - 1} more)" if len(in_urls) > 1 else ""
        message = (
            f"this URL holds a user name or a password{others}; better: username, and password_env or password_file"
        )
        warnings.append(warning(in_urls[0], message))
    secrets = in_urls + [path for path in _texts(document.data, "password") if "${" not in _at(document.data, path)]
    if shared and secrets:
        message = "a password stands here, and other users of this machine can read the file; remedy: chmod 600"
        warnings.append(warning(secrets[0], message))
    told = set()
    for path in _texts(document.data, "password_file"):
        file = Path(document.file).parent / _at(document.data, path)
        if file not in told and _everybody_reads(file):
            told.add(file)  # without its name: people do write the password itself here
            warnings.append(warning(path, "every user of this machine can read this file; remedy: chmod 600"))
    if not config.sinks and not document.data.get("sinks"):
        warnings.append(warning(("sinks",), "none are given: results go nowhere"))
    return sorted(warnings, key=lambda fault: fault.mark)


def _texts(data: dict[str, Any], key: str) -> list[KeyPath]:
    """Paths of all texts that a stream entry, or ``defaults``, has under ``key``."""
    entries = data.get("streams")
    places: list[tuple[KeyPath, Any]] = [(("defaults",), data.get("defaults"))]
    places += [(("streams", index), entry) for index, entry in enumerate(entries if isinstance(entries, tuple) else ())]
    return [(*path, key) for path, entry in places if isinstance(entry, dict) and isinstance(entry.get(key), str)]


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data


def _everybody_reads(file: Path) -> bool:
    """False where it cannot be looked at: a ``${VARIABLE}`` in its path, as for systemd's credentials, too."""
    try:
        return bool(file.stat().st_mode & stat.S_IROTH)
    except (OSError, ValueError):
        return False


def _has_user_info(source: str) -> bool:
    """Whether the text itself holds user info, rather than variables that stand for it."""
    if "${" in source:
        return False
    try:
        url = SourceUrl.parse(source)
    except ValueError:
        return False
    return url.user_name is not None
