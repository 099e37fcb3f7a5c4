# SPDX-License-Identifier: Apache-2.0
"""Writes deploy/grafana.json: ``python scripts/grafana_dashboard.py > deploy/grafana.json``.

A dashboard of hundreds of lines is read here, where each panel is a title, a question to Prometheus and a unit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

CHOSEN = 'instance=~"$instance",stream=~"$stream"'
OF_DAEMON = 'instance=~"$instance"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title, about: what it shows; what to make of it.
        asked: legend and query, one or several.
        unit: as Grafana names it.
        width, height: of 24 columns; in rows.
        kind: ``timeseries``, ``stat`` or ``state-timeline``.
        bad_above, bad_below: where a number turns red.
        stacked: series stand on each other.
    """

    title: str
    about: str
    asked: dict[str, str]
    unit: str = "short"
    width: int = 12
    height: int = 8
    kind: str = "timeseries"
    bad_above: float | None = None
    bad_below: float | None = None
    stacked: bool = False


def quantile(share: float, metric: str, by: str) -> dict[str, str]:
    """The share-quantile of a histogram over the last minutes, a line per ``by``."""
    buckets = f"sum by (le, {by}) (rate({metric}_bucket{{{CHOSEN}}}[$__rate_interval]))"
    return {f"{{{{{by}}}}}": f"histogram_quantile({share}, {buckets})"}


