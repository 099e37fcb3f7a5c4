# SPDX-License-Identifier: Apache-2.0
"""How long a device worked on a batch, and what its frames waited behind another one. The device is a double with a
clock; tests/unit/test_detectors_cuda.py asks a real one."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.complaints import Complaints
from pipeline.detectors import build_detector
from pipeline.detectors.device_work import DeviceWork, timing_event
from pipeline.detectors.engine import Submitted
from pipeline.detectors.network import Network
from pipeline.detectors.preprocessing import Encoding
from pipeline.errors import InferenceError
from pipeline.flow.batching import BatchScheduler
from pipeline.flow.inference import BatchRunner, UnderWay
from pipeline.frame import Batch, Frame, Geometry, InputSpec, Item, Outcome, StreamKey
from pipeline.frame.buffers import BufferPool
from pipeline.ledger import BatchRun, Ledger
from pipeline.testing import ManualClock
from pipeline.timing import Mark, elapsed, new_trace, part_times
from tests.devices import Device, OnDevice
from tests.models import NAMES, Cells, batch_of, save, ultralytics_metadata

MS = 1_000_000
SPEC = InputSpec(32, 32)


class Noting(BatchScheduler):
    """Notes what it is told of batches: how long they took, and how long they had waited."""

    def __init__(self) -> None:
        super().__init__(8)
        self.told: list[tuple[int, int]] = []

    def served(self, items: int, duration_ns: int, waited_ns: int = 0) -> None:
        self.told.append((duration_ns, waited_ns))
        super().served(items, duration_ns, waited_ns)


class Bench:
    """A worker of :meth:`pipeline.flow.pipeline.Pipeline._detect`, step by step."""

    def __init__(self, *takes_ms: int, launch_ms: int = 0, parse_ms: int = 0) -> None:
        self.clock = ManualClock(1000 * MS)
        self.device = Device(self.clock)
        takes_ns = [takes * MS for takes in takes_ms]
        self.detector = OnDevice(self.device, launch_ms * MS, takes_ns, parse_ms * MS)
        self.scheduler, self.buffers, self.ledger = Noting(), BufferPool(), Ledger()
        self.outcomes: list[Outcome] = []
        self.runs: list[BatchRun] = []
        self.ledger.on_batch = self.runs.append
        self.runner = BatchRunner(
            self.detector, self.scheduler, self.buffers, self.ledger, lambda *found: self.outcomes.extend(found),
            self.clock.now_ns, Complaints(logging.getLogger("pipeline"), self.clock),
        )  # fmt: skip
        self.under_way: deque[UnderWay] = deque()
        self.number = 0

    def submit(self) -> None:
        """A frame that has just come, alone in its batch."""
        now_ns = self.clock.now_ns()
        frame = Frame(StreamKey("a", 1), self.number, self.number, 0.0, None, 0, 64, 64, None, new_trace())
        frame.trace[Mark.READ] = now_ns
        buffer = self.buffers.acquire(SPEC.shape)
        buffer[...] = 51
        item = Item(frame, SPEC, buffer, Geometry(64, 64, 0.5, 0.5), queued_ns=now_ns)
        self.number += 1
        self.under_way.append(self.runner.submit(Batch((item,), 1, self.number, now_ns, now_ns)))

    def complete(self) -> None:
        self.runner.complete(self.under_way.popleft())

    def times_ms(self, number: int) -> dict[str, float]:
        """Where the time of a frame went, up to its detections."""
        trace = self.trace(number)
        times = part_times(trace, Mark.PARSED)
        assert sum(times.values()) == elapsed(trace, Mark.PARSED)
        return {part: took_ns / MS for part, took_ns in times.items()}

    def trace(self, number: int) -> list[int]:
        outcome = self.outcomes[number]
        trace = outcome.frame.trace
        trace[Mark.QUEUED : Mark.PARSED + 1] = outcome.marks
        return trace


def test_a_batch_that_is_alone_is_at_work_from_its_submission_on() -> None:
    bench = Bench(30, launch_ms=2, parse_ms=5)
    bench.submit()
    bench.complete()
    assert bench.times_ms(0) == {"scheduler": 0, "batch": 0, "infer": 30, "postprocess": 5}


def test_what_is_behind_another_batch_waits_for_it() -> None:
    """Two are submitted within 4 ms. The device does the second one when it has done the first."""
    bench = Bench(30, 20, launch_ms=2, parse_ms=5)
    bench.submit()
    bench.submit()
    bench.complete()
    bench.complete()
    assert bench.times_ms(0) == {"scheduler": 0, "batch": 0, "infer": 30, "postprocess": 5}
    assert bench.times_ms(1) == {"scheduler": 0, "batch": 28, "infer": 20, "postprocess": 5}
    first, second = bench.runs
    assert second.began_ns == first.inferred_ns
    assert [run.began_ns for run in bench.runs] == [bench.trace(number)[Mark.INFER] for number in (0, 1)]
    assert bench.scheduler.told == [(35 * MS, 0), (25 * MS, 28 * MS)]


def test_a_worker_that_comes_late_is_waited_for() -> None:
    """The first batch was done while the worker launched the second one for 50 ms. Who waits for what is not known to
    the millisecond then; that the device worked for 10 ms is."""
    bench = Bench(10, 10, launch_ms=50)
    bench.submit()
    bench.submit()
    bench.complete()
    assert bench.times_ms(0) == {"scheduler": 0, "batch": 90, "infer": 10, "postprocess": 0}


def test_a_device_whose_clock_is_fast_moves_no_mark_before_the_submission() -> None:
    bench = Bench(30)
    bench.device.rate = 1.01
    bench.submit()
    bench.complete()
    assert bench.times_ms(0) == {"scheduler": 0, "batch": 0, "infer": 30, "postprocess": 0}


@given(
    takes_ms=st.lists(st.integers(0, 50), min_size=2, max_size=12),
    launch_ms=st.integers(0, 60),
    parse_ms=st.integers(0, 60),
    depth=st.integers(1, 3),
)
def test_whatever_overlaps(takes_ms: list[int], launch_ms: int, parse_ms: int, depth: int) -> None:
    """Marks go on, parts sum to the whole, and work is what the device did."""
    bench = Bench(*takes_ms, launch_ms=launch_ms, parse_ms=parse_ms)
    for _ in takes_ms:
        bench.submit()
        if len(bench.under_way) == depth:
            bench.complete()
    while bench.under_way:
        bench.complete()
    for number, takes in enumerate(takes_ms):
        marks = [at for at in bench.trace(number)[: Mark.PARSED + 1] if at]
        assert marks == sorted(marks)
        times = bench.times_ms(number)
        assert (times["infer"], times["postprocess"]) == (takes, parse_ms)


def test_a_deadline_reckons_with_the_wait_and_company_does_not() -> None:
    """30 ms for each batch and 10 for each picture in it; each has waited behind another one for 50."""
    scheduler = BatchScheduler(8)
    for items in (1, 4) * 50:
        scheduler.served(items, (30 + 10 * items) * MS, 50 * MS)
    assert scheduler._waiting.service.usual_ns == pytest.approx((50 + 30 + 10 * 2.5) * MS, rel=0.05)
    assert scheduler._waiting.service.saved_ns == pytest.approx(30 * MS, rel=0.01)


def test_a_device_that_fails_under_a_batch() -> None:
    device = Device(ManualClock())
    work = DeviceWork.begin(device.event)
    work.end()
    device.fault = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(InferenceError, match=r"the device failed under a batch: .*illegal memory access"):
        Submitted(list, work).wait()


@pytest.mark.parametrize("event", [timing_event, lambda: Device(ManualClock()).event()], ids=["torch", "double"])
def test_an_event_that_nobody_recorded(event: Callable[[], Any]) -> None:
    """Torch's own needs no device to say so: who reads times that nobody took is told, not given a number."""
    begun, ended = event(), event()
    assert ended.query()
    ended.synchronize()
    with pytest.raises(ValueError, match="must be recorded"):
        begun.elapsed_time(ended)


