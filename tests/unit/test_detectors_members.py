# SPDX-License-Identifier: Apache-2.0
"""What is looked at in a model file is what torch reads of it: archives that show each of them something else are
refused. Each trick is first shown to work on torch itself."""

from __future__ import annotations

import io
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
from pipeline.detectors.loading.members import read_directory
from pipeline.errors import ModelLoadError
from pipeline.workshop.inspection.inspecting import inspect_model
from tests.models import Cells, script

Parts = list[tuple[str, bytes]]


class Reads(nn.Module):
    """It would read a file."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_file("/etc/hostname", False, 1, dtype=torch.uint8)


class Harmless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1.0


def parts(data: bytes, root: str) -> Parts:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(f"{root}/{name.partition('/')[2]}", archive.read(name)) for name in archive.namelist()]


def packed(members: Parts, comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w") as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.comment = comment if name == members[-1][0] else b""
            archive.writestr(info, data)
    return made.getvalue()


def scripted(module: nn.Module) -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(script(module), made)
    return made.getvalue()


def exported(module: nn.Module) -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, (torch.zeros(2),)), made)
    return made.getvalue()


def code_of(data: bytes) -> str:
    """What torch makes of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(torch.jit.load(io.BytesIO(data)).code)  # type: ignore[no-untyped-call]


def two_tables(first: bytes, second: bytes) -> bytes:
    """An archive whose end names the table of the first one by its offset, but is preceded by that of the second.

    Python's reader takes the table before the end and shifts all offsets; torch's takes the offset at its word.
    """
    one, other = first.rindex(b"PK\x05\x06"), second.rindex(b"PK\x05\x06")
    size, offset = struct.unpack_from("<LL", first, one + 12)
    length, begin = struct.unpack_from("<LL", second, other + 12)
    assert length == size
    shift = one - (one + other - size - offset)
    table = bytearray(second[begin:other])
    at = 0
    while at < len(table):
        lengths = struct.unpack_from("<HHH", table, at + 28)
        (where,) = struct.unpack_from("<L", table, at + 42)
        struct.pack_into("<L", table, at + 42, where + shift)
        at += 46 + sum(lengths)
    return first[:one] + second[:begin] + bytes(table) + second[other : other + 12] + first[one + 12 : one + 22]


def _two_roots(evil: Parts, good: Parts) -> bytes:
    return packed(evil + good)


def _capitals(evil: Parts, good: Parts) -> bytes:
    return packed([*((name.replace("/code/", "/CODE/"), data) for name, data in evil), ("evil/code/x.py", b"")])


def _two_tables(evil: Parts, good: Parts) -> bytes:
    short, long = packed(good), packed(evil)
    lacking = _table(long) - _table(short)
    return two_tables(packed(evil, b"x" * max(0, -lacking)), packed(good, b"x" * max(0, lacking)))


def _table(data: bytes) -> int:
    return int(struct.unpack_from("<L", data, data.rindex(b"PK\x05\x06") + 12)[0])


@pytest.mark.parametrize(
    ("trick", "said"),
    [
        (_two_roots, "lies outside the folder evil"),
        (_capitals, r"is what torch reads as code/__torch__"),
        (_two_tables, "table of contents is not where torch looks for it"),
    ],
)
def test_torchscript_that_torch_reads_otherwise(
    trick: Callable[[Parts, Parts], bytes], said: str, tmp_path: Path
) -> None:
    data = trick(parts(scripted(Reads()), "evil"), parts(scripted(Harmless()), "good"))
    assert "from_file" in code_of(data), "torch reads the evil one"
    path = tmp_path / "m.pt"
    path.write_bytes(data)
    with pytest.raises(ModelLoadError, match=said) as error:
        build_detector(path, device="cpu")
    assert "\n" not in str(error.value)
    assert any(said.split("/")[0] in warning for warning in inspect_model(path)["warnings"])


