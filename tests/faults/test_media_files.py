# SPDX-License-Identifier: Apache-2.0
"""Files that are damaged, cut short or hostile: one clear line, a bounded cost, and no false alarm for odd ones."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from pipeline.errors import SourceError, SourceInvalid
from pipeline.sources import FileSource
from pipeline.sources.opening import MAX_PIXELS
from tests.media import Media, counting, encode, indices, media, play

__all__ = ["media"]

ROOT = Path(__file__).parents[2]
DAMAGEABLE = {"preset": "ultrafast", "qp": "20", "x264-params": "keyint=12:scenecut=0:threads=1"}
LONG = {"preset": "ultrafast", "qp": "8", "x264-params": "keyint=25:scenecut=0:threads=1"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
FASTSTART = {"movflags": "faststart"}


def cut(media: Media, path: Path, share: float) -> Path:
    data = path.read_bytes()
    return media.file(f"cut-{share}-{path.name}", data[: int(len(data) * share)])


# --- cut short -------------------------------------------------------------------------------------------------------

WHOLE = [("mp4", FASTSTART), ("mp4", FRAGMENTED), ("mkv", None), ("ts", None), ("flv", None)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("suffix", "muxing"), WHOLE, ids=["faststart", "fragmented", "mkv", "ts", "flv"])
def test_a_cut_recording_yields_what_it_has_and_says_so(
    media: Media, suffix: str, muxing: dict[str, str] | None, threads: int
) -> None:
    path = media.clip(suffix, count=100, options=LONG, muxing=muxing)
    assert play(source := FileSource(path, threads=threads))
    assert source.truncation is None
    _, captures = play(source := FileSource(cut(media, path, 0.5), threads=threads))
    assert 5 < len(captures) < 95
    assert indices(captures) == list(range(len(captures)))
    assert source.truncation is not None
    assert "\n" not in source.truncation
    assert " s" in source.truncation, "it says how far the video goes"


def test_avi(media: Media) -> None:
    path = media.clip("avi", count=100, codec="mpeg4", options={"g": "25"})
    assert play(source := FileSource(path))
    assert source.truncation is None
    _, captures = play(source := FileSource(cut(media, path, 0.5)))
    assert 5 < len(captures) < 95
    assert source.truncation is not None


def test_a_plain_mp4_without_its_index(media: Media) -> None:
    path = media.clip("mp4", count=100, options=LONG)
    with pytest.raises(SourceInvalid, match=r"an MP4 without its index \(moov\): the recording was cut"):
        play(FileSource(cut(media, path, 0.5)))


def test_an_mkv_filled_up_with_zeros(media: Media) -> None:
    """What a broken-off download into a file of the final size looks like."""
    data = media.clip("mkv", count=150, size=(320, 240), options=LONG).read_bytes()
    half = len(data) // 2
    padding = max(0, 70_000 - half)
    path = media.file("zeros.mkv", data[:half] + bytes(len(data) - half + padding))
    _, captures = play(source := FileSource(path))
    assert 5 < len(captures) < 145
    assert source.truncation is not None
    assert "promises 6.00 s; the video ends at" in source.truncation


def test_a_read_error_in_mid_file_ends_it_with_its_reason(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.sources import libav

    class Failing:
        """A container whose demuxer fails after ten packets."""

        def __init__(self, inner: object) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def demux(self, stream: object) -> object:
            for number, packet in enumerate(self._inner.demux(stream)):  # type: ignore[attr-defined]
                if number == 10:
                    raise av.OSError(5, "Input/output error", "file:/secret/path")
                yield packet

    path = media.clip(count=25)
    real = libav.av.open
    monkeypatch.setattr(libav.av, "open", lambda *args, **options: Failing(real(*args, **options)))
    _, captures = play(source := FileSource(path))
    assert indices(captures) == list(range(10)), "what was read is still delivered"
    assert source.truncation is not None
    assert "reading failed: input/output error; the video ends at" in source.truncation
    assert "/secret/path" not in source.truncation


def test_a_track_that_appears_in_mid_file_is_passed_over(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV raises IndexError for its packets, or not, as the memory beyond a table of its own happens to be."""
    from pipeline.sources import libav

    class Tripping:
        """A container whose demuxer trips over the tenth packet, which is of another track."""

        def __init__(self, inner: object) -> None:
            self._inner = inner
            self._packets: object = None

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def demux(self, stream: object) -> object:
            if self._packets is None:
                self._packets = self._inner.demux(stream)  # type: ignore[attr-defined]
                for _ in range(10):
                    yield next(self._packets)
                raise IndexError("list index out of range")
            yield from self._packets

    path = media.clip("ts", count=25)
    real = libav.av.open
    monkeypatch.setattr(libav.av, "open", lambda *args, **options: Tripping(real(*args, **options)))
    _, captures = play(source := FileSource(path))
    assert indices(captures) == list(range(25))
    assert source.truncation is None


