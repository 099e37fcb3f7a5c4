# SPDX-License-Identifier: Apache-2.0
"""The number of cores: what is visible, and what the control groups leave of it, is the same everywhere."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline import build
from pipeline.config.detection import ModelConfig
from pipeline.detectors.tuned import key_of
from pipeline.host import cores
from pipeline.host.cores import allowed_cores, visible_cores
from pipeline.report.machine import describe_machine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """64 visible cores; control groups to be written below ``groups`` and named in ``own``."""
    groups, own = tmp_path / "groups", tmp_path / "own"
    groups.mkdir()
    monkeypatch.setattr(cores, "_GROUPS", groups)
    monkeypatch.setattr(cores, "_OWN", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    return SimpleNamespace(groups=groups, own=own)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_groups_it_is_the_affinity(machine: SimpleNamespace) -> None:
    assert (allowed_cores(), visible_cores()) == (64, 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("200000 100000\n", 2), ("150000 100000", 2), ("20000 100000", 1), ("max 100000", 64), ("9900000 100000", 64),
     ("", 64), ("200000", 64), ("200000 0", 64)],
)  # fmt: skip
def test_a_container_of_version_2(machine: SimpleNamespace, text: str, expected: int) -> None:
    write(machine.own, "0::/\n")
    write(machine.groups / "cpu.max", text)
    assert (allowed_cores(), visible_cores()) == (expected, 64)


def test_a_container_of_version_1(machine: SimpleNamespace) -> None:
    write(machine.own, "4:memory:/m\n3:cpu,cpuacct:/\n")
    write(machine.groups / "cpu/cpu.cfs_quota_us", "300000\n")
    write(machine.groups / "cpu/cpu.cfs_period_us", "100000\n")
    assert allowed_cores() == 3
    write(machine.groups / "cpu/cpu.cfs_quota_us", "-1\n")
    assert allowed_cores() == 64


def test_the_smallest_quota_of_the_groups_above_counts(machine: SimpleNamespace) -> None:
    write(machine.own, "0::/system.slice/video.service\n")
    write(machine.groups / "system.slice/video.service/cpu.max", "800000 100000")
    assert allowed_cores() == 8
    write(machine.groups / "system.slice/cpu.max", "400000 100000")
    assert allowed_cores() == 4
    write(machine.own, "0::/../elsewhere\n")
    assert allowed_cores() == 64
    write(machine.groups / "cpu.max", "500000 100000")
    assert allowed_cores() == 5


def test_workers_tuning_and_reports_count_alike(machine: SimpleNamespace) -> None:
    write(machine.groups / "cpu.max", "200000 100000")
    assert build.workers("auto", "cpu") == 2
    assert key_of("0" * 64, torch.device("cpu"), build.tuned_key(ModelConfig(path="m.pt")))["cores"] == 2
    assert describe_machine()["cores"] == 2
