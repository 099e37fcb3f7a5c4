# SPDX-License-Identifier: Apache-2.0
"""Tests that need OpenTelemetry, which is an extra."""

from __future__ import annotations

import importlib.util

import pytest

try:
    installed = importlib.util.find_spec("opentelemetry.proto.collector.trace.v1") is not None
except ModuleNotFoundError:
    installed = False
needs_otel = pytest.mark.skipif(not installed, reason="OpenTelemetry is not installed: pip install -e '.[otel]'")
