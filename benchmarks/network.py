# SPDX-License-Identifier: Apache-2.0
"""The network alone: ours against ``torch.jit.load`` and a call, a thread pool, and OpenVINO; same cores and weights.

Pictures are tensors already; nothing is decoded, resized or suppressed. Every program fills all cores in its own way:

- plain: the file as it comes, one picture at a time, torch's default threads;
- pool: one ``ThreadPoolExecutor.submit`` per picture, as many threads as cores, torch's default threads in each;
- ours: the default recipe, as many workers as cores with one thread each, batches of 4; bf16; an INT8 copy. Batches are
  divided into calls as the detector does it. Beside it what `model tune` may choose: `optimize_for_inference`;
- openvino: as many streams as cores, one infer request each; batches of 1 and 4, the better one counts, against the
  better one of ours.

First the outputs are compared. Then programs take turns, a window each per round, and medians of the ratios of each
round are told. With --hiccups: the time of every batch of the real detector, with batch sizes from 1 to 8 at random.
With --sides: batches of 1 to 8 pictures of several sizes, in one call each and divided into calls.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import networks
from pipeline.detectors import build_detector
from pipeline.detectors.capacity import parts, pictures_per_call
from pipeline.detectors.loading.preparing import Specialised, prepare
from pipeline.detectors.loading.recipe import DEFAULT, Recipe
from pipeline.detectors.torch_messages import hush_int8, quiet
from pipeline.frame import Batch
from pipeline.host.caches import cache_folder
from pipeline.host.cores import allowed_cores
from pipeline.workshop.frames import items, sample
from pipeline.workshop.int8.graph import flatten, head_layers, quantize_program

BATCH = 4
WANTED = {
    ("mobilenet", "fp32"): 2.0,
    ("shufflenet", "fp32"): 2.0,
    ("resnet", "bf16"): 2.0,
    ("resnet", "int8"): 3.5,
}
"""Floors of the ratio to the plain program."""


EXACT, REDUCED = 0.02, 0.25
"""Mean error of the scores, 0..1, up to which a program counts as the same network. Random weights amplify rounding:
ours and OpenVINO's bf16 both err by 0.15 on the ShuffleNet."""


@dataclass
class Program:
    """``step`` runs ``pictures`` pictures in one of ``workers`` threads, each with ``threads`` intra-op threads."""

    name: str
    step: Callable[[int], object]
    pictures: int
    workers: int
    threads: int
    fps: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.workers, self.name)
        self._meeting = threading.Barrier(self.workers)
        self.window(0.0)
        self.window(0.3)
        self.fps.clear()

    def window(self, seconds: float) -> None:
        self.fps.append(
            sum(future.result() for future in [self._pool.submit(self._work, seconds) for _ in range(self.workers)])
        )

    def _work(self, seconds: float) -> float:
        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            self._meeting.wait()
            begun, count = time.perf_counter(), 0
            while count < 2 or time.perf_counter() - begun < seconds:
                self.step(count)
                count += 1
            return count * self.pictures / (time.perf_counter() - begun)


def take_turns(programs: Sequence[Program], rounds: int, seconds: float) -> None:
    for _ in range(rounds):
        for program in programs:
            program.window(seconds)


def ratio(one: Program, other: Program) -> float:
    """Pictures per second of ``one`` as a multiple of those of ``other``: median over the rounds."""
    return round(statistics.median(a / b for a, b in zip(one.fps, other.fps, strict=True)), 3)


