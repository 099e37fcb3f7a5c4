# SPDX-License-Identifier: Apache-2.0
"""The solids that a figure is made of, and the cloth, skin and hair that cover them."""

from dataclasses import dataclass, field

from .arrays import Floats

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Cover:
    """What a surface looks like. Colours are linear-light RGB in [0, 1].

    `pattern` chooses how `second` is mixed in: plain | stripes | plaid | open (a jacket open over a shirt)
    | zip | face | hem | cap. `bump` is how deep the folds are, `fold` how they lie: along (down the cloth) or across.
    """

    colour: Rgb
    second: Rgb = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    bump: float = 0.3
    fold: str = "across"
    seed: int = 0
    gloss: float = 0.0
    third: Rgb = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Loft:
    """A solid along the axis a -> b with an elliptic section that changes along it.

    `profile` has rows (t, half breadth, half depth), t in [0, 1] from a to b, lengths in metres; `front` is the
    direction (x, y) in which the wearer faces. `layer` (metres) lets outer clothes win over what they cover.
    """

    a: Floats
    b: Floats
    profile: Floats
    front: Floats
    cover: Cover
    layer: float = 0.0


@dataclass(frozen=True, slots=True)
class Ball:
    """An upright ellipsoid: centre, half sizes (breadth, depth, height) in metres."""

    centre: Floats
    radii: tuple[float, float, float]
    front: Floats
    cover: Cover
    layer: float = 0.0


Part = Loft | Ball


@dataclass(frozen=True, slots=True)
class Look:
    """A person's body and wardrobe; colours in linear light."""

    skin: Rgb = (0.55, 0.33, 0.23)
    hair: Rgb = (0.05, 0.03, 0.02)
    hair_style: str = "short"  # short | long | bun | bald | cap | hood
    top: str = "jacket"  # jacket | coat | shirt | hoodie | dress
    top_colour: Rgb = (0.05, 0.08, 0.14)
    shirt: Rgb = (0.6, 0.6, 0.6)
    pattern: str = "plain"
    bottom: str = "trousers"  # trousers | jeans | slim | skirt
    bottom_colour: Rgb = (0.03, 0.03, 0.04)
    shoes: Rgb = (0.03, 0.02, 0.02)
    bag: str = "none"  # none | backpack | shoulder | briefcase
    bag_colour: Rgb = (0.12, 0.05, 0.03)
    seed: int = 0
    extras: tuple[str, ...] = field(default=())  # scarf | tie | beard