def test_events_know_times_and_let_the_host_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="enable_timing=True"):
        torch.cuda.Event().elapsed_time(timing_event())  # type: ignore[no-untyped-call]
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.cuda, "Event", lambda **options: asked.append(options))
    timing_event()
    assert asked == [{"enable_timing": True, "blocking": True}]


def test_a_device_that_has_failed_fails_when_it_is_given_work() -> None:
    """As CUDA does: every call after a faulty kernel. The batch is refused before anything is queued."""
    device = Device(ManualClock())
    network = Network(Slow(device, Means()), Encoding(), SPEC, torch.device("cpu"), "fp32", 4, device.event)
    device.fault = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(InferenceError, match="illegal memory access"):
        network.run([np.zeros(SPEC.shape, np.uint8)], 1)
    assert device.done_ns == 0


def test_the_time_of_an_event_is_read_when_it_was_waited_for_and_not_before() -> None:
    clock = ManualClock()
    device = Device(clock)
    work = DeviceWork.begin(device.event)
    device.queue(5 * MS)
    work.end()
    with pytest.raises(RuntimeError, match="must be completed"):
        work._begun.elapsed_time(work.ended)
    assert clock.now_ns() == ManualClock().now_ns(), "nobody waited"
    assert work.wait() == 5 * MS


