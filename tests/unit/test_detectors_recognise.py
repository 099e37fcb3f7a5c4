# SPDX-License-Identifier: Apache-2.0
"""How a model file is told apart: the user's word, signature, metadata, shapes; sizes, names and classes follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.detectors import build_detector
from pipeline.detectors.names import choose_labels
from pipeline.errors import ConfigError, ModelLoadError
from pipeline.frame import InputSpec
from tests.models import (
    NAMES,
    Canned,
    Cells,
    CellsAsRows,
    CellsWithObjectness,
    FirstOnly,
    FixedShape,
    Normalised,
    batch_of,
    painted,
    save,
    tiny_ssd,
    ultralytics_metadata,
)

SMALL = (64, 96)
RED = (255, 0, 0)


def built(module: nn.Module, folder: Path, side_files: dict[str, Any] | None = None, **options: Any) -> Any:
    return build_detector(save(module, folder / "model.torchscript", side_files), device="cpu", **options)


def adapter_of(detector: Any) -> str:
    return str(detector.model_info()["adapter"])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 84, 8400), "ultralytics"),
        ((1, 5, 2100), "ultralytics"),
        ((1, 6, 2100), "ultralytics"),
        ((1, 25200, 85), "yolov5"),
        ((1, 6300, 85), "yolov5"),
        ((1, 300, 6), "rows"),
        ((1, 5, 6), "rows"),
        ((1, 1000, 6), "rows"),
    ],
)
def test_by_shape(shape: tuple[int, ...], expected: str, tmp_path: Path) -> None:
    assert adapter_of(built(Canned(torch.zeros(shape)), tmp_path, input_size=SMALL)) == expected


def test_one_class_with_objectness_is_told_from_rows_by_the_number_of_anchors(tmp_path: Path) -> None:
    anchors = 3 * (64 * 96) * 21 // 1024
    assert adapter_of(built(Canned(torch.zeros(1, anchors, 6)), tmp_path, input_size=SMALL)) == "yolov5"


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((1, 84, 100), "for certain"),
        ((1, 7, 12), "for certain"),
        ((1, 2000, 6), "rows and heads with objectness"),
        ((1, 120, 85), "for certain"),
        ((1, 126, 85), "one row per grid cell"),
        ((1, 8400, 85), "one row per grid cell"),
        ((1, 8400, 6), "one row per grid cell"),
        ((1, 1000), "anchors"),
        ((1, 85, 22, 22), "anchors"),
        ((1, 900, 4), "for certain"),
    ],
)
def test_ambiguous_shapes_are_refused_and_printed(shape: tuple[int, ...], why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as error:
        built(Canned(torch.zeros(shape)), tmp_path, input_size=(640, 640) if 8400 in shape else SMALL)
    message = str(error.value)
    assert str(shape) in message
    assert why in message
    assert "\n" not in message


@pytest.mark.parametrize("adapter", ["ultralytics", "yolov5"])
def test_the_users_word_wins_where_shapes_are_ambiguous(adapter: str, tmp_path: Path) -> None:
    assert adapter_of(built(Canned(torch.zeros(1, 84, 100)), tmp_path, input_size=SMALL, adapter=adapter)) == adapter


def test_the_users_word_wins_over_metadata(tmp_path: Path) -> None:
    files = ultralytics_metadata(SMALL, NAMES)
    assert adapter_of(built(Canned(torch.zeros(1, 50, 8)), tmp_path, files, adapter="yolov5")) == "yolov5"


def test_an_adapter_that_does_not_fit_is_refused_with_shapes(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"adapter rows does not fit.*\(1, 84, 2100\).*\(1, rows, 6\)"):
        built(Canned(torch.zeros(1, 84, 2100)), tmp_path, input_size=SMALL, adapter="rows")


def test_unknown_adapter_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"no adapter 'yolov-5'; did you mean yolov5\?"):
        built(Cells(), tmp_path, adapter="yolov-5")


class ListOfPictures(nn.Module):
    """Takes what a scripted torchvision detector takes, and finds nothing."""

    def forward(self, images: list[torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
        losses: dict[str, torch.Tensor] = {}
        nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
        return losses, [nothing for _ in images]


@pytest.mark.parametrize(("module", "adapter"), [(Cells(), "torchvision"), (ListOfPictures(), "ultralytics")])
def test_an_adapter_of_the_wrong_kind_of_input_is_refused(module: nn.Module, adapter: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=f"adapter {adapter} does not fit, because forward"):
        built(module, tmp_path, adapter=adapter)


@pytest.mark.parametrize(
    ("module", "extra", "expected"),
    [
        (Cells(), {}, "ultralytics"),
        (CellsAsRows(), {"nms": True, "batch": 4}, "rows"),
        (CellsAsRows(), {"end2end": True}, "rows"),
        (CellsAsRows(), {}, "rows"),  # an end-to-end head that the metadata do not mention
    ],
)
def test_ultralytics_metadata_tell_adapter_size_and_names(
    module: nn.Module, extra: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    detector = built(module, tmp_path, ultralytics_metadata((96, 128), NAMES, **extra))
    assert adapter_of(detector) == expected
    assert detector.spec == InputSpec(96, 128)
    assert detector.labels == NAMES
    assert detector.verdict.fixed == (4 if extra.get("nms") else None)
    detector.warm([1])
    spec = detector.spec
    found = detector.submit(batch_of(spec, painted(spec, {(1, 2): RED}))).result()[0]
    np.testing.assert_allclose(found.xyxy, [[64, 32, 96, 64]])
    assert found.class_id.tolist() == [0]


def test_metadata_with_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"metadata name 3 classes.*\(1, 116, 2100\)"):
        built(Canned(torch.zeros(1, 116, 2100)), tmp_path, ultralytics_metadata(SMALL, NAMES))


def test_metadata_of_the_yolov5_repository(tmp_path: Path) -> None:
    files = {"config.txt": {"shape": [1, 3, 64, 96], "stride": 32, "names": {"0": "a", "1": "b", "2": "c"}}}
    detector = built(CellsWithObjectness(), tmp_path, files)
    assert adapter_of(detector) == "yolov5"
    assert detector.spec == InputSpec(64, 96)
    assert detector.labels == {0: "a", 1: "b", 2: "c"}


def test_own_metadata(tmp_path: Path) -> None:
    files = {"pipeline.json": {"adapter": "yolov5", "input": [96, 64], "names": ["a", "b", "c"]}}
    detector = built(CellsWithObjectness(), tmp_path, files)
    assert adapter_of(detector) == "yolov5"
    assert detector.spec == InputSpec(96, 64)
    assert detector.labels == {0: "a", 1: "b", 2: "c"}


def test_scripted_torchvision_by_its_signature(tmp_path: Path) -> None:
    file = save(tiny_ssd(classes=5, side=64), tmp_path / "ssd.pt")
    detector = build_detector(file)
    assert adapter_of(detector) == "torchvision"
    assert detector.spec == InputSpec(64, 64), "the size that the model resizes to inside"
    assert detector.labels == {1: "class_1", 2: "class_2", 3: "class_3", 4: "class_4"}
    with_names = build_detector(file, names=["a", "b", "c", "d"], input_size=(96, 160))
    assert with_names.labels == {1: "a", 2: "b", 3: "c", 4: "d"}
    assert with_names.spec == InputSpec(96, 160)


@pytest.mark.parametrize(("classes", "label"), [(80, "person"), (3, "class_0")])
def test_names_by_count_of_dense_heads(classes: int, label: str, tmp_path: Path) -> None:
    detector = built(Canned(torch.zeros(1, 4 + classes, 2100)), tmp_path, input_size=SMALL)
    assert detector.labels[0] == label
    assert len(detector.labels) == classes


def test_a_list_model_that_tells_nothing_gets_the_usual_size_and_no_names(tmp_path: Path) -> None:
    detector = built(ListOfPictures(), tmp_path)
    assert (detector.spec, detector.labels) == (InputSpec(640, 640), {})


def test_coco_numbering_of_torchvision() -> None:
    labels = choose_labels({}, None, 91, 1)
    assert choose_labels({}, ["-", "a", "b"], 3, 1) == {0: "-", 1: "a", 2: "b"}, "the list names the background, too"
    assert (labels[1], labels[3], labels[90], len(labels)) == ("person", "car", "toothbrush", 80)
    assert 12 not in labels


def test_configured_names_give_way_to_the_files(tmp_path: Path) -> None:
    options: dict[str, Any] = {"adapter": "ultralytics", "input_size": SMALL}
    assert built(Cells(), tmp_path, names=["x", "y", "z"], **options).labels == {0: "x", 1: "y", 2: "z"}
    assert built(Cells(), tmp_path, names={5: "five"}, **options).labels == {5: "five"}
    files = ultralytics_metadata(SMALL, NAMES)
    assert built(Cells(), tmp_path, files, names=["x", "y", "z"], **options).labels == NAMES


class LateRows(nn.Module):
    """End-to-end rows in 0..1 that are empty unless something is fully red, green or blue: not so when it is tried."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = CellsAsRows()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.rows(x)
        size = torch.tensor([x.size(3), x.size(2), x.size(3), x.size(2), 1, 1]).to(x)
        return rows / size * (rows[:, :, 4:5] > 0.99)