# --- whole, but odd: no false alarm ----------------------------------------------------------------------------------


def test_sound_that_outlasts_the_video(media: Media) -> None:
    for suffix in ("mkv", "mp4"):
        path = encode(
            media.folder / f"sound.{suffix}", (counting(n, 64, 48) for n in range(10)), audio=6.0, options=LONG
        )
        _, captures = play(source := FileSource(path))
        assert len(captures) == 10
        assert source.truncation is None


def test_a_long_last_frame(media: Media) -> None:
    pts = [0, 40, 80, 120, 9000]
    for suffix in ("mkv", "mp4"):
        _, captures = play(source := FileSource(media.clip(suffix, count=5, pts=pts, time_base=Fraction(1, 1000))))
        assert len(captures) == 5
        assert source.truncation is None


def test_an_edit_list_that_leaves_out_frames(media: Media) -> None:
    """Frames before the start of the edit are decoded for nobody, and are not missing."""
    with av.open(str(media.clip("mp4", count=50, options=LONG))) as source:
        path = media.folder / "edited.mp4"
        with av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.pts is None:
                    continue
                shift = int(0.4 / packet.time_base)
                packet.pts -= shift
                packet.dts = packet.dts - shift if packet.dts is not None else None
                packet.stream = stream
                out.mux(packet)
    _, captures = play(result := FileSource(path))
    assert result.truncation is None
    assert len(captures) <= 50
    assert captures[0].pts_s == 0.0


def test_stopping_early_is_no_truncation(media: Media) -> None:
    source = FileSource(media.clip("mkv", count=100, options=LONG))
    play(source, limit=10)
    assert source.truncation is None


# --- damaged ---------------------------------------------------------------------------------------------------------


def remuxed(media: Media, name: str, path: Path, change: Callable[[int, bytes], bytes | None]) -> Path:
    """The clip again, each packet's bytes as ``change(number, bytes)`` makes them, or left out."""
    target = media.folder / name
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            data = change(number, bytes(packet)) if packet.size else None
            if data is not None:
                made = av.Packet(data)
                made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
                made.time_base, made.is_keyframe, made.stream = packet.time_base, packet.is_keyframe, stream
                out.mux(made)
    return target


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_flipped_bytes_cost_frames_but_never_the_run(media: Media, suffix: str) -> None:
    data = bytearray(media.clip(suffix, count=60, size=(160, 120), texture=True, options=DAMAGEABLE).read_bytes())
    noise = random.Random(3)
    for _ in range(200):
        data[noise.randrange(4000, len(data))] ^= 1 << noise.randrange(8)
    _, captures = play(source := FileSource(media.file(f"flipped.{suffix}", bytes(data))))
    assert len(captures) > 30
    assert source.counters.decode_errors + sum(capture.corrupt for capture in captures) > 10
    stamps = [capture.pts_s for capture in captures]
    assert all(after > before for before, after in pairwise(stamps))
    assert [capture.index for capture in captures] == list(range(len(captures)))


