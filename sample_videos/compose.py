# SPDX-License-Identifier: Apache-2.0
"""Put lit people into the baked scene and finish the picture as a camera would; note exactly what is visible."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .actors import Actor
from .arrays import Floats
from .camera import Camera
from .figures import Patch, draw
from .noise import tile
from .parts import Ball, Loft, Part
from .scenery import Scenery, visible_light
from .shadows import ShadowPlane, contact
from .stage import SCALE, Stage


@dataclass(frozen=True, slots=True)
class Sighting:
    """The truth about one person in one frame. `box`: left, top, width, height in pixels of the whole silhouette,
    hidden parts and parts beyond the picture's edge included; `visible`: share of the silhouette that is seen."""

    person: int
    box: tuple[float, float, float, float]
    visible: float


@dataclass(frozen=True, slots=True)
class Lens:
    """How the camera turns light into a picture."""

    exposure: float = 1.0
    noise: float = 1.6  # standard deviation in 8-bit steps
    vignette: float = 0.18
    bloom: float = 0.06
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    softness: float = 0.5  # lens blur, standard deviation in pixels
    shutter_s: float = 0.008


class Painter:
    """Draws the frames of one clip. Pure: the same moment gives the same picture."""

    def __init__(
        self, camera: Camera, scenery: Scenery, stage: Stage, lens: Lens, area: tuple[float, float, float, float]
    ) -> None:
        self._camera, self._scenery, self._stage, self._lens, self._area = camera, scenery, stage, lens, area
        self._planes = [ShadowPlane(light, stage, area, light.blur * camera.width / 640) for light in scenery.lights]
        self._vignette = _vignette(camera, lens.vignette)
        self._curve = _curve(lens.exposure)

    def frame(
        self, number: int, seconds: float, actors: tuple[Actor, ...], levels: tuple[float, ...]
    ) -> tuple[NDArray[np.uint8], list[Sighting]]:
        """The picture (h, w, 3) RGB and who is in it. `levels` scale the ambient light and then each light."""
        stage = self._stage
        people = [(index + 1, parts) for index, actor in enumerate(actors) if (parts := actor.parts(seconds))]
        solids = [parts for _, parts in people]
        picture = stage.fill * levels[0]
        if people:
            picture *= contact(stage, solids, self._area)[..., None]
        for plane, layer, level in zip(self._planes, stage.lit, levels[1:], strict=True):
            if level > 0:
                picture += layer * (plane.shade(solids) * level)[..., None]
        if stage.polish.max() > 0:
            self._reflect(picture, solids, levels)
        sightings = self._people(picture, people, actors, seconds, levels)
        return self._finish(picture, number), sightings

    def _people(
        self,
        picture: Floats,
        people: list[tuple[int, list[Part]]],
        actors: tuple[Actor, ...],
        seconds: float,
        levels: tuple[float, ...],
    ) -> list[Sighting]:
        nearest = self._stage.depth.copy()
        sightings = []
        drawn = [(person, parts, draw(parts, self._camera, SCALE)) for person, parts in people]
        for person, parts, patch in sorted(drawn, key=lambda item: float(np.median(item[2].depth[item[2].mask]))):
            mask = patch.mask
            inside = _overlap(patch, nearest.shape)
            rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
            box = (
                (patch.left + int(columns[0])) / SCALE,
                (patch.top + int(rows[0])) / SCALE,
                (int(columns[-1]) - int(columns[0]) + 1) / SCALE,
                (int(rows[-1]) - int(rows[0]) + 1) / SCALE,
            )
            if inside is None:
                continue
            ours, theirs = inside
            free = patch.depth[ours] < nearest[theirs]
            visible = float(free.sum()) / float(mask.sum())
            if visible <= 0:
                continue
            nearest[theirs] = np.minimum(nearest[theirs], patch.depth[ours])
            sightings.append(Sighting(person, box, visible))
            colour = self._lit(patch, parts, levels)
            self._blend(picture, patch, colour, free, ours, self._speed(actors[person - 1], parts, seconds))
        return sorted(sightings, key=lambda sighting: sighting.person)

    def _speed(self, actor: Actor, parts: list[Part], seconds: float) -> Floats:
        """How far the person moves over the picture while the shutter is open, in pixels (x, y)."""
        later = actor.parts(seconds + 0.04)
        if not later:
            return np.zeros(2, np.float32)
        first, second = (self._camera.project(_middle(solids)[None])[0] for solids in (parts, later))
        return np.asarray((second - first)[:2] * (self._lens.shutter_s / 0.04), np.float32)

    def _lit(self, patch: Patch, parts: list[Part], levels: tuple[float, ...]) -> Floats:
        """Light on a person: ambient from above and below, each lamp or the sun, dark creases between limbs."""
        scenery, mask = self._scenery, patch.mask
        normal = np.asarray(cv2.GaussianBlur(patch.normal, (0, 0), 0.004 * patch.depth.shape[0] + 0.3), np.float32)
        normal /= np.maximum(np.sqrt(np.einsum("ijk,ijk->ij", normal, normal)), 1e-3)[..., None]
        up = (0.5 + 0.5 * normal[..., 1])[..., None]
        rim = 1 + 0.35 * (1 - np.clip(normal[..., 2], 0, 1)) ** 3
        shade = _creases(patch)
        light = (np.asarray(scenery.above, np.float32) * up + np.asarray(scenery.below, np.float32) * (1 - up)) * (
            levels[0] * 0.8 * rim * shade
        )[..., None]
        middle = _middle(parts)
        top = max(float(part.a[2] if isinstance(part, Loft) else part.centre[2]) for part in parts)
        heights = np.array([0.15, 0.5, 0.85], np.float32) * top
        spots = np.stack([np.array([middle[0], middle[1], z], np.float32) for z in heights])
        rows = np.linspace(1.0, 0.0, patch.depth.shape[0], dtype=np.float32)
        basis = self._camera.basis()
        for source, level in zip(scenery.lights, levels[1:], strict=True):
            if level <= 0:
                continue
            free = visible_light(scenery, source, spots)
            directions, _, strength = source.towards(spots)
            share = np.interp(rows, [0.15, 0.5, 0.85], free * strength).astype(np.float32)
            right, upward, forward = basis @ directions[1]
            facing = normal @ np.array([right, upward, -forward], np.float32)
            lamp = np.clip((facing + 0.12) / 1.12, 0, None) * share[:, None] * (0.4 + 0.6 * shade) * level
            half = np.array([right, upward, 1 - forward], np.float32)
            glint = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 24 * patch.gloss * share[:, None] * level
            light += lamp[..., None] * np.asarray(source.colour, np.float32)
            light += (glint * 2)[..., None]
        haze, per_metre = scenery.haze
        veil = 1 - np.exp(-per_metre * float(np.linalg.norm(middle - np.asarray(self._camera.position))))
        colour = patch.colour * light * (1 - veil) + np.asarray(haze, np.float32) * (veil * levels[0])
        return np.where(mask[..., None], colour, 0).astype(np.float32)

    def _blend(
        self,
        picture: Floats,
        patch: Patch,
        colour: Floats,
        free: NDArray[np.bool_],
        ours: tuple[slice, slice],
        speed: Floats,
    ) -> None:
        """Average samples into pixels, smear them along the motion and lay them over the picture."""
        seen = np.zeros_like(patch.depth)
        seen[ours] = free
        size = (seen.shape[1] // SCALE, seen.shape[0] // SCALE)
        alpha = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
        body = cv2.resize(colour * seen[..., None], size, interpolation=cv2.INTER_AREA)
        kernel = _smear(speed)
        if kernel is not None:
            # What is hidden must stay hidden: only the person's own motion is smeared, inside the patch.
            alpha, body = cv2.filter2D(alpha, -1, kernel), cv2.filter2D(body, -1, kernel)
        x, y = patch.left // SCALE, patch.top // SCALE
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + size[0], picture.shape[1]), min(y + size[1], picture.shape[0])
        part = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
        under = picture[y0:y1, x0:x1]
        under *= 1 - alpha[part][..., None]
        under += body[part]

    def _reflect(self, picture: Floats, solids: list[list[Part]], levels: tuple[float, ...]) -> None:
        """People mirrored in a polished floor."""
        high, wide = picture.shape[:2]
        for parts in solids:
            patch = draw([_mirrored(part) for part in parts], self._camera, 1)
            inside = _overlap(patch, (high, wide))
            if inside is None:
                continue
            ours, theirs = inside
            glow = patch.colour * np.asarray(self._scenery.above, np.float32) * (0.7 * levels[0])
            alpha = cv2.GaussianBlur(patch.mask.astype(np.float32), (0, 0), 1.5)
            body = cv2.GaussianBlur(np.where(patch.mask[..., None], glow, 0), (0, 0), 1.5)
            share = (self._stage.polish * (self._stage.floor > 0.5))[theirs][..., None] * 0.8
            under = picture[theirs]
            under += share * (body[ours] - 0.6 * alpha[ours][..., None] * under)

    def _finish(self, picture: Floats, number: int) -> NDArray[np.uint8]:
        lens = self._lens
        if lens.softness > 0:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), lens.softness), np.float32)
        if lens.bloom > 0:
            small = cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            glow = cv2.GaussianBlur(np.maximum(small - 0.8, 0), (0, 0), 0.006 * self._camera.width)
            picture = picture + lens.bloom * 4 * cv2.resize(glow, (picture.shape[1], picture.shape[0]))
        picture = picture * (self._vignette[..., None] * np.asarray(lens.tint, np.float32))
        index = np.clip(picture * (4095 / 4), 0, 4095).astype(np.uint16)
        graded = self._curve[index]
        if lens.noise > 0:
            grain = tile(901, size=512, octaves=2, first=256, gain=1.6)
            rng = np.random.default_rng((number, 17))
            dy, dx = (int(value) for value in rng.integers(0, 512, 2))
            repeats = (-(-graded.shape[0] // 512) + 1, -(-graded.shape[1] // 512) + 1)
            field = np.tile(np.roll(grain, (dy, dx), (0, 1)), repeats)[: graded.shape[0], : graded.shape[1]]
            graded = graded + lens.noise * field[..., None] * (1.25 - graded[..., 1:2] / 255 * 0.6)
        return np.clip(np.rint(graded), 0, 255).astype(np.uint8)


def _middle(parts: list[Part]) -> Floats:
    torso = max((part for part in parts if isinstance(part, Loft)), key=lambda part: float(part.profile[:, 1].max()))
    return 0.5 * (torso.a + torso.b)


def _mirrored(part: Part) -> Part:
    flip = np.array([1, 1, -1], np.float32)
    if isinstance(part, Loft):
        return Loft(part.a * flip, part.b * flip, part.profile, part.front, part.cover, part.layer)
    return Ball(part.centre * flip, part.radii, part.front, part.cover, part.layer)


def _overlap(patch: Patch, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """The patch's and the picture's slices where the two overlap."""
    high, wide = patch.depth.shape
    x0, y0 = max(patch.left, 0), max(patch.top, 0)
    x1, y1 = min(patch.left + wide, shape[1]), min(patch.top + high, shape[0])
    if x0 >= x1 or y0 >= y1:
        return None
    ours = (slice(y0 - patch.top, y1 - patch.top), slice(x0 - patch.left, x1 - patch.left))
    return ours, (slice(y0, y1), slice(x0, x1))


def _creases(patch: Patch) -> Floats:
    """Less light where the surface lies behind its surroundings (screen-space ambient occlusion)."""
    mask = patch.mask
    middle = float(np.median(patch.depth[mask]))
    front = np.where(mask, np.clip(middle - patch.depth, -0.4, 0.4), -0.12).astype(np.float32)
    size = 0.02 * patch.depth.shape[0]
    over = cv2.GaussianBlur(front, (0, 0), size) - front
    wide = cv2.GaussianBlur(front, (0, 0), 2.5 * size) - front
    return np.asarray(np.exp(-5.0 * np.maximum(over, 0) - 2.5 * np.maximum(wide, 0)), np.float32)


def _smear(speed: Floats) -> Floats | None:
    length = float(np.hypot(*speed))
    if length < 0.6:
        return None
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for share in np.linspace(-0.5, 0.5, 33):
        x, y = half + share * speed[0], half + share * speed[1]
        column, row = int(np.floor(x)), int(np.floor(y))
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            if row + dy <= 2 * half and column + dx <= 2 * half:
                kernel[row + dy, column + dx] += abs(1 - dx - (x - column)) * abs(1 - dy - (y - row))
    return np.asarray(kernel / kernel.sum(), np.float32)


def _vignette(camera: Camera, strength: float) -> Floats:
    y, x = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float32)
    radius = ((x / camera.width - 0.5) ** 2 + (y / camera.height - 0.5) ** 2) * 2
    return np.asarray(1 - strength * radius, np.float32)


def _curve(exposure: float) -> Floats:
    """Linear light in [0, 4] to 8-bit values: a filmic shoulder (Hable, 2010), then the sRGB curve."""
    x = np.linspace(0, 4, 4096) * exposure

    def hable(v: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray((v * (0.22 * v + 0.03) + 0.002) / (v * (0.22 * v + 0.3) + 0.06) - 0.002 / 0.06)

    y = np.clip(hable(x * 1.6) / hable(5.0), 0, 1)
    srgb = np.where(y < 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)
    return (255 * srgb).astype(np.float32)
