# SPDX-License-Identifier: Apache-2.0
"""Trying a model before the first frame: every fault that raises nothing is found, said, and worked around."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.detectors import build_detector
from pipeline.detectors.capacity import MOST_PATIENCE, PATIENCE, Capacity
from pipeline.detectors.trial import examine, verdict
from pipeline.detectors.trial.scenes import probe_picture
from pipeline.detectors.trial.verdict import Verdict
from pipeline.errors import InferenceError, ModelLoadError
from pipeline.frame import InputSpec
from pipeline.host.caches import cache_folder
from tests.models import NAMES, Cells, FirstOnly, batch_of, painted, save, tiny_ssd, ultralytics_metadata

SIZE = (96, 128)
SPEC = InputSpec(*SIZE)


class Counts(Cells):
    """Adds what it has seen so far to every answer: it keeps something between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1.0
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores / self.calls), 1)


class Scribbles(Cells):
    """Answers through a buffer of its own: two threads that run it read each other's answers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("out", torch.zeros(1, 7, 12))

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        answer = torch.cat((boxes, scores), 1)
        if x.size(0) != 1:
            return answer
        self.out.copy_(answer)
        slow = nn.functional.conv2d(x, torch.ones(64, 3, 25, 25)).sum() * 0.0  # time for the other thread
        return self.out + slow


class AllNan(Cells):
    """Every score and box is NaN."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores), 1) * float("nan")


class BlackIsNan(Cells):
    """A twentieth of the scores is NaN."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        found = torch.cat((boxes, scores), 1)
        found[:, 6, 0] = float("nan")
        return found


class Silent(Cells):
    """Never finds anything, as an export with a high threshold baked in."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(x.size(0), 10, 6)


class RaisesAbove(Cells):
    """Takes up to so many pictures, as a torch.export program with a range of batch sizes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > self.most:
            raise ValueError("too many pictures")
        boxes, scores = self.cells(x)
        return torch.cat((boxes, scores), 1)


class Hungry(Cells):
    """More than two pictures at a time need more memory than there is."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        if x.size(0) > 2:
            boxes = boxes + torch.zeros(1 << 60)[:1]
        return torch.cat((boxes, scores), 1)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def built(module: nn.Module, folder: Path, **options: Any) -> Any:
    files = ultralytics_metadata(SIZE, NAMES)
    return build_detector(save(module, folder / "m.pt", files), device="cpu", **{"max_batch": 4, **options})


def said(detector: Any) -> str:
    return " | ".join(detector.notes)


