# SPDX-License-Identifier: Apache-2.0
"""The letterbox stage: what it draws lies where its geometry says, in every form of picture, into shared buffers."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.errors import StageError
from pipeline.frame import InputSpec, Picture
from pipeline.stages import Letterbox, Region, fit
from pipeline.stages.reduce import halvings
from tests.boxes import to_network

SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2), "4:4:0": (1, 2), "4:1:1": (4, 1), "4:1:0": (4, 4)}
FITS = ["letterbox", "top_left", "stretch"]
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


pytestmark = pytest.mark.usefixtures("one_thread")


def subsample(plane, step_x, step_y):
    """Means over the pixels that share a sample; odd borders are repeated first."""
    rows, columns = plane.shape
    plane = np.pad(plane, ((0, -rows % step_y), (0, -columns % step_x)), mode="edge")
    return plane.reshape(plane.shape[0] // step_y, step_y, -1, step_x).mean((1, 3))


def encode(rgb, step_x=1, step_y=1, matrix="bt601", full_range=False, rotation=0):
    """A picture from RGB as displayed (rows, columns, 3; 0..255), by the definitions of the standards."""
    red, green, blue = np.moveaxis(np.rot90(np.asarray(rgb, np.float64) / 255, rotation // 90), -1, 0)
    kr, kb = WEIGHTS[matrix]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    if full_range:
        y, cb, cr = 255 * y, 128 + 255 * cb, 128 + 255 * cr
    else:
        y, cb, cr = 16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr
    planes = (y, subsample(cb, step_x, step_y), subsample(cr, step_x, step_y))
    stored = tuple(np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in planes)
    return Picture(stored, "yuv", matrix, full_range, rotation)


def noise(rows, columns, **form):
    rng = np.random.default_rng(rows + columns)
    chroma = (-(-rows // 2), -(-columns // 2))
    return Picture(
        tuple(rng.integers(16, 236, shape, np.uint8) for shape in ((rows, columns), chroma, chroma)), "yuv", **form
    )


def prepare(picture, spec, **options):
    out = np.random.default_rng(0).integers(0, 256, spec.shape, np.uint8)
    return out, Letterbox(**options).prepare(picture, spec, out)


def window(geometry, width, height):
    """The part of the input that shows ``width`` x ``height`` source pixels."""
    x, y = round(geometry.pad_x), round(geometry.pad_y)
    return slice(y, y + round(geometry.scale_y * height)), slice(x, x + round(geometry.scale_x * width))


def edges(profile):
    """Where a bright bar on dark begins and ends, to a fraction of a pixel: from its mass and its centre of mass."""
    profile = profile / profile.max()  # a bar two pixels high is not fully bright in any row
    mass = profile.sum()
    centre = (profile * (np.arange(len(profile)) + 0.5)).sum() / mass
    return centre - mass / 2, centre + mass / 2


# --- where things land ------------------------------------------------------------------------------------------------


@st.composite
def scenes(draw):
    width, height = draw(st.integers(40, 500)), draw(st.integers(40, 500))
    region = None
    left, top, across, down = 0, 0, width, height
    if draw(st.booleans()):
        across, down = draw(st.integers(20, width)), draw(st.integers(20, height))
        left, top = draw(st.integers(0, width - across)), draw(st.integers(0, height - down))
        region = Region(left, top, across, down, "pixels")
    x1 = draw(st.integers(left, left + across - across // 4))
    y1 = draw(st.integers(top, top + down - down // 4))
    x2 = draw(st.integers(x1 + across // 4, left + across))
    y2 = draw(st.integers(y1 + down // 4, top + down))
    return width, height, region, (x1, y1, x2, y2)


@settings(max_examples=150, deadline=None)
@given(
    scenes(),
    st.sampled_from([(64, 64), (48, 96), (97, 61), (352, 352)]),
    st.sampled_from(FITS),
    st.sampled_from([0, 90, 180, 270]),
    st.sampled_from(list(SAMPLINGS)),
    st.booleans(),
)
def test_a_white_rectangle_lands_where_the_geometry_says(scene, network, how, rotation, subsampling, antialias):
    width, height, region, (x1, y1, x2, y2) = scene
    rgb = np.zeros((height, width, 3))
    rgb[y1:y2, x1:x2] = 255
    picture = encode(rgb, *SAMPLINGS[subsampling], rotation=rotation)
    out, geometry = prepare(picture, InputSpec(*network, fit=how), region=region, antialias=antialias)
    assert (geometry.source_width, geometry.source_height) == (width, height)

    expected = to_network(geometry, np.array([[x1, y1, x2, y2]], np.float32))[0]
    assume(min(expected[2:] - expected[:2]) >= 1)  # what is thinner than a pixel has no edges that can be found
    # The padding is grey, not black: look at the picture's own part only.
    right, bottom = np.array([network[1], network[0]])
    if how != "stretch":
        seen = (width, height) if region is None else (region.width + 8, region.height + 8)
        right = min(right, round(geometry.pad_x + geometry.scale_x * seen[0]))
        bottom = min(bottom, round(geometry.pad_y + geometry.scale_y * seen[1]))
    pad_x, pad_y = round(geometry.pad_x), round(geometry.pad_y)
    light = out[..., 1].astype(np.float64) / 255
    row, column = round((expected[1] + expected[3] - 1) / 2), round((expected[0] + expected[2] - 1) / 2)
    across = np.where(np.abs(out[row].astype(int) - 114).max(-1) < 2, 0.0, light[row])[pad_x:right]
    down = np.where(np.abs(out[:, column].astype(int) - 114).max(-1) < 2, 0.0, light[:, column])[pad_y:bottom]
    found_x, found_y = edges(across), edges(down)
    found = np.array([found_x[0] + pad_x, found_y[0] + pad_y, found_x[1] + pad_x, found_y[1] + pad_y])
    assert np.abs(found - expected).max() <= 0.6


def ramp(width, height):
    """A smooth RGB field, linear in x and y, so that every fair resampling gives its value at the mapped place."""
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    grid_x, grid_y = np.meshgrid(x, y)
    return np.stack([60 + 120 * grid_x, 80 + 80 * grid_y, 200 - 70 * grid_x - 60 * grid_y], -1)


@pytest.mark.parametrize("subsampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(640, 480), (333, 251), (200, 120), (352, 352), (1281, 717)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_colours_and_places_of_a_smooth_picture(subsampling, size, rotation):
    # Compared with the field itself, evaluated at each network pixel's place in the source: no resampling code at all.
    matrix, full_range = ("bt709", rotation == 90) if size[0] % 2 else ("bt601", rotation == 180)
    picture = encode(ramp(*size), *SAMPLINGS[subsampling], matrix, full_range, rotation)
    for network, how in (((64, 64), "letterbox"), ((96, 160), "stretch"), ((352, 352), "top_left")):
        out, geometry = prepare(picture, InputSpec(*network, fit=how))
        part = window(geometry, *size)
        xs = (np.arange(part[1].start, part[1].stop) + 0.5 - geometry.pad_x) / geometry.scale_x / size[0]
        ys = (np.arange(part[0].start, part[0].stop) + 0.5 - geometry.pad_y) / geometry.scale_y / size[1]
        grid_x, grid_y = np.meshgrid(xs, ys)
        expected = np.stack([60 + 120 * grid_x, 80 + 80 * grid_y, 200 - 70 * grid_x - 60 * grid_y], -1)
        difference = np.abs(out[part] - expected)
        assert difference.mean() < 0.8, (network, how)
        assert np.quantile(difference, 0.99) <= 3.0, (network, how)


@pytest.mark.parametrize("size", [(640, 360), (321, 201), (120, 90)])
def test_a_region_shows_the_same_as_the_cropped_picture(size):
    width, height = size
    rgb = np.random.default_rng(5).uniform(0, 255, (height, width, 3))
    rgb = cv2.GaussianBlur(rgb, (0, 0), 2)
    spec = InputSpec(96, 96)
    for rotation in (0, 90, 180, 270):
        out, geometry = prepare(encode(rgb, 2, 2, rotation=rotation), spec, region=Region(0.25, 0.5, 0.5, 0.4))
        # Wherever chroma samples begin, the region is the one asked for and at most a sample (2 pixels) more per side.
        x, y = round(geometry.offset_x), round(geometry.offset_y)
        left, top, right, bottom = Region(0.25, 0.5, 0.5, 0.4).pixels(width, height)
        assert 0 <= left - x < 2
        assert 0 <= top - y < 2
        grown = [
            (x, y, right + more_x - x, bottom + more_y - y)
            for more_x in (0, 1)
            for more_y in (0, 1)
            if geometry == fit(width, height, spec, (x, y, right + more_x - x, bottom + more_y - y))
        ]
        assert len(grown) == 1
        _, _, across, down = grown[0]
        cut, _ = prepare(encode(rgb[y : y + down, x : x + across], 1, 1), spec)
        assert np.abs(out.astype(int) - cut).mean() < 2.0


@pytest.mark.parametrize("size", [(101, 77), (64, 63), (200, 200)])
def test_a_region_that_is_the_whole_picture_changes_nothing(size):
    for rotation in (0, 90, 180, 270):
        picture, spec = noise(*size, rotation=rotation), InputSpec(80, 80)
        (whole, one), (region, two) = prepare(picture, spec), prepare(picture, spec, region=Region(0, 0, 1, 1))
        assert np.array_equal(whole, region)
        assert one == two


def test_a_region_grows_to_whole_chroma_samples():
    _, geometry = prepare(noise(100, 100), InputSpec(32, 32, fit="stretch"), region=Region(11, 13, 20, 20, "pixels"))
    assert (geometry.offset_x, geometry.offset_y) == (10.0, 12.0)
    assert (geometry.scale_x, geometry.scale_y) == (32 / 22, 32 / 22)


@pytest.mark.parametrize("shape", [(8, 12), (360, 640), (1022, 2050), (2162, 1538)])  # at once, and in pieces
def test_halving_takes_the_mean_of_every_two_by_two_pixels(shape):
    plane = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    rows, columns = shape[0] // 2, shape[1] // 2
    out, _ = prepare(Picture((plane,), "gray"), InputSpec(rows, columns, fit="stretch"))
    sums = plane.reshape(rows, 2, columns, 2).sum((1, 3), dtype=np.int64)
    assert np.array_equal(out[..., 0], (sums + 2) // 4)


@pytest.mark.parametrize(
    ("size", "target", "steps"),
    [
        ((1920, 1080), (352, 198), [(960, 540), (480, 270)]),
        ((640, 360), (320, 180), [(320, 180)]),
        ((638, 360), (320, 180), []),  # would become too narrow
        ((640, 358), (320, 180), []),  # too low
        ((642, 360), (96, 54), [(321, 180)]),  # odd after that
        ((100, 100), (352, 352), []),
    ],
)
def test_halving_ends_above_the_target_and_at_odd_sizes(size, target, steps):
    assert halvings(size, target) == steps


def test_without_antialias_a_plane_is_resized_at_once():
    plane = np.random.default_rng(4).integers(0, 256, (400, 600), np.uint8)
    out, _ = prepare(Picture((plane,), "gray"), InputSpec(70, 90, fit="stretch"), antialias=False)
    assert np.array_equal(out[..., 0], cv2.resize(plane, (90, 70), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["rgb", "gray"])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rgb_and_grey_layouts(layout, colour, rotation):
    shown = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (90, 160, 3), np.uint8), (0, 0), 3)
    if layout == "gray":
        shown = np.repeat(shown[..., :1], 3, -1)
    stored = np.ascontiguousarray(np.rot90(shown, rotation // 90))
    plane = stored if layout == "rgb" else np.ascontiguousarray(stored[..., 0])
    out, geometry = prepare(Picture((plane,), layout, rotation=rotation), InputSpec(80, 80, colour=colour))
    expected = cv2.resize(shown.astype(np.float32), (80, 45), interpolation=cv2.INTER_AREA)
    part = window(geometry, 160, 90)
    assert np.abs(out[part] - expected[..., :: 1 if colour == "rgb" else -1]).max() <= 1.0
    assert (out[: part[0].start] == 114).all()


# --- buffers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize("value", [0, 114, 255])
def test_every_byte_outside_the_picture_is_padding_whatever_the_buffer_held(how, value):
    spec = InputSpec(96, 128, fit=how, pad_value=value)
    stage = Letterbox()
    out = np.empty(spec.shape, np.uint8)
    for rows, columns in ((48, 200), (200, 48), (64, 64), (96, 128), (48, 200)):
        # The pool hands the same buffer to streams of other shapes: nothing may shine through.
        out[:] = np.random.default_rng(rows).integers(0, 256, spec.shape)
        geometry = stage.prepare(noise(rows, columns), spec, out)
        outside = np.ones(spec.shape[:2], bool)
        outside[window(geometry, columns, rows)] = False
        assert (out[outside] == value).all()
        fresh, _ = prepare(noise(rows, columns), spec)
        assert np.array_equal(out, fresh)


def test_a_stage_that_alternates_between_forms_gives_what_a_new_one_gives():
    stage = Letterbox()
    forms = [(noise(rows, columns, rotation=rotation, matrix=matrix), InputSpec(side, side, colour=colour))
             for rows, columns in ((360, 640), (121, 77), (64, 64))
             for rotation, matrix in ((0, "bt601"), (90, "bt709"))
             for side, colour in ((64, "rgb"), (97, "bgr"))]  # fmt: skip
    for picture, spec in forms + forms[::-1] + forms:
        out = np.empty(spec.shape, np.uint8)
        geometry = stage.prepare(picture, spec, out)
        fresh, same = prepare(picture, spec)
        assert np.array_equal(out, fresh)
        assert geometry == same


def test_the_matrix_may_change_from_frame_to_frame():
    stage, spec = Letterbox(), InputSpec(64, 64)
    first, second = np.empty(spec.shape, np.uint8), np.empty(spec.shape, np.uint8)
    stage.prepare(noise(128, 128, matrix="bt601"), spec, first)
    stage.prepare(noise(128, 128, matrix="bt709", full_range=True), spec, second)
    assert np.array_equal(second, prepare(noise(128, 128, matrix="bt709", full_range=True), spec)[0])
    assert not np.array_equal(first, second)


def test_it_writes_in_place_into_one_picture_of_a_batch():
    spec = InputSpec(48, 64)
    batch = np.full((3, *spec.shape), 7, np.uint8)
    Letterbox().prepare(noise(100, 100), spec, batch[1])
    assert (batch[0] == 7).all()
    assert (batch[2] == 7).all()
    assert np.array_equal(batch[1], prepare(noise(100, 100), spec)[0])


def test_padded_rows_interleaved_chroma_and_read_only_planes_are_taken():
    picture, spec = noise(120, 160), InputSpec(64, 64)
    y, u, v = picture.planes
    padded = np.pad(y, ((0, 0), (0, 32)))[:, :160]
    pairs = np.stack([u, v], -1)  # as NV12 has them
    padded.flags.writeable = pairs.flags.writeable = False
    out, _ = prepare(Picture((padded, pairs[..., 0], pairs[..., 1]), "yuv"), spec)
    assert np.array_equal(out, prepare(picture, spec)[0])


def test_the_decoders_planes_are_never_written():
    for rows, columns, side in ((64, 64, 64), (640, 640, 64), (64, 64, 128)):
        for rotation in (0, 90):
            picture = noise(rows, columns, rotation=rotation)
            before = [plane.copy() for plane in picture.planes]
            prepare(picture, InputSpec(side, side))
            assert all(np.array_equal(plane, old) for plane, old in zip(picture.planes, before, strict=True))


def test_once_warm_a_frame_costs_no_memory():
    picture, spec = noise(1080, 1920), InputSpec(352, 352)
    stage, out = Letterbox(), np.empty((352, 352, 3), np.uint8)
    stage.prepare(picture, spec, out)
    tracemalloc.start()
    try:
        for _ in range(3):
            stage.prepare(picture, spec, out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000  # numpy and OpenCV's numpy allocator report to tracemalloc; a full-size RGB is 6,220,800


# --- errors -----------------------------------------------------------------------------------------------------------


def planes(*shapes, dtype=np.uint8):
    return tuple(np.zeros(shape, dtype) for shape in shapes)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Picture(planes((1, 8), (1, 4), (1, 4)), "yuv"), "8x1 pixels is too small"),
        (Picture(planes((8, 1), (4, 1), (4, 1)), "yuv"), "1x8 pixels is too small"),
        (Picture(planes((0, 0), (0, 0), (0, 0)), "yuv"), "too small"),
        (Picture(planes((8, 8), (4, 4)), "yuv"), "has 3 planes, not 2"),
        (Picture(planes((8, 8), (8, 8), (8, 8)), "rgb"), "has 1 planes, not 3"),
        (Picture(planes((8, 8), (4, 4), (4, 4), dtype=np.uint16), "yuv"), "uint16"),
        (Picture(planes((8, 8, 1), (4, 4), (4, 4)), "yuv"), r"\(8, 8, 1\)"),
        (Picture(planes((8, 8), (3, 4), (3, 4)), "yuv"), "do not fit luma"),
        (Picture(planes((8, 8), (4, 4), (4, 8)), "yuv"), "do not fit luma"),
        (Picture(planes((8, 8)), "rgb"), r"\(8, 8\)"),
        (Picture(planes((8, 8, 4)), "rgb"), "3 channels, not 4"),
        (Picture(planes((8, 8), dtype=np.float32), "gray"), "float32"),
        (Picture(planes((8, 8)), "nv12"), "'nv12'"),
    ],
)
def test_a_faulty_picture_is_refused_in_one_line(picture, message):
    with pytest.raises(StageError, match=message) as caught:
        prepare(picture, InputSpec(16, 16))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((16, 17, 3), np.uint8),
        np.empty((3, 16, 16), np.uint8),
        np.empty((16, 16, 3), np.float32),
        np.empty((16, 32, 3), np.uint8)[:, ::2],
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(out):
    with pytest.raises(StageError, match=r"\(16, 16, 3\)"):
        Letterbox().prepare(noise(8, 8), InputSpec(16, 16), out)


def test_a_read_only_buffer_is_refused():
    out = np.empty((16, 16, 3), np.uint8)
    out.flags.writeable = False
    with pytest.raises(StageError, match="writable"):
        Letterbox().prepare(noise(8, 8), InputSpec(16, 16), out)


def test_a_region_outside_of_the_picture_or_too_small_is_refused():
    with pytest.raises(StageError, match="ends at"):
        prepare(noise(64, 64), InputSpec(16, 16), region=Region(60, 0, 10, 10, "pixels"))
    grey = Picture(planes((64, 64)), "gray")
    with pytest.raises(StageError, match="too small"):
        prepare(grey, InputSpec(16, 16), region=Region(0, 0, 1, 1, "pixels"))


def test_after_a_faulty_picture_the_stage_goes_on():
    stage, spec = Letterbox(), InputSpec(32, 32)
    out = np.empty(spec.shape, np.uint8)
    stage.prepare(noise(64, 64), spec, out)
    with pytest.raises(StageError):
        stage.prepare(Picture(planes((64, 64), (31, 31), (31, 31)), "yuv"), spec, out)
    stage.prepare(noise(64, 64), spec, out)
    assert np.array_equal(out, prepare(noise(64, 64), spec)[0])
