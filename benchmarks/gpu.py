# SPDX-License-Identifier: Apache-2.0
"""The network on a GPU: ours against a hand-made loop, by batch size; and what the GPU did meanwhile.

Pictures are uint8 arrays of the input's size. Every way ends with detections, or outputs, in ordinary memory:

- loop: pictures in ordinary memory, stack, ``to(device)``, permute, ``float() / 255``, the file, ``.cpu()``;
  one batch after the other;
- ours: the detector as a run uses it, pictures in the memory that it asks for, with suppression, two batches under way;
  in fp32, fp16, bf16; as CUDA graphs.

Then torch's profiler looks at some batches of each: the share of time in which the GPU did anything at all, in which it
copied, and the longest pause between two batches. ``python -m benchmarks.gpu`` needs a CUDA device.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks import networks
from pipeline.detectors import build_detector
from pipeline.detectors.loading.devices import move_constants
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.torch_messages import quiet
from pipeline.detectors.trial.verdict import Verdict
from pipeline.frame import Batch, Frame, Geometry, Item, StreamKey, Uint8Array
from pipeline.host.caches import cache_folder
from pipeline.timing import new_trace

DEVICE = torch.device("cuda", 0)
WAYS = ("loop", "fp32", "fp32 graph", "fp16", "fp16 graph", "bf16 graph")
PROFILED = 20

Step = Callable[[], None]


def pictures(count: int, side: int) -> list[Uint8Array]:
    """Scenes of 320 x 320, tiled to (side, side, 3)."""
    tiles = -(-side // networks.SIDE)
    drawn = [networks.scene(seed)[0] for seed in range(3000, 3000 + count)]
    return [np.ascontiguousarray(np.tile(one, (tiles, tiles, 1))[:side, :side]) for one in drawn]


@contextmanager
def loop(path: Path, batch: int, side: int) -> Iterator[Step]:
    """What one would write by hand; but for the devices that tracing wrote into the file, without which it fails."""
    with quiet():
        module: Any = torch.jit.load(io.BytesIO(path.read_bytes()), map_location=DEVICE).eval()  # type: ignore[no-untyped-call]
    move_constants(module, DEVICE)
    given = pictures(batch, side)

    def step() -> None:
        with torch.inference_mode():
            on_device = torch.from_numpy(np.stack(given)).to(DEVICE)
            module(on_device.permute(0, 3, 1, 2).float() / 255).cpu()

    yield step


@contextmanager
def ours(path: Path, batch: int, side: int, way: str) -> Iterator[Step]:
    """A step submits a batch, and waits for the one before it."""
    precision, _, graph = way.partition(" ")
    recipe = Recipe(precision=precision)  # type: ignore[arg-type]
    if graph:
        recipe = Recipe(way="cuda_graph", shape=(batch, 3, side, side), precision=precision)  # type: ignore[arg-type]
    detector = build_detector(
        path,
        device="cuda",
        input_size=(side, side),
        precision=precision,
        recipe=recipe,
        verdict=Verdict(batch),
        max_batch=batch,
    )
    detector.warm([batch])
    frame = Frame(StreamKey("gpu", 0), 0, 0, 0.0, None, 0, side, side, None, new_trace())
    whole = Geometry(side, side, 1.0, 1.0)

    def copied(picture: Uint8Array) -> Uint8Array:
        """Where the flow's stages would have written it."""
        kept = detector.allocate(picture.shape)
        np.copyto(kept, picture)
        return kept

    items = tuple(Item(frame, detector.spec, copied(picture), whole) for picture in pictures(batch, side))
    under_way: deque[Any] = deque()

    def step() -> None:
        under_way.append(detector.submit(Batch(items, batch, 0)))
        if len(under_way) == detector.depth:
            under_way.popleft().result()

    yield step
    for pending in under_way:
        pending.result()
    detector.close()


def measured(step: Step, batch: int, seconds: float) -> dict[str, Any]:
    """Pictures per second, median and longest time between two batches in ms, and what the profiler saw."""
    for _ in range(5):  # torch's own fuser, which the loop leaves on, compiles in the first ones
        step()
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds / 2:
        step()
    times = [time.perf_counter()]
    while times[-1] - times[0] < seconds:
        step()
        times.append(time.perf_counter())
    between = np.diff(times)
    found = {
        "fps": round((len(times) - 1) * batch / (times[-1] - times[0]), 1),
        "batch_ms": round(statistics.median(between) * 1e3, 3),
        "longest_ms": round(float(between.max()) * 1e3, 3),
    }
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        for _ in range(PROFILED):
            step()
        torch.cuda.synchronize()
    return found | busy(seen)


def busy(seen: Any) -> dict[str, Any]:
    """Shares of the time from the first to the last thing that the GPU did."""
    spans = sorted(
        (event.start_ns(), event.start_ns() + event.duration_ns(), event.name())
        for event in seen.profiler.kineto_results.events()
        if event.device_type() == DeviceType.CUDA and event.duration_ns() > 0
    )
    if not spans:
        return {}
    end, working, pause = spans[0][0], 0, 0
    for start, stop, _ in spans:
        pause = max(pause, start - end)
        working += max(0, stop - max(start, end))
        end = max(end, stop)
    whole = end - spans[0][0]

    def share(words: str) -> float:
        took: int = sum(stop - start for start, stop, name in spans if words in name)
        return round(took / whole, 3)

    return {
        "busy": round(working / whole, 3),
        "copies_in": share("HtoD"),
        "copies_out": share("DtoH"),
        "longest_pause_ms": round(pause / 1e6, 3),
    }


def main() -> None:
    """A line per way, and JSON with ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["mobilenet", "resnet"], choices=list(networks.TRACED))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--side", type=int, default=640, help="of the input in pixels, a multiple of 32")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--folder", type=Path, default=cache_folder("bench") / "networks", help="of the model files")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "benchmarks.gpu: this machine has no CUDA device\n")
    print(
        torch.cuda.get_device_name(DEVICE), "torch", torch.__version__, f"{options.side} x {options.side}", flush=True
    )
    rows = []
    for name in options.networks:
        path = networks.save(name, options.folder)
        for batch in options.batches:
            for way in options.ways:
                made = loop(path, batch, options.side) if way == "loop" else ours(path, batch, options.side, way)
                with made as step:
                    row = {"network": name, "batch": batch, "way": way, **measured(step, batch, options.seconds)}
                rows.append(row)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
