# SPDX-License-Identifier: Apache-2.0
"""Every finding of the doctor, provoked: by packages on the path, variables, files of the system, and models."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.detectors import placement
from pipeline.host import cores
from pipeline.workshop.doctor import examine_model, gpu, threads, too_large
from pipeline.workshop.doctor.finding import Finding
from pipeline.workshop.doctor.libgl import missing_library
from pipeline.workshop.doctor.opencv import two_builds
from pipeline.workshop.doctor.torch_fit import operators_register, versions_fit
from tests.models import NAMES, Cells, save, ultralytics_metadata

VIDEO = "pattern:?size=128x96&frames=8"
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(name, version, *requirements)``: metadata of a package that the import path finds first."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def put(name: str, version: str, *needs: str) -> None:
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (folder / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs)]) + "\n")
        importlib.invalidate_caches()

    return put


def only(found: Finding | None, name: str, severity: str = "fault") -> Finding:
    assert found is not None
    assert (found.name, found.severity) == (name, severity)
    assert found.remedy
    return found


def test_two_builds_of_opencv(install: Install) -> None:
    assert two_builds() is None
    install("opencv-python-headless", "4.12.0")
    found = only(two_builds(), "opencv")
    assert "opencv-python, opencv-python-headless" in found.found
    assert "pip uninstall" in found.remedy


@pytest.mark.parametrize(
    ("message", "remedy"),
    [("libGL.so.1: cannot open shared object file", "libgl1"), ("numpy.core.multiarray failed", "reinstall")],
)
def test_opencv_that_cannot_be_imported(
    message: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert missing_library() is None
    (tmp_path / "cv2.py").write_text(f"raise ImportError({message!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cv2")
    assert remedy in only(missing_library(), "libgl").remedy


@pytest.mark.parametrize(
    ("needs", "good"),
    [
        ("torch==2.15.0", True),
        ("torch (>=2.14.0)", True),
        ("torch==2.9.1", False),
        ("torch>=2.14,<2.15", False),
        ("torch~=2.14", True),
        ("torch~=2.14.0", False),
        ("torch==2.15.*", True),
        ("torch!=2.15.0", False),
        ("torchaudio==1.0", True),
    ],
)
def test_versions_that_do_not_fit(needs: str, good: bool, install: Install) -> None:
    install("torch", "2.15.0+cu132")
    install("torchvision", "0.99.0", "numpy", needs, "torch==1.0 ; extra == 'old'")
    found = versions_fit()
    if good:
        assert found is None
    else:
        assert "torch 2.15.0+cu132 is installed" in only(found, "versions").found


def test_the_installed_versions_fit() -> None:
    assert versions_fit() is None
    assert operators_register() is None


def test_a_torchvision_whose_operators_do_not_register(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    fault = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision" / "__init__.py").write_text(fault)
    program = (
        "from pipeline.workshop.doctor.torch_fit import operators_register\n"
        "print(operators_register().name, operators_register().severity)"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["torchvision", "fault"]


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "_GROUPS", tmp_path)
    assert threads.too_many() is None
    allowed = cores.allowed_cores()
    monkeypatch.setenv("MKL_NUM_THREADS", str(allowed + 1))
    assert f"MKL_NUM_THREADS={allowed + 1} on {allowed} core" in only(threads.too_many(), "threads", "warning").found
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    assert threads.too_many() is None


@pytest.mark.skipif(cores.visible_cores() < 2, reason="a quota below one core is no fewer cores")
def test_a_quota_of_the_control_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "_GROUPS", tmp_path)
    (tmp_path / "cpu.max").write_text("80000 100000\n")
    assert "the pipeline starts 1 worker;" in only(threads.too_many(), "threads", "note").found
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert threads.too_many() is None


@pytest.mark.skipif(torch.version.cuda is None or torch.cuda.is_available(), reason="torch without CUDA, or a GPU")
def test_torch_for_cuda_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_DEVICES", tmp_path)
    only(gpu.driver(), "gpu", "note")
    (tmp_path / "nvidia0").touch()
    assert "nvidia0" in only(gpu.driver(), "gpu", "warning").found


def test_a_model_too_large_for_memory_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = too_large.available_bytes()
    assert free is not None
    path = tmp_path / "huge.pt"
    with path.open("wb") as file:
        file.truncate(free)  # takes no space on the disk
    (found,) = examine_model(str(path), VIDEO)
    assert "are free" in only(found, "memory").found
    with path.open("wb") as file:
        file.truncate(1_000_000)
    assert too_large.memory_fits(path) is None
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("10000000\n")
    used.write_text("9000000\n")
    monkeypatch.setattr(too_large, "_LIMITS", ((limit, used),))
    assert "1 MB are free" in only(too_large.memory_fits(path), "memory").found


class NeedsNegatives(Cells):
    """Takes the logarithm of how dark the darkest value is below zero: fine for normalised input only."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores.sigmoid() + 0.0 * (-x.amin() - 1e-6).log()), 1)


class BadWeights(Cells):
    """Training diverged."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3, 1), float("nan")))

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores * self.weight), 1)


class Keeps(Cells):
    """Keeps two megabytes of every call: more than a long test run gives back meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.jit.Attribute([], list[Tensor])

    def forward(self, x: Tensor) -> Tensor:
        self.kept.append(x.amax() + torch.ones(1 << 19))
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores), 1)


def model(module: torch.nn.Module, folder: Path) -> str:
    return str(save(module, folder / "model.pt", ultralytics_metadata((64, 64), NAMES)))


def test_a_healthy_model(tmp_path: Path) -> None:
    assert examine_model(model(Cells(), tmp_path), VIDEO) == []


def test_nan_for_want_of_normalisation(tmp_path: Path) -> None:
    (found,) = examine_model(model(NeedsNegatives(), tmp_path), VIDEO)
    assert "NaN" in only(found, "not_finite").found
    assert "normalised" in found.remedy


def test_nan_in_the_weights(tmp_path: Path) -> None:
    (found,) = examine_model(model(BadWeights(), tmp_path), VIDEO)
    assert "weights" in only(found, "not_finite").remedy


def test_memory_that_grows(tmp_path: Path) -> None:
    (found,) = examine_model(model(Keeps(), tmp_path), VIDEO)
    told = re.search(r"memory grows by ([\d,]+) kB", only(found, "growth").found)
    assert told is not None
    assert 1500 < int(told[1].replace(",", "")) < 2600, "two megabytes, give or take what the allocator had left"


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no model")
    (found,) = examine_model(str(tmp_path / "text.pt"), VIDEO)
    only(found, "model")