def pictures(count: int) -> Tensor:
    """(count, 3, 320, 320) in 0..1, memory as channels_last."""
    drawn = np.stack([networks.scene(seed)[0] for seed in range(2000, 2000 + count)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float().div(255.0)


class Case:
    """One network, and all programs that run it."""

    def __init__(self, name: str, cores: int) -> None:
        self.name = name
        self.cores = cores
        self.errors: dict[str, float] = {}
        self.data = networks.save(name, cache_folder("bench") / "networks").read_bytes()
        self.given = pictures(16)
        self.single = [picture[None].contiguous() for picture in self.given]
        self.plain_module = self.load()
        with torch.inference_mode():
            self.expected = self.plain_module(self.given[:BATCH].contiguous())

    def load(self) -> Any:
        with quiet():
            return torch.jit.load(io.BytesIO(self.data)).eval()

    def plain(self) -> Program:
        module = self.plain_module
        return Program("plain", lambda number: module(self.single[number % 16]), 1, 1, self.cores)

    def pool(self) -> Program:
        """The caller submits a picture at a time and collects results as they come, two per thread under way."""
        module, pool, cores = self.plain_module, ThreadPoolExecutor(self.cores), self.cores

        def one(number: int) -> None:
            with torch.inference_mode():
                module(self.single[number % 16])

        def step(number: int) -> None:
            for future in [pool.submit(one, index) for index in range(2 * cores)]:
                future.result()

        return Program("pool", step, 2 * cores, 1, cores)

    def ours(self, name: str, module: nn.Module, batch: int, workers: int, precision: str = "fp32") -> Program:
        given = [part for part in self.given.split(batch) if len(part) == batch]
        dtype = torch.bfloat16 if precision == "bf16" else None
        whole = isinstance(module, Specialised)
        most = batch if whole else pictures_per_call(networks.SIDE, networks.SIDE, 1, halved=precision == "bf16")
        calls = parts(batch, most)

        def step(number: int) -> Tensor:
            return torch.cat([self._under(dtype, module, call) for call in given[number % len(given)].split(calls)])

        self.verify(name, lambda: step(0), batch, EXACT if precision == "fp32" else REDUCED)
        return Program(name, step, batch, workers, 1)

    def int8(self) -> nn.Module:
        hush_int8()

        def calibrate(prepared: nn.Module) -> None:
            with torch.no_grad():
                for part in pictures(48)[16:].split(4):
                    prepared(part)

        return quantize_program(self.data, calibrate, keep_float=frozenset(head_layers(flatten(self.data))))

    def openvino(self, precision: str, batch: int) -> Program | None:
        made = compiled(self, precision, batch)
        if made is None:
            return None
        local = threading.local()
        given = [part.contiguous().numpy() for part in self.given.split(batch) if len(part) == batch]

        def step(number: int) -> Any:
            if not hasattr(local, "request"):
                local.request = made.create_infer_request()
            return local.request.infer([given[number % len(given)]], share_inputs=True, share_outputs=True)[0]

        tolerance = EXACT if precision == "fp32" else REDUCED
        self.verify(f"openvino {precision}", lambda: torch.from_numpy(np.array(step(0))), batch, tolerance)
        return Program(f"openvino {precision}, {batch}", step, batch, self.cores, 1)

    def verify(self, name: str, run: Callable[[], Tensor], batch: int, tolerance: float) -> None:
        """Scores, 0..1, differ by at most ``tolerance`` on average over the anchors that matter."""
        with torch.inference_mode():
            found = run().float()
        count = min(batch, BATCH)
        expected, found = self.expected[:count, 4:], found[:count, 4:]
        sure = expected > 0.3
        error = (
            float((expected - found)[sure].abs().mean()) if bool(sure.any()) else float((expected - found).abs().mean())
        )
        self.errors[name] = round(error, 4)
        assert error < tolerance, f"{self.name}, {name}: scores are off by {error:.3f}"

    @staticmethod
    def _under(dtype: torch.dtype | None, module: nn.Module, given: Tensor) -> Tensor:
        if dtype is None:
            return module(given)  # type: ignore[no-any-return]
        with torch.autocast("cpu", dtype=dtype):
            return module(given)  # type: ignore[no-any-return]


def compiled(case: Case, precision: str, batch: int) -> Any:
    """The same weights in OpenVINO, for throughput; None where it is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    torch.set_num_threads(1)
    model = openvino.convert_model(case.load(), example_input=torch.rand(batch, 3, networks.SIDE, networks.SIDE))
    model.reshape([batch, 3, networks.SIDE, networks.SIDE])
    if precision == "int8":
        try:
            import nncf
        except ImportError:
            return None
        frames = nncf.Dataset([part.contiguous().numpy() for part in pictures(48)[16:].split(batch)])
        model = nncf.quantize(model, frames, subset_size=32 // batch, preset=nncf.QuantizationPreset.MIXED)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "NUM_STREAMS": str(case.cores),
        "INFERENCE_NUM_THREADS": str(case.cores),
    }
    return openvino.Core().compile_model(model, "CPU", settings)


def measure(name: str, rounds: int, seconds: float, wanted: Sequence[str]) -> dict[str, Any]:
    """All figures of one network."""
    cores = allowed_cores()
    case = Case(name, cores)
    module = prepare(case.load(), DEFAULT)
    programs = {"plain": case.plain(), "pool": case.pool()}
    for batch in (1, 2, BATCH, 8):
        programs[f"fp32, {batch}"] = case.ours(f"fp32, {batch}", module, batch, cores)
    programs["1 x 1"] = case.ours("1 x 1", module, BATCH, 1)
    if "bf16" in wanted:
        programs["bf16"] = case.ours("bf16", module, BATCH, cores, "bf16")
    if "int8" in wanted:
        programs["int8"] = case.ours("int8", case.int8(), BATCH, cores, "int8")
    for batch in (1, 2, BATCH):
        optimized = prepare(case.load(), Recipe(way="optimized", shape=(batch, 3, networks.SIDE, networks.SIDE)))
        programs[f"optimized, {batch}"] = case.ours(f"optimized, {batch}", optimized, batch, cores)
    for precision in ("fp32", *wanted):
        for batch in (1, BATCH):
            peer = case.openvino(precision, batch)
            if peer is not None:
                programs[peer.name] = peer
    take_turns(list(programs.values()), rounds, seconds)
    plain = programs["plain"]
    ours = {"fp32": programs[f"fp32, {BATCH}"], **{one: programs[one] for one in wanted}}
    row: dict[str, Any] = {
        "network": name,
        "fps": {one: round(statistics.median(program.fps), 2) for one, program in programs.items()},
        "ratio_to_plain": {one: ratio(program, plain) for one, program in ours.items()},
        "ratio_to_pool": ratio(ours["fp32"], programs["pool"]),
        "optimized_to_plain": max(ratio(programs[f"optimized, {batch}"], plain) for batch in (1, 2, BATCH)),
        "per_picture_to_batch_1": {
            str(batch): round(1 / ratio(programs[f"fp32, {batch}"], programs["fp32, 1"]), 3) for batch in (2, BATCH, 8)
        },
        "score_errors": case.errors,
        "scaling": round(ratio(ours["fp32"], programs["1 x 1"]) / cores, 3),
    }
    peers = {
        one: [programs[f"openvino {one}, {b}"] for b in (1, BATCH) if f"openvino {one}, {b}" in programs]
        for one in ours
    }
    choices = {one: [program] for one, program in ours.items()}
    choices["fp32"] += [program for name, program in programs.items() if name.startswith(("fp32", "optimized"))]
    row["time_to_openvino"] = {
        one: {
            kind: round(min(max(ratio(peer, program) for peer in found) for program in mine), 3)
            for kind, mine in (("untuned", [ours[one]]), ("best", choices[one]))
        }
        for one, found in peers.items()
        if found
    }
    return row


def sides(name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Time per picture as a multiple of that of single ones: a batch in one call, and divided as the detector does."""
    cores = allowed_cores()
    module = prepare(Case(name, cores).load(), DEFAULT)
    table: dict[str, Any] = {}
    for side in (160, 224, 320, 480, 640):
        programs = {}
        for batch in (1, 2, 4, 8):
            given = torch.rand(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
            calls = parts(batch, pictures_per_call(side, side, 1))
            programs[f"{batch} whole"] = Program("", lambda _, x=given: module(x), batch, cores, 1)
            programs[f"{batch} in parts"] = Program(
                "", lambda _, x=given, calls=calls: [module(call) for call in x.split(calls)], batch, cores, 1
            )
        take_turns(list(programs.values()), rounds, seconds)
        table[str(side)] = {one: ratio(programs["1 whole"], program) for one, program in programs.items()}
    return {"network": name, "per_picture_to_batch_1": table}


def hiccups(name: str, count: int = 120, largest: int = 8) -> dict[str, Any]:
    """The real detector after its usual warm-up: no batch may take long because of compilation or imports.

    A thread's own CPU time is looked at, by batch size: other programs on the machine stretch wall time.
    """
    folder = cache_folder("bench") / "networks"
    given = items(
        sample(str(networks.film(folder)), 16), build_detector(networks.save(name, folder), device="cpu").spec
    )
    worst: dict[str, float] = {}
    shape = (largest, 3, networks.SIDE, networks.SIDE)
    for recipe in (DEFAULT, Recipe(way="optimized", shape=shape)):
        detector = build_detector(networks.save(name, folder), device="cpu", max_batch=largest, recipe=recipe)
        detector.warm(range(1, largest + 1))
        rng = np.random.default_rng(0)
        cpu: dict[int, list[float]] = {}
        for number in range(count):
            size = largest if number == 0 else int(rng.integers(1, largest + 1))
            begun = time.thread_time()
            detector.submit(Batch(tuple(given[:size]), size, number)).result()
            if number:
                cpu.setdefault(size, []).append(time.thread_time() - begun)
        worst[recipe.name] = round(max(max(taken) / statistics.median(taken) for taken in cpu.values()), 2)
    return {"network": name, "batches": count, "slowest_to_median": worst}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["mobilenet", "shufflenet", "resnet"], metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--hiccups", action="store_true")
    parser.add_argument("--sides", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    rows = []
    for name in options.networks:
        if options.hiccups:
            row = hiccups(name)
        elif options.sides:
            row = sides(name, options.rounds, options.seconds)
        else:
            row = measure(name, options.rounds, options.seconds, ["bf16", "int8"] if name == "resnet" else ["bf16"])
            missed = [f"{one} {row['ratio_to_plain'][one]} of {need}" for (net, one), need in WANTED.items()
                      if net == name and row["ratio_to_plain"][one] < need]  # fmt: skip
            row["missed"] = missed
        rows.append(row)
        print(json.dumps(row, indent=1), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
