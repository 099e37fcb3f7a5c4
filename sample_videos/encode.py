# SPDX-License-Identifier: Apache-2.0
"""Write pictures as an H.264 MP4 and the truth as a MOTChallenge file; the same input gives the same bytes."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from .clip import TICKS, Clip
from .compose import Sighting

Picture = NDArray[np.uint8]
LEAST_VISIBLE = 0.6  # share of a person that must be seen to count

_WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "unspecified": (0.299, 0.114)}
"""Kr and Kb of ITU-R BT.709 and BT.601; a player assumes BT.601 where a small picture says nothing."""
_TAGS = {
    "bt709": (Colorspace.ITU709, ColorPrimaries.BT709, ColorTrc.BT709),
    "smpte170m": (Colorspace.ITU601, ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M),
}


def write_clip(clip: Clip, folder: Path) -> tuple[Path, Path]:
    """Render and encode one clip; returns the paths of the video and of its truth."""
    video, truth = folder / f"{clip.name}.mp4", folder / f"{clip.name}.truth.txt"
    lines: list[str] = []
    with av.open(str(video), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options=_options(clip))
        stream.width, stream.height, stream.pix_fmt = clip.camera.width, clip.camera.height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.thread_count = 1  # x264's decisions depend on the number of its threads
        if clip.matrix in _TAGS:
            space, primaries, curve = _TAGS[clip.matrix]
            stream.codec_context.colorspace = int(space)
            stream.codec_context.color_primaries = int(primaries)
            stream.codec_context.color_trc = int(curve)
        stream.codec_context.color_range = int(ColorRange.MPEG)
        for number, picture, sightings in clip.frames():
            frame = av.VideoFrame.from_ndarray(to_yuv420(picture, clip.matrix), format="yuv420p")
            frame.pts, frame.time_base = clip.times[number], Fraction(1, TICKS)
            container.mux(stream.encode(frame))
            lines += truth_lines(number, sightings, clip.least_height)
        container.mux(stream.encode(None))
    truth.write_text("\n".join(lines) + "\n")
    return video, truth


def _options(clip: Clip) -> dict[str, str]:
    # With macroblock trees and B-frames together, x264 (build 165) gave other bytes from run to run for pictures of
    # some sizes, 960x540 among them: measured with six frames, a dirty heap and one thread.
    return {"preset": "slow", "sc_threshold": "0", "x264-params": "mbtree=0", **clip.codec}


def truth_lines(number: int, sightings: Iterable[Sighting], least_height: float) -> list[str]:
    """Lines `frame,id,left,top,width,height,counts,class,visibility`; frames and pixels are numbered from 1."""
    lines = []
    for seen in sightings:
        left, top, width, height = seen.box
        counts = int(height >= least_height and seen.visible >= LEAST_VISIBLE)
        place = f"{left + 1:.1f},{top + 1:.1f},{width:.1f},{height:.1f}"
        lines.append(f"{number + 1},{seen.person},{place},{counts},1,{seen.visible:.3f}")
    return lines


def to_yuv420(picture: Picture, matrix: str) -> Picture:
    """RGB (h, w, 3) to planes Y, U, V below each other (h * 3 / 2, w), limited range (ITU-R BT.709 / BT.601)."""
    red, blue = _WEIGHTS[matrix]
    rgb = picture.astype(np.float32)
    luma = red * rgb[..., 0] + (1 - red - blue) * rgb[..., 1] + blue * rgb[..., 2]
    planes = [16 + luma * (219 / 255)]
    for band, weight in ((2, blue), (0, red)):
        chroma = (rgb[..., band] - luma) * (112 / 255 / (1 - weight))
        high, wide = chroma.shape
        planes.append(128 + chroma.reshape(high // 2, 2, wide // 2, 2).mean(axis=(1, 3)))
    flat = np.concatenate([np.rint(plane).ravel() for plane in planes])
    return np.asarray(np.clip(flat, 0, 255).reshape(-1, picture.shape[1]), np.uint8)
