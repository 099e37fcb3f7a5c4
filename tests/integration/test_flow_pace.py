# SPDX-License-Identifier: Apache-2.0
"""A recording at its own pace, all of whose frames are wanted: where that is too much it falls behind, and says so."""

from __future__ import annotations

import pytest

from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Geometry, InputSpec, Picture, Uint8Array
from pipeline.ledger import StreamLedger
from pipeline.report import findings
from pipeline.sources import Paced
from pipeline.testing import CopyStage, FakeDetector, ListSink, ManualClock, ScriptedSource

FRAMES, FPS = 50, 25
MS = 1_000_000


class Takes(CopyStage):
    """Longer than until the next frame, by a clock that somebody moves."""

    def __init__(self, clock: ManualClock, milliseconds: int) -> None:
        self._clock, self._ns = clock, milliseconds * MS

    def prepare(self, picture: Picture, spec: InputSpec, out: Uint8Array) -> Geometry:
        self._clock.advance(self._ns)
        return super().prepare(picture, spec, out)


@pytest.mark.parametrize(("paced", "told"), [(True, ["gate: fell 2.94 s behind its own pace"]), (False, [])])
def test_who_cannot_keep_its_pace_is_told_how_far_it_is_behind(paced: bool, told: list[str]) -> None:
    clock = ManualClock()
    source = ScriptedSource([number / FPS for number in range(FRAMES)], clock=clock)
    account = StreamLedger("gate", paced=paced, clock=clock)
    gate = Stream(Paced(source, clock) if paced else source, [Takes(clock, 100)], account)
    pipeline = Pipeline(FakeDetector(), [sink := ListSink()], FlowOptions(batch_size=1), clock=clock)
    pipeline.run_inline([gate])
    assert sink.frames("gate") == list(range(FRAMES))
    report = {"error": None} | pipeline.ledger.as_dict()
    expected_ms = (FRAMES - 1) * (100 - 1000 / FPS)
    assert report["streams"]["gate"]["behind_ms"] == (pytest.approx(expected_ms, rel=1e-3) if paced else None)
    assert [str(one) for one in findings(report)] == told
