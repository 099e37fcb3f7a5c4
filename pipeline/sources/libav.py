# SPDX-License-Identifier: Apache-2.0
"""The adapter to libav: opens containers under limits and turns its errors into ours. PyAV keeps libav's log silent
unless somebody asks for it; nothing here does."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
from av.codec.context import Flags, ThreadType
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pipeline.errors import SourceError, SourceInvalid, SourceTimeout, SourceUnavailable
from pipeline.redact import scrub
from pipeline.sources.allocations import ALLOCATIONS
from pipeline.sources.hardware import HARDWARE
from pipeline.sources.knocking import unknown_host
from pipeline.sources.nal import GRAMMARS
from pipeline.sources.opening import Limits, Target
from pipeline.timing import SYSTEM, Clock, now_ns

_DECODERS = {"vp8": ("vp8", "libvpx"), "vp9": ("vp9", "libvpx-vp9"), "av1": ("libdav1d", "av1")}
_UNPARSED = 0x20 | 0x10  # AVFMT_FLAG_NOPARSE and AVFMT_FLAG_NOFILLIN, see `opening.url_target`
_MOST_FPS = 1000  # libav gives the rate of the clock where it knows nothing better
_HIDDEN = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True, slots=True)
class Played:
    """Packets that were recorded as they came, given out again instead of the container's own (:mod:`arrivals`).

    Attributes:
        packets: with the stamps that they came with; raises SourceError where the connection was lost.
        time_base: of their stamps.
        fps: what the feed declared, or None.
        clock: what reads a packet asks when that was.
    """

    packets: Iterator[Packet[VideoStream]]
    time_base: Fraction
    fps: float | None
    clock: Clock


@dataclass(frozen=True, slots=True)
class Opened:
    """A container whose video stream is ready to be decoded.

    Attributes:
        container: to be closed by the thread that reads it.
        stream: the video stream; all others are discarded in the demuxer.
        codec: canonical codec name, such as ``h264``.
        format: name of the container format, such as ``matroska``.
        parsed: packets hold whole frames; False: each holds the payload of one RTP packet, without duration and flags.
        played: packets that stand in for those in the container, or None.
    """

    container: InputContainer
    stream: VideoStream
    codec: str
    format: str
    parsed: bool = True
    played: Played | None = None

    @property
    def time_base(self) -> Fraction:
        """Unit of the packets' time stamps, in seconds."""
        return self.played.time_base if self.played is not None else self.stream.time_base or Fraction(1, 90000)

    @property
    def fps(self) -> float | None:
        """Declared frames per second, or None."""
        if self.played is not None:
            return self.played.fps
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(rate) if rate and rate < _MOST_FPS else None

    @property
    def clock(self) -> Clock:
        """When something was read is asked of this one."""
        return SYSTEM if self.played is None else self.played.clock

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Those that are still to come."""
        return self.container.demux(self.stream) if self.played is None else self.played.packets


def open_video(target: Target, limits: Limits) -> Opened:
    """Open ``target`` and prepare its decoder; nothing is decoded before the limits are in place.

    Raises:
        SourceUnavailable, SourceTimeout: nobody answers, not allowed in, not found.
        SourceInvalid: not a video, a forbidden format or codec, or larger than ``limits.max_pixels``.
    """
    decoders = ",".join(name for codec in sorted(limits.codecs) for name in _DECODERS.get(codec, (codec,)))
    # max_pixels and codec_whitelist also bind the decoders with which libav probes the streams while opening.
    decoding = {"max_pixels": str(limits.max_pixels), "codec_whitelist": decoders}
    ALLOCATIONS.allow(limits.max_pixels)
    began_ns = now_ns()
    try:
        container = _opened(target, decoding, limits.hwaccel)
    except av.FFmpegError as exc:
        late = target.timeout is not None and now_ns() - began_ns > target.timeout[0] * 1e9
        raise explain(exc, target.shown, live=target.live, opening=True, late=late) from exc
    except UnicodeError as exc:
        raise SourceInvalid(f"{target.shown}: the container holds text that cannot be read") from exc
    try:
        return _prepare(container, target, limits, decoding)
    except BaseException:
        container.close()
        raise


def _opened(target: Target, decoding: dict[str, str], hwaccel: str) -> InputContainer:
    def attempt(accelerator: HWAccel | None) -> InputContainer:
        return av.open(
            target.address,
            format=target.format,
            options={**target.options, **decoding},
            timeout=target.timeout,
            metadata_errors="replace",
            hwaccel=accelerator,
        )

    accelerator = HARDWARE.accelerator(hwaccel)
    try:
        return attempt(accelerator)
    except (av.error.ConnectionRefusedError, av.error.TimeoutError, av.error.ExitError):  # no device's fault
        raise
    except av.FFmpegError:
        if accelerator is None or not HARDWARE.lost(hwaccel):
            raise
        return attempt(None)


def _prepare(container: InputContainer, target: Target, limits: Limits, decoding: dict[str, str]) -> Opened:
    videos = [stream for stream in container.streams.video if not stream.disposition & _HIDDEN]
    if not videos:
        found: list[str] = sorted({stream.type for stream in container.streams}) or ["nothing"]
        if container.streams.video:
            found.append("a cover picture")
        raise SourceInvalid(f"{target.shown}: no video track; found {', '.join(found)} in {container.format.name}")
    stream = videos[0]
    context = stream.codec_context
    if context is None:
        raise SourceInvalid(f"{target.shown}: no decoder for this video track")
    codec = context.codec.canonical_name
    if codec not in limits.codecs:
        raise SourceInvalid(
            f"{target.shown}: codec {codec} is not allowed; expected one of {', '.join(sorted(limits.codecs))}; "
            "convert it with: ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    if context.width * context.height > limits.max_pixels:
        raise SourceInvalid(
            f"{target.shown}: pictures of {context.width}x{context.height} pixels, the limit is {limits.max_pixels} "
            "pixels (max_pixels)"
        )
    for other in container.streams:
        # Discarded inside av_read_frame, so that its deadline means "no video": an audio-only feed is no sign of life.
        other.discard = Discard.default if other is stream else Discard.all
    context.options = dict(decoding)
    if limits.low_delay:
        context.flags |= Flags.low_delay
    context.copy_opaque = True
    context.thread_count = max(1, limits.threads)
    # Frame threads hold back one frame per thread: for recordings only. Slices of one thread add no delay.
    context.thread_type = ThreadType.FRAME if limits.threads > 1 and not target.live else ThreadType.SLICE
    parsed = target.parsed or codec not in GRAMMARS
    if parsed and not target.parsed:  # the parser is made with the first packet that it is wanted for
        container.flags &= ~_UNPARSED
    return Opened(container, stream, codec, container.format.name, parsed)


def explain(exc: av.FFmpegError, shown: str, *, live: bool, opening: bool, late: bool = False) -> SourceError:
    """The error of this package that a libav error stands for; one line, free of secrets.

    ``late`` says that the time limit was over: an interrupted read is an input/output error where it had begun.
    """
    reason = scrub(" ".join(str(exc.strerror or type(exc).__name__).split())).rstrip(".").lower()
    text = f"{shown}: {'cannot open' if opening else 'reading failed'}"
    error = av.error
    if isinstance(exc, MemoryError):
        why = "no more memory, or a damaged number in it asks for too much at once"
        return SourceUnavailable(f"{text}: {why}", cause="memory")
    if late or isinstance(exc, (error.ExitError, error.TimeoutError)):
        return SourceTimeout(f"{text}: no data within the time limit")
    if isinstance(exc, (error.HTTPUnauthorizedError, error.HTTPForbiddenError)):
        code = "401 Unauthorized" if isinstance(exc, error.HTTPUnauthorizedError) else "403 Forbidden"
        return SourceUnavailable(f"{text}: authentication failed ({code}); check user name and password", cause="auth")
    if isinstance(exc, (error.HTTPNotFoundError, error.FileNotFoundError)):
        return SourceUnavailable(f"{text}: not found", cause="not_found")
    if isinstance(exc, error.ConnectionRefusedError):
        return SourceUnavailable(f"{text}: connection refused", cause="refused")
    if isinstance(exc, error.EOFError):
        if live:
            return SourceUnavailable(f"{text}: the peer closed the connection", cause="eof")
        return SourceInvalid(f"{text}: it ends before any video")
    if isinstance(exc, error.InvalidDataError):
        if live:  # a camera that boots or a proxy without its camera; to be tried again
            return SourceUnavailable(f"{text}: not a video stream that can be read", cause="invalid_data")
        return SourceInvalid(f"{text}: {reason}")
    if isinstance(exc, (OSError, error.HTTPError, error.HTTPClientError)) and not isinstance(exc, error.ArgumentError):
        # libav's word for many things, a failed name look-up among them.
        if live and opening and exc.errno == errno.EIO:
            reason = unknown_host(shown) or f"no video behind this address ({reason})"
        return SourceUnavailable(f"{text}: {reason}", cause="io")
    return SourceInvalid(f"{text}: {reason}")
