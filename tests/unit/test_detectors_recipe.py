# SPDX-License-Identifier: Apache-2.0
"""Recipes change how fast a program is, not what it says; a way that serves one shape leaves all others alone."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.detectors import build_detector
from pipeline.detectors.loading.devices import keep_lists, move_constants
from pipeline.detectors.loading.graphs import Graphed, alike, copied
from pipeline.detectors.loading.preparing import Specialised, prepare
from pipeline.detectors.loading.recipe import DEFAULT, Recipe
from pipeline.detectors.torch_messages import quiet
from pipeline.errors import ModelLoadError
from pipeline.frame import InputSpec
from tests.learned import SIDE, fitted
from tests.models import NAMES, Cells, save, tiny_ssd, trace, ultralytics_metadata


@pytest.fixture(scope="module")
def stored() -> bytes:
    """A small residual detector, traced."""
    buffer = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.trace(fitted("resnet"), torch.rand(1, 3, SIDE, SIDE)), buffer)
    return buffer.getvalue()


def loaded(stored: bytes) -> torch.nn.Module:
    with quiet():
        return torch.jit.load(io.BytesIO(stored))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_layout_and_freezing_change_nothing_but_roundings(stored: bytes, frozen: bool, channels_last: bool) -> None:
    module = prepare(loaded(stored), Recipe(frozen=frozen, channels_last=channels_last))
    assert bool(list(module.parameters())) is not frozen
    if not frozen:
        weight = next(value for name, value in module.named_parameters() if name.endswith("second.weight"))
        assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last
    given = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(module(given), fitted("resnet")(given), atol=1e-4, rtol=1e-4)


def test_devices_that_tracing_wrote_down_are_changed(tmp_path: Path) -> None:
    """Shown with a device that computes nothing, so that it can be seen on any machine."""
    module = loaded(trace(Cells(), InputSpec(96, 128), tmp_path / "traced.pt").read_bytes())
    here = torch.device("cpu")
    assert move_constants(module, here) == 0, "they are as they should be"
    assert move_constants(module, torch.device("meta")) > 0
    assert move_constants(module, here) > 0
    given = torch.rand(2, 3, 96, 128)
    with torch.inference_mode():
        torch.testing.assert_close(module(given), Cells()(given))


def test_one_shape_takes_the_special_way_and_all_others_the_plain_one(stored: bytes) -> None:
    module = prepare(loaded(stored), Recipe(way="optimized", shape=(2, 3, SIDE, SIDE)))
    assert isinstance(module, Specialised)
    given = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = fitted("resnet")(given)
        for count in (2, 3):
            torch.testing.assert_close(module(given[:count]), expected[:count], atol=1e-4, rtol=1e-4)
    told = Specialised(module.shape, lambda given: "special", torch.nn.Identity())
    assert told(given[:2]) == "special"
    assert told(given) is given
    pictures = [given[0]]
    assert told(pictures) is pictures  # lists of pictures are none of its business


def test_what_cannot_be_had_is_refused_in_one_line(stored: bytes) -> None:
    with pytest.raises(ModelLoadError, match="AOTInductor is not available: there is no package"):
        prepare(loaded(stored), Recipe(way="aotinductor", shape=(1, 3, SIDE, SIDE)))
    if not torch.cuda.is_available():
        with pytest.raises(ModelLoadError, match="CUDA graph is not available: there is no GPU"):
            prepare(loaded(stored), Recipe(way="cuda_graph", shape=(1, 3, SIDE, SIDE)))
    with pytest.raises(ModelLoadError, match="serves one input shape"):
        prepare(loaded(stored), Recipe(way="optimized"))


def test_the_package_that_was_compared_is_the_one_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever puts another file into its place meanwhile changes nothing; and it is guarded as a model file is."""
    from pipeline.detectors.loading import aotinductor, load

    given: list[bytes] = []
    seen: list[bytes] = []

    def replaced(path: Path, name: str, sha256: str | None) -> bytes:
        data = read(path, name, sha256)
        if path.suffix == ".pt2":
            path.write_bytes(b"another")
        return data

    def stand_in(data: bytes, device: torch.device, name: str) -> Any:
        seen.append(data)
        return lambda batch: given.append(batch) or fitted("resnet")(batch), []

    package = tmp_path / "p.pt2"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("p/data/aotinductor/model/x.wrapper.cpp", checks((1, 3, SIDE, SIDE)))
    data = package.read_bytes()
    read = load._read
    monkeypatch.setattr(load, "_read", replaced)
    monkeypatch.setattr(aotinductor, "_loaded", stand_in)
    model = save(fitted("resnet"), tmp_path / "a.pt")
    digest = hashlib.sha256(data).hexdigest()
    recipe = Recipe(way="aotinductor", shape=(1, 3, SIDE, SIDE), file=str(package), sha256=digest)
    module = load.load_model(model, recipe=recipe).module
    assert seen == [data]
    with torch.inference_mode():
        module(torch.rand(1, SIDE, SIDE, 3).permute(0, 3, 1, 2))
        assert given[-1].is_contiguous(), "the layout that it was compiled for"
        with pytest.raises(ValueError, match="it was compiled for float32"):
            module(torch.rand(1, 3, SIDE, SIDE).double())