def test_damaged_pictures_are_flagged_and_others_not(media: Media) -> None:
    def halve(number: int, data: bytes) -> bytes:
        return data[: len(data) // 2] if number % 12 == 6 else data

    clip = media.clip("ts", count=48, size=(160, 120), texture=True, options=DAMAGEABLE)
    _, captures = play(source := FileSource(remuxed(media, "flagged.ts", clip, halve)))
    flagged = {capture.index for capture in captures if capture.corrupt}
    assert len(captures) == 48
    assert flagged | {6, 18, 30, 42} == flagged
    assert not flagged & {0, 1, 12, 13, 24, 25, 36, 37}, "a key frame heals"
    assert source.truncation is None, "damaged, not cut short"


def test_packets_that_cannot_be_decoded_are_counted_and_passed_over(media: Media) -> None:
    clip = media.clip("mkv", count=30, options=DAMAGEABLE)
    path = remuxed(media, "bad.mkv", clip, lambda number, data: b"\xff" * 40 if number in (7, 8, 19) else data)
    _, captures = play(source := FileSource(path))
    assert source.counters.decode_errors == 3
    assert len(captures) == 27


def test_a_video_track_of_which_nothing_can_be_decoded(media: Media) -> None:
    path = remuxed(media, "garbage.mkv", media.clip("mkv", count=20, options=LONG), lambda number, data: b"\xff" * 40)
    with pytest.raises(SourceInvalid, match=r"none of 20 video packets could be decoded \(20 errors\)") as caught:
        play(FileSource(path))
    assert caught.value.cause == "decode"


@pytest.mark.parametrize("kind", ["empty", "zero", "random", "text", "jpeg_name"])
def test_no_video_at_all(media: Media, kind: str) -> None:
    content = {
        "empty": b"",
        "zero": bytes(100_000),
        "random": random.Random(1).randbytes(200_000),
        "text": b"hello world\n" * 1000,
        "jpeg_name": random.Random(2).randbytes(37),
    }[kind]
    began = time.monotonic()
    with pytest.raises(SourceInvalid) as caught:
        play(FileSource(media.file(f"{kind}.mp4", content)))
    assert time.monotonic() - began < 5
    text = str(caught.value)
    assert f"{kind}.mp4: " in text
    assert "\n" not in text
    assert len(text) < 400


def test_sound_only(media: Media) -> None:
    path = encode(media.folder / "sound-only.mp4", [], audio=1.0)
    with pytest.raises(SourceInvalid, match="no video track; found audio in mov"):
        play(FileSource(path))


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("prefix", ["", "\n\n  "], ids=["plain", "indented"])
def test_playlists_that_call_themselves_videos_are_not_followed(media: Media, kind: str, prefix: str) -> None:
    target = media.clip("mp4", count=5)
    path = media.file(f"{kind}.mp4", (prefix + PLAYLISTS[kind].format(target=target)).encode())
    with pytest.raises(SourceInvalid, match=r"playlist|manifest|SDP"):
        play(FileSource(path))


@pytest.mark.parametrize(
    "url", ["concat:{0}|{0}", "subfile:,,start,0,end,0,,:{0}", "data:video/mp4,x", "lavfi:testsrc"]
)
def test_protocols_of_libav_are_out_of_reach(media: Media, url: str) -> None:
    with pytest.raises(SourceError) as caught:
        play(FileSource(url.format(media.clip("mp4", count=5))))
    assert caught.value.cause in ("not_found", "io")


# --- too large -------------------------------------------------------------------------------------------------------

RSS = """
import resource, sys
from pipeline.errors import SourceInvalid
from pipeline.sources import FileSource
from pipeline.threads import StopFlag
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
source = FileSource(sys.argv[1])
try:
    source.open(StopFlag())
except SourceInvalid as error:
    print(peak() - before, error)
"""


def huge_jpeg(media: Media, side: int) -> Path:
    """A flat JPEG of side x side pixels: a small one's tables, the size patched, and one code for all blocks.

    With the Huffman tables of ITU-T T.81 annex K, six flat blocks that repeat the last DC value (4:2:0) are the 32 bits
    4 x 001010 and 2 x 0000.
    """
    small = encode(
        media.folder / "small.mjpeg", [counting(0, 64, 64, "yuvj420p")], codec="mjpeg", options={"huffman": "default"}
    ).read_bytes()
    frame, scan = small.index(b"\xff\xc0"), small.index(b"\xff\xda")
    header = bytearray(small[: scan + 2 + int.from_bytes(small[scan + 2 : scan + 4], "big")])
    header[frame + 5 : frame + 9] = side.to_bytes(2, "big") * 2
    return media.file("huge.mjpeg", bytes(header) + b"\x28\xa2\x8a\x00" * (side // 16) ** 2 + b"\xff\xd9")


def test_the_huge_picture_is_one(media: Media) -> None:
    """The same construction at a size that is allowed decodes to a flat picture, and nothing is wrong with it."""
    _, (capture,) = play(FileSource(huge_jpeg(media, 1600)))
    assert capture.picture.planes[0].shape == (1600, 1600)
    assert int(capture.picture.planes[0].max()) - int(capture.picture.planes[0].min()) == 0
    assert not capture.corrupt


@pytest.mark.parametrize("suffix", ["mjpeg", "avi", "mkv", "mp4"])
def test_a_huge_picture_is_refused_before_it_takes_memory(media: Media, suffix: str) -> None:
    """16000 x 16000 pixels in a file of 4 MB would take 370 MB once decoded."""
    path = jpeg = huge_jpeg(media, 16000)
    if suffix != "mjpeg":
        path = media.folder / f"huge.{suffix}"
        with av.open(str(jpeg), format="mjpeg") as source, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            stream.width = stream.height = 64  # the header may lie; what counts is in the picture
            for packet in source.demux(video=0):
                if packet.size:
                    packet.pts = packet.dts = 0
                    packet.stream = stream
                    out.mux(packet)
    done = subprocess.run(
        [sys.executable, "-c", RSS, str(path)], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    grown, _, message = done.stdout.partition(" ")
    assert int(grown) < 100, f"{grown} MB"
    assert str(MAX_PIXELS) in message
    assert done.stderr == ""


def test_a_known_size_above_the_limit_is_named(media: Media) -> None:
    with pytest.raises(SourceInvalid, match="pictures of 64x48 pixels, the limit is 3000 pixels"):
        play(FileSource(media.clip(count=3), max_pixels=3000))


def test_growing_above_the_limit_in_mid_stream_costs_only_those_frames(media: Media) -> None:
    small = media.clip("h264", count=6, size=(64, 48)).read_bytes()
    large = media.clip("h264", count=6, size=(192, 128)).read_bytes()
    _, captures = play(source := FileSource(media.file("grow.h264", small + large + small), max_pixels=64 * 64))
    assert {(capture.picture.width, capture.picture.height) for capture in captures} == {(64, 48)}
    assert len(captures) >= 10
    assert source.counters.decode_errors > 0


def test_libav_never_writes_to_the_terminal(media: Media) -> None:
    clip = media.clip("mp4", count=30, size=(160, 120), texture=True, options=DAMAGEABLE)
    noise = random.Random(5)
    path = remuxed(media, "noisy.mp4", clip, lambda number, data: data[:60] + noise.randbytes(len(data) - 60))
    script = (
        "import sys\nfrom pipeline.sources import FileSource\nfrom pipeline.threads import StopFlag\n"
        "s = FileSource(sys.argv[1])\ns.open(StopFlag())\n"
        "bad = 0\n"
        "while c := s.read(): bad += c.corrupt\n"
        "print(bad + s.counters.decode_errors)\ns.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert done.stderr == ""
    assert int(done.stdout) > 0, "nothing was damaged, so nothing was tested"
