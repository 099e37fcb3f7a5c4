# SPDX-License-Identifier: Apache-2.0
"""streams.yaml: what it may say, how it is read, and every fault in it by line."""

from pipeline.config.config import Config
from pipeline.config.credentials import resolve_source
from pipeline.config.detection import ModelConfig
from pipeline.config.faults import Fault
from pipeline.config.growth import growth_warnings
from pipeline.config.loader import (
    LoadedConfig,
    Survey,
    load_config,
    load_config_quarantining,
    parse_config,
    survey_config,
)
from pipeline.config.outputs import (
    JsonlSinkConfig,
    ServerConfig,
    VideoSinkConfig,
)
from pipeline.config.placing import model_fault, placing_model_faults, stream_fault
from pipeline.config.schema import json_schema
from pipeline.config.streams import StreamConfig
from pipeline.config.telemetry import TelemetryConfig

__all__ = [
    "Config",
    "Fault",
    "JsonlSinkConfig",
    "LoadedConfig",
    "ModelConfig",
    "ServerConfig",
    "StreamConfig",
    "Survey",
    "TelemetryConfig",
    "VideoSinkConfig",
    "growth_warnings",
    "json_schema",
    "load_config",
    "load_config_quarantining",
    "model_fault",
    "parse_config",
    "placing_model_faults",
    "resolve_source",
    "stream_fault",
    "survey_config",
]
