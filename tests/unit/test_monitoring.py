# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard and the alert rules in ``deploy/`` ask for what the daemon exports, and for nothing else."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipeline.metrics import exposition
from tests.boards import FakeBoard

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy" / "alerts.yml"
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    return found


def panel_queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def exported() -> set[str]:
    board = FakeBoard()
    assert board.books is not None
    board.books.streams["gate"].counters.reconnects_by_cause["eof"] = 1
    text = exposition(board, now_ns=2_000_000_000).decode()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_dashboard_is_what_the_script_writes() -> None:
    assert dashboard() == runpy.run_path(str(ROOT / "scripts" / "grafana_dashboard.py"))["dashboard"]()


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = {name for query in panel_queries() for name in re.findall(r"pipeline_\w+", query)}
    asked |= {name for rule in alerts() for name in re.findall(r"pipeline_\w+", rule["expr"])}
    assert len(asked) >= 12
    assert asked <= exported()


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


@needs_promtool
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    promtool("check", "rules", str(ALERTS))
    queries = [query.replace("$__rate_interval", "1m") for query in panel_queries()]
    rules = [{"record": f"query{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(path))


GATE = 'instance="a:8080",stream="gate"'
BACKING_OFF = {
    f'pipeline_stream_state{{{GATE},state="backoff"}}': "1+0x10",
    f'pipeline_stream_state{{{GATE},state="paused"}}': "0+0x10",
}
PAUSED = {
    f'pipeline_stream_state{{{GATE},state="backoff"}}': "0+0x10",
    f'pipeline_stream_state{{{GATE},state="paused"}}': "1+0x10",
}
FINISHED = {f'pipeline_stream_state{{{GATE},state="finished"}}': "1+0x10"}
DOWN = {f"pipeline_stream_up{{{GATE}}}": "0+0x10"}
STALE = {f"pipeline_result_age_seconds{{{GATE}}}": "50+60x10"}
STORIES = {
    "PipelineStreamDown": (
        DOWN | BACKING_OFF,
        DOWN | PAUSED,
        DOWN | FINISHED,
        {f"pipeline_stream_up{{{GATE}}}": "1+0x10"},
    ),
    "PipelineResultsStale": (
        STALE | BACKING_OFF,
        STALE | PAUSED,
        STALE | FINISHED,
        {f"pipeline_result_age_seconds{{{GATE}}}": "0.2+0x10"},
    ),
    "PipelineFramesLost": (
        {
            f'pipeline_drops_total{{{GATE},reason="overflow"}}': "0+60x20",
            f'pipeline_frames_total{{{GATE},outcome="decoded"}}': "0+1800x20",
            f'pipeline_frames_total{{{GATE},outcome="decimated"}}': "0+1200x20",
        },
        {
            f'pipeline_drops_total{{{GATE},reason="overflow"}}': "0+6x20",
            f'pipeline_frames_total{{{GATE},outcome="decoded"}}': "0+600x20",
            f'pipeline_frames_total{{{GATE},outcome="decimated"}}': "0+0x20",
        },
    ),
    "PipelineCameraFlaps": (
        {f'pipeline_reconnects_total{{{GATE},cause="eof"}}': "0+1x20"},
        {f'pipeline_reconnects_total{{{GATE},cause="eof"}}': "0+0x20"},
    ),
    "PipelineSinkLoses": (
        {'pipeline_sink_lost_total{instance="a:8080",sink="jsonl",reason="overflow"}': "0+5x20"},
        {'pipeline_sink_lost_total{instance="a:8080",sink="jsonl",reason="overflow"}': "7+0x20"},
    ),
    "PipelineConfigRefused": (
        {'pipeline_config_last_reload_success{instance="a:8080"}': "0+0x20"},
        {'pipeline_config_last_reload_success{instance="a:8080"}': "1+0x20"},
    ),
    "PipelineGone": (
        {'up{instance="a:8080"}': "0+0x20"},
        {'pipeline_build_info{instance="a:8080"}': "1+0x20", 'up{instance="a:8080"}': "1+0x20"},
        {'pipeline_build_info{instance="a:8080"}': "1+0x20", 'up{instance="another-program:9100"}': "0+0x20"},
    ),
}
"""Of each alert: what makes it fire, and what does not, as samples once a minute."""


def test_every_alert_has_a_story() -> None:
    assert set(STORIES) == {rule["alert"] for rule in alerts()}


@needs_promtool
@pytest.mark.parametrize("alert", STORIES)
def test_alerts_fire_when_they_should_and_only_then(alert: str, tmp_path: Path) -> None:
    tests = []
    for number, samples in enumerate(STORIES[alert]):
        series = [{"series": name, "values": values} for name, values in samples.items()]
        counted = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
        expected = [{"labels": "{}", "value": int(number == 0)}]
        question = {"expr": counted, "eval_time": "18m" if "x20" in str(samples) else "9m", "exp_samples": expected}
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": [question]})
    path = tmp_path / "stories.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(path))


@needs_promtool
def test_one_daemon_of_two_that_is_gone_is_named(tmp_path: Path) -> None:
    series = {
        'up{instance="a:8080"}': "1 1 1 0+0x17",
        'pipeline_build_info{instance="a:8080"}': "1 1 1 stale",
        'up{instance="b:8080"}': "1+0x20",
        'pipeline_build_info{instance="b:8080"}': "1+0x20",
    }
    (rule,) = [rule for rule in alerts() if rule["alert"] == "PipelineGone"]
    alert = {
        "exp_labels": {"instance": "a:8080", **rule["labels"]},
        "exp_annotations": {"summary": "a:8080 does not answer"},
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": "10m", "alertname": "PipelineGone", "exp_alerts": [alert]}],
    }
    path = tmp_path / "gone.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", str(path))