class Slow(nn.Module):
    """Keeps the device busy for a millisecond per picture."""

    def __init__(self, device: Device, module: nn.Module) -> None:
        super().__init__()
        self.device, self.module = device, module

    def forward(self, x: torch.Tensor) -> Any:
        self.device.queue(len(x) * MS)
        return self.module(x)


class Means(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))


def test_copies_to_the_device_and_the_network_belong_to_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(ManualClock())
    network = Network(Slow(device, Means()), Encoding(), SPEC, torch.device("cpu"), "fp32", 4, device.event)
    fill = network._feed().fill

    def filling(pictures: Any, size: int) -> torch.Tensor:
        device.queue(7 * MS)
        return fill(pictures, size)

    monkeypatch.setattr(network._feed(), "fill", filling)
    device.queue(100 * MS)  # the batch before
    _, work = network.run([np.zeros(SPEC.shape, np.uint8)], 3)
    assert work is not None
    assert work.wait() == 10 * MS


def test_a_batch_in_parts_is_one_piece_of_work(tmp_path: Path) -> None:
    path = save(Cells(), tmp_path / "m.pt", ultralytics_metadata((96, 128), NAMES))
    detector = build_detector(path, device="cpu", max_batch=4)
    batch = batch_of(detector.spec, *[np.zeros(detector.spec.shape, np.uint8)] * 4)
    on_cpu = detector.submit(batch)
    on_cpu.wait()
    assert (on_cpu.work, on_cpu.device_ns) == (None, None)
    device = Device(ManualClock())
    detector.program = Slow(device, detector.program)
    detector._network.event = device.event
    detector._capacity.ran_out(4)
    device.queue(100 * MS)
    pending = detector.submit(batch)
    pending.wait()
    assert pending.device_ns == 4 * MS
    assert len(pending.result()) == 4


class Held(nn.Module):
    """Says that it was entered, and waits."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.entered, self.go = module, threading.Event(), threading.Event()

    def forward(self, x: torch.Tensor) -> Any:
        self.entered.set()
        assert self.go.wait(30)
        return self.module(x)


def test_who_waits_for_its_turn_is_not_at_work(tmp_path: Path) -> None:
    """One thread at a time is let in. The first is in for 50 ms, the second waits that long and takes no time."""
    detector = build_detector(save(Cells(), tmp_path / "m.pt", ultralytics_metadata((96, 128), NAMES)), device="cpu")
    detector.verdict = replace(detector.verdict, exclusive=True)
    clock = detector._clock = ManualClock()
    detector.program = held = Held(detector.program)
    batch = batch_of(detector.spec, np.zeros(detector.spec.shape, np.uint8))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(detector.submit, batch)
        assert held.entered.wait(30)
        second = pool.submit(detector.submit, batch)
        clock.advance(50 * MS)
        held.go.set()
        assert [one.result(30).device_ns for one in (first, second)] == [50 * MS, 0]


def test_of_a_batch_in_parts_each_has_its_turn(tmp_path: Path) -> None:
    detector = build_detector(
        save(Cells(), tmp_path / "m.pt", ultralytics_metadata((96, 128), NAMES)), device="cpu", max_batch=4
    )
    detector.verdict = replace(detector.verdict, exclusive=True)
    clock = detector._clock = ManualClock()

    class Clocked(Held):
        def forward(self, x: torch.Tensor) -> Any:
            clock.advance(len(x) * MS)
            return self.module(x)

    detector.program = Clocked(detector.program)
    detector._capacity.ran_out(4)
    pending = detector.submit(batch_of(detector.spec, *[np.zeros(detector.spec.shape, np.uint8)] * 4))
    pending.wait()
    assert (pending.device_ns, len(pending.result())) == (4 * MS, 4)


def test_on_a_cpu_nothing_is_timed() -> None:
    network = Network(Means(), Encoding(), SPEC, torch.device("cpu"), "fp32", 4)
    assert network.event is None
    assert network.run([np.zeros(SPEC.shape, np.uint8)], 1)[1] is None
