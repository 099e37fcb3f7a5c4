# SPDX-License-Identifier: Apache-2.0
"""How a body moves: joints of a walking or standing person in body coordinates (x left, y forward, z up)."""

from dataclasses import dataclass
from math import cos, pi, sin, sqrt

import numpy as np

from .arrays import Floats

# Lengths as fractions of the stature (Winter, Biomechanics and Motor Control of Human Movement, table 4.1, rounded).
THIGH, SHANK, ANKLE, FOOT = 0.245, 0.246, 0.045, 0.15
UPPER_ARM, FOREARM, SHOULDER_HEIGHT, NECK, HEAD = 0.172, 0.150, 0.788, 0.850, 0.927
STANCE = 0.6  # share of the cycle in which a foot is on the ground


@dataclass(frozen=True, slots=True)
class Pose:
    """Joints in metres; the pairs are (left, right), each of shape (2, 3). `yaw`: of the shoulders, radians."""

    pelvis: Floats
    neck: Floats
    head: Floats
    shoulders: Floats
    elbows: Floats
    wrists: Floats
    hips: Floats
    knees: Floats
    ankles: Floats
    toes: Floats
    yaw: float


@dataclass(frozen=True, slots=True)
class Build:
    """A body: stature in metres; breadth and girth relative to the average."""

    stature: float = 1.75
    breadth: float = 1.0
    girth: float = 1.0
    arm_swing: float = 1.0
    elbow_bend: float = 0.3


def stride_length(build: Build, speed: float) -> float:
    """Metres per full cycle (two steps); grows with speed as people do (about 0.75 statures at 1.3 m/s)."""
    return build.stature * (0.38 + 0.28 * speed)


def walking(build: Build, phase: float, speed: float, posture: str = "swing") -> Pose:
    """The pose at `phase` (cycles) of a walk at `speed` (m/s). The foot on the ground stands still on it."""
    size = build.stature
    stride = stride_length(build, speed)
    feet = [_foot(phase + 0.5 * side, stride, size) for side in (0, 1)]
    reach = (THIGH + SHANK) * size * 0.995
    # The pelvis rides as high as both legs allow: an inverted pendulum, softened where the legs change over.
    heights = [rise + sqrt(max(reach**2 - forward**2, 0.01)) for forward, rise, _ in feet]
    soft = 0.012 * size
    pelvis_height = -soft * np.log(sum(np.exp(-np.asarray(heights) / soft)))
    pelvis_height = min(float(pelvis_height), 0.534 * size)
    turn = 2 * pi * phase
    sway = 0.012 * size * sin(turn)
    hip_half = 0.052 * size * build.breadth
    pelvis = np.array([sway, 0.0, pelvis_height])
    hips, knees, ankles, toes = [], [], [], []
    for side, (forward, rise, pitch) in enumerate(feet):
        sign = 1.0 if side == 0 else -1.0
        hip = pelvis + np.array([sign * hip_half, sign * -0.012 * size * cos(turn), 0.0])
        ankle = np.array([sign * hip_half * 0.62 + sway * 0.3, forward, rise])
        hips.append(hip)
        ankles.append(ankle)
        knees.append(_knee(hip, ankle, size, sign * 0.06))
        toes.append(_toe(ankle, pitch, size, sign * 0.12))
    lean = 0.03 + 0.02 * speed
    yaw = 0.11 * cos(turn) * build.arm_swing
    return _upper_body(build, pelvis, hips, knees, ankles, toes, lean, yaw, turn, posture)


def standing(build: Build, seconds: float, seed: float, posture: str = "relaxed") -> Pose:
    """Quiet standing: the weight shifts slowly, the head looks about, an arm may gesture."""
    size = build.stature
    shift = 0.018 * size * sin(0.9 * seconds + seed)
    hip_half = 0.055 * size * build.breadth
    pelvis = np.array([shift, 0.01 * size * sin(0.5 * seconds + 2 * seed), 0.534 * size - abs(shift) * 0.25])
    hips, knees, ankles, toes = [], [], [], []
    for side in (0, 1):
        sign = 1.0 if side == 0 else -1.0
        hip = pelvis + np.array([sign * hip_half, 0.0, 0.0])
        ankle = np.array([sign * hip_half * 1.25, sign * 0.025 * size, ANKLE * size])
        hips.append(hip)
        ankles.append(ankle)
        knees.append(_knee(hip, ankle, size, sign * 0.10))
        toes.append(_toe(ankle, 0.0, size, sign * 0.3))
    yaw = 0.06 * sin(0.7 * seconds + seed)
    return _upper_body(build, pelvis, hips, knees, ankles, toes, 0.01, yaw, 1.3 * seconds + seed, posture)


