# SPDX-License-Identifier: Apache-2.0
"""From bytes to the network's arguments, number by number; and who says what a network wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.detectors import build_detector
from pipeline.detectors.feeding import CpuFeed, arguments
from pipeline.detectors.preprocessing import IMAGENET_MEAN, IMAGENET_STD, USUAL, Encoding, Preprocessing, describe_input
from pipeline.errors import ConfigError, ModelLoadError
from pipeline.frame import InputSpec
from tests.models import NAMES, Cells, batch_of, save, ultralytics_metadata

SPEC = InputSpec(16, 24, pad_value=51)


def pictures(count: int, shape: tuple[int, int, int] = SPEC.shape) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("scale", "mean", "std"),
    [
        (1 / 255, IMAGENET_MEAN, IMAGENET_STD),
        (1.0, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
        (1 / 255, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
        (2.0, (0.0, 0.0, 0.0), (1.0, 1.0, 4.0)),
    ],
    ids=["imagenet", "nanodet", "mean", "std"],
)
def test_every_number_of_the_batch(dtype: Any, scale: float, mean: Any, std: Any) -> None:
    shown = pictures(2)
    batch = CpuFeed(Encoding(dtype, scale, mean=mean, std=std), SPEC, 4).fill(shown, 3)
    assert batch.shape == (3, 3, 16, 24)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    rough = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 6e-2}[dtype] * max(1.0, 255 * scale / min(std) / 4)
    grey = np.full(SPEC.shape, SPEC.pad_value, np.uint8)
    for row, picture in enumerate([*shown, grey]):
        for channel in range(3):
            expected = (picture[..., channel].astype(np.float64) * scale - mean[channel]) / std[channel]
            np.testing.assert_allclose(batch[row, channel].double().numpy(), expected, atol=rough)


def test_trimmed_pictures_get_the_same_numbers() -> None:
    encoding = Encoding(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    whole = pictures(1)[0]
    feed = CpuFeed(encoding, SPEC, 2)
    expected = feed.fill([whole], 1).clone()
    small = np.ascontiguousarray(whole[:8, :16])
    np.testing.assert_array_equal(feed.fill([small, small], 2)[1].numpy(), expected[0, :, :8, :16].numpy())


def test_other_layouts_lists_and_sizes() -> None:
    shown = pictures(2)
    batch = CpuFeed(Encoding(layout="nhwc"), SPEC, 2).fill(shown, 2)
    assert batch.shape == (2, 16, 24, 3)
    np.testing.assert_allclose(batch[1].numpy(), shown[1] / 255, atol=1e-6)
    given, sizes = arguments(Encoding(layout="nhwc", sizes=True), batch)
    assert given is batch
    assert sizes.dtype == torch.int64
    assert sizes.tolist() == [[24, 16], [24, 16]], "width, then height"
    nchw = CpuFeed(Encoding(), SPEC, 2).fill(shown, 2)
    assert arguments(Encoding(sizes=True), nchw)[1].tolist() == [[24, 16], [24, 16]]
    (one,) = arguments(Encoding(as_list=True), nchw)
    assert [tuple(each.shape) for each in one] == [(3, 16, 24)] * 2


def test_overlaying() -> None:
    rules = USUAL.overlaid({"scale": "1/255", "mean": 0.5, "std": [0.1, 0.2, 0.3], "colour": None, "fit": "stretch"})
    assert rules == Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.3), fit="stretch")
    assert USUAL.overlaid({"dtype": "uint8"}) == Preprocessing(dtype="uint8", scale=1.0)
    assert rules.overlaid({}) == rules


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"color": "bgr"}, "color: there is no such key; one of colour"),
        ({"colour": "grb"}, "colour: 'grb' is not known; one of rgb, bgr"),
        ({"scale": 0}, "scale: 0 is out of range"),
        ({"scale": True}, "scale: True is not a number"),
        ({"mean": [1, 2]}, "mean: [1, 2] are 2 values"),
        ({"mean": [1, 2, float("nan")]}, "mean: nan is not a number"),
        ({"std": 0}, "std: 0 is out of range"),
        ({"pad_value": 256}, "pad_value: 256 is out of range"),
        ({"stride": 0.5}, "stride: 0.5 is out of range"),
        ({"dtype": "uint8", "mean": 1}, "dtype: uint8 are the bytes themselves"),
        ({"dtype": "uint8", "scale": "1/255"}, "dtype: uint8 are the bytes themselves"),
    ],
)
def test_impossible_wishes(wishes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="^" + said.replace("[", r"\[").replace("]", r"\]")):
        USUAL.overlaid(wishes)


def test_all_faults_at_once() -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 the message is looked at
        USUAL.overlaid({"colour": 1, "layout": "chw"})
    assert len(str(error.value).splitlines()) == 2


def test_description() -> None:
    rules = Preprocessing(colour="bgr", mean=IMAGENET_MEAN, fit="top_left", stride=32)
    shown = describe_input(rules.spec(64, 96), rules.encoding(sizes=True))
    assert shown["size"] == [64, 96]
    assert (shown["colour"], shown["fit"], shown["stride"], shown["mean"]) == ("bgr", "top_left", 32, [*IMAGENET_MEAN])
    assert shown["extra_inputs"] == ["orig_target_sizes"]


class MeansAsScores(nn.Module):
    """(B, 7, A): each anchor's scores are the means of the whole input's channels, so that they tell what came in."""

    def forward(self, x: Tensor) -> Tensor:
        boxes = torch.tensor([48.0, 32.0, 20.0, 20.0]).view(1, 4, 1).expand(x.size(0), 4, 2100)
        return torch.cat((boxes, x.mean((2, 3)).unsqueeze(2).expand(-1, -1, 2100)), 1)


def means(detector: Any) -> list[float]:
    """What the network sees of a picture that is R 200, G 100, B 50 everywhere, in the order of its channels."""
    picture = np.empty(detector.spec.shape, np.uint8)
    picture[:] = (200, 100, 50) if detector.spec.colour == "rgb" else (50, 100, 200)
    found = detector.submit(batch_of(detector.spec, picture)).result()[0]
    by_class = dict(zip(found.class_id.tolist(), found.confidence.tolist(), strict=True))
    return [by_class.get(channel, 0.0) for channel in range(3)]


def test_configuration_before_metadata_before_family(tmp_path: Path) -> None:
    own = {"adapter": "ultralytics", "input": [64, 96], "names": ["a", "b", "c"]}
    plain = save(MeansAsScores(), tmp_path / "plain.pt", {"pipeline.json": own})
    said = save(
        MeansAsScores(),
        tmp_path / "said.pt",
        {"pipeline.json": {**own, "input_spec": {"colour": "bgr", "fit": "top_left", "pad_value": 0, "stride": 16}}},
    )
    options: dict[str, Any] = {"confidence": 0.0, "device": "cpu"}
    assert means(build_detector(plain, **options))[0] == pytest.approx(200 / 255, abs=1e-5)
    by_file = build_detector(said, **options)
    assert (by_file.spec.colour, by_file.spec.fit, by_file.spec.pad_value) == ("bgr", "top_left", 0)
    assert by_file.model_info()["input_spec"]["stride"] == 16
    assert means(by_file)[2] == pytest.approx(200 / 255, abs=1e-5)
    by_user = build_detector(said, input_spec={"colour": "rgb", "mean": 0.1, "std": 2}, **options)
    assert (by_user.spec.colour, by_user.spec.fit) == ("rgb", "top_left"), "what the user does not say stays"
    assert means(by_user)[0] == pytest.approx((200 / 255 - 0.1) / 2, abs=1e-5)


def test_what_cannot_be_is_told_where_it_was_said(tmp_path: Path) -> None:
    files = {"pipeline.json": {"adapter": "ultralytics", "input": [64, 96], "input_spec": {"color": "bgr"}}}
    with pytest.raises(ModelLoadError, match="input_spec in its metadata: color: there is no such key"):
        build_detector(save(Cells(), tmp_path / "m.pt", files), device="cpu")
    good = save(Cells(), tmp_path / "n.pt", ultralytics_metadata((64, 96), NAMES))
    with pytest.raises(ConfigError, match=r"model\.input_spec\.std: 0 is out of range"):
        build_detector(good, input_spec={"std": 0}, device="cpu")
    with pytest.raises(ModelLoadError, match=r"\[64, 96\] does not fit its stride; multiples of 40"):
        build_detector(good, input_spec={"stride": 40}, device="cpu")
    with pytest.raises(ModelLoadError, match=r"leave model\.input_spec out"):
        build_detector("builtin:people", input_spec={"colour": "bgr"}, device="cpu")


class Half(Cells):
    """A network of half precision from the first layer on: other inputs make it raise."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1, bias=False)
        self.mix.weight.data = torch.eye(3).reshape(3, 3, 1, 1)
        self.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(self.mix(x).float())
        return torch.cat((boxes, scores), 1)


