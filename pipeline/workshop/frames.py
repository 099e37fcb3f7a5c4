# SPDX-License-Identifier: Apache-2.0
"""A bounded sample of real frames, evenly spread over a video, and what a detector finds in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.errors import SourceError, UsageError
from pipeline.flow.inference import in_source_pixels
from pipeline.frame import Batch, Capture, Detections, Frame, InputSpec, Item, StreamKey
from pipeline.protocols import Detector, Source
from pipeline.sources import FileSource, PatternSource, PatternSpec, expand, looks_live
from pipeline.stages import Letterbox
from pipeline.threads import StopFlag
from pipeline.timing import new_trace

PATTERN: Final = "pattern:?size=640x360&frames=240&people=6"
"""What is looked at where no video was given."""

MAX_BYTES: Final = 256 << 20
"""Pictures in memory at a time, at most; of very large ones fewer are kept than asked for."""

_CHUNK: Final = 16  # inputs: up to a few MB each
_WHOLE: Final = 2000  # recordings up to so many frames are decoded wholly; of longer ones the key frames only
_MOST_READ: Final = 20_000  # key frames of about a day


def sample(video: str | Path | None, count: int) -> list[Capture]:
    """Decode up to ``count`` frames that are evenly spread over a video.

    Of a recording of more than 2000 frames only key frames are decoded; one that does not tell its length is begun anew
    then. Every n-th frame is kept, and n doubles whenever twice as many as wanted have been kept.

    Args:
        video: a recording (path, ``file:`` URL, finite ``pattern:``), or None for the rendered test pattern.
        count: from 1; fewer come from a shorter video, and from one whose pictures would need more than 256 MB.

    Raises:
        UsageError: no such file, or not a video that can be read.
    """
    if count < 1:
        raise UsageError(f"{count} frames were asked for; at least 1 was expected")
    shown = PATTERN if video is None else str(video)
    try:
        kept: list[Capture] = []
        for source, most in _sources(shown):
            with contextlib.closing(source):
                kept, ended = _spread(source, count, most)
            if ended:
                break
    except SourceError as error:
        raise UsageError(f"{error}; a video to take frames from was expected") from error
    if not kept:
        raise UsageError(f"{shown}: not one frame could be read; a video to take frames from was expected")
    return [kept[round(index)] for index in np.linspace(0, len(kept) - 1, min(count, len(kept)))]


def items(captures: Sequence[Capture], spec: InputSpec) -> list[Item]:
    """The frames as inputs of a network: each in a buffer of its own, uint8 of ``spec.shape``; raises StageError."""
    stage = Letterbox()
    made = []
    for number, capture in enumerate(captures):
        picture = capture.picture
        buffer = np.empty(spec.shape, np.uint8)
        geometry = stage.prepare(picture, spec, buffer)
        key = StreamKey("sample", 0)
        frame = Frame(
            key, number, capture.index, capture.pts_s, None, 0, picture.width, picture.height, None, new_trace()
        )
        made.append(Item(frame, spec, buffer, geometry))
    return made


def detect(detector: Detector, inputs: Sequence[Item], batch: int = 1) -> list[Detections]:
    """What a warm detector finds in each input, in pixels of the source picture; raises InferenceError."""
    size = min(batch, detector.max_batch)
    found: list[Detections] = []
    for number, begin in enumerate(range(0, len(inputs), size)):
        part = tuple(inputs[begin : begin + size])
        results = detector.submit(Batch(part, len(part), number)).result()
        for item, detections in zip(part, results, strict=True):
            found.append(in_source_pixels(detections, item))
    return found


def find(detector: Detector, captures: Sequence[Capture]) -> list[Detections]:
    """As :func:`detect`, one picture at a time, with the inputs of a few frames in memory; raises StageError too."""
    found: list[Detections] = []
    for begin in range(0, len(captures), _CHUNK):
        found += detect(detector, items(captures[begin : begin + _CHUNK], detector.spec))
    return found


def _sources(video: str) -> Iterator[tuple[Source, int]]:
    """Readers that need bounded time for a video of any length, and how much is read of each: the next one is for where
    that was not all."""
    if video.startswith("pattern:"):
        spec = PatternSpec.parse(video)
        yield PatternSource(spec if spec.frames is not None else replace(spec, frames=240)), _MOST_READ
        return
    if looks_live(video):
        raise UsageError(f"{video}: this is a live feed; a recording was expected (record some seconds of it first)")
    paths = expand([video])
    if len(paths) > 1:
        raise UsageError(f"{video}: these are {len(paths)} videos; one was expected, such as {paths[0]}")
    whole = FileSource(paths[0])
    with contextlib.closing(whole):
        info = whole.open(StopFlag())
    frames = info.frames or (int(info.duration_s * (info.fps or 30.0)) if info.duration_s else 0)
    if frames <= _WHOLE:
        yield FileSource(paths[0]), _MOST_READ if frames else _WHOLE
    yield FileSource(paths[0], skip="nonkey"), _MOST_READ


def _spread(source: Source, count: int, most_read: int) -> tuple[list[Capture], bool]:
    """Frames of all that is read, and whether that was to the end."""
    source.open(StopFlag())
    kept: list[Capture] = []
    most, step = 2 * count, 1
    for number in range(most_read):
        capture = source.read()
        if capture is None:
            return kept, True
        if number == 0:
            size = sum(plane.nbytes for plane in capture.picture.planes)
            most = max(2, min(most, MAX_BYTES // size))
        if number % step:
            continue
        kept.append(capture)
        if len(kept) > most:
            kept = kept[::2]
            step *= 2
    return kept, False
