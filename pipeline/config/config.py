# SPDX-License-Identifier: Apache-2.0
"""A whole streams.yaml."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from pipeline.config.detection import BatchConfig, ModelConfig
from pipeline.config.outputs import ServerConfig, SinkConfig, sink_clash
from pipeline.config.streams import StreamConfig, StreamSettings, inherit
from pipeline.config.telemetry import TelemetryConfig
from pipeline.config.values import Section, refusal


class Config(Section):
    """A whole streams.yaml. Streams hold what they inherit; paths are absolute when it was read from a file."""

    model: ModelConfig = Field(default_factory=ModelConfig, description="The detector that all streams share.")
    batch: BatchConfig = Field(default_factory=BatchConfig, description="How frames are batched.")
    defaults: StreamSettings = Field(default_factory=StreamSettings, description="What every stream inherits.")
    streams: tuple[StreamConfig, ...] = Field(default=(), description="The cameras and files.")
    sinks: tuple[SinkConfig, ...] = Field(default=(), description="Where results go.")
    server: ServerConfig | None = Field(
        default=None, description="HTTP server: dashboard, API, metrics. Without this section there is none."
    )
    telemetry: TelemetryConfig | None = Field(default=None, description="What an OpenTelemetry collector is told.")

    @model_validator(mode="before")
    @classmethod
    def _apply_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("defaults"), dict):
            return data
        if not isinstance(data.get("streams"), (tuple, list)):
            return data
        streams = (
            inherit(data["defaults"], stream) if isinstance(stream, dict) else stream for stream in data["streams"]
        )
        return data | {"streams": tuple(streams)}

    @model_validator(mode="after")
    def _no_clash(self) -> Self:
        names = [stream.name.casefold() for stream in self.streams]
        if len(set(names)) < len(names):
            raise refusal("two streams have one name; upper and lower case make no difference", "streams")
        clash = sink_clash(self.sinks, len(self.streams))
        if clash is not None:
            raise refusal(clash[1], "sinks")
        return self