def test_a_network_of_half_precision(tmp_path: Path) -> None:
    file = save(Half(), tmp_path / "m.pt", ultralytics_metadata((64, 96), NAMES))
    detector = build_detector(file, input_spec={"dtype": "bfloat16"}, confidence=0.9, device="cpu")
    picture = np.zeros(detector.spec.shape, np.uint8)
    picture[32:, :32, 1] = 255
    found = detector.submit(batch_of(detector.spec, picture)).result()[0]
    assert found.xyxy.tolist() == [[0.0, 32.0, 32.0, 64.0]]
    assert found.class_id.tolist() == [1]


class LastAxisIsColour(Cells):
    """Takes (B, H, W, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x.permute(0, 3, 1, 2))
        return torch.cat((boxes, scores), 1)


def test_a_network_that_wants_channels_last(tmp_path: Path) -> None:
    files = {"pipeline.json": {"adapter": "ultralytics", "input": [64, 96], "input_spec": {"layout": "nhwc"}}}
    detector = build_detector(save(LastAxisIsColour(), tmp_path / "m.pt", files), confidence=0.9, device="cpu")
    picture = np.zeros(detector.spec.shape, np.uint8)
    picture[:32, 64:, 2] = 255
    found = detector.submit(batch_of(detector.spec, picture)).result()[0]
    assert found.xyxy.tolist() == [[64.0, 0.0, 96.0, 32.0]]
