# SPDX-License-Identifier: Apache-2.0
"""What streams ask of the network alone, and what is said of it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cli.capacity.demand import in_words, measured
from pipeline.config import StreamConfig
from pipeline.frame import Batch, Detections, InputSpec
from pipeline.plan import demand as module
from pipeline.plan.demand import Demand, demand, shown, wanted_fps
from pipeline.sources import SourceReport

MS = 1_000_000
SPEC = InputSpec(352, 352, trim=32)
CAMERA = {"name": "gate", "source": "rtsp://10.0.0.5/x"}


def stream(**more: Any) -> StreamConfig:
    return StreamConfig.model_validate(CAMERA | more)


def report(declared: float | None = 30.0, measured: float | None = 25.0) -> SourceReport:
    return SourceReport(live=True, width=1280, height=720, declared_fps=declared, measured_fps=measured)


@pytest.mark.parametrize(
    ("settings", "found", "fps"),
    [
        ({}, report(), 25.0),
        ({}, report(measured=90.0), 30.0),  # a burst
        ({}, report(declared=None), 25.0),
        ({}, report(None, None), None),
        ({"fps": 5}, report(), 5.0),
        ({"fps": 50}, report(), 25.0),
        ({"stride": 5}, report(), 5.0),
        ({"skip": "nonkey"}, report(), None),  # how many are left is not known
        ({"source": "a.mp4"}, report(), None),  # as fast as it can be
        ({"source": "a.mp4", "pace": "realtime"}, report(), 25.0),
        ({"source": "pattern://?fps=25"}, report(), 25.0),
    ],
)
def test_how_many_frames_a_stream_asks_to_have_processed(
    settings: dict[str, Any], found: SourceReport, fps: float | None
) -> None:
    assert wanted_fps(stream(**settings), found) == fps


def test_what_the_network_is_given() -> None:
    assert (shown(stream(), report(), SPEC).height, shown(stream(), report(), SPEC).width) == (224, 352)
    tall = shown(stream(region=[0.25, 0, 0.25, 1]), report(), SPEC)  # 320 x 720
    assert (tall.height, tall.width) == (352, 160)
    wide = shown(stream(region=[0.5, 0.75, 0.5, 0.25]), report(), SPEC)  # 640 x 180
    assert (wide.height, wide.width) == (128, 352)


class Clocked:
    """A network whose CPU time is known: so much a batch, and so much each picture; others make some batches slower."""

    spec, depth, exclusive = SPEC, 1, False

    def __init__(self) -> None:
        self.spent_ns = 0
        self.sizes: list[int] = []
        self._slower = [3.0, 2.0, 1.0]  # warm, disturbed, undisturbed

    def warm(self, sizes: Any) -> None:
        assert list(sizes) == [1, 8]

    def submit(self, batch: Batch) -> Clocked:
        assert all(item.input.shape == batch.spec.shape for item in batch.items)
        self.sizes.append(len(batch.items))
        slower = self._slower[(len(self.sizes) - 1) % 3]
        self.spent_ns += round(slower * (4 + 3 * len(batch.items)) * MS * batch.spec.height / 352)
        return self

    def result(self) -> list[Detections]:
        return []


def test_a_frame_costs_what_it_costs_in_the_batch_that_takes_least(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Clocked()
    monkeypatch.setattr(module, "cpu_ns", lambda: network.spent_ns)
    half = InputSpec(176, 352)
    found = demand([(SPEC, 10.0), (half, 30.0), (SPEC, 20.0), (half, 0.0)], network, 8, 2)  # type: ignore[arg-type]
    # 28 ms for eight; half of it for half the picture: 30 of 3.5 ms and 30 of 1.75 ms.
    assert found == Demand(60.0, pytest.approx(2.625), 2)  # type: ignore[arg-type]
    assert found.cores == pytest.approx(0.1575)
    assert network.sizes == [1, 1, 1, 8, 8, 8] * 2
    assert demand([], network, 8, 2) is None  # type: ignore[arg-type]
    assert demand([(SPEC, 0.0)], network, 8, 2) is None  # type: ignore[arg-type]


def test_the_limit_of_a_batch_is_none_for_all_that_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    timeout_s = 0.01
    found = Demand(60.0, 2.0, 2)

    def several(*given: object) -> Demand:
        threading.Event().wait(10 * timeout_s)
        return found

    monkeypatch.setattr(module, "demand", several)
    config: Any = SimpleNamespace(model=SimpleNamespace(timeout_s=timeout_s))
    detector: Any = SimpleNamespace(spec=SPEC, model_info=lambda: {"device": "cpu"})
    assert measured(config, detector, 8, []) == (found, [])


def test_only_what_is_clear_is_a_warning() -> None:
    file = Path("streams.yaml")
    assert in_words(None, file) == ("", "")
    assert in_words(Demand(20.0, 45.0, 2), file) == ("", "")  # 0.9 of 2 cores
    assert in_words(Demand(40.0, 45.0, 2), file) == (
        "",
        "the network alone needs 1.8 of 2 cores for 40.0 frames a second at 45.0 ms of CPU time each; "
        "`pipeline plan streams.yaml` says what fits",
    )
    assert in_words(Demand(240.0, 45.0, 2), file) == (
        "the network alone needs 10.8 of 2 cores for 240.0 frames a second at 45.0 ms of CPU time each: it cannot keep "
        "up; `pipeline plan streams.yaml` says what fits",
        "",
    )
