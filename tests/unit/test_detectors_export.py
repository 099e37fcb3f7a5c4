# SPDX-License-Identifier: Apache-2.0
"""torch.export archives behind the same detector: what they were exported for is found, and what torch would unpickle
or evaluate of them is refused before it does."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.detectors import build_detector
from pipeline.errors import InferenceError, ModelLoadError
from pipeline.frame import InputSpec
from tests.models import NAMES, Cells, batch_of, painted, save, ultralytics_metadata

SIZE = (64, 96)
SPEC = InputSpec(*SIZE)
OWN = {"pipeline.json": {"adapter": "ultralytics", "names": {"0": "red", "1": "green", "2": "blue"}}}
RED, BLUE = (255, 0, 0), (0, 0, 255)


class Listed(nn.Module):
    """Takes a list of two pictures and returns what torchvision's detectors do, with one box each."""

    def forward(self, pictures: list[Tensor]) -> list[dict[str, Tensor]]:
        found = []
        for picture in pictures:
            score = picture.mean().reshape(1)
            box = torch.stack((score * 0, score * 0, score * 0 + 32, score * 0 + 32), 1)
            found.append({"boxes": box, "scores": score, "labels": torch.ones(1, dtype=torch.int64)})
        return found


class Sized(Cells):
    """Two inputs and three outputs, as deployed RT-DETR models have them."""

    def forward(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        boxes, scores = self.cells(x)
        best, labels = scores.max(1)
        centre, side = boxes.transpose(1, 2).split(2, 2)
        corners = torch.cat((centre - side / 2, centre + side / 2), 2)
        whole = torch.tensor([x.size(3), x.size(2)] * 2)
        return labels, corners / whole * sizes.repeat(1, 2).unsqueeze(1), best


class OfBytes(Cells):
    """Grey levels, (B, H, W, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x.permute(0, 3, 1, 2).float() / 255.0)
        return torch.cat((boxes, scores), 1)


def stored(module: nn.Module, example: tuple[Any, ...], dynamic: Any = None, side_files: Any = None) -> bytes:
    files = {key: json.dumps(value) for key, value in (side_files or {}).items()}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), example, dynamic_shapes=dynamic)
        torch.export.save(program, buffer, extra_files=files)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def cells() -> bytes:
    """Batches of 1 to 4, one size."""
    batch = torch.export.Dim("batch", min=1, max=4)
    return stored(Cells(), (torch.zeros(2, 3, *SIZE),), ({0: batch},), OWN)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Any]:
    def made(data: bytes, **options: Any) -> Any:
        path = tmp_path / "m.pt2"
        path.write_bytes(data)
        return build_detector(path, device="cpu", **options)

    return made


def test_it_detects_what_its_torchscript_twin_detects(cells: bytes, build: Any, tmp_path: Path) -> None:
    exported = build(cells)
    scripted = build_detector(save(Cells(), tmp_path / "m.pt", OWN), device="cpu", input_size=SIZE)
    batch = batch_of(SPEC, painted(SPEC, {(0, 1): RED}), painted(SPEC, {(1, 2): BLUE}))
    for one, other in zip(exported.submit(batch).result(), scripted.submit(batch).result(), strict=True):
        assert len(one) == 1
        np.testing.assert_array_equal(one.xyxy, other.xyxy)
        np.testing.assert_array_equal(one.confidence, other.confidence)
        np.testing.assert_array_equal(one.class_id, other.class_id)
    info = exported.model_info()
    assert (info["format"], info["adapter"], info["input"]) == ("torch.export", "ultralytics", list(SIZE))


def test_its_range_of_batches_is_known_and_said(cells: bytes, build: Any) -> None:
    detector = build(cells, max_batch=16)
    assert (detector.max_batch, detector.verdict.fixed, detector.verdict.trim) == (4, None, 0)
    assert any("batches are limited to 4: it was exported for batches of up to 4" in note for note in detector.notes)
    assert build(cells, max_batch=3).max_batch == 3


def test_a_batch_size_that_it_was_exported_for_alone_is_padded_to(build: Any) -> None:
    detector = build(stored(Cells(), (torch.zeros(2, 3, *SIZE),), None, OWN), max_batch=8)
    assert (detector.max_batch, detector.verdict.fixed) == (2, 2)
    (found,) = detector.submit(batch_of(SPEC, painted(SPEC, {(0, 1): RED}))).result()
    assert found.class_id.tolist() == [0]


def test_another_input_size_is_refused_with_the_remedy(cells: bytes, build: Any) -> None:
    with pytest.raises(ModelLoadError, match=r"does not run at 96x96.*exported for \[64, 96\] only: leave model.input"):
        build(cells, input_size=(96, 96))


def test_open_sizes_are_trimmed_where_that_changes_nothing(build: Any) -> None:
    rows, columns = torch.export.Dim("rows", min=1, max=20), torch.export.Dim("columns", min=1, max=20)
    shapes = ({0: torch.export.Dim("batch", min=1, max=8), 2: 32 * rows, 3: 32 * columns},)
    detector = build(stored(Cells(), (torch.zeros(2, 3, 96, 128),), shapes, OWN), input_size=(160, 160))
    assert (detector.spec.height, detector.spec.trim, detector.max_batch) == (160, 32, 8)


def test_metadata_of_ultralytics(build: Any) -> None:
    data = stored(Cells(), (torch.zeros(1, 3, *SIZE),), None, ultralytics_metadata(SIZE, NAMES))
    detector = build(data)
    assert (detector.labels, detector.model_info()["adapter"]) == (NAMES, "ultralytics")


def test_bytes_with_the_channels_last_are_fed_as_they_are(build: Any) -> None:
    example = torch.zeros(2, *SIZE, 3, dtype=torch.uint8)
    detector = build(stored(OfBytes(), (example,), ({0: torch.export.Dim("batch", min=1, max=8)},), OWN))
    told = detector.model_info()["input_spec"]
    assert (told["dtype"], told["layout"], told["scale"]) == ("uint8", "nhwc", 1.0)
    (found,) = detector.submit(batch_of(SPEC, painted(SPEC, {(0, 1): RED}))).result()
    assert found.class_id.tolist() == [0]


def test_a_list_of_pictures(build: Any) -> None:
    detector = build(stored(Listed(), ([torch.rand(3, *SIZE), torch.rand(3, *SIZE)],)))
    assert (detector.model_info()["adapter"], detector.verdict.fixed) == ("torchvision", 2)
    found = detector.submit(batch_of(SPEC, np.full((*SIZE, 3), 255, np.uint8))).result()
    assert [each.class_id.tolist() for each in found] == [[1]]


def test_pictures_and_sizes(build: Any) -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    example = (torch.zeros(2, 3, *SIZE), torch.zeros(2, 2, dtype=torch.int64))
    detector = build(stored(Sized(), example, ({0: batch}, {0: batch})))
    assert detector.model_info()["adapter"] == "rtdetr"
    (found,) = detector.submit(batch_of(SPEC, painted(SPEC, {(0, 1): RED}))).result()
    np.testing.assert_allclose(found.xyxy, [[32, 0, 64, 32]], atol=1e-3)


class Odd(nn.Module):
    def forward(self, x: Tensor, **more: Tensor) -> Tensor:
        return x + sum(more.values())


def test_other_signatures_are_refused(build: Any) -> None:
    program = torch.export.export(Odd(), (torch.zeros(1, 3, 32, 32),), {"bias": torch.zeros(1)})
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    with pytest.raises(ModelLoadError, match=r"a program that takes \(Tensor, bias=\) is not supported"):
        build(buffer.getvalue())
    with pytest.raises(ModelLoadError, match=r"takes a tensor \(1, 4, 32, 32\); pictures"):
        build(stored(nn.Identity(), (torch.zeros(1, 4, 32, 32),)))
    with pytest.raises(ModelLoadError, match="takes float64; one of float32"):
        build(stored(nn.Identity(), (torch.zeros(1, 3, 32, 32, dtype=torch.float64),)))


def test_nothing_of_a_failing_program_reaches_the_terminal(
    cells: bytes, build: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    detector = build(cells)
    with pytest.raises(InferenceError, match="Guard failed"):
        _run(detector, 9)
    assert capfd.readouterr().err == ""


def _run(detector: Any, count: int) -> None:
    """More pictures than it takes, past the detector's own limit."""
    network = detector._network
    network.capacity = count
    network.run([np.zeros(SPEC.shape, np.uint8)] * count, count)


def test_the_pin_is_that_of_the_bytes(cells: bytes, build: Any) -> None:
    with pytest.raises(ModelLoadError, match="is pinned"):
        build(cells, sha256="0" * 64)


def test_everybodys_file_is_refused(cells: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(cells)
    path.chmod(0o666)
    with pytest.raises(ModelLoadError, match="every user of this machine can change this program"):
        build_detector(path, device="cpu")


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def changed(data: bytes, member: str, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with one member replaced."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, change(content) if info.filename.endswith(member) else content)
    return made.getvalue()


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old.encode() in content, "the test changes nothing"
        return content.replace(old.encode(), new.encode())

    return change


def test_an_archive_that_was_packed_again_is_loaded(cells: bytes, build: Any) -> None:
    assert build(changed(cells, "byteorder", lambda content: content)).max_batch == 4


PROGRAM = "models/model.json"
EVIL: dict[str, tuple[str, str, str, str]] = {
    "a size": (PROGRAM, "Symbol('", "__import__('os').system('touch FILE') or Symbol('", "not arithmetic"),
    "a function": (PROGRAM, "Symbol('", "exec('FILE') or Symbol('", "not arithmetic"),
    "a guard": (PROGRAM, '"guards_code": []', "\"guards_code\": [\"open('FILE', 'w')\"]", "not arithmetic"),
    "an attribute": (PROGRAM, '"guards_code": []', '"guards_code": ["torch.os.system(1)"]', "not arithmetic"),
    "an operator": (PROGRAM, "torch.ops.aten.avg_pool2d.default", "torch.os.system", "not an operator"),
    "a name within": (PROGRAM, "torch.ops.aten.avg_pool2d.default", "torch.ops.aten.__class__", "not an operator"),
    "a file": (PROGRAM, "torch.ops.aten.avg_pool2d.default", "torch.ops.aten.from_file.default", "reads and writes"),
    "a file of its own": (PROGRAM, "torch.ops.aten.avg_pool2d.default", "torch.ops.aten.save", "reads and writes"),
    "an input": (
        PROGRAM,
        '"forward_arg_names": ["x"]',
        '"forward_arg_names": ["x=open(1)"]',
        "an input that is called",
    ),
    "weights": ("constants_config.json", "{}", '{"w": {"use_pickle": true}}', "a pickled object"),
    "an object": ("constants_config.json", "{}", '{"w": {"path_name": "opaque_obj_0"}}', "a pickled object"),
}


@pytest.mark.parametrize("kind", EVIL)
def test_what_torch_would_evaluate_or_unpickle_is_refused(kind: str, cells: bytes, build: Any, tmp_path: Path) -> None:
    member, old, new, said = EVIL[kind]
    trace = tmp_path / "trace"
    data = changed(cells, member, replaced(old, new.replace("FILE", str(trace))))
    with pytest.raises(ModelLoadError, match=r"this torch\.export archive is refused") as error:
        build(data)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not trace.exists()


def test_example_inputs_that_are_more_than_tensors_are_not_unpickled(cells: bytes, build: Any, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    buffer = io.BytesIO()
    torch.save(Touch(trace), buffer)
    with pytest.raises(ModelLoadError, match="its example inputs are more than tensors"):
        build(changed(cells, "sample_inputs/model.pt", lambda content: buffer.getvalue()))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Touch(trace)))
    assert trace.exists(), "unpickling it would have been seen"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: b"{" + text, "description of the program is damaged"),
        (lambda text: b"[" * 100_000, "description of the program is damaged"),
        (
            lambda text: text.replace(b'"schema_version": {"major": ', b'"schema_version": {"major": 9'),
            "export it again",
        ),
        (lambda text: b"{}", "cannot load this torch.export archive"),
    ],
)
def test_damage_is_one_line(change: Callable[[bytes], bytes], said: str, cells: bytes, build: Any) -> None:
    with pytest.raises(ModelLoadError, match=said) as error:
        build(changed(cells, PROGRAM, change))
    assert "\n" not in str(error.value)


def test_an_archive_of_an_older_torch(build: Any) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("version", "8.4")
    with pytest.raises(ModelLoadError, match=r"written by torch 2\.7 or older; export it again"):
        build(made.getvalue())
