# SPDX-License-Identifier: Apache-2.0
"""What a first look at a source found, as plain data and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pipeline.figures import NOTHING, count, duration, milliseconds, rate
from pipeline.sources import SourceReport


def as_data(found: SourceReport) -> dict[str, Any]:
    """The report for JSON: times in the unit that their key names, numbers rounded to what they mean."""
    return {key: _rounded(value) for key, value in asdict(found).items()}


def in_words(found: SourceReport) -> Iterator[tuple[str, str]]:
    """The report as pairs of a name and a text; what is unknown is left out."""
    yield "kind", "live feed" if found.live else "recording"
    if found.container:
        yield "container", found.container
    yield "codec", " ".join(part for part in (found.codec, found.profile, found.pix_fmt) if part) or NOTHING
    if found.decoder:
        yield "decoded by", found.decoder
    turned = f", turned by {found.rotation} degrees" if found.rotation else ""
    yield "size", f"{found.width} x {found.height}{turned}"
    steadiness = "variable" if found.variable_rate else "constant"
    yield "frame rate", f"{_fps(found.declared_fps)} declared, {_fps(found.measured_fps)} measured, {steadiness}"
    if found.duration_s is not None or found.declared_frames is not None:
        frames = f", {count(found.declared_frames, 'frame')}" if found.declared_frames is not None else ""
        yield "length", f"{duration(found.duration_s)}{frames} (declared)"
    if found.bit_rate is not None:
        yield "bit rate", f"{found.bit_rate / 1e6:.2f} Mbit/s"
    if found.gop_mean is not None:
        coded = "with B-frames" if found.b_frames else "no B-frames"
        yield "key frames", f"every {found.gop_mean:.1f} frames, {found.gop_max} at most; {coded}"
    else:
        yield "key frames", "fewer than two in what was read" + ("; with B-frames" if found.b_frames else "")
    if found.interval_ms is not None:
        yield (
            "intervals",
            f"{milliseconds(found.interval_ms)} ms mean, {milliseconds(found.interval_spread_ms)} ms deviation, "
            f"{milliseconds(found.interval_max_ms)} ms longest",
        )
    if found.arrival_jitter_ms is not None:
        yield "arrival jitter", f"{milliseconds(found.arrival_jitter_ms)} ms (RFC 3550)"
    yield "first frame", f"after {milliseconds(found.first_frame_ms)} ms"
    faults = {"damaged frames": found.corrupt, "packets not decoded": found.decode_errors}
    faults["breaks in the time stamps"] = found.discontinuities
    for name, number in faults.items():
        if number:
            yield name, f"{number:,}"
    looked = f"{count(found.frames, 'frame')}, {duration(found.seen_s)}"
    if found.timed_frames > found.frames:
        looked += f"; at the time stamps of {found.timed_frames:,}, {duration(found.timed_s)}"
    yield "looked at", looked
    if found.truncated:
        yield "cut short", found.truncated
    elif found.error:
        yield "ended early", found.error


def in_a_line(found: SourceReport) -> str:
    """``h264 1280 x 720, 25.0 fps (30.0 declared), variable``."""
    fps = found.measured_fps or found.declared_fps
    text = f"{found.codec} {found.width} x {found.height}, {rate(fps)} fps"
    if fps and found.declared_fps and abs(fps - found.declared_fps) > 0.02 * fps:
        text += f" ({rate(found.declared_fps)} declared)"
    return text.strip() + (", variable" if found.variable_rate else "") + (", cut short" if found.truncated else "")


def _fps(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(below) for key, below in value.items()}
    return round(value, 6) if isinstance(value, float) else value
