# SPDX-License-Identifier: Apache-2.0
"""Whether anything is told to a collector: by the configuration, by variables, and by what is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.config import TelemetryConfig, parse_config
from pipeline.errors import ConfigError
from pipeline.telemetry import wanted
from tests.daemons import no_network
from tests.otel import needs_otel

__all__ = ["no_network"]

COLLECTOR = "http://10.0.0.7:4318"


@needs_otel
def test_a_protocol_that_is_not_spoken_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert wanted(None, variables) is not None
    assert caplog.messages == ["OTEL_EXPORTER_OTLP_PROTOCOL is grpc, but this program speaks http/protobuf only"]
    wanted(None, variables | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
    wanted(TelemetryConfig(endpoint=COLLECTOR), variables)
    assert len(caplog.messages) == 1, "who names a collector says how it is spoken to"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}, (True, True)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_METRICS_EXPORTER": "none"}, (True, False)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_TRACES_EXPORTER": "console, OTLP"}, (True, True)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_TRACES_EXPORTER": ""}, (True, True)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": COLLECTOR}, (False, True)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_SDK_DISABLED": "true"}, None),
    ],
)
@needs_otel
def test_variables_decide_where_there_is_no_section(environ: dict[str, str], expected: Any) -> None:
    found = wanted(None, environ)
    assert (None if found is None else (found.traces, found.metrics)) == expected


@needs_otel
@pytest.mark.parametrize(
    ("said", "interval_s"), [("5000", 5), ("10", 1), ("99999999999", 3600), ("soon", 60), ("", 60)]
)
def test_the_interval_of_metrics(said: str, interval_s: float) -> None:
    found = wanted(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_METRIC_EXPORT_INTERVAL": said})
    assert found is not None
    assert found.interval_s == interval_s


def test_without_the_extra_the_section_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    monkeypatch.setattr("pipeline.telemetry.choice._installed", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'video-pipeline\[otel\]'"):
        wanted(TelemetryConfig(), {})
    assert wanted(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}) is None
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed" in caplog.text
    path = tmp_path / "streams.yaml"
    path.write_text("telemetry: {endpoint: 'http://127.0.0.1:1'}\nstreams: [{name: a, source: 'pattern:?frames=3'}]\n")
    for words in (["run", str(path)], ["check", str(path), "--offline"]):
        assert main(words) == 2
        told = capsys.readouterr()
        assert "telemetry: OpenTelemetry is not installed; install it with: pip install" in told.err + told.out
        assert "Traceback" not in told.err


def test_not_installed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str, *arguments: Any) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("pipeline.telemetry.choice.find_spec", gone)
    with pytest.raises(ConfigError):
        wanted(TelemetryConfig(), {})


@pytest.mark.parametrize(
    "endpoint",
    ["collector:4318", "ftp://collector", "http://", "http://me:secret@collector:4318", "http://c:4318/?key=secret", "http://c:0"],
)  # fmt: skip
def test_addresses_that_are_none(endpoint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(f"telemetry: {{endpoint: '{endpoint}'}}\nstreams: [{{name: a, source: a.mp4}}]\n".encode())
    assert "secret" not in str(refused.value)
    assert "telemetry.endpoint" in str(refused.value)
