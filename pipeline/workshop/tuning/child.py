# SPDX-License-Identifier: Apache-2.0
"""Candidates of ``model tune``, each in a process of its own: ``-m pipeline.workshop.tuning.child DESCRIPTOR``.

The process that is started imports torch once and runs nothing; for every candidate it forks. A candidate answers
commands, a JSON object per line, on a socket of its own. One that crashes or hangs takes nothing with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import statistics
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from pipeline.detectors import build_detector
from pipeline.detectors.engine import TorchScriptDetector
from pipeline.detectors.loading.operators import suppress_operator
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.torch_messages import one_line, quiet
from pipeline.detectors.trial.verdict import verdict_of
from pipeline.errors import PipelineError
from pipeline.frame import Batch, Frame, Geometry, Item, StreamKey
from pipeline.protocols import Pending
from pipeline.timing import cpu_ns, new_trace, now_ns

Task = dict[str, Any]

LEAST: Final = 2
"""Batches of each worker that a measurement takes, however long they last."""


class Candidate:
    """One detector, and the threads that run it."""

    def __init__(self, task: Task) -> None:
        recipe = Recipe.of(task["recipe"])
        begun_ns = now_ns()
        self._batch = int(task["batch"])
        self._detector: TorchScriptDetector = build_detector(
            task["model"],
            **task["given"],
            recipe=recipe,
            precision=task["precision"],
            device=task["device"],
            threads=task["threads"],
            max_batch=task["max_batch"],
            whole_batches=True,
            verdict=verdict_of(task["verdict"]) if task.get("verdict") else None,
        )
        self._spec = self._detector.spec.trimmed(*task["picture"])
        self._workers, self._intra_op = int(task["workers"]), int(task["threads"])
        self._threads = ThreadPoolExecutor(self._workers, "tune")
        self._items: list[Item] = []
        self._load_s = (now_ns() - begun_ns) / 1e9

    def about(self, task: Task) -> dict[str, Any]:
        """What the search needs to know of the model."""
        from pipeline.detectors.tuned import key_of

        info = self._detector.model_info()
        shown = info["input_spec"]
        batch = (self._spec.height, self._spec.width, 3)
        return {
            "spec": asdict(self._spec),
            "shape": list(batch if shown["layout"] == "nhwc" else (3, *batch[:2])),
            "tensor": not shown["as_list"],
            "largest": self._detector.max_batch,
            "fixed": self._detector.verdict.fixed,
            "exclusive": self._detector.verdict.exclusive,
            "verdict": self._detector.verdict.as_dict(),
            "input_size": [self._detector.spec.height, self._detector.spec.width],
            "precision": info["precision"],
            "device": info["device"],
            "key": key_of(info["sha256"] or task["model"], torch.device(info["device"]), task["key"]),
        }

    def ready(self, task: Task) -> dict[str, Any]:
        """Take the inputs, and run each worker until nothing is new to it."""
        pictures = np.load(task["inputs"])
        if pictures.shape[1:] != self._spec.shape:
            raise ValueError(f"inputs of {pictures.shape[1:]}, but it takes {self._spec.shape}")
        frame = Frame(StreamKey("tune", 0), 0, 0, 0.0, None, 0, self._spec.width, self._spec.height, None, new_trace())
        whole = Geometry(self._spec.width, self._spec.height, 1.0, 1.0)
        self._items = [Item(frame, self._spec, picture, whole) for picture in pictures]
        begun_ns = now_ns()
        self._together(lambda worker: self._warm())
        return {"load_s": self._load_s, "warm_s": (now_ns() - begun_ns) / 1e9}

    def detect(self, task: Task) -> dict[str, Any]:
        """What is found in every input, (n, 6) each: box in network pixels, confidence, class id."""
        usual = self._detector.limits
        self._detector.limits = replace(usual, confidence=task["confidence"])
        try:
            found = self._threads.submit(self._look).result()
        finally:
            self._detector.limits = usual
        return {"found": found}

    def measure(self, task: Task) -> dict[str, Any]:
        """All workers at once for some time: pictures per second, the median time of a batch, and which share of the
        CPU time that they asked for they got."""
        span_ns = int(task["seconds"] * 1e9)
        start = threading.Barrier(self._workers)
        begun_ns, used_ns, waited_ns = now_ns(), cpu_ns(), waited_for_cpu_ns()
        runs = self._together(lambda worker: self._work(worker, span_ns, start))
        got_ns = cpu_ns() - used_ns
        asked_ns = (now_ns() - begun_ns) * self._workers * self._intra_op
        waited_since_ns = waited_for_cpu_ns()
        if waited_ns is not None and waited_since_ns is not None:
            asked_ns = got_ns + waited_since_ns - waited_ns
        used = got_ns / asked_ns if asked_ns else 1.0
        fps = sum(len(times) * self._batch * 1e9 / sum(times) for times in runs)
        between_ms = statistics.median([time for times in runs for time in times]) / 1e6
        return {"fps": fps, "ms": between_ms * self._detector.depth, "used": used}

    def _together(self, work: Callable[[int], Any]) -> list[Any]:
        """``work`` once in every thread."""
        meeting = threading.Barrier(self._workers)

        def met(worker: int) -> Any:
            meeting.wait()
            return work(worker)

        return [future.result() for future in [self._threads.submit(met, worker) for worker in range(self._workers)]]

    def _warm(self) -> None:
        self._detector.warm([])  # the threads of torch, and what the first call of all imports
        for number in range(3):
            self._run(number)

    def _work(self, worker: int, span_ns: int, start: threading.Barrier) -> list[int]:
        """Nanoseconds from the end of each batch to the end of the next, with as many under way as in a run."""
        under_way = deque(self._submit(worker + number) for number in range(self._detector.depth - 1))
        start.wait()
        begun_ns = last_ns = now_ns()
        times: list[int] = []
        while len(times) < LEAST or last_ns - begun_ns < span_ns:
            under_way.append(self._submit(worker + len(times)))
            under_way.popleft().result()
            before_ns, last_ns = last_ns, now_ns()
            times.append(last_ns - before_ns)
        for pending in under_way:
            pending.result()
        return times

    def _run(self, number: int) -> None:
        self._submit(number).result()

    def _submit(self, number: int) -> Pending:
        count, begin = len(self._items), number * self._batch
        items = tuple(self._items[(begin + index) % count] for index in range(self._batch))
        return self._detector.submit(Batch(items, self._batch, number))

    def _look(self) -> list[list[list[float]]]:
        found: list[list[list[float]]] = []
        for begin in range(0, len(self._items), self._batch):
            part = tuple(self._items[begin : begin + self._batch])
            for one in self._detector.submit(Batch(part, self._batch, begin)).result():
                rows = np.column_stack((one.xyxy, one.confidence, one.class_id))
                found.append(rows.astype(np.float64).tolist())
        return found


def waited_for_cpu_ns() -> int | None:
    """How long the threads of this process were ready to run while others had the cores; None where the system does not
    say (schedstat, proc(5): the second figure)."""
    try:
        threads = list(Path("/proc/self/task").glob("*/schedstat"))
        return sum(int(thread.read_text().split()[1]) for thread in threads) if threads else None
    except (OSError, ValueError, IndexError):
        return None


def quantize(task: Task) -> dict[str, Any]:
    """An INT8 copy of the model, calibrated and judged on the user's frames."""
    from pipeline.workshop.compare import Limits
    from pipeline.workshop.frames import sample
    from pipeline.workshop.int8.quantize import quantize_file

    given = task["given"]
    limits = Limits(task["confidence"], given.get("iou", 0.5))
    made = quantize_file(
        task["model"],
        sample(task["video"], task["count"]),
        Path(task["out"]),
        wanted=task["wanted"],
        limits=limits,
        given=given,
        quick=task["quick"],
    )
    return {"kept": made.kept, "agreement": made.share}


