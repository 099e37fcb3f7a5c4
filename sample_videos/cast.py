# SPDX-License-Identifier: Apache-2.0
"""Wardrobes of the people in the clips. Colours are linear light, so they read darker than they look."""

from .parts import Look

NAVY = Look(
    pattern="zip",
    top_colour=(0.035, 0.055, 0.11),
    bottom="jeans",
    bottom_colour=(0.045, 0.055, 0.085),
    shoes=(0.30, 0.28, 0.25),
    seed=1,
)
CAMEL = Look(
    top="coat",
    pattern="open",
    top_colour=(0.17, 0.09, 0.04),
    shirt=(0.06, 0.05, 0.05),
    hair=(0.14, 0.06, 0.02),
    hair_style="long",
    bottom="slim",
    bottom_colour=(0.02, 0.02, 0.028),
    skin=(0.62, 0.40, 0.30),
    bag="shoulder",
    bag_colour=(0.07, 0.025, 0.015),
    shoes=(0.05, 0.03, 0.02),
    seed=2,
)
PLAID = Look(
    top="shirt",
    pattern="plaid",
    top_colour=(0.28, 0.035, 0.03),
    shirt=(0.05, 0.04, 0.055),
    bottom="jeans",
    bottom_colour=(0.045, 0.075, 0.15),
    hair_style="cap",
    shoes=(0.5, 0.5, 0.48),
    bag="backpack",
    bag_colour=(0.05, 0.07, 0.06),
    seed=3,
)
SUIT = Look(
    pattern="open",
    extras=("tie",),
    top_colour=(0.025, 0.027, 0.035),
    shirt=(0.65, 0.65, 0.66),
    bottom_colour=(0.025, 0.027, 0.035),
    skin=(0.16, 0.085, 0.05),
    hair=(0.01, 0.01, 0.01),
    bag="briefcase",
    seed=4,
)
CRIMSON = Look(
    top="coat",
    pattern="zip",
    top_colour=(0.30, 0.025, 0.03),
    bottom="slim",
    bottom_colour=(0.02, 0.02, 0.025),
    hair=(0.02, 0.012, 0.01),
    hair_style="bun",
    skin=(0.50, 0.30, 0.20),
    seed=5,
)
FOREST = Look(
    top="hoodie",
    pattern="band",
    top_colour=(0.05, 0.085, 0.04),
    shirt=(0.40, 0.38, 0.30),
    bottom="jeans",
    bottom_colour=(0.075, 0.075, 0.085),
    shoes=(0.45, 0.10, 0.06),
    skin=(0.30, 0.17, 0.10),
    extras=("beard",),
    seed=6,
)
SILVER = Look(
    top="coat",
    pattern="open",
    top_colour=(0.085, 0.09, 0.10),
    shirt=(0.30, 0.05, 0.06),
    extras=("scarf",),
    hair=(0.40, 0.38, 0.36),
    bottom_colour=(0.03, 0.028, 0.03),
    seed=7,
)
TEAL = Look(
    top="dress",
    top_colour=(0.02, 0.10, 0.12),
    bottom="skirt",
    bottom_colour=(0.02, 0.10, 0.12),
    hair_style="long",
    hair=(0.02, 0.013, 0.01),
    skin=(0.36, 0.21, 0.14),
    shoes=(0.02, 0.02, 0.02),
    bag="shoulder",
    bag_colour=(0.20, 0.10, 0.04),
    seed=8,
)
OLIVE = Look(
    top="jacket",
    pattern="zip",
    top_colour=(0.10, 0.095, 0.045),
    bottom="trousers",
    bottom_colour=(0.05, 0.04, 0.03),
    hair=(0.10, 0.05, 0.02),
    skin=(0.58, 0.36, 0.27),
    bag="backpack",
    bag_colour=(0.25, 0.09, 0.02),
    seed=9,
)
OFFICE = Look(
    top="shirt",
    top_colour=(0.42, 0.50, 0.60),
    pattern="plain",
    bottom="trousers",
    bottom_colour=(0.035, 0.04, 0.06),
    hair=(0.03, 0.02, 0.015),
    skin=(0.45, 0.27, 0.18),
    seed=10,
)
MUSTARD = Look(
    top="jacket",
    pattern="open",
    top_colour=(0.33, 0.17, 0.04),
    shirt=(0.55, 0.54, 0.50),
    bottom="jeans",
    bottom_colour=(0.03, 0.045, 0.09),
    hair=(0.30, 0.17, 0.06),
    hair_style="bun",
    skin=(0.66, 0.44, 0.34),
    seed=11,
)
RAIN = Look(
    top="coat",
    pattern="zip",
    top_colour=(0.02, 0.035, 0.05),
    hair_style="hood",
    bottom="jeans",
    bottom_colour=(0.03, 0.03, 0.035),
    skin=(0.40, 0.24, 0.16),
    seed=12,
)