def test_units_that_no_row_tells_of_are_asked_for(tmp_path: Path) -> None:
    files = ultralytics_metadata((96, 128), NAMES, end2end=True)
    asked = "set model.adapter_options: {normalised: true}"
    boxes = []
    for options in ({}, {"normalised": False}, {"normalised": True}):
        detector = built(LateRows(), tmp_path, files, adapter_options=options)
        assert any(asked in note for note in detector.notes) is not bool(options)
        spec = detector.spec
        boxes.append(detector.submit(batch_of(spec, painted(spec, {(1, 2): RED}))).result()[0].xyxy)
    np.testing.assert_allclose(boxes[2], [[64, 32, 96, 64]], atol=1e-4)
    assert boxes[0].max() <= 1.0
    np.testing.assert_array_equal(boxes[0], boxes[1])
    with pytest.raises(ModelLoadError, match="normalised: 3; true or false was expected"):
        built(LateRows(), tmp_path, files, adapter_options={"normalised": 3})


@pytest.mark.parametrize(("module", "name"), [(Cells(), "ultralytics"), (CellsWithObjectness(), "yolov5")])
def test_the_users_word_on_units_comes_first(module: nn.Module, name: str, tmp_path: Path) -> None:
    detector = built(module, tmp_path, adapter=name, input_size=SMALL, adapter_options={"normalised": True})
    assert any("boxes are normalised" in note for note in detector.notes)


