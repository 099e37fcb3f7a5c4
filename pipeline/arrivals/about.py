# SPDX-License-Identifier: Apache-2.0
"""What a recording says of the run that it was made of: settings, and no secret among them."""

from __future__ import annotations

from typing import Any

from pipeline.config.config import Config
from pipeline.config.streams import PASSWORD_KEYS, StreamConfig
from pipeline.redact import scrub

_PRIVATE = {"username", *PASSWORD_KEYS, "source"}
"""Of a stream: who reads it, and where. Nobody needs either to play what came."""


def settings_of(config: Config) -> dict[str, Any]:
    """``{"model", "batch", "streams": {name: ...}}``: what is needed to run the same frames through the same stages.

    Sinks and server are left out, with whatever tokens and addresses they name.
    """
    return {
        "model": without_secrets(config.model.model_dump(mode="json", exclude={"timeout_s", "swap"}, warnings=False)),
        "batch": config.batch.model_dump(mode="json"),
        "streams": {stream.name: _stream(stream) for stream in config.streams if stream.enabled},
    }


def _stream(config: StreamConfig) -> Any:
    settings = config.model_dump(mode="json", exclude=_PRIVATE | {"name", "enabled"}, exclude_none=True, warnings=False)
    return without_secrets({**settings, "policy": config.effective_policy})


def without_secrets(value: Any) -> Any:
    """Plain data with every text scrubbed, see :func:`pipeline.redact.scrub`."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {key: without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return value
