# SPDX-License-Identifier: Apache-2.0
"""The section ``telemetry``: what is told to an OpenTelemetry collector."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictBool, StrictStr

from pipeline.config.values import Section, refusal


def _collector(text: str) -> str:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or parts.query or parts.fragment:
        raise refusal("expected the address of a collector, such as http://127.0.0.1:4318")
    if "@" in parts.netloc:
        raise refusal("no user or password here; what a collector wants to know goes into OTEL_EXPORTER_OTLP_HEADERS")
    return text.rstrip("/")


Collector = Annotated[StrictStr, AfterValidator(_collector)]


class TelemetryConfig(Section):
    """What is told to an OpenTelemetry collector, by OTLP over HTTP. Needs `pip install 'video-pipeline[otel]'`.
    Without this section the variables `OTEL_EXPORTER_OTLP_ENDPOINT`, `..._TRACES_ENDPOINT` and `..._METRICS_ENDPOINT`
    decide."""

    endpoint: Collector | None = Field(
        default=None,
        description="Its address, such as `http://127.0.0.1:4318`; `/v1/traces` and `/v1/metrics` are added. By "
        "default what OpenTelemetry's variables say; headers, certificates, compression and time limits are theirs.",
    )
    traces: StrictBool = Field(default=True, description="Every late frame whose journey is kept, as a trace.")
    metrics: StrictBool = Field(default=True, description="Counts, rates and ages.")
    interval_s: float = Field(default=60.0, ge=1, le=3600, description="Pause between two exports of metrics.")
