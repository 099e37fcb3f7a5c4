# SPDX-License-Identifier: Apache-2.0
"""What may be opened, and how: the allow-lists of schemes, protocols, container formats and codecs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote

from pipeline.errors import UsageError
from pipeline.redact import SourceUrl, scrub

Skip = Literal["none", "nonref", "nonkey"]
"""What the decoder may leave out: nothing, frames that no other frame needs, all but key frames."""

MAX_PIXELS: Final = 7680 * 4320
"""Largest picture that is decoded by default (8K UHD)."""

NETWORK_SCHEMES: Final = ("rtsp", "rtsps", "http", "https")
OTHER_SCHEMES: Final = ("file", "v4l2", "pattern")
FILE_CODECS: Final = frozenset({"h264", "hevc", "mjpeg", "mpeg4", "mpeg2video", "vp8", "vp9", "av1", "rawvideo"})
"""Codecs of recordings. ``rawvideo`` is a copy; ``mpeg2video`` is what older recorders write."""
LIVE_CODECS: Final = frozenset({"h264", "hevc", "mjpeg", "mpeg4", "vp8", "vp9"})
"""Codecs of feeds. AV1 over a network is opt-in: its depayloader had remotely reachable faults in 2026."""
DEVICE_CODECS: Final = frozenset({"rawvideo", "mjpeg", "h264"})

_FILE_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,ivf,obu,h264,hevc,mjpeg,mpjpeg,"
    "yuv4mpegpipe"
)
_FEED_FORMATS: Final = "mpjpeg,mjpeg,mpegts,matroska,webm,flv,h264,hevc,mov,mp4"
_SECOND_LIMIT_S: Final = 1.0
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder may do.

    Attributes:
        max_pixels: width x height above which nothing is decoded.
        codecs: allowed codecs by canonical name.
        threads: decoder threads; more than one only for recordings, as frame threads.
        hwaccel: what decodes, see :class:`pipeline.sources.hardware.Hardware`.
        low_delay: the decoder is asked not to hold frames back for others that may be shown before them.
    """

    max_pixels: int = MAX_PIXELS
    codecs: frozenset[str] = FILE_CODECS
    threads: int = 1
    hwaccel: str = "none"
    low_delay: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where libav is sent.

    Attributes:
        address: what libav is given; may hold credentials, so it is never shown.
        shown: what people are shown.
        options: libav options, all of them known to exist in FFmpeg 8 (PyAV drops unknown ones in silence).
        timeout: limits of libav's interrupt callback (open and probe each, one read) in seconds; None for local files.
        live: a feed: its end is a failure.
        format: forced input format, or None.
        parsed: False: ``options`` ask for packets as they come over the network, see :mod:`access_units`.
    """

    address: str = field(repr=False)
    shown: str
    options: dict[str, str]
    timeout: tuple[float, float] | None = None
    live: bool = False
    format: str | None = None
    parsed: bool = True


def scheme_of(source: str) -> str | None:
    """The scheme of a source in lower case, or None for a plain path (one letter is a Windows drive)."""
    match = _SCHEME.match(source)
    return match[1].lower() if match and len(match[1]) > 1 else None


def check_scheme(source: str) -> str | None:
    """The scheme of ``source``, None for a path; raises UsageError where it is not on the allow-list.

    libav knows ``concat: subfile: data: lavfi: pipe:`` and more, which read files or run filters: none is reachable.
    """
    scheme = scheme_of(source)
    if scheme is None or os.path.exists(source):
        return None
    if scheme in NETWORK_SCHEMES or scheme in OTHER_SCHEMES:
        return scheme
    allowed = ", ".join(f"{name}:" for name in (*NETWORK_SCHEMES, *OTHER_SCHEMES))
    raise UsageError(
        f"{scrub(source)}: sources of the kind {scheme}: are not allowed; expected a path or one of {allowed}"
    )


def local_path(source: str | Path) -> Path:
    """The path that a source without a network names; ``file:`` and ``file://`` are taken off."""
    text = str(source)
    if scheme_of(text) == "file" and not os.path.exists(text):
        text = unquote(re.sub(r"(?i)^file:(//(localhost)?(?=/))?", "", text))
    return Path(text)


def file_target(path: Path) -> Target:
    """A local file. The ``file:`` prefix and the absolute path keep odd names from being read as protocols."""
    options = {"protocol_whitelist": "file", "format_whitelist": _FILE_FORMATS}
    return Target(f"file:{path.absolute()}", str(path), options)


def url_target(
    url: SourceUrl,
    *,
    live: bool,
    transport: str = "tcp",
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 5.0,
    parsed: bool = True,
    low_delay: bool = False,
) -> Target:
    """A feed, or a finite file behind a URL.

    Both kinds of time limit are set: libav's socket option and PyAV's interrupt callback, which alone ends a peer that
    trickles. The callback's comes first: where the option ends it, libav says that the data are invalid. Probing is
    short: size and rate are taken from the frames, so that a reconnect is fast.

    Args:
        url: with its credentials.
        live: a feed.
        transport: of RTSP, ``tcp`` or ``udp``.
        open_timeout_s, read_timeout_s: longest silence while it opens, and between two reads.
        parsed: False leaves out libavformat's parser where that is RTSP.
        low_delay: over UDP no packet is waited for that may only be late.
    """
    limit = str(int((max(open_timeout_s, read_timeout_s) + _SECOND_LIMIT_S) * 1e6))
    rtsp = url.scheme in ("rtsp", "rtsps")
    if rtsp:
        options = {
            "rtsp_transport": transport,
            **({"reorder_queue_size": "0"} if low_delay and transport == "udp" else {}),
            "allowed_media_types": "video",
            "timeout": limit,
            "probesize": "32",
            "analyzeduration": "0",
            "protocol_whitelist": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https",
        }
        if not parsed:
            options["fflags"] = "+noparse+nofillin"
    else:
        options = {
            "timeout": limit,
            "rw_timeout": limit,
            "max_redirects": "0",
            "protocol_whitelist": "http,https,tcp,tls",
            "format_whitelist": _FEED_FORMATS if live else _FILE_FORMATS,
        }
        if live:
            options |= {"probesize": "500000", "analyzeduration": "500000"}
    return Target(url.reveal(), str(url), options, (open_timeout_s, read_timeout_s), live, parsed=parsed or not rtsp)


def device_target(path: str, *, size: tuple[int, int] | None, fps: float | None, pixels: str | None) -> Target:
    """A V4L2 device, asked for pictures of ``size`` (width, height), ``fps`` frames per second, and in the input format
    ``pixels``, such as ``mjpeg`` or ``yuyv422``; None leaves it to the driver."""
    options = {"protocol_whitelist": "file"}
    if size:
        options["video_size"] = f"{size[0]}x{size[1]}"
    if fps:
        options["framerate"] = f"{fps:g}"
    if pixels:
        options["input_format"] = pixels
    return Target(path, path, options, None, True, "v4l2")
