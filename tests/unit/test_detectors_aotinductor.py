# SPDX-License-Identifier: Apache-2.0
"""AOTInductor packages behind the same detector: told what they take, given nothing else, refused where they would
crash."""

from __future__ import annotations

import io
import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.detectors import build_detector
from pipeline.detectors.loading.aotinductor import CompiledModule
from pipeline.detectors.loading.taken import Taken
from pipeline.detectors.loading.unpacked import CODE, copied, remove_abandoned
from pipeline.errors import ModelLoadError
from pipeline.frame import InputSpec
from tests.models import Cells, batch_of, painted

SIZE = (64, 96)
SPEC = InputSpec(*SIZE)
OWN = {"adapter": "ultralytics", "names": {"0": "red", "1": "green", "2": "blue"}, "input": list(SIZE)}
HERE = {"AOTI_PLATFORM": sys.platform, "AOTI_MACHINE": platform.machine(), "AOTI_DEVICE_KEY": "cpu"}
CHECKS = """
    int32_t arg0_1_expected_dtype = aoti_torch_dtype_float32();
    ss << "input_handles[0]: dim value is too small at 0, "
       << "expected it to be >= 2, " << "but got: "
    ss << "input_handles[0]: dim value is too large at 0, "
       << "expected to be <= 8, " << "but got: "
    ss << "input_handles[0]: unmatched dim value at 1, "
       << "expected: 3, " << "but got: " << arg0_1_size[1]
    ss << "input_handles[0]: unmatched dim value at 2, "
       << "expected: 64, " << "but got: " << arg0_1_size[2]
    ss << "input_handles[0]: unmatched dim value at 3, "
       << "expected: 96, " << "but got: " << arg0_1_size[3]
    ss << "input_handles[0]: unmatched stride value at 1, "
       << "expected: STRIDE, " << "but got: " << arg0_1_stride[1]
    ss << "input_handles[0]: unmatched stride value at 3, "
       << "expected: 1, " << "but got: " << arg0_1_stride[3]
"""


