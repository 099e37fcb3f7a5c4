# SPDX-License-Identifier: Apache-2.0
"""What is told of a model file that is only read: checked against torch, and against files that are made to harm."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import ModelLoadError
from pipeline.workshop.inspection import reading
from pipeline.workshop.inspection.inspecting import inspect_model
from pipeline.workshop.inspection.text import described
from tests.models import NAMES, Cells, FixedShape, save, script, tiny_ssd, ultralytics_metadata


class Small(nn.Module):
    """Two convolutions, one of them used twice, a buffer and a half-precision parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.scale = nn.Parameter(torch.ones(8, dtype=torch.float16), requires_grad=False)
        self.register_buffer("mean", torch.zeros(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x - self.mean))
        if y.size(0) > 1:
            for _ in range(3):
                y = y.relu()
        return y * self.scale.to(y.dtype)[:, None, None]


def traced(module: nn.Module, path: Path, *example: Tensor) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module.eval(), example, check_trace=False), str(path))
    return path


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def rezipped(path: Path, **changes: bytes) -> Path:
    """The same archive with other members, or more; ``__`` in a name is a slash, ``_dot_`` a dot."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    root = next(iter(members)).partition("/")[0]
    members |= {f"{root}/{key.replace('__', '/').replace('_dot_', '.')}": data for key, data in changes.items()}
    return zipped(path, members)


def refusal(path: Path) -> str:
    with pytest.raises(ModelLoadError) as error:
        inspect_model(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 600
    return message


def test_weights_are_told_as_torch_counts_them(tmp_path: Path) -> None:
    module = Small()
    path = save(module, tmp_path / "small.pt")
    told = inspect_model(path)
    for kind, tensors in (("parameters", list(module.parameters())), ("buffers", list(module.buffers()))):
        expected: dict[str, dict[str, int]] = {}
        for tensor in tensors:
            of_type = expected.setdefault(
                str(tensor.dtype).removeprefix("torch."), {"tensors": 0, "values": 0, "bytes": 0}
            )
            of_type["tensors"] += 1
            of_type["values"] += tensor.numel()
            of_type["bytes"] += tensor.numel() * tensor.element_size()
        assert told["tensors"][kind] == expected
    assert told["forward"] == "(x: Tensor) -> Tensor"
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told["bytes"] == path.stat().st_size
    assert told["control_flow"]["for"] + told["control_flow"]["while"] >= 1
    assert told["control_flow"]["if"] >= 1
    assert told["operators"]["custom"] == {}
    assert (told["format"], told["warnings"], told["metadata"]["source"]) == ("torchscript", [], None)


def test_a_shared_storage_counts_once(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    module[1].weight = module[0].weight
    told = inspect_model(save(module, tmp_path / "tied.pt"))
    assert told["tensors"]["parameters"]["float32"]["bytes"] == 8 * 8 * 4


def test_frozen_weights_are_constants(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.freeze(script(nn.Conv2d(3, 8, 3))), str(tmp_path / "f.pt"))
    told = inspect_model(tmp_path / "f.pt")
    assert told["tensors"]["parameters"] == {}
    assert told["tensors"]["constants"]["float32"] == {"tensors": 2, "values": 224, "bytes": 896}
    assert told["growth"] == []


def test_a_scripted_detector_of_torchvision(tmp_path: Path) -> None:
    told = inspect_model(save(tiny_ssd(), tmp_path / "ssd.pt"))
    assert told["forward"].startswith("(images: List[Tensor], targets: Optional")
    assert re.fullmatch(r".*\.ssd\.(___torch_mangle_\d+\.)?SSD", told["main"]["class"])
    assert "torchvision::nms" in told["operators"]["other_libraries"]
    assert told["operators"]["custom"] == {}


def test_metadata_of_both_kinds(tmp_path: Path) -> None:
    told = inspect_model(save(Cells(), tmp_path / "u.pt", ultralytics_metadata((64, 96), NAMES)))["metadata"]
    assert (told["source"], told["adapter"], told["input"]) == ("config.txt", "ultralytics", [64, 96])
    assert told["names"] == {"0": "red", "1": "green", "2": "blue"}
    own = {"pipeline.json": {"adapter": "rows", "input": [32, 64], "fixed_batch": 2}}
    told = inspect_model(save(Cells(), tmp_path / "o.pt", own))["metadata"]
    assert (told["source"], told["adapter"], told["fixed_batch"]) == ("pipeline.json", "rows", 2)


def test_damaged_metadata_are_a_warning(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", {"pipeline.json": "{broken", "notes.txt": "read me"})
    told = inspect_model(path)
    assert ["not valid JSON" in warning for warning in told["warnings"]] == [True]
    assert told["metadata"]["files"]["notes.txt"] == "read me"
    deep = save(Cells(), tmp_path / "d.pt", {"pipeline.json": "[" * 100_000})
    assert len(inspect_model(deep)["warnings"]) == 1


def test_the_code_comes_only_where_it_is_wanted(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt")
    assert "text" not in inspect_model(path)["code"]
    text = inspect_model(path, code=True)["code"]["text"]
    assert [name.startswith("__torch__/tests/models") for name in text] == [True]
    assert "avg_pool2d" in "\n".join(described(inspect_model(path, code=True)))


class Unrolled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for index in range(300):
            x = torch.cat((x[:, :1] * 0.5 + float(index), x[:, 1:]), 1)
        return x


def test_a_loop_that_tracing_unrolled_is_named(tmp_path: Path) -> None:
    told = inspect_model(traced(Unrolled(), tmp_path / "m.pt", torch.rand(1, 3, 8, 8)))
    (found,) = told["growth"]
    assert found["what"] == "unrolled loop"
    assert found["share"] > 0.9
    assert "test_workshop_inspect.Unrolled (" in found["text"]
    assert inspect_model(save(Unrolled(), tmp_path / "s.pt"))["growth"] == []


class Anchored(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.arange(100_000).float().numpy()
        return self.conv(x).flatten(1)[:, :1] + torch.from_numpy(grid)


def test_a_constant_that_makes_the_file_large_is_named(tmp_path: Path) -> None:
    told = inspect_model(traced(Anchored(), tmp_path / "m.pt", torch.rand(1, 3, 8, 8)))
    found = told["growth"][0]
    assert (found["what"], found["bytes"]) == ("CONSTANTS.c0", 400_000)
    assert found["share"] > 0.9
    assert "float32 100000" in found["text"]
    assert "Anchored" in found["text"] or "test_workshop_inspect.py:" in found["text"]


def test_baked_shapes_are_named(tmp_path: Path) -> None:
    told = inspect_model(traced(FixedShape(2, 64, 64), tmp_path / "m.pt", torch.rand(2, 3, 64, 64)))
    assert {"operator": "view", "shape": "[2, 3, 64, 64]"} in [
        {"operator": shape["operator"], "shape": shape["shape"]} for shape in told["baked_shapes"] if shape["batch"]
    ]
    assert "view [2, 3, 64, 64]" in "\n".join(described(told))


class Clipped(nn.Module):
    """Scripted by one test only: torch numbers the files of classes that it meets again."""

    def forward(self, argument_1: torch.Tensor) -> torch.Tensor:
        return argument_1.relu()


def test_operators_of_an_unknown_library_and_of_files(tmp_path: Path) -> None:
    path = save(Clipped(), tmp_path / "m.pt")
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("test_workshop_inspect.py")]
        code = archive.read(name)
    line = code[code.rindex(b"    return") :]
    changed = code.replace(line, b"    _9 = ops.mylib.fast_nms(argument_1)\n    _8 = torch.from_file('x')\n" + line)
    told = inspect_model(rezipped(path, **{name.partition("/")[2].replace("/", "__"): changed}))
    assert told["operators"]["custom"] == {"mylib::fast_nms": 1}
    assert any("mylib::fast_nms" in warning for warning in told["warnings"])
    assert any("from_file" in warning for warning in told["warnings"])


def test_a_file_that_all_may_write(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt")
    path.chmod(0o666)
    assert inspect_model(path)["world_writable"]
    assert "chmod o-w" in inspect_model(path)["warnings"][0]


def test_a_lite_file(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script(Cells())._save_for_lite_interpreter(str(tmp_path / "m.ptl"))
    told = inspect_model(tmp_path / "m.ptl")
    assert told["format"] == "lite"
    assert told["forward"] == "(x: Tensor) -> Tensor"


def test_an_exported_program(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
        torch.export.save(program, str(tmp_path / "m.pt2"), extra_files={"pipeline.json": '{"adapter": "rows"}'})
    told = inspect_model(tmp_path / "m.pt2")
    assert told["format"] == "pt2"
    assert told["tensors"]["parameters"]["float32"] == {"tensors": 4, "values": 120, "bytes": 480}
    assert told["tensors"]["buffers"]["int64"]["values"] == 1
    assert list(told["dynamic"].values()) == [[1, 16]]
    assert "3, 8, 8]) -> float32 [" in told["forward"]
    assert told["metadata"]["adapter"] == "rows"
    assert "torch.export archive" in "\n".join(described(told))
    broken = rezipped(tmp_path / "m.pt2", models__model_dot_json=b'{"graph_module": []}')
    assert "damaged" in refusal(broken)
    broken = rezipped(tmp_path / "m.pt2", models__model_dot_json=b"[" * 100_000)
    assert "not valid JSON" in refusal(broken)


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words\n")
    assert "a text file" in refusal(tmp_path / "a.txt")
    torch.save({"w": torch.zeros(2)}, tmp_path / "w.pt")
    assert "weights (a state_dict) without a program" in refusal(tmp_path / "w.pt")
    assert "a zip archive of 1 file " in refusal(zipped(tmp_path / "a.zip", {"a/b": b""}))
    assert "no such model file" in refusal(tmp_path / "nowhere.pt")
    assert "a directory" in refusal(tmp_path)
    assert "a pipe or a device" in refusal(Path("/dev/zero"))


def test_a_member_that_expands_without_measure_is_refused_unread(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt")
    assert "expands to" in refusal(rezipped(path, code__bomb_dot_py=bytes(reading.MOST_MEMBER + 1)))


def test_many_members_that_expand_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_READ", 1 << 20)
    monkeypatch.setattr(reading.Members.__init__, "__defaults__", (1 << 20,))
    path = save(Cells(), tmp_path / "m.pt")
    assert "expands to" in refusal(rezipped(path, **{f"code__b{n}_dot_py": bytes(200_000) for n in range(10)}))


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """The table of contents names one stored member a hundred times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data/0", bytes(1000))
        info = archive.infolist()[0]
        archive.filelist.extend([info] * 100)
    (tmp_path / "m.pt").write_bytes(buffer.getvalue())
    assert "overlap" in refusal(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (b"\n" * 2_000_000, "more than 1,000,000 lines"),
        (b"def f(\n" * 200_000, "more than 50,000 methods"),
        (b"".join(b" " * n + b"def f(x):\n" for n in range(3_000)), None),
        (b"torch.view(" * 400_000, None),
        ((b"x = " + b"torch.view(x, " * 1_400 + b"[\n") * 60, None),
        (b"CONSTANTS.c" * 300_000, None),
    ],
    ids=["lines", "methods", "staircase", "long line", "many long lines", "constants"],
)
def test_code_that_is_made_to_take_long_does_not(code: bytes, said: str | None, tmp_path: Path) -> None:
    begun = time.process_time()  # of this process alone: the machine may be busy
    path = rezipped(save(Cells(), tmp_path / "m.pt"), code__slow_dot_py=code)
    if said is None:
        assert inspect_model(path)["format"] == "torchscript"
    else:
        assert said in refusal(path)
    assert time.process_time() - begun < 20  # quadratic work here takes minutes


