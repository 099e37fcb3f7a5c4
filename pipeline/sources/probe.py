# SPDX-License-Identifier: Apache-2.0
"""A first look at a source: what it says about itself, and what a few seconds of it really are."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pipeline.errors import SourceError, SourceUnavailable
from pipeline.protocols import Source
from pipeline.sources.packet_log import PacketLog
from pipeline.sources.reader import PacketWatcher
from pipeline.sources.rhythm import intervals, same_beginning
from pipeline.sources.skipping import SkipFacts
from pipeline.threads import StopFlag
from pipeline.timing import now_ns


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What a probe found. What is declared the container says; what is measured was seen in ``seen_s`` of it.

    Attributes:
        live: a feed.
        container, codec, profile, pix_fmt: names as libav knows them; empty where they do not apply.
        decoder: what decoded, see :class:`pipeline.frame.SourceCounters`.
        width, height: pixels as displayed.
        rotation: clockwise degrees from the coded to the displayed picture.
        declared_fps, declared_frames, duration_s, declared_bit_rate: None where nothing is declared; bits per second.
        frames, seen_s: frames decoded, and their span in seconds of pts.
        timed_frames, timed_s: frames whose time stamps were looked at, and their span: in a recording far more than
            were decoded, since reading alone is cheap.
        measured_fps: from the pts of these.
        bit_rate: bits per second of the video packets read.
        gop_mean, gop_max: packets from one key frame to the next; None where fewer than two were seen.
        b_frames: frames are coded in another order than they are shown.
        variable_rate: intervals spread by more than a tenth of their mean.
        interval_ms, interval_spread_ms, interval_max_ms: mean, standard deviation and maximum between two pts.
        arrival_jitter_ms: RFC 3550 interarrival jitter; of feeds without B-frames only.
        first_frame_ms: from the start of opening to the first frame.
        corrupt, decode_errors, discontinuities: counts.
        skip: what leaving out frames in the decoder would do.
        truncated: why the recording is known to be cut short, or None; its bytes tell, however little was read.
        error: what ended the look early, or None.
    """

    live: bool
    container: str = ""
    codec: str = ""
    profile: str = ""
    pix_fmt: str = ""
    decoder: str = ""
    width: int = 0
    height: int = 0
    rotation: int = 0
    declared_fps: float | None = None
    declared_frames: int | None = None
    duration_s: float | None = None
    declared_bit_rate: int | None = None
    frames: int = 0
    seen_s: float = 0.0
    timed_frames: int = 0
    timed_s: float = 0.0
    measured_fps: float | None = None
    bit_rate: float | None = None
    gop_mean: float | None = None
    gop_max: int | None = None
    b_frames: bool = False
    variable_rate: bool = False
    interval_ms: float | None = None
    interval_spread_ms: float | None = None
    interval_max_ms: float | None = None
    arrival_jitter_ms: float | None = None
    first_frame_ms: float | None = None
    corrupt: int = 0
    decode_errors: int = 0
    discontinuities: int = 0
    skip: SkipFacts = field(default_factory=SkipFacts)
    truncated: str | None = None
    error: str | None = None


@runtime_checkable
class Watchable(Protocol):
    """A source that shows its packets."""

    def watch(self, watcher: PacketWatcher) -> None:
        """To be called before ``open``."""
        ...


def probe(source: Source, *, seconds: float = 5.0, frames: int = 300, stop: StopFlag | None = None) -> SourceReport:
    """Open ``source``, read ``seconds`` of pts or ``frames`` frames or up to its end, close it, and report.

    Of a local file more is read than decoded, up to ``MOST_PACKETS`` and ``MOST_BYTES`` of
    :mod:`pipeline.sources.packet_log`: rate, intervals, key frames and bit rate come from all of it, so that they do
    not depend on ``seconds`` and ``frames``.

    Raises SourceError where it does not open or yields no frame; a failure after the first frame is in the report.
    """
    stop = stop or StopFlag()
    log = PacketLog()
    if isinstance(source, Watchable):
        source.watch(log)
    began_ns = now_ns()
    first_frame_ms = 0.0
    width = height = rotation = corrupt = 0
    stamps: list[tuple[int, float]] = []
    truncated: str | None = None
    error: str | None = None
    try:
        info = source.open(stop)
        while len(stamps) < frames and (not stamps or stamps[-1][1] < seconds):
            try:
                capture = source.read()
            except SourceError as exc:
                if not stamps:
                    raise
                error = str(exc)
                break
            if capture is None:
                truncated = error = source.truncation
                break
            if not stamps:
                first_frame_ms = (now_ns() - began_ns) / 1e6
                picture = capture.picture
                width, height, rotation = picture.width, picture.height, picture.rotation
            corrupt += capture.corrupt
            stamps.append((capture.epoch, capture.pts_s))
        if not info.live:
            truncated = truncated or log.shortfall()
            log.read_on(stop)
    finally:
        source.close()
    if not stamps:
        raise SourceUnavailable("the source delivered no frame", cause="decode")
    log.finish()
    gops = log.gops
    timed = log.moments
    if info.live or not same_beginning(stamps, timed):
        timed = stamps
    mean_s, spread_s, longest_s = intervals(timed)
    return SourceReport(
        live=info.live,
        container=log.container,
        codec=info.codec,
        profile=log.profile,
        pix_fmt=log.pix_fmt,
        decoder=source.counters.decoder,
        width=width,
        height=height,
        rotation=rotation,
        declared_fps=info.fps,
        declared_frames=info.frames,
        duration_s=info.duration_s,
        declared_bit_rate=log.declared_bit_rate,
        frames=len(stamps),
        seen_s=stamps[-1][1],
        timed_frames=len(timed),
        timed_s=timed[-1][1],
        measured_fps=1 / mean_s if mean_s else None,
        bit_rate=log.bit_rate,
        gop_mean=statistics.fmean(gops) if gops else None,
        gop_max=max(gops, default=None),
        b_frames=log.b_frames,
        variable_rate=bool(mean_s) and spread_s > 0.1 * mean_s,
        interval_ms=mean_s * 1e3 if mean_s else None,
        interval_spread_ms=spread_s * 1e3 if mean_s else None,
        interval_max_ms=longest_s * 1e3 if mean_s else None,
        arrival_jitter_ms=log.arrival_jitter_ms if info.live else None,
        first_frame_ms=first_frame_ms,
        corrupt=corrupt,
        decode_errors=source.counters.decode_errors,
        discontinuities=source.counters.discontinuities,
        skip=log.skip_facts(),
        truncated=truncated,
        error=error,
    )