def test_normalised_boxes_are_found_out_and_scaled(tmp_path: Path) -> None:
    detector = built(Normalised(), tmp_path, ultralytics_metadata((96, 128), NAMES))
    assert any("normalised" in note for note in detector.notes)
    spec = detector.spec
    found = detector.submit(batch_of(spec, painted(spec, {(1, 2): RED}))).result()[0]
    np.testing.assert_allclose(found.xyxy, [[64, 32, 96, 64]], atol=1e-4)


class OnlyAt(Cells):
    """Takes one input size only, as a traced model whose anchors are baked in."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.baked = nn.Buffer(torch.zeros(1, 1, (side // 32) ** 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        boxes, scores = self.cells(x)
        return torch.cat((boxes + self.baked, scores), 1)


class Unusual(nn.Module):
    """Its author did not call the module itself ``self``."""

    def forward(this, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(x.size(0), 84, 2100)


def test_forward_may_call_the_module_anything(tmp_path: Path) -> None:
    assert adapter_of(built(Unusual(), tmp_path, input_size=SMALL)) == "ultralytics"


def test_the_input_size_is_searched_when_nobody_says_it(tmp_path: Path) -> None:
    detector = built(OnlyAt(416), tmp_path)
    assert detector.spec == InputSpec(416, 416)
    assert any("does not say its input size; 416x416" in note for note in detector.notes)


def test_an_input_size_that_does_not_work_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"does not run at 64x64: .*tensor a .*Remedy: set model.input"):
        built(OnlyAt(416), tmp_path, input_size=(64, 64))
    files = ultralytics_metadata((416, 416), NAMES)
    with pytest.raises(ModelLoadError, match=r"exported for \[416, 416\] only: leave model.input out"):
        built(OnlyAt(416), tmp_path, files, input_size=(64, 64))


def test_an_input_size_off_the_stride_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"\[100, 64\] does not fit its stride.*\[96, 64\]"):
        built(Cells(), tmp_path, ultralytics_metadata(SMALL, NAMES), input_size=(100, 64))


def test_a_model_that_fills_in_the_first_picture_only_gets_batches_of_one(tmp_path: Path) -> None:
    detector = built(FirstOnly(), tmp_path, input_size=SMALL, adapter="ultralytics", max_batch=8)
    assert detector.max_batch == 1
    assert any("limited to 1" in note and "neighbours" in note for note in detector.notes)


def test_a_model_that_takes_one_picture_only_gets_batches_of_one(tmp_path: Path) -> None:
    detector = built(FixedShape(1, *SMALL), tmp_path, input_size=SMALL, adapter="ultralytics", max_batch=8)
    assert (detector.max_batch, detector.verdict.fixed) == (1, None)
    assert any("batches of 2 fail" in note for note in detector.notes)


@pytest.mark.parametrize(("wanted", "largest"), [(8, 4), (2, 2)])
def test_a_model_that_takes_four_pictures_only_is_always_shown_four(wanted: int, largest: int, tmp_path: Path) -> None:
    size = (32, 128)
    detector = built(FixedShape(4, *size), tmp_path, input_size=size, adapter="ultralytics", max_batch=wanted)
    assert (detector.max_batch, detector.verdict.fixed) == (largest, 4)
    detector.warm([1, largest])
    spec = detector.spec
    pictures = [painted(spec, {(0, column): RED}) for column in range(largest)]
    found = detector.submit(batch_of(spec, *pictures)).result()
    assert [int(one.xyxy[0, 0]) for one in found] == [32 * column for column in range(largest)]


def test_class_filter_by_name_and_number(tmp_path: Path) -> None:
    files = ultralytics_metadata((96, 128), NAMES)
    cells = {(0, 0): RED, (1, 1): (0, 255, 0), (2, 2): (0, 0, 255)}
    for classes, expected in ((["Blue"], {2}), ([0, "green"], {0, 1}), (["2"], {2}), (None, {0, 1, 2})):
        detector = built(Cells(), tmp_path, files, classes=classes)
        found = detector.submit(batch_of(detector.spec, painted(detector.spec, cells))).result()[0]
        assert set(found.class_id.tolist()) == expected


def test_unknown_classes_are_refused_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        built(Cells(), tmp_path, ultralytics_metadata(SMALL, NAMES), classes=["gren", 7, "red"])
    assert len(error.value.faults) == 2
    assert "did you mean 'green'?" in error.value.faults[0]
    assert "red (0), green (1), blue (2)" in error.value.faults[1]


def test_class_names_for_a_model_without_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"names no classes.*model\.names"):
        built(CellsAsRows(), tmp_path, input_size=(96, 128), classes=["person"])
    assert built(CellsAsRows(), tmp_path, input_size=(96, 128), classes=[2]).labels == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"confidence": 1.5}, "confidence: 1.5"),
        ({"iou": -0.1}, "iou: -0.1"),
        ({"max_batch": 0}, "max_batch 0"),
        ({"input_size": (0, 64)}, "input"),
    ],
)
def test_values_out_of_range(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        built(Cells(), tmp_path, **options)