def test_a_table_of_contents_without_measure_is_refused(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt")
    for plain in (False, True):
        data = bytearray((rezipped(path) if plain else path).read_bytes())
        end = data.rindex(b"PK\x05\x06")
        if plain:
            struct.pack_into("<L", data, end + 12, reading.MOST_DIRECTORY + 1)
        else:  # torch writes the 64-bit form, which goes before
            struct.pack_into("<Q", data, end - 76 + 40, reading.MOST_DIRECTORY + 1)
        (tmp_path / "changed.pt").write_bytes(data)
        assert "table of contents" in refusal(tmp_path / "changed.pt")


def test_packing_that_torch_cannot_read_is_refused(tmp_path: Path) -> None:
    """Python's reader expands bzip2 and LZMA without a bound."""
    path = zipped(
        tmp_path / "m.pt", {"m/code/a.py": bytes(1 << 20), "m/constants.pkl": b")."}, compression=zipfile.ZIP_BZIP2
    )
    assert "packed in a way that torch cannot read" in refusal(path)


def test_doubtful_members_and_pickles_are_warned_of(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt")
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for name, data in [*members, (members[0][0], b"again"), ("other/\x1b[31mred", b"")]:
            archive.writestr(name, data)
    told = inspect_model(path)
    assert any("two members are called" in warning for warning in told["warnings"])
    assert any("lies outside the folder" in warning for warning in told["warnings"])
    assert all(line.isprintable() for line in described(told))
    evil = rezipped(save(Cells(), tmp_path / "e.pt"), data_dot_pkl=b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    assert any("os.system" in warning for warning in inspect_model(evil)["warnings"])
    broken = rezipped(save(Cells(), tmp_path / "b.pt"), data_dot_pkl=b"\x80\x02((((.")
    assert "data.pkl cannot be read" in refusal(broken)


def outcome(path: Path) -> str:
    """``refused`` or ``described``; what is said in either case must fit a terminal and JSON."""
    try:
        told = inspect_model(path)
    except ModelLoadError as error:
        lines, ended = [str(error)], "refused"
    else:
        json.dumps(told)
        lines, ended = list(described(told)), "described"
    assert all(line.isprintable() for line in lines)
    return ended


@pytest.mark.parametrize("seed", range(4))
def test_bytes_changed_at_random_are_described_or_refused(seed: int, tmp_path: Path) -> None:
    whole = save(Small(), tmp_path / "m.pt", ultralytics_metadata((64, 96), NAMES)).read_bytes()
    chance = random.Random(seed)
    path = tmp_path / "changed.pt"
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 3, 20))):
            at = chance.randrange(len(data)) if chance.random() < 0.5 else len(data) - 1 - chance.randrange(1500)
            data[at] = chance.randrange(256)
        path.write_bytes(data)
        refused += outcome(path) == "refused"
    assert refused > 20


@pytest.mark.parametrize("seed", range(3))
def test_members_changed_at_random_are_described_or_refused(seed: int, tmp_path: Path) -> None:
    """Checksums are right here: pickles, code and metadata themselves are damaged."""
    path = save(Small(), tmp_path / "m.pt", ultralytics_metadata((64, 96), NAMES))
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    wanted = [name for name in members if name.endswith((".pkl", ".py", ".txt"))]
    chance = random.Random(seed)
    outcomes = set()
    for _ in range(60):
        changed: dict[str, Any] = dict(members)
        name = chance.choice(wanted)
        data = bytearray(changed[name])
        for _ in range(chance.choice((1, 3, 20))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        changed[name] = bytes(data)
        zipped(path, changed, zipfile.ZIP_STORED)
        outcomes.add(outcome(path))
    assert outcomes == {"refused", "described"}


def test_looking_needs_no_torch(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt")
    program = (
        "import sys; from pathlib import Path; from pipeline.workshop.inspection.inspecting import inspect_model\n"
        "inspect_model(Path(sys.argv[1])); print({'torch', 'numpy', 'cv2'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "set()"