def package(task: Task) -> dict[str, Any]:
    """The program compiled by AOTInductor for one input shape and one intra-op thread."""
    from torch._inductor import aoti_compile_and_package

    from pipeline.detectors.loading.preparing import exported

    torch.set_num_threads(1)
    suppress_operator()
    with torch.no_grad():
        module = torch.jit.load(task["model"], map_location="cpu").eval()  # type: ignore[no-untyped-call]
        aoti_compile_and_package(exported(module, tuple(task["shape"])), package_path=task["out"])
    return {"kept": True}


def answer(connection: socket.socket) -> None:
    """The life of a candidate: its commands one after another, until the other side closes."""
    candidate: Candidate | None = None
    with connection, connection.makefile("rw", encoding="ascii") as lines, quiet():
        for line in lines:
            task: Task = json.loads(line)
            try:
                if task["do"] in ("quantize", "package"):
                    said = (quantize if task["do"] == "quantize" else package)(task)
                elif task["do"] == "open":
                    candidate = Candidate(task)
                    said = candidate.about(task)
                else:
                    said = getattr(candidate, task["do"])(task)
            except PipelineError as error:
                said = {"error": str(error), "kind": type(error).__name__}
            except Exception as error:  # noqa: BLE001 - whatever it is, this candidate is left out for it
                said = {"error": one_line(error), "kind": type(error).__name__}
            lines.write(json.dumps(said) + "\n")
            lines.flush()


def main(descriptor: int) -> None:
    """Fork a candidate for every socket that comes; end them all when nobody asks any more."""
    suppress_operator()
    gc.collect()
    gc.freeze()
    alive: set[int] = set()
    with socket.socket(fileno=descriptor) as asked, _ending(alive):
        while True:
            said, passed, _, _ = socket.recv_fds(asked, 4096, 1)
            if not said:
                return
            request = json.loads(said)
            if "reap" in request:
                _, status = os.waitpid(request["reap"], 0)
                alive.discard(request["reap"])
                asked.sendall(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode())
                continue
            pid = os.fork()
            if pid == 0:
                asked.close()
                with contextlib.suppress(BaseException):  # it is told on the socket, or by how the process ends
                    answer(socket.socket(fileno=passed[0]))
                os._exit(0)
            os.close(passed[0])
            alive.add(pid)
            asked.sendall(json.dumps({"pid": pid}).encode())


@contextlib.contextmanager
def _ending(alive: set[int]) -> Iterator[None]:
    try:
        yield
    finally:
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