def checks(shape: tuple[int, ...]) -> str:
    """As they stand in the source that a package brings."""
    sides = (
        f'"input_handles[0]: unmatched dim value at {axis}, expected: {side}, "' for axis, side in enumerate(shape)
    )
    strides = f'"input_handles[0]: unmatched stride value at {len(shape) - 1}, expected: 1, "'
    return "\n".join(("int32_t arg0_1_expected_dtype = aoti_torch_dtype_float32();", *sides, strides))


def test_a_copy_is_run_in_place_of_the_file_and_only_if_it_is_the_one(tmp_path: Path) -> None:
    facts = ultralytics_metadata((SIDE, SIDE), NAMES)
    model, copy = save(fitted("resnet"), tmp_path / "a.pt", facts), save(fitted("csp"), tmp_path / "b.pt", facts)
    own = build_detector(model, device="cpu")
    digest = build_detector(copy, device="cpu").model_info()["sha256"]
    detector = build_detector(model, device="cpu", recipe=Recipe(file=str(copy), sha256=digest))
    assert detector.model_info()["sha256"] == own.model_info()["sha256"]
    assert detector.model_info()["path"] == str(model)
    given = torch.rand(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        torch.testing.assert_close(detector._network.module(given), fitted("csp")(given), atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelLoadError, match=r"b\.pt: the file's SHA-256 is"):
        build_detector(model, device="cpu", recipe=Recipe(file=str(copy), sha256="0" * 64))


def test_recipes_survive_json_and_have_names() -> None:
    recipe = Recipe(way="optimized", shape=(4, 3, 224, 352), precision="bf16")
    assert Recipe.of(recipe.as_dict()) == recipe
    assert recipe.name == "optimize_for_inference bf16"
    assert DEFAULT.name == "frozen channels_last"
    assert Recipe(frozen=False, channels_last=False).name == "plain"
    with pytest.raises(TypeError):
        Recipe.of({"unknown": 1})


def test_outputs_of_a_graph_are_copied_out_and_compared() -> None:
    one = {"boxes": [torch.rand(2, 4), torch.rand(2)], "count": 2, "rest": (torch.zeros(0), None)}
    other = copied(one)
    assert alike(one, other)
    other["boxes"][0] += 1.0  # of its own memory
    assert not alike(one, other)
    for different in (
        {**one, "count": 3},
        {**one, "boxes": one["boxes"][:1]},
        {"boxes": one["boxes"]},
        {**one, "rest": (torch.zeros(1), None)},
        list(one),
    ):
        assert not alike(one, different)


def test_where_the_recording_of_a_graph_runs_out_of_memory_the_program_is_run_as_it_was() -> None:
    calls = 0

    def program(given: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return given + 1.0

    graphed, given = Graphed(program), torch.zeros(2)
    with pytest.raises(torch.OutOfMemoryError):
        graphed(given)
    assert graphed(given).tolist() == [1.0, 1.0]
    assert calls == 2


def test_lists_of_tensors_stay_where_the_code_expects_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``map_location`` takes torchvision's anchor sizes along, which ``Module.to`` would not do."""
    path = save(tiny_ssd(), tmp_path / "ssd.pt")
    with quiet():
        module = torch.jit.load(str(path), map_location="meta")
    anchors = module.anchor_generator
    assert anchors._wh_pairs[0].device.type == "meta"
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: torch.ones(self.shape))  # nothing comes back from there
    assert keep_lists(module) == 1
    assert [pair.device.type for pair in anchors._wh_pairs] == ["cpu"] * 2
