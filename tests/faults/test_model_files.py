# SPDX-License-Identifier: Apache-2.0
"""Files that are no usable detector: each is refused in one line that says what it is, what was expected and what
to do about it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.detectors import build_detector
from pipeline.detectors.loading.archive import read_archive
from pipeline.detectors.loading.file_access import file_access
from pipeline.detectors.loading.metadata import read_metadata
from pipeline.errors import ModelLoadError
from pipeline.workshop.inspection.inspecting import inspect_model
from tests.models import NAMES, Cells, save, script, ultralytics_metadata

FILES = ultralytics_metadata((64, 96), NAMES)


def refusal(path: Path | str, **options: object) -> str:
    with pytest.raises(ModelLoadError) as error:
        build_detector(path, device="cpu", **options)  # type: ignore[arg-type]
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    assert message.startswith(str(path)) or "built-in" in message, "the file must be named"
    return message


def stored_with_torch(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


WEIGHTS = {"conv.weight": torch.zeros(2, 3), "conv.bias": torch.zeros(2)}
ULTRALYTICS_PICKLE = b"\x80\x02}q\x00X\x05\x00\x00\x00modelcultralytics.nn.tasks\nDetectionModel\n."

FOREIGN: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "empty.pt": (lambda: b"", "an empty file", "download it again"),
    "notes.txt": (lambda: b"just some words\n" * 20, "a text file", "TorchScript"),
    "names.yaml": (lambda: b"names: [\xc3\xa4]\n", "a text file", "TorchScript"),
    "pointer.pt": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
    "page.pt": (lambda: b"<!DOCTYPE html><html>404</html>", "an HTML page", "download"),
    "weights.pt": (
        lambda: stored_with_torch(nn.Linear(2, 2).state_dict()),
        "a PyTorch checkpoint (torch.save), not TorchScript: weights (a state_dict)",
        "torch.jit.trace",
    ),
    "legacy.pt": (
        lambda: stored_with_torch(WEIGHTS, _use_new_zipfile_serialization=False),
        "a legacy PyTorch checkpoint (a pickle): weights",
        "torch.jit.trace",
    ),
    "list.pkl": (lambda: pickle.dumps([1, 2, 3]), "this is a pickle;", "torch.jit.trace"),
    "whole.pt": (lambda: stored_with_torch(nn.Linear(2, 2)), "a PyTorch checkpoint (torch.save)", "torch.jit.trace"),
    "yolo11n.pt": (
        lambda: zipped({"yolo11n/data.pkl": ULTRALYTICS_PICKLE, "yolo11n/version": b"3", "yolo11n/data/0": b"0"}),
        "an Ultralytics checkpoint",
        "yolo export model=FILE.pt format=torchscript",
    ),
    "yolov5s.pt": (
        lambda: zipped({"archive/data.pkl": b"\x80\x02cmodels.yolo\nDetectionModel\n.", "archive/version": b"3"}),
        "a YOLOv5 checkpoint",
        "--include torchscript",
    ),
    "model.onnx": (lambda: b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(50), "an ONNX model", "original model"),
    "renamed.pt": (lambda: b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(50), "an ONNX model", "original model"),
    "model.pt2": (
        lambda: zipped({"a/archive_format": b"pt2"}),
        "a .pt2 archive without a program",
        "torch.export.save",
    ),
    "model.safetensors": (safetensors, "a safetensors file", "torch.jit.trace"),
    "model.tflite": (lambda: b"\x1c\x00\x00\x00TFL3" + bytes(40), "TensorFlow Lite", "TorchScript"),
    "model.h5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5", "TorchScript"),
    "model.tar.gz": (lambda: b"\x1f\x8b\x08" + bytes(40), "a gzip archive", "TorchScript"),
    "clip.mp4": (lambda: b"\x00\x00\x00\x20ftypisom" + bytes(40), "an MP4 video", "TorchScript"),
    "noise.bin": (lambda: bytes(range(256)) * 4, "1024 bytes of an unknown format", "torch.jit.trace"),
    "photos.zip": (lambda: zipped({"a.jpg": b"1", "b.jpg": b"2"}), "a zip archive of 2 files", "torch.jit.trace"),
    "letter.docx": (lambda: zipped({"[Content_Types].xml": b"", "word/a.xml": b""}), "an office document", "Torch"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_named_for_what_they_are(name: str, tmp_path: Path) -> None:
    content, found, remedy = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(content())
    message = refusal(path)
    assert found in message
    assert message.count("a TorchScript or .pt2 ") == 1, "what was expected is said, and once"
    assert remedy in message.partition("Remedy: ")[2]


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_a_file_that_is_cut_short(share: float, tmp_path: Path) -> None:
    whole = save(Cells(), tmp_path / "whole.pt", FILES).read_bytes()
    path = tmp_path / "short.pt"
    path.write_bytes(whole[: int(len(whole) * share)])
    message = refusal(path)
    assert "a zip archive that is cut short or damaged" in message
    assert "download it again" in message


def test_a_file_with_a_damaged_member(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", FILES)
    data = bytearray(path.read_bytes())
    start = data.index(b"/data.pkl") + 60
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    assert "cut short or damaged" in refusal(path)


def test_bytes_changed_at_random_are_refused_or_loaded_but_never_crash(tmp_path: Path) -> None:
    """The static look only: a changed file must raise ModelLoadError and nothing else, or be found intact."""
    whole = save(Cells(), tmp_path / "m.pt", FILES).read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 3, 20))):
            # Half of the changes hit the directory at the end, where every field means something.
            at = chance.randrange(len(data)) if chance.random() < 0.5 else len(data) - 1 - chance.randrange(1500)
            data[at] = chance.randrange(256)
        try:
            read_metadata(read_archive(bytes(data), "m.pt").side_files, "m.pt")
        except ModelLoadError:
            refused += 1
    assert refused > 400


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such model file" in refusal(tmp_path / "m.pt")
    assert "there is no readable folder" in refusal(tmp_path / "nowhere" / "m.pt")
    save(Cells(), tmp_path / "yolo11n.torchscript", FILES)
    assert f"did you mean {tmp_path}/yolo11n.torchscript?" in refusal(tmp_path / "yolo11n.torchscrip")
    assert "builtin:people" in refusal("people")


def test_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    assert "this is a directory" in refusal(folder)
    inside = save(Cells(), folder / "a.torchscript", FILES)
    assert f"did you mean {inside}?" in refusal(folder)


def test_what_is_no_file(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", FILES)
    assert "cannot be read: Not a directory" in refusal(path / "inside.pt")
    pipe = tmp_path / "pipe.pt"
    os.mkfifo(pipe)
    assert "this is a pipe or a device" in refusal(pipe)
    assert "this is a pipe or a device" in refusal("/dev/null")


@pytest.mark.parametrize(
    ("name", "said"),
    [("builtin:peple", "did you mean builtin:people?"), ("builtin:zzz", "there is builtin:people"), ("builtin:", "is")],
)
def test_unknown_builtin(name: str, said: str) -> None:
    message = refusal(name)
    assert f"no built-in model {name}" in message
    assert said in message


def test_the_pinned_digest(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", FILES)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for pin in (digest, digest.upper(), f"sha256:{digest}"):
        assert build_detector(path, sha256=pin, device="cpu").model_info()["sha256"] == digest
    other = "0" * 64
    message = refusal(path, sha256=other)
    assert digest in message
    assert other in message
    assert "64 hexadecimal digits were expected" in refusal(path, sha256="abc")


def test_a_digest_is_compared_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Cells(), tmp_path / "m.pt", FILES)

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a file with the wrong digest was loaded")

    monkeypatch.setattr(torch.jit, "load", loaded)
    assert "is pinned" in refusal(path, sha256="0" * 64)


def test_the_bytes_that_are_hashed_are_the_bytes_that_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is exchanged after it was read: neither digest nor behaviour may come from the new one."""
    path = save(Cells(), tmp_path / "m.pt", FILES)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    load = torch.jit.load

    def exchange(*arguments: object, **options: object) -> object:
        path.write_bytes(b"something else")
        return load(*arguments, **options)  # type: ignore[arg-type,no-untyped-call]

    monkeypatch.setattr(torch.jit, "load", exchange)
    assert build_detector(path, sha256=digest, device="cpu").model_info()["sha256"] == digest


