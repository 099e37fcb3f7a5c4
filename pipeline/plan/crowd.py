# SPDX-License-Identifier: Apache-2.0
"""What becomes of the cores when more threads want them than there are: measured, not assumed.

Threads of one interpreter take turns in its lock, wake each other, and push each other's data out of the caches: the
more of them are ready, the less comes out in all. So the readers of a run, and its workers, are let loose on their work
without waiting for anything, a few of them, then more, then all; what they get done is counted in the CPU time that it
takes where there is a thread per core.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pipeline import build
from pipeline.daemon.model import Loaded
from pipeline.frame import InputSpec, Uint8Array
from pipeline.memory import BufferPool, aligned
from pipeline.plan.copies import Copy
from pipeline.plan.costs import NetworkCosts, StreamCosts
from pipeline.plan.measuring import Measured, batch_of
from pipeline.threads import StopFlag
from pipeline.timing import now_ns

Points = tuple[tuple[int, float], ...]
"""Threads that are ready, and how many cores' worth of work they get done."""

MOST_READERS: Final = 128


def crowd_sizes(streams: int) -> list[int]:
    """How many readers are tried at a time."""
    return sorted({size for size in (1, 4, 12, 36) if size < streams} | {min(streams, MOST_READERS)})


def measure_crowd(
    copies: Sequence[Copy],
    parts: Measured,
    loaded: Loaded,
    seconds: float,
    stop: StopFlag,
    say: Callable[[str], None],
) -> Points:
    """Let all sizes of crowds work for ``seconds`` in all. Raises SourceError, StageError, ModelError."""
    sizes = crowd_sizes(len(copies))
    points = []
    for readers in sizes:
        say(f"measuring: {readers} readers at a time")
        crowd = _Crowd(parts, loaded, stop)
        points.append((readers + crowd.workers, crowd.work(copies[:readers], seconds / len(sizes))))
    return tuple(points)


class _Crowd:
    def __init__(self, parts: Measured, loaded: Loaded, stop: StopFlag) -> None:
        on_device = loaded.facts["device"] != "cpu"
        self.workers = 0 if on_device else loaded.options.workers
        self._parts, self._loaded = parts, loaded
        self._stop = stop.child()
        self._buffers = BufferPool(allocate=getattr(loaded.detector, "allocate", aligned))
        self._lock = threading.Lock()
        self._ready = threading.Barrier(1)
        self._done_ms = 0.0

    def work(self, copies: Sequence[Copy], seconds: float) -> float:
        """Cores' worth of work that got done."""
        self._ready = threading.Barrier(len(copies) + self.workers + 1)
        with ThreadPoolExecutor(len(copies) + self.workers, "crowd") as pool:
            running = [pool.submit(self._guarded, self._read, copy) for copy in copies]
            running += [pool.submit(self._guarded, self._detect) for _ in range(self.workers)]
            try:
                self._ready.wait()
                began_ns = now_ns()
                self._stop.wait(seconds)
                with self._lock:
                    done_ms, took_ms = self._done_ms, (now_ns() - began_ns) / 1e6
            except threading.BrokenBarrierError:  # one of them says below what happened
                done_ms, took_ms = 0.0, 1.0
            finally:
                self._stop.set()
            for one in running:
                one.result()
        return done_ms / took_ms

    def _guarded(self, body: Callable[..., None], *given: Copy) -> None:
        try:
            body(*given)
        except BaseException:
            self._stop.set()
            self._ready.abort()
            raise

    def _read(self, copy: Copy) -> None:
        costs: StreamCosts = self._parts.streams[copy.stream.name]
        stream = build.feed(copy.config.model_copy(update={"pace": "asap", "loop": True}))
        (stage,) = stream.stages
        spec = self._loaded.detector.spec
        stream.source.open(self._stop)
        try:
            self._wait()
            while not self._stop.is_set() and (capture := stream.source.read()) is not None:
                done_ms = costs.decode_ms
                if stream.keep(capture):
                    pixels = self._buffers.acquire(stage.spec_for(capture.picture, spec).shape)
                    stage.prepare(capture.picture, stage.spec_for(capture.picture, spec), pixels)
                    self._buffers.release(pixels)
                    done_ms += costs.prepare_ms
                self._count(done_ms)
        finally:
            stream.source.close()

    def _detect(self) -> None:
        network: NetworkCosts = self._parts.network
        spec: InputSpec = next(iter(network.samples))
        size = max(network.samples[spec])
        self._loaded.detector.warm([size])
        pixels: list[Uint8Array] = [self._buffers.acquire(spec.shape) for _ in range(size)]
        for each in pixels:
            each.fill(spec.pad_value)
        self._wait()
        while not self._stop.is_set():
            self._loaded.detector.submit(batch_of(spec, pixels)).result()
            self._count(network.cpu_ms(spec, size) * network.threads)

    def _wait(self) -> None:
        try:
            self._ready.wait()
        except threading.BrokenBarrierError:
            return  # another one failed, and says so

    def _count(self, done_ms: float) -> None:
        with self._lock:
            self._done_ms += done_ms
