# SPDX-License-Identifier: Apache-2.0
"""Dress a pose: from joints and a wardrobe to the solids that are drawn."""

import numpy as np

from .arrays import Floats
from .gait import ANKLE, Build, Pose
from .parts import Ball, Cover, Loft, Look, Part, Rgb

UNDER = 0.0  # the layer of what is worn beneath


def dress(pose: Pose, build: Build, look: Look, place: Floats, heading: float) -> list[Part]:
    """The solids of one person in world coordinates; `place` is (x, y, z) of the ground, `heading` radians from +y."""
    tailor = _Tailor(pose, build, look, place, heading)
    return [*tailor.legs(), *tailor.arms(), *tailor.torso(), *tailor.head(), *tailor.luggage()]


class _Tailor:
    """Knows one body; each method makes one garment."""

    def __init__(self, pose: Pose, build: Build, look: Look, place: Floats, heading: float) -> None:
        self.pose, self.build, self.look = pose, build, look
        self.size = build.stature
        self.over = 0.14 if look.top in ("coat", "dress") or look.bottom == "skirt" else 0.06
        self.place = np.asarray(place, np.float32)
        self.front = self._turned(heading)
        self.left = np.array([-self.front[1], self.front[0]], np.float32)
        self.chest_front = self._turned(heading - pose.yaw)

    @staticmethod
    def _turned(heading: float) -> Floats:
        return np.array([np.sin(heading), np.cos(heading)], np.float32)

    def world(self, point: Floats) -> Floats:
        """Body coordinates (left, forward, up) to world coordinates."""
        ground = point[0] * self.left + point[1] * self.front
        return self.place + np.array([ground[0], ground[1], point[2]], np.float32)

    def near(self, point: Floats, left: float = 0.0, forward: float = 0.0, up: float = 0.0) -> Floats:
        """A point beside another; distances as fractions of the stature."""
        moved: Floats = point + np.array([left, forward, up]) * self.size
        return moved

    def loft(
        self,
        a: Floats,
        b: Floats,
        rows: list[tuple[float, float, float]],
        cover: Cover,
        chest: bool = False,
        layer: float | None = None,
    ) -> Loft:
        """A loft between two points of the body; the rows are fractions of the stature. `chest`: turns with it."""
        profile = np.array([(t, rx * self.size, ry * self.size) for t, rx, ry in rows], np.float32)
        front = self.chest_front if chest else self.front
        return Loft(self.world(a), self.world(b), profile, front, cover, self.over if layer is None else layer)

    def ball(self, centre: Floats, radii: tuple[float, float, float], cover: Cover, layer: float | None = None) -> Ball:
        """An ellipsoid about a point of the body; half sizes as fractions of the stature."""
        rx, ry, rz = (radius * self.size for radius in radii)
        return Ball(self.world(centre), (rx, ry, rz), self.front, cover, self.over if layer is None else layer)

    def limb(
        self, a: Floats, b: Floats, rows: list[tuple[float, float]], cover: Cover, layer: float | None = None
    ) -> list[Part]:
        """A round limb with a ball at both ends."""
        first, last = rows[0][1], rows[-1][1]
        return [
            self.ball(a, (first, first, first), cover, layer),
            self.loft(a, b, [(t, r, r) for t, r in rows], cover, layer=layer),
            self.ball(b, (last, last, last), cover, layer),
        ]

    def legs(self) -> list[Part]:
        """Trousers or bare legs, shoes, and a skirt where there is one."""
        look, girth = self.look, 0.6 + 0.4 * self.build.girth
        bare = look.bottom == "skirt"
        ease = {"slim": 0.002, "jeans": 0.006, "trousers": 0.009, "skirt": -0.004}[look.bottom]
        hem = {"slim": 0.024, "jeans": 0.033, "trousers": 0.037, "skirt": 0.021}[look.bottom]
        cloth = Cover(look.bottom_colour, bump=0.55 if look.bottom != "slim" else 0.3, seed=look.seed + 3)
        stocking = Cover(mix(look.skin, look.bottom_colour, 0.7), bump=0.0)
        cover = stocking if bare else cloth
        parts: list[Part] = []
        for hip, knee, ankle, toe in zip(
            self.pose.hips, self.pose.knees, self.pose.ankles, self.pose.toes, strict=True
        ):
            thigh = [(0.0, 0.047), (0.3, 0.050), (0.7, 0.042), (1.0, 0.035)]
            shank = [(0.0, 0.035), (0.3, 0.037), (0.7, 0.028)]
            parts += self.limb(hip, knee, [(t, r * girth + ease) for t, r in thigh], cover, UNDER)
            calf = [(t, r * girth + ease) for t, r in shank]
            parts += self.limb(knee, ankle, [*calf, (0.85, hem * girth), (1.0, hem * girth)], cover, UNDER)[:2]
            parts += self.shoe(ankle, toe)
        if bare:
            skirt = [(0.0, 0.083, 0.06), (0.2, 0.1, 0.075), (1.0, 0.125, 0.11)]
            below = self.pose.pelvis + np.array([0.0, 0.0, -0.21 * self.size])
            above = self.pose.pelvis + np.array([0.0, 0.0, 0.08 * self.size])
            cover = Cover(look.bottom_colour, bump=0.6, fold="along", seed=look.seed + 5)
            parts.append(self.loft(above, below, [(t, x * girth, y * girth) for t, x, y in skirt], cover))
        return parts

    def shoe(self, ankle: Floats, toe: Floats) -> list[Part]:
        """Heel, instep and toe cap with a lighter sole."""
        cover = Cover(self.look.shoes, bump=0.05, gloss=0.25)
        heel = ankle + (toe - ankle) * -0.28
        heel[2] = max(ankle[2] - 0.55 * ANKLE * self.size, 0.014 * self.size)
        return [
            *self.limb(heel, toe, [(0.0, 0.021), (0.4, 0.024), (1.0, 0.017)], cover, UNDER),
            self.ball(ankle - np.array([0.0, 0.0, 0.008 * self.size]), (0.023, 0.026, 0.026), cover, UNDER),
        ]

    def arms(self) -> list[Part]:
        """Sleeves, forearms and hands."""
        look, girth = self.look, 0.7 + 0.3 * self.build.girth
        thick = {"coat": 0.009, "jacket": 0.007, "hoodie": 0.008, "shirt": 0.003, "dress": 0.002}[look.top]
        sleeve = Cover(look.top_colour, bump=0.55, pattern=self.sleeve_pattern(), second=look.shirt, seed=look.seed + 9)
        skin = Cover(look.skin, bump=0.0)
        parts: list[Part] = []
        for shoulder, elbow, wrist in zip(self.pose.shoulders, self.pose.elbows, self.pose.wrists, strict=True):
            upper = [(0.0, 0.031), (0.3, 0.031), (1.0, 0.0255)]
            fore = [(0.0, 0.0255), (0.3, 0.0255), (1.0, 0.0175)]
            parts += self.limb(shoulder, elbow, [(t, r * girth + thick) for t, r in upper], sleeve)
            short = look.top in ("shirt", "dress")
            cover = skin if short else sleeve
            ease = 0.0 if short else thick
            hand = wrist + (wrist - elbow) * 0.32
            parts += self.limb(wrist, hand, [(0.0, 0.016), (0.5, 0.020), (1.0, 0.013)], skin)
            parts += self.limb(elbow, wrist, [(t, r * girth + ease) for t, r in fore], cover)[:2]
        return parts

    def sleeve_pattern(self) -> str:
        """Stripes and checks go on over the sleeves."""
        return self.look.pattern if self.look.pattern in ("stripes", "plaid") else "plain"

    def torso(self) -> list[Part]:
        """Hips, trunk and what is worn over them."""
        look, size = self.look, self.size
        breadth, girth = self.build.breadth, self.build.girth
        slim = look.top in ("shirt", "dress")
        ease = {"coat": 0.010, "jacket": 0.007, "hoodie": 0.009, "shirt": 0.002, "dress": 0.0}[look.top]
        long = {"coat": 0.20, "jacket": 0.055, "hoodie": 0.05, "shirt": 0.03, "dress": 0.23}[look.top]
        flare = {"coat": 0.014, "dress": 0.035}.get(look.top, 0.004)
        waist = 0.068 if look.top == "dress" else 0.077
        pelvis, neck = self.pose.pelvis, self.pose.neck
        hips = Cover(look.bottom_colour, bump=0.3, seed=look.seed + 4)
        below = pelvis - np.array([0.0, 0.0, 0.035 * size])
        above = pelvis + np.array([0.0, 0.0, 0.09 * size])
        seat = [(0.0, 0.08, 0.06), (0.4, 0.09, 0.068), (1.0, 0.078, 0.058)]
        parts: list[Part] = [
            self.loft(below, above, [(t, x * breadth, y * girth) for t, x, y in seat], hips, layer=UNDER)
        ]
        pattern = look.pattern
        cover = Cover(
            look.top_colour, look.shirt, pattern, bump=0.35 if slim else 0.6, seed=look.seed, third=tie_colour(look)
        )
        hem = pelvis - np.array([0.0, pelvis[1] * 0.4, long * size])
        length = float(neck[2] - hem[2])

        def at(height: float) -> float:
            return (height * size - (0.52 * size - long * size)) / length

        rows = [
            (0.0, 0.092 + flare, 0.070 + flare),
            (at(0.53), 0.093, 0.070),
            (at(0.62), waist, 0.063),
            (at(0.72), 0.097, 0.073),
            (at(0.77), 0.110, 0.069),
            (at(0.795), 0.120, 0.060),
            (at(0.812), 0.112, 0.052),
            (at(0.826), 0.085, 0.046),
            (at(0.840), 0.053, 0.042),
            (1.0, 0.037, 0.038),
        ]
        fitted = [(t, x * breadth + ease, (y + ease) * girth) for t, x, y in rows]
        parts.append(self.loft(hem, neck, fitted, cover, chest=True))
        return parts

    def head(self) -> list[Part]:
        """Neck, head, hair and what is worn on or around them."""
        look, head, neck = self.look, self.pose.head, self.pose.neck
        skin = Cover(look.skin, bump=0.0, seed=look.seed)
        pattern = "bald" if look.hair_style in ("bald", "hood") else "face"
        face = Cover(look.skin, look.hair, pattern, bump=0.0, seed=look.seed, third=beard_colour(look))
        throat = [(0.0, 0.034), (1.0, 0.031)]
        return [
            *self.limb(self.near(neck, up=-0.01), self.near(head, forward=-0.012, up=-0.03), throat, skin)[:2],
            self.ball(head, (0.0435, 0.0535, 0.068), face),
            self.ball(self.near(head, forward=0.055, up=-0.008), (0.0065, 0.009, 0.013), skin),
            self.ball(self.near(head, left=0.043, forward=-0.004, up=-0.004), (0.007, 0.013, 0.017), skin),
            self.ball(self.near(head, left=-0.043, forward=-0.004, up=-0.004), (0.007, 0.013, 0.017), skin),
            *self.hair(),
            *self.collar(),
        ]

    def hair(self) -> list[Part]:
        """Hair, a cap or a hood."""
        look, head = self.look, self.pose.head
        hair = Cover(look.hair, bump=0.35, fold="along", seed=look.seed + 1)
        match look.hair_style:
            case "short":
                return [self.ball(self.near(head, forward=-0.008, up=0.018), (0.046, 0.053, 0.057), hair)]
            case "long":
                rows = [(0.0, 0.050, 0.040), (0.5, 0.056, 0.038), (0.85, 0.055, 0.03), (1.0, 0.042, 0.02)]
                nape = self.near(head, forward=-0.022, up=-0.105)
                return [
                    self.ball(self.near(head, forward=-0.009, up=0.016), (0.049, 0.055, 0.060), hair),
                    self.loft(self.near(head, forward=-0.02), nape, rows, hair),
                ]
            case "bun":
                return [
                    self.ball(self.near(head, forward=-0.008, up=0.014), (0.046, 0.054, 0.060), hair),
                    self.ball(self.near(head, forward=-0.052, up=0.045), (0.026, 0.026, 0.026), hair),
                ]
            case "cap":
                cap = Cover(look.shirt, bump=0.1, seed=look.seed)
                return [
                    self.ball(self.near(head, forward=-0.003, up=0.026), (0.048, 0.056, 0.050), cap),
                    self.ball(self.near(head, forward=0.058, up=0.022), (0.036, 0.035, 0.008), cap),
                ]
            case "hood":
                hood = Cover(look.top_colour, bump=0.4, seed=look.seed + 2)
                return [self.ball(self.near(head, forward=-0.016, up=0.010), (0.056, 0.058, 0.074), hood)]
            case _:
                return []

    def collar(self) -> list[Part]:
        """A scarf, or the collar of what is worn outside."""
        look, neck = self.look, self.pose.neck
        if "scarf" in look.extras:
            scarf = Cover(look.shirt, bump=0.9, seed=look.seed + 6)
            return [self.ball(self.near(neck, forward=0.01, up=0.012), (0.056, 0.056, 0.03), scarf)]
        if look.top in ("jacket", "coat", "hoodie"):
            collar = Cover(look.top_colour, bump=0.5, seed=look.seed + 7)
            return [self.ball(self.near(neck, forward=-0.008, up=-0.004), (0.050, 0.048, 0.024), collar)]
        return []

    def luggage(self) -> list[Part]:
        """What is carried."""
        look = self.look
        cover = Cover(look.bag_colour, bump=0.3, gloss=0.1, seed=look.seed + 8)
        match look.bag:
            case "backpack":
                top = self.near(self.pose.neck, forward=-0.085, up=-0.05)
                rows = [(0.0, 0.045, 0.025), (0.12, 0.072, 0.045), (0.6, 0.08, 0.058), (0.94, 0.078, 0.055)]
                rows.append((1.0, 0.066, 0.045))
                return [self.loft(top, self.near(top, forward=-0.012, up=-0.25), rows, cover, chest=True)]
            case "briefcase":
                hand = self.pose.wrists[0] + (self.pose.wrists[0] - self.pose.elbows[0]) * 0.3
                rows = [(0.0, 0.022, 0.09), (0.1, 0.026, 0.105), (1.0, 0.026, 0.105)]
                return [self.loft(self.near(hand, up=-0.03), self.near(hand, up=-0.17), rows, cover)]
            case "shoulder":
                top = self.near(self.pose.pelvis, left=0.105 * self.build.breadth, forward=-0.01, up=0.08)
                rows = [(0.0, 0.02, 0.06), (0.15, 0.032, 0.078), (1.0, 0.036, 0.08)]
                return [self.loft(top, self.near(top, left=0.006, up=-0.14), rows, cover)]
            case _:
                return []


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """`share` of the second colour in the first."""
    a, b, c = (x * (1 - share) + y * share for x, y in zip(first, second, strict=True))
    return (a, b, c)


def tie_colour(look: Look) -> Rgb:
    """The third colour of a top: a tie, else the shirt again."""
    return (0.22, 0.02, 0.03) if "tie" in look.extras else look.shirt


def beard_colour(look: Look) -> Rgb:
    """The third colour of a face: a beard, else the skin again."""
    return mix(look.hair, look.skin, 0.25) if "beard" in look.extras else look.skin