class Ranked(Cells):
    """The best cells first; two equally good ones come in an order that depends on the batch size."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.cells(x)
        order = torch.arange(boxes.size(2))
        if x.size(0) > 1:
            order[:2] = torch.tensor([1, 0])
        return torch.cat((boxes, scores), 1)[:, :, order]


def test_equals_that_change_places_are_no_fault(tmp_path: Path) -> None:
    assert built(Ranked(), tmp_path).max_batch == 4


def test_a_sound_model(tmp_path: Path) -> None:
    detector = built(Cells(), tmp_path)
    verdict = detector.verdict
    assert (verdict.largest, verdict.fixed, verdict.repeatable, verdict.exclusive, verdict.finite) == (
        4, None, True, False, 1.0,
    )  # fmt: skip
    assert {"finite outputs", "the same picture again", "two threads at once", "batches of 2", "batches of 4"} <= set(
        verdict.checked
    )
    assert set(verdict.ms_per_picture) == {"1", "2", "4"}
    assert not detector.notes


def test_a_model_that_answers_differently_every_time(tmp_path: Path) -> None:
    detector = built(Counts(), tmp_path)
    assert not detector.verdict.repeatable
    assert "model.eval()" in said(detector)
    assert "batches of 2" in detector.verdict.checked, "they may fail all the same"
    assert set(detector.verdict.not_told) == {
        "whether two threads may run it at once", "whether a picture's outputs change with its neighbours in the batch",
    }  # fmt: skip
    assert "trying it does not tell whether" in said(detector)
    assert built(Counts(), tmp_path).verdict.not_told == detector.verdict.not_told, "from the cache"


def test_a_model_that_answers_through_a_buffer_of_its_own_is_run_by_one_thread_at_a_time(tmp_path: Path) -> None:
    detector = built(Scribbles(), tmp_path, confidence=0.9)
    assert detector.verdict.exclusive
    assert "only one thread" in said(detector)
    pictures = [painted(SPEC, {(0, 0): (255, 0, 0)}), painted(SPEC, {(2, 3): (0, 0, 255)})]
    first = detector.submit(batch_of(SPEC, pictures[0]))
    second = detector.submit(batch_of(SPEC, pictures[1]))  # overwrites the buffer before the first one is read
    assert [found.class_id.tolist() for found in (first.result()[0], second.result()[0])] == [[0], [2]]


def test_a_model_that_computes_nothing_but_nan_is_refused_with_the_likely_cause(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"NaN or infinite for a real picture; likely its input is not scaled"):
        built(AllNan(), tmp_path)


def test_some_nan_is_said(tmp_path: Path) -> None:
    detector = built(BlackIsNan(), tmp_path)
    assert 0.9 < detector.verdict.finite < 1.0
    assert "NaN or infinite for a real picture" in said(detector)


def test_later_pictures_of_a_batch_that_come_back_empty(tmp_path: Path) -> None:
    detector = built(FirstOnly(), tmp_path)
    assert detector.max_batch == 1
    assert "change with its neighbours" in said(detector)


def test_a_model_that_shows_nothing_is_not_trusted_with_batches(tmp_path: Path) -> None:
    detector = built(Silent(), tmp_path, adapter="rows")
    assert detector.max_batch == 1
    assert "cannot be told" in said(detector)


@pytest.mark.parametrize(("most", "wanted", "largest"), [(4, 16, 4), (5, 16, 4), (3, 8, 2), (16, 16, 16), (2, 2, 2)])
def test_the_largest_batch_that_works_is_found(most: int, wanted: int, largest: int, tmp_path: Path) -> None:
    detector = built(RaisesAbove(most), tmp_path, max_batch=wanted)
    assert detector.max_batch == largest
    assert ("fail" in said(detector)) == (largest < wanted)


def test_a_scripted_detector_of_torchvision_is_tried_as_well(tmp_path: Path) -> None:
    detector = build_detector(save(tiny_ssd(), tmp_path / "ssd.pt"), device="cpu", max_batch=4)
    assert (detector.verdict.largest, detector.verdict.exclusive) == (4, False)
    assert "two threads at once" in detector.verdict.checked


def test_what_does_not_fit_into_the_budget_is_said_and_tried_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "BUDGET_NS", 0)
    detector = built(Cells(), tmp_path)
    assert detector.max_batch == 4
    assert set(detector.verdict.left_out) == {"two threads at once", "batches of 4"}
    assert "batches of 2" in detector.verdict.checked
    assert "not tried, for lack of time: two threads at once" in said(detector)
    monkeypatch.setattr(examine, "BUDGET_NS", 60_000_000_000)
    again = built(Cells(), tmp_path)
    assert (again.verdict.cached, again.verdict.left_out) == (False, ())


def test_a_baked_in_batch_is_found_however_slow_the_model_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "BUDGET_NS", 0)
    detector = built(FirstOnly(), tmp_path, max_batch=8)
    assert detector.max_batch == 1
    assert "change with its neighbours" in said(detector)


def test_a_batch_that_fails_where_time_ends_is_not_given(tmp_path: Path) -> None:
    """8 fails, then the time is over: of the sizes that nobody tried none is taken."""

    class Ticking:
        """A second passes between two looks."""

        def __init__(self) -> None:
            self.ns = 0

        def now_ns(self) -> int:
            self.ns += 1_000_000_000
            return self.ns

    class Raises:
        precision = "fp32"
        spec = SPEC

        def run(self, pictures: Any, size: int) -> Any:
            raise InferenceError("too many")

    budget = examine._Budget(Ticking(), -5_000_000_000, ms={2: 10.0})
    found = examine._largest_batch(budget, Raises(), 8, examine._Alone([torch.ones(3)], True))  # type: ignore[arg-type]
    assert found == (2, "batches of 8 fail (too many)")


class Listed(Cells):
    """Takes a list of pictures, as scripted torchvision detectors do; answers the first ones, raises above ``most``."""

    def __init__(self, answers: int, most: int) -> None:
        super().__init__()
        self.answers, self.most = answers, most

    def forward(self, images: list[Tensor]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:  # type: ignore[override]
        if len(images) > self.most:
            raise ValueError("too many values to unpack")
        losses: dict[str, Tensor] = {}
        found: list[dict[str, Tensor]] = []
        for number, image in enumerate(images):
            boxes, scores = self.cells(image[None])
            count = 12 if number < self.answers else 0
            box = boxes[0].transpose(0, 1)[:count]
            label = torch.ones(count, dtype=torch.int64)
            found.append({"boxes": box, "scores": scores[0].amax(0)[:count], "labels": label})
        return losses, found


@pytest.mark.parametrize(
    ("answers", "most", "largest", "words"),
    [(9, 9, 4, ""), (9, 1, 1, "batches of 2 fail"), (1, 9, 1, "the last picture of a batch comes back empty")],
)
def test_lists_are_tried_as_batches_are(answers: int, most: int, largest: int, words: str, tmp_path: Path) -> None:
    path = save(Listed(answers, most), tmp_path / "listed.pt")
    detector = build_detector(path, device="cpu", input_size=SIZE, max_batch=4)
    assert detector.max_batch == largest
    assert words in said(detector)
    assert "batches of 2" in detector.verdict.checked


def test_the_only_size_that_a_model_takes_is_tried_too(tmp_path: Path) -> None:
    files = {"pipeline.json": json.dumps({"adapter": "ultralytics", "fixed_batch": 4, "input": list(SIZE)})}
    detectors = [
        build_detector(save(module, tmp_path / "fixed.pt", files), device="cpu", max_batch=4, input_size=SIZE)
        for module in (Cells(), FirstOnly())
    ]
    assert [(each.max_batch, each.verdict.fixed) for each in detectors] == [(4, 4), (1, 4)]


def test_trimming_is_tried_within_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ultralytics_metadata((256, 256), NAMES, dynamic=True)
    path = save(Cells(), tmp_path / "m.pt", files)
    monkeypatch.setattr(examine, "BUDGET_NS", 0)
    detector = build_detector(path, device="cpu", max_batch=2)
    assert (detector.spec.trim, "trimmed inputs" in detector.verdict.left_out) == (0, True)
    monkeypatch.setattr(examine, "BUDGET_NS", 60_000_000_000)
    detector = build_detector(path, device="cpu", max_batch=2)
    assert (detector.spec.trim, "trimmed inputs" in detector.verdict.checked) == (32, True)


class TestCache:
    def test_a_verdict_is_kept_for_the_same_file_used_in_the_same_way(self, tmp_path: Path) -> None:
        first = built(FirstOnly(), tmp_path)
        second = built(FirstOnly(), tmp_path)
        assert (first.verdict.cached, second.verdict.cached) == (False, True)
        assert second.max_batch == 1
        assert second.notes == first.notes
        assert not built(FirstOnly(), tmp_path, max_batch=8).verdict.cached, "another way of use"
        assert not built(Cells(), tmp_path).verdict.cached, "another file of the same name"

    @pytest.mark.parametrize("damage", [b"{}", b"nonsense", b'{"largest": "many", "checked": [], "left_out": []}'])
    def test_a_damaged_entry_is_not_believed(self, damage: bytes, tmp_path: Path) -> None:
        built(Cells(), tmp_path)
        (kept,) = cache_folder("verdicts").iterdir()
        assert json.loads(kept.read_text())["largest"] == 4
        kept.write_bytes(damage)
        detector = built(Cells(), tmp_path)
        assert (detector.verdict.cached, detector.max_batch) == (False, 4)

    def test_an_adapter_of_the_users_own_is_known_again_until_its_module_or_options_change(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = tmp_path / "site"
        place.mkdir()
        monkeypatch.syspath_prepend(str(place))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        text = (
            "from pipeline.detectors.adapters.ultralytics import Ultralytics\n"
            "class Mine:\n"
            "    name = 'mine'\n"
            "    def __init__(self, **options):\n"
            "        self._known = Ultralytics(classes=3)\n"
            "        self.preprocessing = self._known.preprocessing\n"
            "    def check(self, outputs, size):\n"
            "        self._known.check(outputs, size)\n"
            "    def parse(self, outputs, count, limits, spec):\n"
            "        return self._known.parse(outputs, count, limits, spec)\n"
        )

        def cached(**options: Any) -> bool:
            monkeypatch.delitem(sys.modules, "own_head", raising=False)
            importlib.invalidate_caches()
            return bool(built(Cells(), tmp_path, adapter="own_head:Mine", **options).verdict.cached)

        (place / "own_head.py").write_text(text)
        assert [cached(), cached(), cached()] == [False, True, True]
        assert [cached(adapter_options={"a": 1}), cached(adapter_options={"a": 1})] == [False, True]
        (place / "own_head.py").write_text(text + "# changed\n")
        assert [cached(), cached()] == [False, True]

    def test_the_oldest_of_many_entries_of_a_model_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verdict, "MOST_KEPT", 3)
        entries = [verdict.entry("a" * 64, [number]) for number in range(5)]
        other = verdict.entry("b" * 64, [0])
        for second, path in enumerate([other, *entries]):
            verdict.keep(path, Verdict(4))
            if path.exists():
                os.utime(path, (second, second))
        assert [path.exists() for path in (other, *entries)] == [True, False, False, True, True, True]

    def test_a_folder_that_cannot_be_written_is_no_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
        assert built(Cells(), tmp_path).max_batch == 4


class TestMemory:
    def test_a_batch_for_which_there_is_no_memory_is_run_in_parts(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        detector = built(Cells(), tmp_path, confidence=0.9, max_batch=8)
        files = ultralytics_metadata(SIZE, NAMES)
        hungry = torch.jit.load(str(save(Hungry(), tmp_path / "hungry.pt", files)))
        detector._network.module = hungry  # it was well when it was tried
        pictures = [painted(SPEC, {(0, number % 4): (255, 0, 0)}) for number in range(8)]
        found = detector.submit(batch_of(SPEC, *pictures)).result()
        assert [float(each.xyxy[0, 0]) for each in found] == [32.0 * (number % 4) for number in range(8)]
        assert [text.split("; ")[-1] for text in caplog.messages if "no memory" in text] == [
            "batches of 4 for the time being", "batches of 2 for the time being",
        ]  # fmt: skip

    def test_no_memory_for_a_single_picture_costs_that_picture(self, tmp_path: Path) -> None:
        class Starving(Cells):
            def forward(self, x: Tensor) -> Tensor:
                return self.cells(x)[0] + torch.zeros(1 << 60)[:1]

        detector = built(Cells(), tmp_path)
        detector._network.module = torch.jit.load(str(save(Starving(), tmp_path / "starving.pt")))
        with pytest.raises(InferenceError, match="no memory for a batch of 1"):
            detector.submit(batch_of(SPEC, *[np.zeros((*SIZE, 3), np.uint8)] * 4))

    def test_the_capacity_is_raised_again_after_a_while(self) -> None:
        capacity = Capacity(8)
        assert [capacity.ran_out(8), capacity.ran_out(4), capacity.ran_out(2), capacity.ran_out(1)] == [4, 2, 1, 0]
        raised = [capacity.went_well() for _ in range(4 * PATIENCE)]
        assert [number for number, done in enumerate(raised, 1) if done] == [PATIENCE, 2 * PATIENCE, 3 * PATIENCE]
        assert capacity.now == 8

    def test_where_memory_stays_short_more_is_tried_ever_less_often(self) -> None:
        capacity = Capacity(8)
        capacity.ran_out(8)
        tried = []
        for number in range(1, 20 * PATIENCE):
            if capacity.went_well():
                tried.append(number)
                assert capacity.ran_out(8) == 4
        assert tried == [PATIENCE, 3 * PATIENCE, 7 * PATIENCE, 15 * PATIENCE]

    def test_the_wait_for_more_memory_has_an_end_and_starts_anew_after_a_good_time(self) -> None:
        capacity = Capacity(2)
        capacity.ran_out(2)

        def calls_until_more() -> int:
            return next(number for number in itertools.count(1) if capacity.went_well())

        waits = []
        for _ in range(14):
            waits.append(calls_until_more())
            capacity.ran_out(2)
        assert waits[-4:] == [MOST_PATIENCE] * 4
        calls_until_more()
        for _ in range(MOST_PATIENCE):
            capacity.went_well()
        capacity.ran_out(2)
        assert calls_until_more() == PATIENCE


def test_not_finite_values_while_running_are_said_at_once_and_then_ever_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector = built(Cells(), tmp_path)
    detector._network.module = torch.jit.load(str(save(BlackIsNan(), tmp_path / "nan.pt")))
    for _ in range(5):
        detector.submit(batch_of(SPEC, np.zeros((*SIZE, 3), np.uint8))).result()
    assert detector.nonfinite_frames == 5
    counts = [int(text.split(" pictures so far")[0].split()[-1]) for text in caplog.messages if "so far" in text]
    assert counts == [1, 2, 4]
    assert "model.input_spec" in caplog.messages[-1]


def test_probe_pictures_differ_and_are_repeatable() -> None:
    spec = InputSpec(96, 128)
    pictures = [probe_picture(spec, number) for number in range(40)]
    assert len({picture.tobytes() for picture in pictures}) == 40
    assert all(picture.shape == spec.shape and picture.dtype == np.uint8 for picture in pictures)
    np.testing.assert_array_equal(pictures[7], probe_picture(spec, 7))
    np.testing.assert_array_equal(pictures[0], probe_picture(InputSpec(96, 128, colour="bgr"), 0)[..., ::-1])
    assert pictures[0].std() > 20, "it shows something"


def test_a_verdict_is_plain_data() -> None:
    assert json.loads(json.dumps(Verdict(4).as_dict()))["largest"] == 4
