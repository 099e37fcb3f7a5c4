# SPDX-License-Identifier: Apache-2.0
"""Draw solids into a patch of the picture: depth, normal and colour of every sample of one person."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats
from .camera import Camera
from .fabric import albedo, folds
from .parts import Ball, Loft, Part

SAMPLES = 256  # steps along a loft's axis at which its section is tabulated


@dataclass(slots=True)
class Patch:
    """A rectangle of samples; `left`, `top` in samples of the enlarged picture, depth in metres (inf: empty)."""

    left: int
    top: int
    depth: Floats
    normal: Floats  # (h, w, 3): right, up, towards the camera
    colour: Floats  # (h, w, 3) linear light
    gloss: Floats

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where there is a person."""
        return np.isfinite(self.depth)


def draw(parts: list[Part], camera: Camera, scale: int, margin: int = 3) -> Patch:
    """All parts in one patch at `scale` samples per pixel; it may reach beyond the picture."""
    points, reach = [], []
    for part in parts:
        if isinstance(part, Loft):
            radius = float(part.profile[:, 1:].max())
            points += [part.a, part.b]
            reach += [radius, radius]
        else:
            points.append(part.centre)
            reach.append(max(part.radii))
    seen = camera.project(np.stack(points), scale)
    spread = np.asarray(reach) * camera.focal_px * scale / seen[:, 2] + margin
    left = scale * int(np.floor((seen[:, 0] - spread).min() / scale))
    top = scale * int(np.floor((seen[:, 1] - spread).min() / scale))
    width = scale * int(np.ceil((seen[:, 0] + spread).max() / scale)) - left
    height = scale * int(np.ceil((seen[:, 1] + spread).max() / scale)) - top
    patch = Patch(
        left,
        top,
        np.full((height, width), np.inf, np.float32),
        np.zeros((height, width, 3), np.float32),
        np.zeros((height, width, 3), np.float32),
        np.zeros((height, width), np.float32),
    )
    for part in parts:
        if isinstance(part, Loft):
            _loft(patch, part, camera, scale)
        else:
            _ball(patch, part, camera, scale)
    return patch


def _facing(part: Part, centre: Floats, camera: Camera) -> float:
    """Angle from where the part faces to the camera, anticlockwise, in radians."""
    to_camera = np.asarray(camera.position[:2], np.float32) - centre[:2]
    front = part.front
    cross = front[0] * to_camera[1] - front[1] * to_camera[0]
    return float(np.arctan2(cross, front @ to_camera))


def _section(rx: Floats, ry: Floats, angle: float) -> tuple[Floats, Floats, Floats]:
    """An ellipse seen from `angle`: half breadth, half depth along the view and its slant."""
    s, c = np.sin(angle), np.cos(angle)
    breadth = np.sqrt((rx * c) ** 2 + (ry * s) ** 2)
    slant = s * c * (rx**2 - ry**2) / np.maximum(breadth, 1e-6) ** 2
    return breadth, rx * ry / np.maximum(breadth, 1e-6), slant


def _smooth(values: Floats) -> Floats:
    """A profile without kinks: a running mean over a sixteenth of the axis, ends kept."""
    half = SAMPLES // 32
    padded = np.pad(values, half, mode="edge")
    sums = np.cumsum(np.concatenate([[0.0], padded]))
    return np.asarray((sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1), np.float32)