def test_an_exported_program_of_another_root_is_not_what_is_looked_at() -> None:
    evil = [
        (name, data.replace(b"torch.ops.aten.add.Tensor", b"torch.os.system"))
        for name, data in parts(exported(Harmless()), "evil")
    ]
    assert any(b"torch.os.system" in data for _, data in evil)
    good = parts(exported(Harmless()), "good")
    data = packed(evil + good)
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    assert b"torch.os.system" in reader.get_record("models/model.json"), "torch reads the evil one"
    with pytest.raises(ModelLoadError, match="lies outside the folder evil"):
        read_archive(data, "m.pt2")
    with pytest.raises(ModelLoadError, match=r"refused: it calls 'torch\.os\.system'"):
        read_archive(packed(evil), "m.pt2")
    with pytest.raises(ModelLoadError, match="outside the folder good"):
        read_archive(packed(good + evil), "m.pt2")


def aotinductor(root: str, machine: str) -> Parts:
    folder = f"{root}/data/aotinductor/model/x.wrapper"
    return [(f"{folder}_metadata.json", f'{{"AOTI_MACHINE": "{machine}"}}'.encode()), (f"{folder}.so", b"\x7fELF")]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (aotinductor("evil", "riscv128") + aotinductor("good", "here"), "lies outside the folder evil"),
        (aotinductor("m", "riscv128") + aotinductor("m", "here"), r"two members are called data/aotinductor"),
        (
            [*aotinductor("m", "riscv128"), ("m/data/aotinductor/model/y.wrapper_metadata.json", b"{}")],
            r"has 2 members \*wrapper_metadata\.json",
        ),
        (
            [*aotinductor("m", "a"), ("m/data/aotinductor/model/y.wrapper.so", b"\x7fELF")],
            r"has 2 members \*\.wrapper\.so",
        ),
    ],
)
def test_packages_with_two_faces(members: Parts, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(packed(members))
    with pytest.raises(ModelLoadError, match=said):
        build_detector(path, device="cpu")


@pytest.mark.parametrize("make", [scripted, exported])
@pytest.mark.parametrize("again", [str, lambda name: f"{name[:-8]}{name[-8:].upper()}"])
def test_duplicates_are_refused(make: Callable[[nn.Module], bytes], again: Callable[[str], str]) -> None:
    members = parts(make(Harmless()), "m")
    twin = again(next(name for name, _ in members if name.endswith((".py", "models/model.json"))))
    for both in ([*members, (twin, b"{}")], [(twin, b"{}"), *members]):
        with pytest.raises(ModelLoadError, match="two members are called"):
            read_archive(packed(both), "m.pt")


def test_names_that_end_at_a_null_byte_are_refused() -> None:
    """Python's reader cuts them there, torch's does not."""
    data = packed([*parts(scripted(Harmless()), "m"), ("m/extra/ab", b"x")]).replace(b"m/extra/ab", b"m/extra/\x00b")
    with pytest.raises(ModelLoadError, match="is also called m/extra/"):
        read_archive(data, "m.pt")


def test_what_torch_and_other_programs_write_is_taken() -> None:
    for data in (scripted(Cells()), exported(Harmless())):
        members = parts(data, "m")
        repacked = packed([("m/", b""), *members[:1], ("m/extra/", b""), *members[1:]])
        for each in (data, packed(members), repacked):
            assert read_directory(io.BytesIO(each)).certain
            assert read_archive(each, "m.pt").members >= len(members)


@pytest.mark.parametrize("at", [-76 + 48, -20 + 8], ids=["the table's offset", "the record's offset"])
def test_offsets_of_the_long_form_are_compared(at: int) -> None:
    """torch writes the 64-bit records, and Python's reader never looks at where they say that they are."""
    data = bytearray(scripted(Harmless()))
    end = data.rindex(b"PK\x05\x06")
    (value,) = struct.unpack_from("<Q", data, end + at)
    struct.pack_into("<Q", data, end + at, value - 1)
    with pytest.raises(ModelLoadError):
        read_archive(bytes(data), "m.pt")
    assert not read_directory(io.BytesIO(bytes(data))).certain