def package(path: Path, facts: dict[str, str], source: str = CHECKS, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data/aotinductor/model/x.wrapper_metadata.json", json.dumps(facts))
        archive.writestr("m/data/aotinductor/model/x.wrapper.cpp", source)
        archive.writestr("m/data/aotinductor/model/x.wrapper.so", b"\x7fELF no library")
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/archive_version", "0")
    return path


@pytest.mark.parametrize(
    ("facts", "source", "options", "said"),
    [
        ({"AOTI_MACHINE": "riscv128"}, CHECKS, {}, "compiled for riscv128, but this is"),
        ({"AOTI_PLATFORM": "plan9"}, CHECKS, {}, "compiled for plan9, but this is"),
        ({"AOTI_DEVICE_KEY": "cuda"}, CHECKS, {}, "compiled for cuda, but this is cpu"),
        ({"AOTI_CPU_ISA": "AVX4096"}, CHECKS, {}, "a processor with AVX4096; compile it on this machine"),
        ({}, "", {}, "does not tell what input it was compiled for"),
        ({}, CHECKS.replace("too small", "odd").replace("too large", "odd"), {}, "does not tell what input"),
        ({}, CHECKS, {}, "cannot load this AOTInductor package"),
        ({}, CHECKS, {"sha256": "1" * 64}, "is pinned"),
    ],
)
def test_what_cannot_run_here_is_refused_in_one_line(
    facts: dict[str, str],
    source: str,
    options: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_compiler() -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("torch._inductor.cpu_vec_isa.pick_vec_isa", no_compiler)  # a package has no need of one
    path = package(tmp_path / "m.pt2", HERE | facts, source)
    with pytest.raises(ModelLoadError, match=said) as error:
        build_detector(path, device="cpu", **options)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(shutil.which("g++") is None, reason="this machine has no C++ compiler")
def test_instruction_sets_that_torch_compiles_for_here_are_here(tmp_path: Path) -> None:
    from torch._inductor.codecache import get_device_information

    facts = {"AOTI_CPU_ISA": get_device_information("cpu")["AOTI_CPU_ISA"]}
    with pytest.raises(ModelLoadError, match="cannot load this AOTInductor package"):  # which is no library
        build_detector(package(tmp_path / "m.pt2", HERE | facts), device="cpu")


def test_what_torch_unpacked_and_could_not_load_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = package(tmp_path / "m.pt2", HERE), tmp_path / "temporary"
    another = folder / "aotinductor_x/m/data/aotinductor/model/x.wrapper.so"
    another.parent.mkdir(parents=True)
    another.touch()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(ModelLoadError, match="cannot load this AOTInductor package: Error in dlopen"):
        build_detector(path, device="cpu")
    assert [each.name for each in folder.glob("aotinductor_*")] == ["aotinductor_x"], "another's is left alone"
    assert another.exists()


KILLED = """
import os, signal, sys, torch
from pipeline.detectors.loading import unpacked
unpacked.Copy.remove_unpacked = lambda copy: os.kill(os.getpid(), signal.SIGKILL)
from pipeline.detectors.loading.aotinductor import load_package
load_package(open(sys.argv[1], "rb").read(), "m.pt2", torch.device("cpu"))
"""


def test_what_a_killed_process_left_is_removed_by_the_next_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = package(tmp_path / "m.pt2", HERE), tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = {each.name.split("_")[0].split("-")[0] for each in folder.iterdir()}
    assert left == {"aotinductor", "pipeline"}, "what torch unpacked, and the copy that it was unpacked from"
    with copied(path.read_bytes()):
        assert [each.suffix for each in folder.iterdir()] == [".pt2"], "the copy that is being loaded now"
    assert list(folder.iterdir()) == []


def test_what_is_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages for a GPU read their kernels when those first run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = package(tmp_path / "m.pt2", HERE).read_bytes()
    with copied(data) as copy:
        unpacked = tmp_path / "aotinductor_abc"
        with zipfile.ZipFile(copy.path) as archive:
            archive.extractall(unpacked)
        remove_abandoned()
        assert unpacked.exists(), "it is being loaded"
        assert copy.path.exists()
        held = copy.keep_unpacked()
    assert len(held) == 1
    remove_abandoned()
    assert unpacked.exists()
    held[0].close()
    remove_abandoned()
    assert [each.name for each in tmp_path.iterdir()] == ["m.pt2"]


def test_what_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are nearly ours, links, and files that are about to be written."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    token = "0" * 32
    precious = tmp_path / "precious" / "m" / CODE
    precious.mkdir(parents=True)
    (precious / f"pipeline-{token}.mark").touch()
    (tmp_path / "aotinductor_link").symlink_to(tmp_path / "precious")
    (tmp_path / f"pipeline-{token[1:]}.pt2").write_bytes(b"mine")
    (tmp_path / f"pipeline-{token}.pt2").touch()
    other = tmp_path / "aotinductor_x" / "m" / CODE
    other.mkdir(parents=True)
    (other / "pipeline-mine.mark").touch()
    before = sorted(tmp_path.rglob("*"))
    remove_abandoned()
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / f"pipeline-{token}.pt2").unlink()
    remove_abandoned()
    assert (precious / f"pipeline-{token}.mark").exists(), "through a link nothing is removed"


def test_no_room_to_unpack_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/self")
    with pytest.raises(ModelLoadError, match=r"m\.pt2: it cannot be unpacked into /proc/self: "):
        build_detector(package(tmp_path / "m.pt2", HERE), device="cpu")


def test_a_package_for_the_cpu_where_there_is_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = package(tmp_path / "m.pt2", HERE)
    monkeypatch.setattr("pipeline.detectors.assemble.choose_device", lambda wanted: torch.device("cuda"))
    with pytest.raises(ModelLoadError, match="compiled for cpu, but this is cuda; set device to cpu, or"):
        build_detector(path, device="cuda")
    with pytest.raises(ModelLoadError, match="cannot load this AOTInductor package"):  # which is no library
        build_detector(path, device="auto")


def test_a_damaged_description_of_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data/aotinductor/model/x.wrapper_metadata.json", b"{")
    with pytest.raises(ModelLoadError, match=r"x\.wrapper_metadata\.json is damaged"):
        build_detector(path, device="cpu")


class Recorded:
    """Stands for the machine code: it keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[torch.Tensor] = []

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.given.append(batch)
        return batch.sum((1, 2, 3)), torch.arange(3)


def test_machine_code_is_given_nothing_but_what_it_was_compiled_for() -> None:
    code = Recorded()
    module = CompiledModule(code, Taken(((2, 8), 3, 4, 6), "float32"), channels_last=False)
    for odd in (torch.zeros(2, 3, 4, 4), torch.zeros(9, 3, 4, 6), torch.zeros(2, 3, 4, 6).half(), torch.zeros(3, 4, 6)):
        with pytest.raises(ValueError, match="it was compiled for float32"):
            module(odd)
    assert not code.given

    pictures = torch.rand(3, 4, 6, 3).permute(0, 3, 1, 2)
    sums, others = module(pictures)
    assert code.given[-1].is_contiguous()
    assert torch.equal(sums, pictures.contiguous().sum((1, 2, 3)))
    assert len(others) == 3


def test_fewer_pictures_than_it_was_compiled_for() -> None:
    code = Recorded()
    module = CompiledModule(code, Taken(((2, 8), 3, 4, 6), "float32"), channels_last=True)
    sums, others = module(torch.ones(1, 3, 4, 6))
    assert code.given[-1].shape == (2, 3, 4, 6)
    assert code.given[-1].is_contiguous(memory_format=torch.channels_last)
    assert (sums.tolist(), others.tolist()) == ([72.0], [0, 1, 2])


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_list_of_pictures_in_the_layout_that_it_was_compiled_for(channels_last: bool) -> None:
    given: list[torch.Tensor] = []
    module = CompiledModule(given.extend, Taken((3, 4, 6), "float32"), channels_last)
    pictures = [torch.rand(3, 4, 6), torch.rand(4, 6, 3).permute(2, 0, 1)]
    module(pictures)
    assert [each.stride() for each in given] == [(1, 18, 3) if channels_last else (24, 6, 1)] * 2
    assert all(map(torch.equal, given, pictures))


class Convolved(Cells):
    """A convolution that changes nothing, so that there is something to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        nn.init.dirac_(self.mix.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        boxes, scores = self.cells(self.mix(x))
        return torch.cat((boxes, scores), 1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="this machine has no C++ compiler")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_package_that_was_compiled_here(
    layout: torch.memory_format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = tmp_path / "m.pt2"
    example = torch.zeros(2, 3, *SIZE).contiguous(memory_format=layout)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("batch", min=1, max=8)},)
        program = torch.export.export(Convolved().eval(), (example,), dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/extra/pipeline.json", json.dumps(OWN))
    capfd.readouterr()
    before = set(tmp_path.iterdir())
    detector = build_detector(path, device="cpu", max_batch=4)
    assert capfd.readouterr().err == ""
    assert set(tmp_path.iterdir()) == before, "the copy that torch loaded is gone, and so is what it unpacked"
    assert detector.model_info()["format"] == "aotinductor"
    assert (detector.max_batch, detector.verdict.fixed) == (4, None)
    for count in (1, 2, 3):
        pictures = [painted(SPEC, {(0, number): (255, 0, 0)}) for number in range(count)]
        found = detector.submit(batch_of(SPEC, *pictures)).result()
        for number, each in enumerate(found):
            np.testing.assert_allclose(each.xyxy, [[32 * number, 0, 32 * number + 32, 32]], atol=1e-3)
    with pytest.raises(ModelLoadError, match="computes as it was compiled; use auto"):
        build_detector(path, device="cpu", precision="bf16")


def test_bytes_of_a_package_are_told_from_those_of_other_archives() -> None:
    from pipeline.detectors.loading.archive import read_archive

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data/aotinductor/model/x.so", b"")
        archive.writestr("m/extra/pipeline.json", "{}")
    found = read_archive(buffer.getvalue(), "m.pt2")
    assert (found.format, found.side_files) == ("aotinductor", {"pipeline.json": "{}"})
