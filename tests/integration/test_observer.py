# SPDX-License-Identifier: Apache-2.0
"""What the tracker says agrees with an observer who knows nothing of it: times in the pixels, read back at the sink."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pipeline.flow import Pipeline
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions, Stream
from pipeline.frame import Batch
from pipeline.ledger import StreamLedger
from pipeline.redact import SourceUrl
from pipeline.sinks import CallbackSink
from pipeline.sources import CameraSource
from pipeline.stages import Letterbox
from pipeline.testing import FakeDetector
from pipeline.timing import PTS, Mark
from tests.background import until
from tests.faults.camera import serving
from tests.faults.camera.stamped import StampedCamera
from tests.stamps import SMALLEST, Observer, Stamp, StampedSource, paint, read


class Busy(FakeDetector):
    """Takes its time."""

    def submit(self, batch: Batch):  # type: ignore[no-untyped-def]
        threading.Event().wait(0.003 * len(batch.items))
        return super().submit(batch)


@pytest.mark.parametrize("fps", [25, 200], ids=["light", "overloaded"])
def test_ages_are_those_that_the_pixels_tell(fps: int) -> None:
    observer = Observer()
    sink = CallbackSink(observer.see, wants_pictures=True)
    options = FlowOptions(batch_size=4, fixed_batch=False, outlet_policy="freshest", outlet_capacity=1000)
    pipeline = Pipeline(Busy(), [sink], options)
    pipeline.start()
    for number in range(4):
        source = StampedSource(fps, round(0.8 * fps), phase=number / 4)
        account = StreamLedger(f"s{number}", live=True)
        pipeline.add(Stream(source, [Letterbox()], account, terms=Terms(policy="freshest")))
    pipeline.finish()
    assert pipeline.join(30)
    assert observer.mistaken() == []
    assert pipeline.ledger.sinks["callback"].lost_data is False
    report = pipeline.ledger.as_dict()
    told = report["total"]["end_to_end"]
    assert told["count"] == report["frames"] == len(observer.seen) >= 60
    lost = sum(sum(one["frames"]["dropped"].values()) for one in report["streams"].values())
    assert lost > 0 or fps < 100
    ages_ms = [one.age_ns / 1e6 for one in observer.seen]
    for key, percent, within_ms in (("p50_ms", 50, 1.0), ("p99_ms", 99, 3.0)):
        exact = float(np.percentile(ages_ms, percent, method="inverted_cdf"))
        assert abs(told[key] - exact) <= within_ms, (key, told[key], exact)
    # Frame by frame the tracker begins after the frame was made, and ends after the observer has seen it.
    apart_ms = [abs(one.told_ns - one.age_ns) / 1e6 for one in observer.seen]
    assert np.percentile(apart_ms, 90) <= 1.0


def test_over_the_network_the_tracker_begins_late_and_time_stamps_tell_by_how_much() -> None:
    observer = Observer()
    pipeline = Pipeline(
        Busy(),
        [CallbackSink(observer.see, wants_pictures=True)],
        FlowOptions(batch_size=4, fixed_batch=False, outlet_policy="freshest", outlet_capacity=1000),
    )
    pipeline.start()
    with serving(StampedCamera("cam0", size=(320, 192), fps=50)) as cameras:
        source = CameraSource(SourceUrl.parse(cameras.url("cam0")))
        account = StreamLedger("cam0", live=True)
        pipeline.add(Stream(source, [Letterbox()], account, terms=Terms(policy="freshest")))
        until(lambda: account.processed >= 40)
        pipeline.stop()
        assert pipeline.join(30)
    assert observer.mistaken() == []
    seen = observer.seen
    assert pipeline.ledger.as_dict()["total"]["end_to_end"]["count"] == len(seen) >= 40
    assert all(one.trace[Mark.READ] >= one.stamp.made_ns for one in seen), "no frame was read before it was sent"
    # What lies before the first mark is the same by the pixels and by the time stamps, but for what all frames share.
    by_pixels = np.array([one.trace[Mark.READ] - one.stamp.made_ns for one in seen]) / 1e6
    by_stamps = np.array([one.trace[Mark.READ] - one.trace[PTS] for one in seen]) / 1e6
    np.testing.assert_allclose(by_pixels - by_pixels.min(), by_stamps - by_stamps.min(), atol=0.05)
    behind = account.as_dict(0)["camera"]["behind"]
    assert behind["count"] == account.decoded
    assert behind["p50_ms"] <= behind["max_ms"] < 1e4


def test_a_stamp_is_read_back_or_refused() -> None:
    width, height = SMALLEST
    luma = np.full((height, width), 128, np.uint8)
    for stamp in (Stamp(0, 0), Stamp(2**32 - 1, 2**64 - 1), Stamp(77, 123_456_789_012_345)):
        paint(luma, stamp)
        assert read(luma) == stamp
    noisy = np.clip(luma + np.random.default_rng(1).normal(0, 30, luma.shape), 0, 255).astype(np.uint8)
    assert read(noisy) == stamp
    luma[32:48, 64:80] = 251 - luma[32:48, 64:80]  # one square is lost
    with pytest.raises(ValueError, match="no stamp"):
        read(luma)
    with pytest.raises(ValueError, match="no stamp"):
        read(np.full((height, width), 128, np.uint8))
