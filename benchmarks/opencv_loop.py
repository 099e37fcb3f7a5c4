# SPDX-License-Identifier: Apache-2.0
"""The loop that people write by hand for cameras: a thread per camera keeps its newest picture, one loop detects.

    python -m benchmarks.opencv_loop MODEL SIDE CONFIDENCE FOLDER URL...

Writes ``FOLDER/cam<n>.jsonl`` with a line per processed picture, and ends with standard input.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import torch

from pipeline.bench.plain import letterboxed, load, parsed


class Newest:
    """Reads a camera for ever and keeps the latest picture."""

    def __init__(self, url: str) -> None:
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
        self._lock = threading.Lock()
        self._latest: tuple[int, np.ndarray] | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        number = 0
        while True:
            ok, picture = self._capture.read()
            if not ok:
                return
            with self._lock:
                self._latest = (number, picture)
            number += 1

    def take(self) -> tuple[int, np.ndarray] | None:
        """The latest picture and its number, once."""
        with self._lock:
            latest, self._latest = self._latest, None
            return latest


def main(model: str, side: str, confidence: str, folder: str, *urls: str) -> None:
    network = load(Path(model))
    over = threading.Event()

    def until_eof() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=until_eof, daemon=True).start()
    cameras = [Newest(url) for url in urls]
    files = [os.open(Path(folder, f"cam{n}.jsonl"), os.O_CREAT | os.O_WRONLY | os.O_APPEND) for n in range(len(urls))]
    with torch.inference_mode():
        while not over.is_set():
            idle = True
            for camera, file in zip(cameras, files, strict=True):
                latest = camera.take()
                if latest is None:
                    continue
                idle = False
                number, picture = latest
                tensor, placing = letterboxed(picture, int(side))
                boxes = parsed(network(tensor)[0], float(confidence), placing)
                os.write(file, json.dumps({"number": number, "boxes": boxes}).encode() + b"\n")
            if idle:
                over.wait(0.001)
    os._exit(0)  # the threads that read do not end by themselves


if __name__ == "__main__":
    main(*sys.argv[1:])
