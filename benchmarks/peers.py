# SPDX-License-Identifier: Apache-2.0
"""The pipeline against other programs that are installed here, beside the loops of ``pipeline bench``.

streamvision is Roboflow's InferencePipeline as a package of its own; the handler that it is given letterboxes, runs the
network once per batch, and suppresses overlaps, as its documentation shows for custom models. Ultralytics predicts on a
``.streams`` list with buffering, its way of batching several sources; its licence is the AGPL: it is run here as a
separate program to be compared with, nothing of this package uses it. Each runs in a process of its own on the same
files with the same model; detections are compared before anything is timed. Both leave torch its default threads, as
their users do; ``--torch-threads 1`` is fairer where other programs use the cores too, since torch's threads wait for
each other by spinning.

    python -m benchmarks.peers [--rounds 3] [--seconds 4] [--out DIR]
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pipeline.bench.chart import chart
from pipeline.bench.child import CONFIDENCE, Task, answer, measured
from pipeline.bench.material import Material
from pipeline.bench.run import BenchOptions, Peer, run_bench
from pipeline.bench.text import tables
from pipeline.host.caches import cache_folder
from pipeline.report import describe_machine

PEERS = {"streamvision": "streamvision", "ultralytics": "ultralytics"}
"""Candidates and the packages that they need."""
TOLERANCE_PX = 1.5
THREADS = "BENCH_TORCH_THREADS"  # how --torch-threads reaches the child processes


def _streamvision(task: Task) -> dict[str, Any]:
    import torch
    from streamvision.camera.entities import VideoFrame
    from streamvision.stream.pipeline import InferencePipeline, SinkMode

    from pipeline.bench import plain

    logging.disable(logging.WARNING)
    _set_threads()
    network = plain.load(Path(task["model"]))
    found: list[list[plain.Boxes]] = [[] for _ in task["clips"]]

    def detect(frames: list[VideoFrame]) -> list[plain.Boxes]:
        with torch.inference_mode():
            made = [plain.letterboxed(frame.image, task["side"]) for frame in frames]
            outputs = network(torch.cat([tensor for tensor, _ in made]))
            return [plain.parsed(out, CONFIDENCE, placing) for out, (_, placing) in zip(outputs, made, strict=True)]

    def keep(boxes: plain.Boxes, frame: VideoFrame) -> None:
        found[frame.source_id].append(boxes)

    def work() -> int:
        pipeline = InferencePipeline.init_with_custom_logic(
            video_reference=task["clips"], on_video_frame=detect, on_prediction=keep, sink_mode=SinkMode.SEQUENTIAL
        )
        pipeline.start(use_main_thread=False)
        pipeline.join()
        return sum(map(len, found))

    return _with_detections(task, measured(work), found)


def _ultralytics(task: Task) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
        from ultralytics import YOLO

        _set_threads()
        model = Path(folder, "detector.torchscript")
        model.write_bytes(Path(task["model"]).read_bytes())
        sources = Path(folder, "clips.streams")
        sources.write_text("\n".join(task["clips"]))
        detector = YOLO(str(model), task="detect")
        settings = {
            "imgsz": task["side"], "conf": CONFIDENCE, "iou": 0.5, "device": "cpu", "verbose": False, "save": False,
        }  # fmt: skip
        detector.predict(np.zeros((64, 64, 3), np.uint8), **settings)  # it loads the model now
        found: list[list[Any]] = [[] for _ in task["clips"]]

        def work() -> int:
            results = detector.predict(str(sources), stream=True, stream_buffer=True, **settings)
            for number, result in enumerate(results):
                boxes = zip(result.boxes.xyxy.tolist(), result.boxes.cls.tolist(), strict=True)
                found[number % len(found)].append([(*box, int(cls)) for box, cls in boxes])
            return sum(map(len, found))

        return _with_detections(task, measured(work), found)


def _set_threads() -> None:
    threads = int(os.environ.get(THREADS, "0"))
    if threads:
        import torch

        torch.set_num_threads(threads)


def _with_detections(task: Task, figures: dict[str, Any], found: list[list[Any]]) -> dict[str, Any]:
    if task.get("detections"):
        figures["detections"] = [clip[: task.get("limit")] for clip in found]
    return figures


CANDIDATES = {"streamvision": _streamvision, "ultralytics": _ultralytics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", choices=tuple(PEERS), help="this one only")
    parser.add_argument("--torch-threads", type=int, default=0, metavar="N", help="of the peers (default: torch's own)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for bench.json and chart.html")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer(CANDIDATES)
        return
    os.environ[THREADS] = str(options.torch_threads)
    wanted = [options.only] if options.only else list(PEERS)
    installed = [name for name in wanted if importlib.util.find_spec(PEERS[name]) is not None]
    for name in set(wanted) - set(installed):
        print(f"{name} is not installed: left out", file=sys.stderr)
    child = (str(Path(__file__).resolve()), "--child")
    machine = describe_machine()
    report = run_bench(
        BenchOptions(cache_folder("bench"), Material(seconds=options.seconds), options.rounds, cores=machine["cores"]),
        lambda text: print(text, file=sys.stderr),
        [Peer(name, child, TOLERANCE_PX) for name in installed],
    )
    report = {"command": "peers", "machine": machine, **report}
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "bench.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
        (options.out / "chart.html").write_text(chart(report))
    if options.json:
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    for part in tables(report):
        Console(highlight=False).print(part)


if __name__ == "__main__":
    main()