def _loft(patch: Patch, part: Loft, camera: Camera, scale: int) -> None:
    (ax, ay, az), (bx, by, bz) = camera.project(np.stack([part.a, part.b]), scale)
    ax, bx, ay, by = ax - patch.left, bx - patch.left, ay - patch.top, by - patch.top
    length = float(np.hypot(bx - ax, by - ay))
    if length < 2.0:
        return  # seen end on: the balls at its ends stand for it
    per_metre = camera.focal_px * scale / (0.5 * (az + bz))
    angle = _facing(part, 0.5 * (part.a + part.b), camera)
    steps = np.linspace(0, 1, SAMPLES, dtype=np.float32)
    rx = np.interp(steps, part.profile[:, 0], part.profile[:, 1]).astype(np.float32)
    ry = np.interp(steps, part.profile[:, 0], part.profile[:, 2]).astype(np.float32)
    breadth, thick, slant = _section(_smooth(rx), _smooth(ry), angle)
    taper = np.gradient(breadth) * (SAMPLES - 1) * per_metre / length
    widest = float(breadth.max()) * per_metre + 1
    x0, x1 = max(int(min(ax, bx) - widest), 0), min(int(max(ax, bx) + widest) + 2, patch.depth.shape[1])
    y0, y1 = max(int(min(ay, by) - widest), 0), min(int(max(ay, by) + widest) + 2, patch.depth.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    ex, ey = (bx - ax) / length, (by - ay) / length
    # The cross direction points to the right of the picture, whichever way the axis runs.
    nx, ny = (-ey, ex) if ey < 0 else (ey, -ex)
    columns = np.arange(x0, x1, dtype=np.float32)[None, :] + 0.5 - ax
    rows = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - ay
    t = (columns * ex + rows * ey) / length
    step = np.clip(t * (SAMPLES - 1), 0, SAMPLES - 1).astype(np.int32)
    q = (columns * nx + rows * ny) / (breadth[step] * per_metre)
    depth = patch.depth[y0:y1, x0:x1]
    inside = (np.abs(q) < 1) & (t >= 0) & (t <= 1)
    if not inside.any():
        return
    t, q, step = t[inside], q[inside], step[inside]
    bulge = np.sqrt(1 - q * q)
    metres = az + (bz - az) * t - (slant[step] * q * breadth[step] + thick[step] * bulge) - part.layer
    nearer = metres < depth[inside]
    where = np.nonzero(inside)
    rows_in, columns_in = where[0][nearer] + y0, where[1][nearer] + x0
    t, q, step, bulge, metres = t[nearer], q[nearer], step[nearer], bulge[nearer], metres[nearer]
    patch.depth[rows_in, columns_in] = metres
    # Normal in (cross, along, towards): the section's gradient, tilted by the taper and by the axis's own slope.
    cross = (thick[step] / breadth[step]) * q - slant[step] * bulge
    slope = (bz - az) * per_metre / length
    along = slope * bulge - taper[step] * np.sqrt(1 - 0.7 * q * q)
    lon = np.arcsin(np.clip(q, -1, 1)) + angle
    metre_along = t * length / per_metre
    wave_u, wave_v = folds(part.cover, lon, metre_along, breadth[step])
    cross, along = cross + wave_u, along + wave_v
    # (nx, ny) and (ex, ey) are in picture coordinates, whose rows run down; normals have up positive.
    normal = np.stack([cross * nx + along * ex, -(cross * ny + along * ey), bulge], axis=1)
    normal /= np.sqrt(np.einsum("ij,ij->i", normal, normal) + 1e-9)[:, None]
    patch.normal[rows_in, columns_in] = normal
    patch.colour[rows_in, columns_in] = albedo(part.cover, lon, t, metre_along)
    patch.gloss[rows_in, columns_in] = part.cover.gloss


def _ball(patch: Patch, part: Ball, camera: Camera, scale: int) -> None:
    x, y, z = camera.project(part.centre[None], scale)[0]
    x, y = x - patch.left, y - patch.top
    per_metre = camera.focal_px * scale / z
    angle = _facing(part, part.centre, camera)
    rx, ry, rz = part.radii
    sections = _section(np.array([rx]), np.array([ry]), angle)
    breadth, thick, slant = (float(value[0]) for value in sections)
    half_x, half_y = breadth * per_metre, rz * per_metre
    x0, x1 = max(int(x - half_x), 0), min(int(x + half_x) + 2, patch.depth.shape[1])
    y0, y1 = max(int(y - half_y), 0), min(int(y + half_y) + 2, patch.depth.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    q = (np.arange(x0, x1, dtype=np.float32)[None, :] + 0.5 - x) / half_x
    v = (y - np.arange(y0, y1, dtype=np.float32)[:, None] - 0.5) / half_y
    square = q * q + v * v
    inside = square < 1
    where = np.nonzero(inside)
    q, v = np.broadcast_to(q, square.shape)[inside], np.broadcast_to(v, square.shape)[inside]
    bulge = np.sqrt(1 - square[inside])
    metres = z - (slant * q * breadth + thick * bulge) - part.layer
    nearer = metres < patch.depth[y0:y1, x0:x1][inside]
    rows_in, columns_in = where[0][nearer] + y0, where[1][nearer] + x0
    q, v, bulge = q[nearer], v[nearer], bulge[nearer]
    patch.depth[rows_in, columns_in] = metres[nearer]
    lon = np.arcsin(np.clip(q / np.sqrt(np.maximum(1 - v * v, 1e-4)), -1, 1)) + angle
    wave_u, wave_v = folds(part.cover, lon, v * rz, np.full_like(q, breadth))
    cross = (thick / breadth) * q - slant * bulge + wave_u
    upward = (thick / rz) * v + wave_v
    normal = np.stack([cross, upward, bulge], axis=1)
    normal /= np.sqrt(np.einsum("ij,ij->i", normal, normal) + 1e-9)[:, None]
    patch.normal[rows_in, columns_in] = normal
    patch.colour[rows_in, columns_in] = albedo(part.cover, lon, 0.5 - 0.5 * v, v * rz)
    patch.gloss[rows_in, columns_in] = part.cover.gloss