def _foot(phase: float, stride: float, size: float) -> tuple[float, float, float]:
    """Ankle forward of the pelvis, ankle height (metres) and foot pitch (radians, heel up positive)."""
    at = phase % 1.0
    half = stride * STANCE / 2
    if at < STANCE:
        share = at / STANCE
        forward = half - share * 2 * half
        heel = max(0.0, (share - 0.6) / 0.4)
        strike = max(0.0, 1 - share / 0.15)
        return forward, (ANKLE + 0.055 * heel**2) * size, 0.75 * heel**1.5 - 0.28 * strike
    share = (at - STANCE) / (1 - STANCE)
    ease = share * share * (3 - 2 * share)
    forward = -half + 2 * half * ease
    rise = 0.055 * (1 - share) ** 2 + 0.05 * sin(pi * share) ** 1.2 * (1 - 0.5 * share)
    return forward, (ANKLE + rise) * size, 0.75 * (1 - share) ** 1.2 - 0.28 * share**2


def _knee(hip: Floats, ankle: Floats, size: float, outward: float) -> Floats:
    """The knee by the law of cosines, bending forward."""
    thigh, shank = THIGH * size, SHANK * size
    line = ankle - hip
    length = min(float(np.linalg.norm(line)), (thigh + shank) * 0.9999)
    along = (thigh**2 - shank**2 + length**2) / (2 * length)
    away = sqrt(max(thigh**2 - along**2, 0.0))
    axis = line / np.linalg.norm(line)
    ahead = np.array([outward, 1.0, 0.0])
    ahead -= axis * float(ahead @ axis)
    knee: Floats = hip + axis * along + ahead / np.linalg.norm(ahead) * away
    return knee


def _toe(ankle: Floats, pitch: float, size: float, outward: float) -> Floats:
    length = 0.72 * FOOT * size
    drop = 0.6 * ANKLE * size
    forward = length * cos(pitch) - drop * sin(pitch)
    down = length * sin(pitch) + drop * cos(pitch)
    toe: Floats = ankle + np.array([outward * forward, forward, -down])
    toe[2] = max(toe[2], 0.016 * size)
    return toe


def _upper_body(
    build: Build,
    pelvis: Floats,
    hips: list[Floats],
    knees: list[Floats],
    ankles: list[Floats],
    toes: list[Floats],
    lean: float,
    yaw: float,
    turn: float,
    posture: str,
) -> Pose:
    size = build.stature

    def above(height: float) -> Floats:
        rise = (height - 0.52) * size
        return np.array([pelvis[0] * (1 - 0.6 * (height - 0.52) / 0.4), pelvis[1] + lean * rise, pelvis[2] + rise])

    shoulders, elbows, wrists = [], [], []
    half = 0.109 * size * build.breadth
    for side in (0, 1):
        sign = 1.0 if side == 0 else -1.0
        shoulder = above(SHOULDER_HEIGHT) + np.array([sign * half * cos(yaw), -sign * half * sin(yaw), 0.0])
        swing, bend, spread = _arm(build, sign, turn, posture)
        upper = _direction(swing, sign * spread)
        fore = _direction(swing + bend, sign * spread * 0.3 - (sign * 0.5 if posture in FOLDED else 0.0))
        shoulders.append(shoulder)
        elbows.append(shoulder + upper * UPPER_ARM * size)
        wrists.append(elbows[-1] + fore * FOREARM * size)
    head = above(HEAD) + np.array([0.0, 0.012 * size, 0.0])

    def pair(points: list[Floats]) -> Floats:
        return np.stack(points).astype(np.float32)

    return Pose(
        pelvis=above(0.52),
        neck=above(NECK),
        head=head,
        shoulders=pair(shoulders),
        elbows=pair(elbows),
        wrists=pair(wrists),
        hips=pair(hips),
        knees=pair(knees),
        ankles=pair(ankles),
        toes=pair(toes),
        yaw=yaw,
    )


FOLDED = ("phone", "folded")


def _arm(build: Build, sign: float, turn: float, posture: str) -> tuple[float, float, float]:
    """Forward angle of the upper arm, bend of the elbow and spread to the side, in radians."""
    swing = -sign * cos(turn) * 0.42 * build.arm_swing
    bend = build.elbow_bend + 0.25 * max(0.0, swing)
    if posture == "swing":
        return swing - 0.05, bend, 0.085
    if posture == "phone" and sign < 0:
        return 0.35, 1.75, 0.12
    if posture == "folded":
        return 0.25, 1.45, 0.16
    if posture == "gesture" and sign > 0:
        return 0.25 + 0.15 * sin(2.2 * turn), 1.15 + 0.35 * sin(2.9 * turn + 1), 0.2
    if posture == "pockets":
        return -0.28, 0.75, 0.24
    if posture == "bag" and sign > 0:
        return 0.05 + 0.25 * swing, 0.12, 0.12
    return (swing * 0.8 - 0.05 if posture == "bag" else 0.03 * sin(turn)), bend * 0.7, 0.13


def _direction(forward: float, sideways: float) -> Floats:
    vector = np.array([sin(sideways), sin(forward) * cos(sideways), -cos(forward) * cos(sideways)])
    unit: Floats = vector / np.linalg.norm(vector)
    return unit
