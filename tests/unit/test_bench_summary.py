# SPDX-License-Identifier: Apache-2.0
"""Figures of the benchmark follow from single runs by plain arithmetic."""

from __future__ import annotations

import io
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from pipeline.bench import wording
from pipeline.bench.agreement import Agreement
from pipeline.bench.chart import chart
from pipeline.bench.summary import summarise
from pipeline.bench.text import tables

CORES = 2


def a_run(frames: int, wall_s: float, cpu_s: float, peak_mb: float = 500.0) -> dict[str, Any]:
    return {
        "frames": frames,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "fps": frames / wall_s,
        "cpu_ms_per_frame": cpu_s / frames * 1e3,
        "peak_mb": peak_mb,
        "first_result_ms": 40.0,
    }


def measured() -> dict[str, list[dict[str, Any]]]:
    # Three rounds; the machine is half as fast in the second one. 100 frames: decode 1 s, resize 0.1 s, network 0.9 s.
    speeds = (1.0, 0.5, 1.0)
    return {
        "pipeline": [a_run(100, 2.5 / speed, 4.4, peak) for speed, peak in zip(speeds, (800, 820, 810), strict=True)],
        "pool": [a_run(100, 5.0 / speed, 9.0) for speed in speeds],
        "decode": [a_run(100, 1.0 / speed, 2.0) for speed in speeds],
        "resize": [a_run(200, 0.2 / speed, 0.4) for speed in speeds],  # twice as many frames, the same cost
        "network": [a_run(100, 0.9 / speed, 1.8) for speed in speeds],
    }


def a_report() -> dict[str, Any]:
    figures = summarise(measured(), {"pool": Agreement(True, 50, 50, 49)}, 560.0, CORES)
    machine = {"cpu": "a <CPU>", "cores": CORES, "python": "3", "torch": "2", "opencv": "4", "pyav": "18"}
    material = {"files": 4, "width": 64, "height": 32, "fps": 30, "seconds": 1.0, "mbit": 1.0, "input": 64}
    return {"machine": machine, "material": material, "batch": 4, "cores": CORES, "rounds": 3, **figures}


def test_efficiency_is_floors_over_wall_time() -> None:
    assert a_report()["efficiency"] == pytest.approx((1.0 + 0.1 + 0.9) / 2.5, abs=1e-4)


def test_cpu_is_compared_per_frame() -> None:
    assert a_report()["cpu_over_floors"] == pytest.approx(4.4 / (2.0 + 0.2 + 1.8), abs=1e-4)


def test_ratios_are_taken_within_a_round() -> None:
    runs = measured()
    runs["pool"][1] = a_run(100, 5.0, 9.0)  # not slowed down: one wrong round must not move the median
    assert summarise(runs, {}, 0.0, CORES)["speedup"]["pool"] == pytest.approx(2.0)


def test_memory_is_the_median_above_idle() -> None:
    report = a_report()
    assert (report["idle_mb"], report["peak_above_idle_mb"]) == (560.0, 250.0)


def test_candidates_and_floors_are_apart_and_no_run_is_lost() -> None:
    report = a_report()
    assert list(report["candidates"]) == ["pipeline", "pool"]
    assert list(report["floors"]) == ["decode", "resize", "network"]
    assert all(len(runs) == 3 for runs in report["all_runs"].values())
    assert report["agreement"]["pool"] == {"share": 0.98, "ours": 50, "theirs": 50, "matched": 49}


def test_a_busy_machine_is_told() -> None:
    report = a_report()
    assert report["free_cores"] == pytest.approx(1.0)
    assert wording.busy(report) is None
    assert "50 %" in str(wording.busy({**report, "free_cores": 0.5}))


def test_tables_fit_80_columns_and_tell_the_figures() -> None:
    output = io.StringIO()
    for part in tables(a_report()):
        Console(width=80, file=output).print(part)
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for figure in ("40.0", "0.80", "1.10 x", "2.00 x", "49 of 50", "250 MiB"):
        assert figure in text


def test_the_chart_is_well_formed_and_drawn_to_scale() -> None:
    page = chart(json.loads(json.dumps(a_report())))
    assert "a &lt;CPU&gt;" in page
    assert not re.search(r"<script|https?://", page)
    drawings = [ElementTree.fromstring(drawing) for drawing in re.findall(r"<svg.*?</svg>", page)]
    speed = [float(shape.attrib["width"]) for shape in drawings[0].iter("rect")]
    assert speed[0] / speed[1] == pytest.approx(2.0, rel=0.01)
    # Floors and the rest of the pipeline, then of the pool, then the floors alone.
    cpu = [float(shape.attrib["width"]) for shape in drawings[1].iter("rect")]
    assert len(cpu) == 4 + 4 + 3
    assert sum(cpu[:4]) / sum(cpu[8:]) == pytest.approx(1.1, rel=0.02)