def changed_code(path: Path, before: str, after: str) -> None:
    """Rewrite the program inside a TorchScript file."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    changed = {name: data.replace(before.encode(), after.encode()) for name, data in members.items()}
    assert changed != members
    path.write_bytes(zipped(changed))


class Simple(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


@pytest.mark.parametrize(
    ("operator", "said"),
    [("foo.bar", "needs the operator foo::bar"), ("torchvision.nothing", "torchvision must fit torch")],
)
def test_an_operator_that_is_not_there(operator: str, said: str, tmp_path: Path) -> None:
    path = save(Simple(), tmp_path / "m.pt")
    changed_code(path, "torch.relu(x)", f"ops.{operator}(x)")
    message = refusal(path)
    assert said in message
    assert f"torch {torch.__version__} does not have" in message


def test_code_that_does_not_compile(tmp_path: Path) -> None:
    path = save(Simple(), tmp_path / "m.pt")
    changed_code(path, "torch.relu(x)", "torch.relu(y)")
    assert "cannot load it: undefined value y" in refusal(path)


def test_code_that_reads_files_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_bytes(bytes(64))
    path = save(Simple(), tmp_path / "m.pt")
    changed_code(path, "torch.relu(x)", f'torch.from_file("{target}", True, 8)')
    assert "calls from_file, which reads and writes files" in refusal(path)


@pytest.mark.parametrize(
    "statement",
    [
        "_0 = torch.save(x, 'FILE')",
        "_0 = ops.aten.save (x, 'FILE')",
        "_0 = torch.\\\n save(x, 'FILE')",
        "_0 = (torch).save(x, 'FILE')",
        "_0 = (torch. # here\n save)(x, 'FILE')",
        "f = torch.save\n    _0 = f(x, 'FILE')",
        "_0 = getattr(torch, 'sa' 've')(x, 'FILE')",
        '_0 = getattr(torch, "save")(x, "FILE")',
        '_0 = getattr(torch, "sav\\145")(x, "FILE")',
    ],
)
def test_code_that_writes_files_is_refused_before_it_is_loaded(statement: str, tmp_path: Path) -> None:
    target = tmp_path / "victim"
    path = save(Simple(), tmp_path / "m.pt")
    changed_code(path, "return torch.relu(x)", f"{statement.replace('FILE', str(target))}\n    return x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(path))(torch.zeros(1))  # type: ignore[no-untyped-call]
    assert target.exists(), "torch itself runs it"
    target.unlink()
    message = refusal(path)
    assert "reads and writes files" in message or "puts together" in message
    assert not target.exists()
    assert any("its code would be refused" in warning for warning in inspect_model(path)["warnings"])


def test_names_that_only_look_like_file_operators() -> None:
    code = 'class save(Module):\n  save : List[int]\n  x = __torch__.save.Model\n  y = save(getattr(self.a, "0"))\n'
    assert file_access(code) == ""
    assert file_access('y = (getattr(getattr(self, "0"), "1")).forward(x)') == ""


class ThreeTensors(nn.Module):
    def forward(self, x: Tensor, sizes: Tensor, mask: Tensor) -> Tensor:
        return x * sizes * mask


class TakesText(nn.Module):
    def forward(self, path: str) -> int:
        return len(path)


class TakesNothing(nn.Module):
    def forward(self) -> Tensor:
        return torch.zeros(1)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (ThreeTensors(), "forward(x: Tensor, sizes: Tensor, mask: Tensor) is not supported"),
        (TakesText(), "forward(path: str) is not supported"),
        (TakesNothing(), "forward() is not supported"),
    ],
)
def test_forward_that_takes_something_else(module: nn.Module, said: str, tmp_path: Path) -> None:
    message = refusal(save(module, tmp_path / "m.pt"))
    assert said in message
    assert "forward(Tensor) with (B, 3, H, W)" in message


class NoForward(nn.Module):
    @torch.jit.export
    def detect(self, x: Tensor) -> Tensor:
        return x


def test_no_forward(tmp_path: Path) -> None:
    assert "has no forward()" in refusal(save(NoForward(), tmp_path / "m.pt"))


class GreyOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(2)


class AlwaysRaises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 0:
            raise ValueError("out of order")
        return x


@pytest.mark.parametrize(
    ("module", "said"),
    [(GreyOnly(), "to have 1 channels, but got 3 channels"), (AlwaysRaises(), "out of order")],
)
def test_a_model_that_never_runs(module: nn.Module, said: str, tmp_path: Path) -> None:
    message = refusal(save(module, tmp_path / "m.pt"))
    assert "does not run at any of the usual input sizes" in message
    assert said in message
    assert "does not run at 96x64" in refusal(tmp_path / "m.pt", input_size=(64, 96))


def test_damaged_metadata(tmp_path: Path) -> None:
    assert "are not valid JSON" in refusal(save(Cells(), tmp_path / "m.pt", {"config.txt": "{..."}))


def test_a_file_that_everybody_may_change_is_refused_unless_its_content_is_pinned(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", FILES)
    path.chmod(0o644)
    assert build_detector(path, device="cpu").notes == []
    path.chmod(0o666)
    assert "every user of this machine can change this program; remedy: chmod o-w" in refusal(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert build_detector(path, device="cpu", sha256=digest).notes == []


def test_frozen_and_traced_files_load(tmp_path: Path) -> None:
    """Freezing takes the mode attribute away; loading must not stumble over it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Cells(), torch.zeros(1, 3, 64, 96))
        frozen = torch.jit.freeze(script(Cells()))
    for name, module in (("traced.pt", traced), ("frozen.pt", frozen)):
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(module, str(path))
        detector = build_detector(path, adapter="ultralytics", input_size=(64, 96), device="cpu")
        assert detector.model_info()["adapter"] == "ultralytics"


def test_no_deprecation_warning_reaches_the_user(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", FILES)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        build_detector(path, device="cpu")
    assert [str(warning.message) for warning in seen] == []
