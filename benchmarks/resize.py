# SPDX-License-Identifier: Apache-2.0
"""From a decoded 4:2:0 frame to a letterboxed network input: ours, libswscale, and a full-size RGB with cv2.resize.

Run it with ``python -m benchmarks.resize [--seconds S]``; it prints one JSON document. One thread each. Every way is
given the same frames (a ring of eight, so that planes do not stay in the core's cache), takes its turn in every round
so that the machine's moods hit all alike, and ends with the same bytes: uint8 HWC RGB with grey bars. Before anything
is timed, all results are compared with an ideal picture, the full-size float RGB shrunk by a filter over all pixels.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import av
import cv2
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from pipeline.frame import InputSpec, Picture
from pipeline.stages import Letterbox, fit, full_picture
from pipeline.timing import now_ns

SOURCES = [(1920, 1080), (1280, 720)]
NETWORKS = [(352, 352), (384, 640)]  # height, width
RING = 8
MATRIX, COLOURS = "bt709", Colorspace.ITU709

Way = Callable[[int], np.ndarray]


def frames(width: int, height: int) -> list[av.VideoFrame]:
    """Shading, edges, texture and sensor noise, as 4:2:0 frames that own their planes like decoded ones."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ring = []
    for seed in range(RING):
        rng = np.random.default_rng(seed)
        luma = 110 + 60 * np.sin(x / 170 + y / 230 + seed) + 20 * np.sin(x / 9) * np.sin(y / 11)
        for _ in range(40):
            left, top = rng.integers(0, width), rng.integers(0, height)
            luma[top : top + rng.integers(5, height // 3), left : left + rng.integers(5, width // 4)] = rng.integers(
                20, 230
            )
        chroma = [128 + 40 * np.sin(x[::2, ::2] / 83 + seed), 128 + 40 * np.cos(y[::2, ::2] / 71 + seed)]
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane, values in zip(frame.planes, [luma + rng.normal(0, 3, luma.shape), *chroma], strict=True):
            view = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            view[: values.shape[0], : values.shape[1]] = np.clip(values, 16, 235)
        ring.append(frame)
    return ring


def picture_of(frame: av.VideoFrame) -> Picture:
    sizes = [(frame.width, frame.height)] + [(frame.width // 2, frame.height // 2)] * 2
    planes = tuple(
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
        for plane, (columns, rows) in zip(frame.planes, sizes, strict=True)
    )
    return Picture(planes, "yuv", MATRIX)


def ways(ring: list[av.VideoFrame], spec: InputSpec) -> dict[str, Way]:
    """Name -> a function from the frame's number to its network input. Each owns one output buffer."""
    pictures = [picture_of(frame) for frame in ring]
    geometry = fit(ring[0].width, ring[0].height, spec)
    width, height = round(geometry.scale_x * ring[0].width), round(geometry.scale_y * ring[0].height)
    rows = slice(int(geometry.pad_y), int(geometry.pad_y) + height)
    columns = slice(int(geometry.pad_x), int(geometry.pad_x) + width)
    scaler, converter = VideoReformatter(), VideoReformatter()
    stages = {True: Letterbox(), False: Letterbox(antialias=False)}

    def own(antialias: bool) -> Way:
        out = np.empty(spec.shape, np.uint8)

        def way(number: int) -> np.ndarray:
            stages[antialias].prepare(pictures[number], spec, out)
            return out

        return way

    def colours() -> dict[str, object]:
        return {
            "src_colorspace": COLOURS, "dst_colorspace": COLOURS, "src_color_range": ColorRange.MPEG,
            "dst_color_range": ColorRange.JPEG, "interpolation": Interpolation.BILINEAR, "threads": 1,
        }  # fmt: skip

    swscale_out, resize_out = np.full(spec.shape, 114, np.uint8), np.full(spec.shape, 114, np.uint8)

    def swscale(number: int) -> np.ndarray:
        swscale_out[rows, columns] = scaler.reformat(ring[number], width, height, "rgb24", **colours()).to_ndarray()
        return swscale_out

    def full_rgb(number: int) -> np.ndarray:
        rgb = converter.reformat(ring[number], format="rgb24", **colours()).to_ndarray()
        cv2.resize(rgb, (width, height), resize_out[rows, columns])
        return resize_out

    return {
        "ours": own(True),
        "ours_no_antialias": own(False),
        "swscale_bilinear": swscale,
        "full_rgb_cv2_resize": full_rgb,
    }


def ideal(frame: av.VideoFrame, spec: InputSpec) -> np.ndarray:
    geometry = fit(frame.width, frame.height, spec)
    size = round(geometry.scale_y * frame.height), round(geometry.scale_x * frame.width)
    full = torch.from_numpy(full_picture(picture_of(frame), "rgb")).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(full, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    out = np.full(spec.shape, 114, np.float64)
    top, left = int(geometry.pad_y), int(geometry.pad_x)
    out[top : top + size[0], left : left + size[1]] = small
    return out


def measure(contestants: dict[str, Way], seconds: float) -> dict[str, list[float]]:
    """Milliseconds per call, interleaved, for about ``seconds`` in all."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for way in contestants.values():
        for number in range(RING):
            way(number)
    number, end = 0, now_ns() + int(seconds * 1e9)
    while now_ns() < end:
        for name, way in contestants.items():
            for _ in range(4):
                number = (number + 1) % RING
                start = now_ns()
                way(number)
                times[name].append((now_ns() - start) / 1e6)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="per case (default 4)")
    seconds = parser.parse_args().seconds
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    cases, failures = [], []
    for width, height in SOURCES:
        ring = frames(width, height)
        for rows, columns in NETWORKS:
            spec = InputSpec(rows, columns)
            contestants = ways(ring, spec)
            reference = ideal(ring[0], spec)
            errors = {name: way(0).astype(np.float64) - reference for name, way in contestants.items()}
            limit = 4.0  # grey levels: a wrong matrix, a shift by a pixel or a swapped channel is far beyond
            failures += [
                f"{name} at {columns}x{rows}" for name, error in errors.items() if np.abs(error).mean() > limit
            ]
            if failures:
                continue
            times = measure(contestants, seconds)
            cases.append(
                {
                    "source": f"{width}x{height}",
                    "network": f"{columns}x{rows}",
                    "ways": {
                        name: {
                            "median_ms": round(statistics.median(taken), 3),
                            "best_ms": round(min(taken), 3),
                            "calls": len(taken),
                            "mean_difference_to_ideal": round(float(np.abs(errors[name]).mean()), 3),
                            "rms_difference_to_ideal": round(float(np.sqrt((errors[name] ** 2).mean())), 3),
                        }
                        for name, taken in times.items()
                    },
                }
            )
    versions = {"opencv": cv2.__version__, "av": av.__version__, "numpy": np.__version__}
    print(json.dumps({"benchmark": "resize", "versions": versions, "cases": cases, "disagree": failures}, indent=2))
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
