# SPDX-License-Identifier: Apache-2.0
"""Both runners: every behaviour is tested inline and threaded, and must not differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.testing import FakeDetector, ListSink

Run = Callable[..., Pipeline]


def run_threaded(pipeline: Pipeline, streams: Sequence[Stream]) -> None:
    pipeline.start()
    for stream in streams:
        pipeline.add(stream)
    pipeline.finish()
    assert pipeline.join(30), f"still running: {pipeline.alive()}"


@pytest.fixture(params=["inline", "threaded"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run streams to their end: ``run(streams, sinks, detector, **flow options) -> the pipeline``."""

    def runner(
        streams: Sequence[Stream],
        sinks: Sequence[ListSink],
        detector: FakeDetector | None = None,
        **options: object,
    ) -> Pipeline:
        pipeline = Pipeline(detector or FakeDetector(), sinks, FlowOptions(**options))  # type: ignore[arg-type]
        if request.param == "inline":
            pipeline.run_inline(streams)
        else:
            run_threaded(pipeline, streams)
        return pipeline

    return runner
