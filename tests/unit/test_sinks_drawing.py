# SPDX-License-Identifier: Apache-2.0
"""What is drawn: where, in which colour, and how letters look."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frame import Detections, Matrix
from pipeline.sinks import draw_detections
from pipeline.sinks.canvas import BgrCanvas, Colour, YuvCanvas, limited_yuv
from pipeline.sinks.drawing import PALETTE, caption, line_width, luminance, paint, text_size
from pipeline.sinks.lettering import legible, text_mask

LABELS = {0: "person", 1: "Fußgänger"}


def one(box: tuple[float, ...], class_id: int = 0, confidence: float = 0.91) -> Detections:
    return Detections(
        np.array([box], np.float32), np.array([confidence], np.float32), np.array([class_id], np.int64), None
    )


def grey(height: int = 480, width: int = 640) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_the_line_lies_on_the_box_in_the_colour_of_its_class() -> None:
    colour = np.array(PALETTE[1][::-1])
    for height, lines in ((480, range(2)), (720, range(-2, 2))):  # thin ones inside, thick ones centred
        picture = draw_detections(grey(height, 1280), one((100, 200, 300, 400), class_id=1), LABELS)
        drawn = (picture == colour).all(axis=2)
        assert np.flatnonzero(drawn[300]).tolist() == [*(100 + n for n in lines), *(299 - n for n in reversed(lines))]
        assert np.flatnonzero(drawn[:, 298]).tolist()[-lines.stop + lines.start :] == [399 - n for n in reversed(lines)]
        assert np.flatnonzero(drawn[:, 290]).tolist()[: len(lines)] == [200 + n for n in lines]
        assert (picture[410:, :] == 128).all()


def test_the_label_stands_above_the_box_and_inside_where_there_is_no_room() -> None:
    above = draw_detections(grey(), one((100, 200, 300, 400)), LABELS)
    assert (above[185:198, 105:150] != 128).any()
    assert (above[205:230, 105:290] == 128).all()
    inside = draw_detections(grey(), one((100, 4, 300, 400)), LABELS)
    assert (inside[4:18, 105:150] != 128).any()


def test_a_label_at_the_right_edge_is_moved_into_the_picture() -> None:
    picture = draw_detections(grey(), one((630, 200, 640, 400)), LABELS)
    columns = np.flatnonzero((picture[186:196] != 128).any(axis=(0, 2)))
    assert columns.max() == 639
    assert columns.max() - columns.min() + 1 == text_mask("person  0.91", text_size(480)).shape[1]


def test_the_surest_detection_lies_on_top() -> None:
    both = Detections(
        np.array([[100, 200, 300, 400]] * 2, np.float32), np.array([0.9, 0.4], np.float32), np.array([0, 1])
    )
    np.testing.assert_array_equal(draw_detections(grey(), both, LABELS)[300, 100], PALETTE[0][::-1])


def test_numbers_of_tracks_are_shown() -> None:
    box = (100.0, 200.0, 300.0, 400.0)
    plain = one(box)
    tracked = Detections(plain.xyxy, plain.confidence, plain.class_id, np.array([7]))
    untracked = Detections(plain.xyxy, plain.confidence, plain.class_id, np.array([-1]))
    assert (draw_detections(grey(), tracked, LABELS) != draw_detections(grey(), plain, LABELS)).any()
    assert (draw_detections(grey(), untracked, LABELS) == draw_detections(grey(), plain, LABELS)).all()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.lists(st.tuples(*[st.floats(-100, 200, width=32)] * 4), max_size=4),
    st.sampled_from(["bt601", "bt709"]),
)
def test_boxes_of_any_kind_fit_pictures_of_any_size(
    height: int, width: int, boxes: list[tuple[float, ...]], matrix: Matrix
) -> None:
    n = len(boxes)
    found = Detections(
        np.array(boxes, np.float32).reshape(n, 4), np.linspace(0, 1, n, dtype=np.float32), np.arange(n), None
    )
    draw_detections(np.zeros((height, width, 3), np.uint8), found, {})
    y = np.zeros((height + height % 2, width + width % 2), np.uint8)
    u, v = (np.zeros((y.shape[0] // 2, y.shape[1] // 2), np.uint8) for _ in range(2))
    paint(YuvCanvas(y, u, v, matrix), found, {})


def test_a_box_that_is_not_finite_is_left_out() -> None:
    picture = draw_detections(grey(), one((100, np.nan, 300, np.inf)), LABELS)
    assert (picture == 128).all()


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a writable uint8 array"):
        draw_detections(bad, Detections.empty(), LABELS)


def test_a_read_only_picture_is_refused() -> None:
    picture = grey()
    picture.setflags(write=False)
    with pytest.raises(ValueError, match="expected a writable"):
        draw_detections(picture, Detections.empty(), LABELS)


@pytest.mark.parametrize(("matrix", "colorspace"), [("bt601", 5), ("bt709", 1)])
def test_colours_in_yuv_are_those_that_swscale_shows(matrix: Matrix, colorspace: int) -> None:
    for colour in (*PALETTE, Colour(255, 255, 255), Colour(0, 0, 0), Colour(255, 0, 0), Colour(0, 0, 255)):
        frame = av.VideoFrame(16, 16, "yuv444p")
        for plane, value in zip(frame.planes, limited_yuv(colour, matrix), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        rgb = frame.reformat(format="rgb24", src_colorspace=colorspace, dst_colorspace=colorspace).to_ndarray()
        np.testing.assert_allclose(rgb[8, 8].astype(int), colour, atol=3)


def test_both_canvases_show_the_same() -> None:
    found = Detections(
        np.array([[100, 200, 300, 400], [310, 30, 500, 470]], np.float32),
        np.array([0.9, 0.4], np.float32),
        np.array([0, 1]),
    )
    still = draw_detections(grey(), found, LABELS)
    y, u, v = np.full((480, 640), 126, np.uint8), *(np.full((240, 320), 128, np.uint8) for _ in range(2))
    canvas = YuvCanvas(y, u, v, "bt601")
    paint(canvas, found, LABELS)
    shown = cv2.cvtColor(np.concatenate([y.ravel(), u.ravel(), v.ravel()]).reshape(720, 640), cv2.COLOR_YUV2BGR_I420)
    difference = np.abs(shown.astype(int) - still)
    assert difference.mean() < 1.0
    assert (difference[:, :, 1] > 40).mean() < 0.002, "letters and lines must agree"


def test_a_caption_lies_in_the_lower_left_corner() -> None:
    picture = grey()
    caption(BgrCanvas(picture), "gate  00:00:01.000")
    changed = np.argwhere((picture != 128).any(axis=2))
    assert changed[:, 0].max() == 479
    assert changed[:, 1].min() == 0
    assert changed[:, 0].min() > 440


def test_sizes_grow_with_the_picture() -> None:
    assert [line_width(side) for side in (1, 360, 480, 720, 1080, 2160)] == [2, 2, 2, 4, 4, 8]
    assert [text_size(side) for side in (1, 360, 480, 720, 1080, 2160)] == [12, 12, 12, 17, 26, 51]


@pytest.mark.parametrize("colour", PALETTE)
def test_every_class_colour_carries_its_letters(colour: Colour) -> None:
    ink = 1.0 if luminance(colour) < 0.36 else luminance(Colour(12, 16, 20))
    lighter, darker = max(ink, luminance(colour)), min(ink, luminance(colour))
    assert (lighter + 0.05) / (darker + 0.05) >= 2.5, "contrast ratio of WCAG 2.2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("person", "person"),
        ("Fußgänger", "Fußgänger"),
        ("человек", "человек"),
        ("άνθρωπος", "άνθρωπος"),
        ("zażółć", "zażółć"),
        ("A\u0308rger", "Ärger"),
        ("người", "nguoi"),
        ("歩行者", "???"),
        ("\U0001f600 a\tb\n", "? a?b?"),
        ("", ""),
    ],
)
def test_letters_of_many_scripts(text: str, shown: str) -> None:
    assert legible(text) == shown
    mask = text_mask(text, 18)
    assert mask.shape[0] % 2 == mask.shape[1] % 2 == 0
    assert bool(mask.max()) == bool(shown)


def test_letters_are_smooth_and_wide_enough() -> None:
    mask = text_mask("person 0.91", 24)
    partly = ((mask > 20) & (mask < 235)).sum()
    assert partly > 0.2 * (mask > 20).sum(), "edges have grey levels"
    assert mask.max() > 240
    assert 24 <= mask.shape[0] <= 40
    assert text_mask("person 0.91", 48).shape[1] == pytest.approx(2 * mask.shape[1], rel=0.1)
    margin = 3
    assert not mask[:, :margin].any()
    assert not mask[:, -margin:].any()
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1
