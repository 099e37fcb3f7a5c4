# SPDX-License-Identifier: Apache-2.0
"""What a decoding process and its parent say to each other.

The parent believes nothing: a camera may have taken the process over. What comes from it is numbers of fixed layout
and JSON, all of it checked; nothing is unpickled.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

import orjson

from pipeline.errors import Cause, DecodeError, SourceError, SourceInvalid, SourceTimeout, SourceUnavailable
from pipeline.frame import Capture, Matrix, Picture, Rotation, StreamInfo, Uint8Array
from pipeline.redact import scrub
from pipeline.sources.isolation.nonsense import Nonsense
from pipeline.sources.isolation.segment import Segment
from pipeline.timing import now_ns

OPEN, NEXT, HANG_UP = b"O", b"N", b"C"
HELLO, INFO, FAILED, MEMORY, FRAME, SAID, DECODER = b"H", b"I", b"E", b"S", b"F", b"L", b"D"

LARGEST: Final = 1 << 16
"""Bytes of a message."""

_LONGEST_S: Final = 1e9
"""Of a stream; some thirty years, and its nanoseconds still fit where they are kept."""
_FURTHEST_NS: Final = 1 << 62
"""From 1970, before or after it: what a camera's clock says, set or not, is within 146 years, and differences fit."""
_LAYOUTS: Final = ("yuv", "rgb", "gray")
_MATRICES: Final = get_args(Matrix)
_ERRORS: Final[dict[str, type[SourceError]]] = {
    kind.__name__: kind for kind in (SourceUnavailable, SourceTimeout, SourceInvalid, DecodeError, SourceError)
}
_FRAME = struct.Struct("<IIBqdqqqqI?IQQQBB?H6I")
_SHAPE = struct.Struct("<IIQ")
_SLOT = struct.Struct("<IB")


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame on its way: everything of a capture but its pixels, and where those lie.

    Attributes:
        connection: number of the connection that it is from.
        segment, slot: where its planes lie, one after the other.
        missed: frames before it that gave way, since nobody took them in time.
        counted: decode_errors, skipped and discontinuities so far.
        shapes: rows and columns of each plane.
    """

    connection: int
    segment: int
    slot: int
    index: int
    pts_s: float
    read_ns: int
    decoded_ns: int
    wall_ns: int
    camera_ns: int
    epoch: int
    corrupt: bool
    missed: int
    counted: tuple[int, int, int]
    layout: int
    matrix: int
    full_range: bool
    rotation: int
    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, connection: int, capture: Capture, counted: tuple[int, int, int]) -> Sent:
        """A capture that lies nowhere yet."""
        picture = capture.picture
        return cls(
            connection, 0, 0, capture.index, capture.pts_s, capture.read_ns, capture.decoded_ns, capture.wall_ns or 0,
            capture.camera_ns or 0, capture.epoch, capture.corrupt, 0, counted, _LAYOUTS.index(picture.layout),
            _MATRICES.index(picture.matrix), picture.full_range, picture.rotation,
            tuple((plane.shape[0], plane.shape[1]) for plane in picture.planes),
        )  # fmt: skip

    @property
    def sizes(self) -> list[int]:
        """Bytes of each plane."""
        return [rows * columns * (3 if _LAYOUTS[self.layout] == "rgb" else 1) for rows, columns in self.shapes]

    def pack(self) -> bytes:
        """As a message."""
        flat = [side for shape in (*self.shapes, (0, 0), (0, 0))[:3] for side in shape]
        return FRAME + _FRAME.pack(
            self.connection, self.segment, self.slot, self.index, self.pts_s, self.read_ns, self.decoded_ns,
            self.wall_ns, self.camera_ns, self.epoch, self.corrupt, self.missed, *self.counted, self.layout,
            self.matrix, self.full_range, self.rotation, *flat,
        )  # fmt: skip

    @classmethod
    def parse(cls, message: bytes) -> Sent:
        """Of a message; raises Nonsense."""
        try:
            (
                connection, segment, slot, index, pts_s, read_ns, decoded_ns, wall_ns, camera_ns, epoch, corrupt,
                missed, errors, skipped, breaks, layout, matrix, full_range, rotation, *flat,
            ) = _FRAME.unpack(message[1:])  # fmt: skip
        except struct.error as exc:
            raise Nonsense("a frame of the wrong length") from exc
        planes = 3 if layout == 0 else 1
        shapes = tuple((flat[2 * plane], flat[2 * plane + 1]) for plane in range(planes))
        sound = layout < len(_LAYOUTS) and matrix < len(_MATRICES) and rotation in (0, 90, 180, 270)
        if not sound or any(not 0 < side <= 1 << 16 for shape in shapes for side in shape):
            raise Nonsense("a frame that cannot be")
        latest_ns = now_ns()
        timely = 0 <= pts_s <= _LONGEST_S and 0 <= read_ns <= latest_ns and 0 <= decoded_ns <= latest_ns
        dated = 0 <= wall_ns < _FURTHEST_NS and abs(camera_ns) < _FURTHEST_NS  # RTCP's years begin with 1900
        if not timely or not dated or not 0 <= missed <= index:
            raise Nonsense("a frame of a time that cannot be")
        return cls(
            connection, segment, slot, index, pts_s, read_ns, decoded_ns, wall_ns, camera_ns, epoch, corrupt, missed,
            (errors, skipped, breaks), layout, matrix, full_range, rotation, shapes,
        )  # fmt: skip

    def capture(self, planes: Sequence[Uint8Array]) -> Capture:
        """The capture again, of its pixels."""
        picture = Picture(
            tuple(planes),
            cast(Any, _LAYOUTS[self.layout]),
            _MATRICES[self.matrix],
            self.full_range,
            cast(Rotation, self.rotation),
        )
        return Capture(
            picture, self.index, self.pts_s, self.read_ns, self.decoded_ns, self.wall_ns or None, self.epoch,
            self.corrupt, self.missed, self.camera_ns or None,
        )  # fmt: skip


def planes_of(sent: Sent, data: Uint8Array) -> list[Uint8Array]:
    """Views on the planes that lie in ``data`` one after the other."""
    planes, at = [], 0
    for (rows, columns), size in zip(sent.shapes, sent.sizes, strict=True):
        flat = data[at : at + size]
        planes.append(flat.reshape(rows, columns, 3) if _LAYOUTS[sent.layout] == "rgb" else flat.reshape(rows, columns))
        at += size
    return planes


def pack_freed(freed: Sequence[tuple[int, int]]) -> bytes:
    """The wish for the next frame, with the slots (segment, slot) that have become free."""
    return NEXT + b"".join(_SLOT.pack(segment, slot) for segment, slot in freed)


def parse_freed(message: bytes) -> list[tuple[int, int]]:
    """The slots of :func:`pack_freed`."""
    return list(_SLOT.iter_unpack(message[1:]))


def pack_memory(connection: int, segment: Segment) -> bytes:
    """That frames from now on lie in this segment; its descriptor goes with the message."""
    return MEMORY + _SHAPE.pack(connection, segment.number, segment.slot_bytes)


def parse_memory(message: bytes) -> tuple[int, int, int]:
    """(connection, segment, slot bytes); raises Nonsense."""
    try:
        return _SHAPE.unpack(message[1:])
    except struct.error as exc:
        raise Nonsense("memory of the wrong description") from exc


def take_memory(message: bytes, fd: int, largest: int) -> tuple[int, Segment]:
    """The connection and its memory, of a message and the descriptor with it, which is closed in any case; raises
    Nonsense. ``largest``: bytes that a slot may have."""
    try:
        connection, number, slot_bytes = parse_memory(message)
    except Nonsense:
        os.close(fd)
        raise
    return connection, Segment.taken(number, fd, slot_bytes, largest)


def pack_info(connection: int, info: StreamInfo) -> bytes:
    """That a connection is open."""
    known = {"width": info.width, "height": info.height, "fps": info.fps, "codec": info.codec}
    return INFO + orjson.dumps([connection, known])


def pack_decoder(connection: int, decoder: str) -> bytes:
    """What decodes from now on."""
    return DECODER + orjson.dumps([connection, {"decoder": decoder}])


def pack_error(connection: int, error: SourceError, counted: tuple[int, int, int]) -> bytes:
    """Why a connection is over."""
    known = {"kind": type(error).__name__, "text": str(error)[:4096], "cause": error.cause}
    return FAILED + orjson.dumps([connection, known, counted])


def parse_json(message: bytes) -> list[Any]:
    """What :func:`pack_info`, :func:`pack_decoder` and :func:`pack_error` said; raises Nonsense."""
    try:
        said = orjson.loads(message[1:])
    except orjson.JSONDecodeError as exc:
        raise Nonsense("a message that cannot be read") from exc
    if not isinstance(said, list) or len(said) < 2 or not isinstance(said[0], int) or not isinstance(said[1], dict):
        raise Nonsense("a message that cannot be understood")
    return said


def info_of(known: dict[str, Any]) -> StreamInfo:
    """Of what :func:`pack_info` said; raises Nonsense."""
    width, height, fps, codec = (known.get(key) for key in ("width", "height", "fps", "codec"))
    sides = all(isinstance(side, int) and 0 <= side <= 1 << 16 for side in (width, height))
    if not sides or not isinstance(fps, (float, int, type(None))) or not isinstance(codec, str) or len(codec) > 32:
        raise Nonsense("a stream that cannot be")
    return StreamInfo("", cast(int, width), cast(int, height), fps=float(fps) if fps else None, live=True, codec=codec)


def decoder_of(known: dict[str, Any]) -> str:
    """Of what :func:`pack_decoder` said; raises Nonsense."""
    decoder = known.get("decoder")
    if not isinstance(decoder, str) or not decoder.isidentifier() or len(decoder) > 32:
        raise Nonsense("a decoder that cannot be")
    return decoder


def error_of(known: dict[str, Any]) -> SourceError:
    """Of what :func:`pack_error` said; raises Nonsense."""
    kind, text, cause = (known.get(key) for key in ("kind", "text", "cause"))
    if kind not in _ERRORS or not isinstance(text, str) or cause not in get_args(Cause):
        raise Nonsense("an error that cannot be")
    return _ERRORS[kind](" ".join(scrub(text).split()), cause=cast(Cause, cause))
