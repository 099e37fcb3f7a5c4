# SPDX-License-Identifier: Apache-2.0
"""Probing: what a stream says and what it is; and what a decoder may skip."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from pipeline.errors import SourceError, SourceUnavailable
from pipeline.sources import FileSource, PatternSource, SkipFacts, decide_skip, packet_log, probe
from pipeline.testing import ScriptedSource
from tests.media import B_FRAMES, Media, media, play

__all__ = ["media"]


def test_facts_of_a_clip_with_b_frames(media: Media) -> None:
    path = media.clip("mkv", count=60, options=B_FRAMES, rotation=-90)
    report = probe(FileSource(path), seconds=60)
    assert (report.container, report.codec, report.pix_fmt) == ("matroska,webm", "h264", "yuv420p")
    assert report.profile
    assert (report.width, report.height, report.rotation) == (48, 64, 90)
    assert (report.frames, report.declared_fps) == (60, 25.0)
    assert report.measured_fps == pytest.approx(25.0, rel=0.001)
    assert report.duration_s == pytest.approx(2.4, abs=0.05)
    assert (report.gop_mean, report.gop_max) == (12.0, 12)
    assert report.b_frames
    assert not report.variable_rate
    assert report.interval_ms == pytest.approx(40, abs=0.1)
    assert report.first_frame_ms is not None
    assert report.first_frame_ms > 0
    assert report.bit_rate == pytest.approx(8 * path.stat().st_size / 2.4, rel=0.5)
    assert report.arrival_jitter_ms is None, "a file has no arrivals"
    assert report.error is None
    assert report.skip.key_gap_s == pytest.approx(0.48, abs=0.002)


def test_what_is_predicted_is_what_skipping_then_keeps(media: Media) -> None:
    path = media.clip("mkv", count=60, options=B_FRAMES)
    facts = probe(FileSource(path), seconds=60).skip
    _, sparse = play(FileSource(path, skip="nonref"))
    assert 1 - len(sparse) / 60 == pytest.approx(facts.saves)
    gaps = [b.pts_s - a.pts_s for a, b in itertools.pairwise(sparse)]
    assert facts.reference_gap_s == pytest.approx(max(gaps), abs=0.002)
    _, keys = play(FileSource(path, skip="nonkey"))
    assert facts.key_gap_s == pytest.approx(keys[1].pts_s - keys[0].pts_s, abs=0.002)


def test_without_b_frames_leaving_out_saves_nothing(media: Media) -> None:
    report = probe(FileSource(media.clip(count=30)))
    assert not report.b_frames
    assert report.skip.saves == 0.0
    assert report.gop_mean is None


def test_variable_rate(media: Media) -> None:
    pts = [0, 40, 80, 200, 240, 280, 600]
    report = probe(FileSource(media.clip("mkv", count=7, pts=pts, time_base=Fraction(1, 1000))))
    assert report.variable_rate
    assert report.interval_max_ms == pytest.approx(320)
    assert report.measured_fps == pytest.approx(10.0)


def test_the_look_is_bounded(media: Media) -> None:
    path = media.clip(count=60, options=B_FRAMES)
    assert probe(FileSource(path), frames=10).frames == 10
    assert probe(FileSource(path), seconds=1.0).seen_s == pytest.approx(1.0)


def test_the_rate_is_that_of_the_whole_file_however_short_the_look(media: Media) -> None:
    """A second at 25 fps, then five at 2 fps: what the first second shows is not what comes."""
    pts = [*range(0, 1000, 40), *range(1000, 6500, 500)]
    path = media.clip("mkv", count=len(pts), pts=pts, time_base=Fraction(1, 1000), options=B_FRAMES)
    look, longer = (probe(FileSource(path), seconds=seconds) for seconds in (0.5, 60))
    assert (look.frames, longer.frames) == (14, 36)
    assert look.measured_fps == longer.measured_fps == pytest.approx(35 / 6.0, rel=0.001)
    assert look.variable_rate
    assert (look.timed_frames, look.timed_s) == (36, pytest.approx(6.0, abs=0.001))
    names = ("interval_ms", "interval_spread_ms", "interval_max_ms", "gop_mean", "bit_rate")
    assert [getattr(look, name) for name in names] == [getattr(longer, name) for name in names]
    assert look.skip.saves <= 1.0


def test_reading_on_is_bounded(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    path = media.clip(count=60, options=B_FRAMES)
    monkeypatch.setattr(packet_log, "MOST_PACKETS", 20)
    assert probe(FileSource(path), frames=3).timed_frames == 20
    monkeypatch.setattr(packet_log, "MOST_BYTES", 1)
    assert probe(FileSource(path), frames=3).timed_frames < 10


def test_frames_that_the_decoder_did_not_give_are_not_counted(media: Media) -> None:
    """The first key frame is missing: no packet of the first group becomes a frame, so packets prove nothing."""
    whole = media.clip("ts", count=60, options=B_FRAMES)
    report = probe(FileSource(whole), seconds=0.4)
    assert report.timed_frames == 60
    data = whole.read_bytes()
    late = media.file("late.ts", data[: 188 * 2] + data[len(data) // 3 // 188 * 188 :])
    report = probe(FileSource(late), seconds=0.4)
    assert report.measured_fps == pytest.approx(25, rel=0.01)


def test_any_source_can_be_probed() -> None:
    report = probe(PatternSource("pattern:?fps=50&size=64x48"))
    assert report.live
    assert (report.codec, report.measured_fps) == ("pattern", pytest.approx(50))
    assert report.bit_rate is None


def test_failures(media: Media) -> None:
    with pytest.raises(SourceUnavailable, match="no such file"):
        probe(FileSource("nowhere.mp4"))
    with pytest.raises(SourceUnavailable, match="no frame"):
        probe(ScriptedSource([]))
    with pytest.raises(SourceError, match="gone"):
        probe(ScriptedSource([SourceUnavailable("gone")]))
    source = ScriptedSource([0.0, 0.1, SourceUnavailable("gone")])
    report = probe(source)
    assert (report.frames, report.error) == (2, "gone")
    assert source.closed == 1


@pytest.mark.parametrize(
    ("facts", "asked", "mode"),
    [
        (SkipFacts(1.0, 0.08, 0.5), None, "none"),
        (SkipFacts(1.0, 0.08, 0.5), 1.0, "nonkey"),
        (SkipFacts(1.0, 0.08, 0.5), 2.0, "nonref"),
        (SkipFacts(1.0, 0.08, 0.5), 12.5, "nonref"),
        (SkipFacts(1.0, 0.08, 0.5), 25.0, "none"),
        (SkipFacts(1.0, 0.04, 0.0), 5.0, "none"),
        (SkipFacts(None, None, 0.0), 0.1, "none"),
        (SkipFacts(0.04, 0.04, 0.0), 25.0, "nonkey"),
    ],
)
def test_the_cheapest_mode_that_holds_the_rate(facts: SkipFacts, asked: float | None, mode: str) -> None:
    assert decide_skip(facts, asked) == mode