def per_second(counter: str, by: str, which: str = CHOSEN) -> dict[str, str]:
    """How fast a counter grows, a line per label in ``by``."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return {legend: f"sum by ({by}) (rate({counter}{{{which}}}[$__rate_interval]))"}


def per_stream(gauge: str) -> dict[str, str]:
    """A gauge as it is, a line per stream."""
    return {"{{stream}}": f"{gauge}{{{CHOSEN}}}"}


def stat(title: str, about: str, query: str, unit: str = "short", **limits: float) -> Panel:
    """A single number."""
    return Panel(title, about, {"": query}, unit, 4, 4, "stat", **limits)


RESULTS = f'{CHOSEN},outcome="processed"'
BATCHES = f"{{{OF_DAEMON}}}[$__rate_interval]"
MEAN_BATCH = f"sum(rate(pipeline_batch_size_sum{BATCHES})) / sum(rate(pipeline_batch_size_count{BATCHES}))"

PANELS = [
    stat("Streams live", "of all that are configured", f"sum(pipeline_stream_up{{{CHOSEN}}})"),
    stat(
        "Streams not live",
        "cameras that are down, paused or failed",
        f"count(pipeline_stream_up{{{CHOSEN}}} == 0) or vector(0)",
        bad_above=0.5,
    ),
    stat(
        "Results",
        "completed frames of all streams",
        f"sum(rate(pipeline_frames_total{{{RESULTS}}}[$__rate_interval]))",
        "cps",
    ),
    stat(
        "Oldest result",
        "age of the newest result of the worst stream",
        f"max(pipeline_result_age_seconds{{{CHOSEN}}})",
        "s",
        bad_above=10,
    ),
    stat(
        "Sinks not well",
        "sinks that lose what they are given",
        f"count(pipeline_sink_up{{{OF_DAEMON}}} == 0) or vector(0)",
        bad_above=0.5,
    ),
    stat(
        "Configuration",
        "1: what was read last is what runs",
        f"min(pipeline_config_last_reload_success{{{OF_DAEMON}}})",
        bad_below=0.5,
    ),
    Panel(
        "Results per second",
        "what left the pipeline; a stream that is down is a line at 0",
        per_second("pipeline_frames_total", "stream", RESULTS),
        "cps",
    ),
    Panel(
        "End to end, p99",
        "from the packet's arrival to the last sink",
        quantile(0.99, "pipeline_end_to_end_seconds", "stream"),
        "s",
    ),
    Panel(
        "Where the time goes, p50",
        "per stage, over the chosen streams; queue is every wait between two stages",
        quantile(0.5, "pipeline_stage_seconds", "stage"),
        "s",
        stacked=True,
    ),
    Panel(
        "Stages, p99",
        "the stage that makes the slow frames slow",
        quantile(0.99, "pipeline_stage_seconds", "stage"),
        "s",
    ),
    Panel("Age of the newest result", "grows while nothing arrives", per_stream("pipeline_result_age_seconds"), "s"),
    Panel(
        "Frames lost, by reason",
        "overflow and stale: more was asked for than this machine can do",
        per_second("pipeline_drops_total", "reason"),
        "cps",
        stacked=True,
    ),
    Panel(
        "Late frames, by the part to blame",
        "over their budget, or longer than 99 of 100",
        per_second("pipeline_late_frames_total", "part"),
        "cps",
        stacked=True,
    ),
    Panel(
        "Jitter",
        "of arrivals, of each stage's duration, of departures",
        {"{{stage}} {{kind}}": f"max by (stage, kind) (pipeline_jitter_seconds{{{CHOSEN}}})"},
        "s",
    ),
    Panel(
        "From the lens to the result, p99",
        "of cameras that say in RTCP when they took their pictures; their clocks and this one's are to be set alike",
        quantile(0.99, "pipeline_capture_to_result_seconds", "stream"),
        "s",
    ),
    Panel(
        "Pictures that came once more",
        "cameras that pad their rate, encoders that hang",
        per_second("pipeline_duplicate_pictures_total", "stream"),
        "cps",
    ),
    Panel("Waiting for the detector", "frames in the lanes", per_stream("pipeline_queue_frames")),
    Panel(
        "Reconnects, by cause",
        "in the last hour",
        {"{{stream}} {{cause}}": f"sum by (stream, cause) (increase(pipeline_reconnects_total{{{CHOSEN}}}[1h])) > 0"},
    ),
    Panel("Frames per batch", "more is cheaper, up to what the model gains", {"mean": MEAN_BATCH}),
    Panel(
        "Results lost by sinks",
        "each sink loses only its own",
        per_second("pipeline_sink_lost_total", "sink, reason", OF_DAEMON),
        "cps",
    ),
    Panel("State", "who was down when", per_stream("pipeline_stream_up"), width=COLUMNS, kind="state-timeline"),
]


def drawn(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel as Grafana keeps it."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad_above is not None:
        steps.append({"color": "red", "value": panel.bad_above})
    if panel.bad_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.bad_below}]
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": {"fillOpacity": 20 if panel.stacked else 5, "showPoints": "never"}}
        defaults["custom"]["stacking"] = {"mode": "normal" if panel.stacked else "none"}
        options = {
            "tooltip": {"mode": "multi", "sort": "desc"},
            "legend": {"displayMode": "list", "placement": "bottom"},
        }
    elif panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    else:
        words = {"0": {"text": "not live", "color": "red"}, "1": {"text": "live", "color": "green"}}
        defaults["mappings"] = [{"type": "value", "options": words}]
        options = {"mergeValues": True, "showValue": "never", "rowHeight": 0.8}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
                "exemplar": "histogram_quantile" in query,  # late frames, where Prometheus keeps them
            }
            for index, (legend, query) in enumerate(panel.asked.items())
        ],
    }


def choice(name: str, label: str) -> dict[str, Any]:
    """A list to choose from, of the values of a label."""
    of = "" if name == "instance" else f"{{{OF_DAEMON}}}"
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1, "multi": True,
        "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
        "query": {"query": f"label_values(pipeline_stream_up{of}, {name})", "refId": name},
    }  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The whole of it."""
    panels, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(PANELS, 1):
        if x + panel.width > COLUMNS:
            x, y, row = 0, y + row, 0
        panels.append(drawn(panel, number, x, y))
        x, row = x + panel.width, max(row, panel.height)
    return {
        "uid": "video-pipeline",
        "title": "Video pipeline",
        "tags": ["video"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                choice("instance", "Daemon"),
                choice("stream", "Stream"),
            ]
        },
        "panels": panels,
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
