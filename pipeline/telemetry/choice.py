# SPDX-License-Identifier: Apache-2.0
"""Whether anything is to be told to a collector, and whether it can be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import unquote

from pipeline.config import TelemetryConfig
from pipeline.errors import ConfigError
from pipeline.redact import register_secret

log = logging.getLogger("pipeline")

NEEDED = "opentelemetry.exporter.otlp.proto.http"
MISSING = "OpenTelemetry is not installed; install it with: pip install 'video-pipeline[otel]'"
_VARIABLE = "OTEL_EXPORTER_OTLP{}_ENDPOINT"
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_PROTOCOLS = (
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
)
_SPOKEN = "http/protobuf"
_HEADERS = (
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
)
_LEAST_VALUE = 8
"""Characters of a header's value from which it is held to be a secret: ``eu`` or ``prod`` is a word of other lines."""


def wanted(config: TelemetryConfig | None, environ: Mapping[str, str]) -> TelemetryConfig | None:
    """What is to be told: by the section ``telemetry``, or without it by OpenTelemetry's own variables; None: nothing.

    Raises ConfigError where the section asks for what is not installed. Variables may be set for other programs, so
    where they do it is a word in the log.
    """
    asked = config
    if asked is None:
        asked = TelemetryConfig(
            traces=_is_told("traces", environ),
            metrics=_is_told("metrics", environ),
            interval_s=_interval_s(environ.get(_INTERVAL, "")),
        )
        if not (asked.traces or asked.metrics):
            return None
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if _installed():
        if asked.endpoint is None:
            _warn_of_protocols(environ)
        return asked
    if config is not None:
        raise ConfigError(f"telemetry: {MISSING}")
    log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s", MISSING)
    return None


def hide_headers(environ: Mapping[str, str]) -> None:
    """A collector's tokens are in no log: OpenTelemetry complains of an entry that is not ``name=value`` by repeating
    it."""
    for name in _HEADERS:
        for entry in environ.get(name, "").split(","):
            value = entry.partition("=")[2].strip()
            for secret in (entry.strip(), value if len(value) >= _LEAST_VALUE else ""):
                if secret:
                    register_secret(unquote(secret))


def _is_told(kind: str, environ: Mapping[str, str]) -> bool:
    address = environ.get(_VARIABLE.format("")) or environ.get(_VARIABLE.format(f"_{kind.upper()}"))
    exporters = environ.get(f"OTEL_{kind.upper()}_EXPORTER", "").strip().lower() or "otlp"
    return bool(address) and "otlp" in map(str.strip, exporters.split(","))


def _warn_of_protocols(environ: Mapping[str, str]) -> None:
    """Who listens where the variables say may speak what they say, and then understands nothing."""
    for name in _PROTOCOLS:
        asked = environ.get(name, "").strip().lower()
        if asked not in ("", _SPOKEN):
            log.warning("%s is %s, but this program speaks %s only", name, asked, _SPOKEN)


def _interval_s(milliseconds: str) -> float:
    """What the variable says, within what may be; the usual where it says no number."""
    try:
        return min(3600.0, max(1.0, int(milliseconds) / 1000))
    except ValueError:
        return TelemetryConfig().interval_s


def _installed() -> bool:
    try:
        return find_spec(NEEDED) is not None
    except ModuleNotFoundError:
        return False
