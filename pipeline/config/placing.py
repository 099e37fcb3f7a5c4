# SPDX-License-Identifier: Apache-2.0
"""The places of faults that show only when what a streams.yaml names is loaded and opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.config.detection import ModelConfig
from pipeline.config.document import Document
from pipeline.config.faults import Fault, KeyPath
from pipeline.errors import ConfigError


def model_fault(document: Document, text: str) -> Fault:
    """What was wrong with the model, at the key that the text begins with (``classes: ...``), else at its ``path``."""
    head, _, rest = text.removeprefix("model.").partition(": ")
    keys = tuple(head.split("."))
    if not rest or keys[0] not in ModelConfig.model_fields:
        keys, rest = ("path",), text
    return _fault(document, ("model", *keys), rest)


def stream_fault(document: Document, stream: str, key: str, text: str) -> Fault:
    """What was wrong with a key of a stream, where that is written: in its own entry, or in ``defaults``."""
    entries = document.data.get("streams")
    for index, entry in enumerate(entries if isinstance(entries, tuple) else ()):
        if isinstance(entry, dict) and entry.get("name") == stream:
            if key in entry:
                return _fault(document, ("streams", index, key), text)
            return _fault(document, ("defaults", key), f"{text} (inherited by {stream})")
    return _fault(document, ("streams",), text)


@contextmanager
def placing_model_faults(document: Document) -> Iterator[None]:
    """Within it the model is loaded: faults of its settings (ConfigError) are raised again with their places."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([model_fault(document, fault) for fault in error.faults]) from error


def _fault(document: Document, path: KeyPath, text: str) -> Fault:
    return Fault.at(document.file, document.mark(path), path, text)
