# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry, an extra: late frames as traces, and metrics, to a collector."""

from pipeline.telemetry.choice import wanted
from pipeline.telemetry.exporting import Telemetry

__all__ = ["Telemetry", "wanted"]
