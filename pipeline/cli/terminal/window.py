# SPDX-License-Identifier: Apache-2.0
"""A window with the newest picture of every stream, boxes drawn in: a sink that keeps only the newest."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading

import cv2
import numpy as np

from pipeline.errors import UsageError
from pipeline.frame import Result, StreamInfo, Uint8Array
from pipeline.sinks.canvas import BgrCanvas
from pipeline.sinks.drawing import caption, draw_detections
from pipeline.stages.display import full_picture

TITLE = "pipeline replay"
_SIZE = (1280, 720)  # columns, rows
_TRIAL_S = 30.0
_QUIT = (ord("q"), 27)


class Window:
    """``write`` takes results from the flow; ``refresh`` shows the newest ones and belongs to the main thread."""

    name = "window"
    wants_pictures = True

    def __init__(self) -> None:
        """Raises UsageError where no window can be opened."""
        _require_display()
        self._newest: dict[str, Result] = {}
        self._changed = False
        self._lock = threading.Lock()
        self._canvas = np.zeros((_SIZE[1], _SIZE[0], 3), np.uint8)
        self._shown = False

    def open(self) -> None:
        """Nothing: the window appears with the first picture."""

    def begin(self, stream: StreamInfo) -> None:
        """Nothing: a stream appears with its first picture."""

    def write(self, result: Result) -> None:
        """Keep it until the next one comes."""
        with self._lock:
            self._newest[result.stream] = result
            self._changed = True

    def end(self, stream: str) -> None:
        """A stream that has ended makes room."""
        with self._lock:
            self._newest.pop(stream, None)

    def close(self) -> None:
        """Nothing: the window goes with the program."""

    def refresh(self) -> bool:
        """Draw; False when the user has pressed q or Esc, or closed the window."""
        with self._lock:
            results = list(self._newest.values()) if self._changed else []
            self._changed = False
        if results:
            if not self._shown:
                cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
                cv2.resizeWindow(TITLE, *_SIZE)
            cv2.imshow(TITLE, mosaic(results, self._canvas))
            self._shown = True
        if not self._shown:
            return True
        key = cv2.waitKey(1) & 0xFF
        return key not in _QUIT and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1


def mosaic(results: list[Result], canvas: Uint8Array) -> Uint8Array:
    """Lay the pictures out in a grid on ``canvas`` (rows, columns, 3) uint8 BGR, each as large as its cell allows."""
    columns = math.ceil(math.sqrt(len(results)))
    rows = math.ceil(len(results) / columns)
    height, width = canvas.shape[0] // rows, canvas.shape[1] // columns
    canvas[...] = 0
    for index, result in enumerate(sorted(results, key=lambda result: result.stream)):
        picture = _drawn(result)
        if picture is None:
            continue
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        row, column = divmod(index, columns)
        top, left = row * height + (height - size[1]) // 2, column * width + (width - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def _drawn(result: Result) -> Uint8Array | None:
    """The picture of a result with its boxes and the stream's name, (rows, columns, 3) uint8 BGR."""
    if result.picture is None:
        return None
    picture = draw_detections(full_picture(result.picture, "bgr"), result.detections, result.labels)
    caption(BgrCanvas(picture), result.stream)
    return picture


def _require_display() -> None:
    remedy = "remedy: --save video writes the same pictures to files"
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError(f"--show needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set; {remedy}")
    # In a process of its own: where Qt cannot reach the display it ends the process that asks.
    trial = [sys.executable, "-c", "import cv2; cv2.namedWindow('trial')"]
    try:
        found = subprocess.run(trial, capture_output=True, timeout=_TRIAL_S, check=False).returncode
    except subprocess.TimeoutExpired:
        found = 1
    if found:
        raise UsageError(
            "--show: no window can be opened: the display does not answer, or this OpenCV was built without windows "
            f"(opencv-python-headless); {remedy}"
        )
