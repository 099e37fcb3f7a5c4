# SPDX-License-Identifier: Apache-2.0
"""The document against the contract, and the files that hold it."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import SinkError
from pipeline.redact import register_secret
from pipeline.report import compose, save_html, save_json, to_json
from pipeline.report.machine import describe_machine
from tests.ledgers import FACTS, a_run


def test_the_keys_of_the_contract_are_there_in_its_order() -> None:
    report = compose(a_run("a", "b").as_dict(), FACTS, order=["b", "a"])
    contract = [
        "version", "command", "machine", "model", "startup_s", "wall_s", "cpu_s", "peak_rss_mb", "frames", "fps",
        "first_result_ms", "batches", "streams", "sinks", "total",
    ]  # fmt: skip
    assert [key for key in report if key in contract] == contract
    assert list(report["streams"]) == ["b", "a"]
    assert set(report["model"]) >= {"path", "sha256", "adapter", "input", "device", "precision", "max_batch", "workers"}
    assert set(report["startup_s"]) == {"import", "load", "probe", "warm"}
    assert report["wall_s"] == 0.2
    assert report["frames"] == 10
    assert report["fps"] == 50
    assert report["batches"] == {"count": 2, "mean_size": 5.0, "sizes": {"5": 2}}
    stream = report["streams"]["a"]
    assert {"state", "error", "frames", "fps", "first_result_ms", "stages", "end_to_end", "jitter"} <= set(stream)
    assert stream["end_to_end"] == {
        "count": 5, "mean_ms": 10.0, "p50_ms": pytest.approx(10, rel=0.01), "p90_ms": pytest.approx(10, rel=0.01),
        "p95_ms": pytest.approx(10, rel=0.01), "p99_ms": pytest.approx(10, rel=0.01), "p999_ms": None,
        "max_ms": 10.0, "delay_variation_ms": 0.0, "jitter_ms": 0.0,
    }  # fmt: skip
    assert sum(stats["mean_ms"] for stats in stream["stages"].values()) == stream["end_to_end"]["mean_ms"]


def test_cpu_time_is_of_the_measured_span_and_of_the_whole_process_apart() -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    used = resource.getrusage(resource.RUSAGE_SELF)
    assert report["cpu_process_s"] == pytest.approx(used.ru_utime + used.ru_stime, abs=0.5)
    assert 0 <= report["cpu_s"] < report["cpu_process_s"]


def test_a_resumed_stream_keeps_its_report_and_its_place() -> None:
    earlier = compose(a_run("a", frames=7).as_dict(), FACTS)["streams"]["a"]
    report = compose(a_run("b").as_dict(), FACTS | {"resumed": {"a": earlier}}, order=["a", "b"])
    assert list(report["streams"]) == ["a", "b"]
    assert report["streams"]["a"] == earlier | {"resumed": True}
    assert "resumed" not in report["streams"]["b"]
    assert report["frames"] == 5
    assert "resumed" not in report


def test_further_facts_are_passed_on() -> None:
    assert compose(a_run("a").as_dict(), FACTS | {"tuning": {"cache": "x"}})["tuning"] == {"cache": "x"}


def test_errors_tell_no_secret() -> None:
    register_secret("s3cr3t-of-compose")
    ledger = a_run("a")
    ledger.streams["a"].failed("rtsp://user:s3cr3t-of-compose@host/ did not answer")
    ledger.sinks["jsonl"].error = "s3cr3t-of-compose"
    text = to_json(compose(ledger.as_dict(), FACTS, error="at s3cr3t-of-compose")).decode()
    assert "s3cr3t" not in text
    assert "did not answer" in text


def test_the_machine_is_described_without_loading_anything() -> None:
    machine = describe_machine()
    assert {"cpu", "cores", "memory_mb", "os", "python", "torch", "ffmpeg", "opencv"} <= set(machine)
    assert 1 <= machine["cores"] <= (os.cpu_count() or 1)
    assert machine["cpu"]
    assert re.fullmatch(r"\d+\.\d+.*", machine["torch"])


def test_peak_memory_grows_with_what_is_held() -> None:
    """In a process that never held much: more than ever was resident is allocated in no time."""
    program = (
        "from pipeline.report import peak_rss_mb\n"
        "before = peak_rss_mb()\n"
        "block = b'x' * int((before + 64) * (1 << 20))\n"
        "print(peak_rss_mb() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 60


def test_files_replace_what_was_there_wholly(tmp_path: Path) -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    (tmp_path / "report.json").write_text("x" * 1_000_000)
    assert json.loads(save_json(report, tmp_path).read_text()) == json.loads(json.dumps(report))
    assert save_html(report, tmp_path).read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folder_that_is_gone_is_a_sink_error_and_leaves_nothing(tmp_path: Path) -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    with pytest.raises(SinkError, match=r"report\.json cannot be written: No such file"):
        save_json(report, tmp_path / "gone")
    (tmp_path / "report.json").mkdir()
    with pytest.raises(SinkError, match=r"report\.json cannot be written"):
        save_json(report, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_what_programs_read_stands_in_one_line() -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    text = to_json(report).decode()
    assert json.loads(text) == json.loads(json.dumps(report))
    lines = [line for line in text.splitlines() if '"distributions"' in line or '"over_time"' in line]
    assert len(lines) == 4
    assert all(line.endswith(("}", "},")) for line in lines)
    assert to_json({"sizes": {"1": 2}}) == b'{\n  "sizes": {\n    "1": 2\n  }\n}\n'
