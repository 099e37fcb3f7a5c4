# SPDX-License-Identifier: Apache-2.0
"""Drawing with matplotlib into the page: SVG that takes its colours and letters from the style sheet around it.

So one picture serves a light and a dark page, no font of this machine is in it, and it holds no script, no address and
no identifier that another picture could have, too. matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH: Final = 400
"""Of every picture, in pixels of the page: about that of a phone, and of half a page on a desk."""

NAMES: Final = (
    *("ink", "soft", "line", "faint", "accent", "bad", "warning"),
    *("decode", "preprocess", "queue", "infer", "postprocess", "follow", "sink"),
)
"""Colours of ``style.css`` that a picture may have."""
_CODES: Final = {name: f"#fe{number:02x}ed" for number, name in enumerate(NAMES)}
_NAMES: Final = {code: f"var(--{name})" for name, code in _CODES.items()}

_SETTINGS: Final[Any] = {
    "svg.fonttype": "none",  # letters stay letters: the page's font, and they can be searched and copied
    "svg.hashsalt": "",
    "text.parse_math": False,  # a name with two dollar signs is not a formula
    "font.size": 11,
    "path.simplify": True,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}


def colour(name: str) -> str:
    """What matplotlib is to draw with, so that the page shows its own colour of that name; ``soft`` for others."""
    return _CODES.get(name, _CODES["soft"])


@cache
def why_not() -> str:
    """Why nothing can be drawn; empty where all is well. The first call imports matplotlib."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)  # where it keeps its list of fonts, of which none is used, is nobody's concern here
    try:
        import matplotlib.backends.backend_svg  # noqa: F401
    except OSError as error:  # it insists on a folder of its own, if only for the time of the process
        return f"matplotlib cannot be used: {error}"
    finally:
        log.setLevel(before)
    return ""


def drawn(label: str, heights: Sequence[float], paint: Callable[..., None], *, left: float = 44) -> str:
    """A picture of one or more diagrams below each other, as ``<svg>``.

    Args:
        label: says in words what is to be seen.
        heights: of the diagrams, pixels, with room for their lower axis.
        paint: is given the diagrams.
        left: room for what stands to the left of them.

    Nothing where it cannot be: see :func:`why_not`.
    """
    if why_not():
        return ""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    height = sum(heights)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # what a user's own matplotlibrc says is for the user's own pictures
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        canvas: Any = FigureCanvasSVG(figure)
        diagrams, top = [], 0.0
        for each in heights:
            bottom = height - top - each + _AXIS
            box = (left / WIDTH, bottom / height, (WIDTH - left - _RIGHT) / WIDTH, (each - _AXIS - _TOP) / height)
            diagrams.append(_plain(figure.add_axes(box)))
            top += each
        paint(*diagrams)
        figure.patch.set_visible(False)
        written = io.StringIO()
        canvas.print_svg(written, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _for_the_page(written.getvalue(), label, height)


_AXIS: Final = 20
"""Room for the numbers below a diagram."""
_TOP: Final = 6
_RIGHT: Final = 18


def _plain(axes: Axes) -> Axes:
    """A line below, faint lines across, and numbers."""
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colour("line"))
    axes.tick_params(which="both", left=False, bottom=False, labelcolor=colour("soft"), pad=5)
    axes.grid(axis="y", color=colour("line"), linewidth=0.7)
    return axes


def _for_the_page(svg: str, label: str, height: float) -> str:
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>.*?</defs>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' (?:id|clip-path|xlink:href)="[^"]*"', "", body)
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"#fe[0-9a-f]{2}ed", lambda found: _NAMES[found[0]], body)
    body = re.sub(r'"[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), body)
    body = re.sub(r"\s*\n\s*", "\n", body).replace("<g>\n</g>\n", "")
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
    return f"{head}{body.strip()}</svg>"
