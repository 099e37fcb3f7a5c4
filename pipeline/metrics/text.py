# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text format 0.0.4 and OpenMetrics 1.0.0, written for fifty streams of ten histograms: the client
library's writer checks every name and label of every line again, 14,000 lines, in the process that analyses video. Here
names are constants, a line is its family's template filled in, and values of labels are escaped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Final, Literal, NamedTuple

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Exemplar(NamedTuple):
    """One observation of a histogram, and whose it was.

    Attributes:
        labels: with their values at most 128 characters.
        value: in the unit of the histogram.
        at_s: when it was made, seconds since 1970.
    """

    labels: Mapping[str, str]
    value: float
    at_s: float

    def text(self) -> str:
        """What stands behind a bucket in OpenMetrics."""
        labels = ",".join([f'{label}="{_escaped(value)}"' for label, value in self.labels.items()])
        return f" # {{{labels}}} {self.value!r} {self.at_s:.3f}"


class Family:
    """A family of counters or gauges of one name and the same labels."""

    def __init__(
        self, kind: Literal["counter", "gauge"], name: str, documentation: str, labels: Sequence[str] = ()
    ) -> None:
        """The lines of a counter have ``_total`` behind its name."""
        self.kind = kind
        self.name = name
        self.documentation = documentation
        self.lines: list[str] = []  # or several lines in one
        self._sample = name + ("_total" if kind == "counter" else "")
        self._labels = tuple(labels)

    def add(self, values: Sequence[str], value: float) -> None:
        """One sample: values of the labels, and its own."""
        labels = [f'{label}="{_escaped(own)}"' for label, own in zip(self._labels, values, strict=True)]
        self.lines.append(f"{self._sample}{_braced(labels)} {_number(value)}")

    def add_all(self, first: str, others: Sequence[tuple[str, ...]], values: Iterable[float]) -> None:
        """Samples that share the value of their first label: those of the others, each with its value. Of constants,
        or much the same each time: the text of what does not change is kept."""
        if others:
            numbers = tuple(values)
            shown = numbers if all(map(isfinite, numbers)) else tuple(map(_number, numbers))
            lines = _template(self._sample, self._labels, tuple(others)) % shown
            self.lines.append(lines.replace(_LABELS, _escaped(first)))


class Histograms:
    """A family of histograms of one name and the same bounds."""

    kind: Final = "histogram"

    def __init__(self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        """``bounds``: ascending upper bounds, in the unit of the name; ``+Inf`` is added."""
        self.name = name
        self.documentation = documentation
        self.lines: list[str] = []
        self._bounds = bounds
        self._labels = ",".join([f'{label}="%s"' for label in labels])
        own = [_LABELS] if labels else []
        ends = [str(float(bound)) for bound in bounds] + ["+Inf"]
        lines = [f"{name}_bucket" + _braced([*own, f'le="{end}"']) + " %d" for end in ends]
        self._template = "\n".join([*lines, f"{name}_sum{_braced(own)} %r", f"{name}_count{_braced(own)} %d"])

    def add(
        self,
        values: Sequence[str],
        at_most: Sequence[int],
        count: int,
        total: float,
        exemplars: Iterable[Exemplar] = (),
    ) -> None:
        """One histogram.

        Args:
            values: of the labels.
            at_most, count, total: how many observations lie at or below each bound, of how many in all, and their sum.
            exemplars: single observations, of which each bucket shows the last one; OpenMetrics has them only.
        """
        numbers = self._template % (*at_most, count, total, count)
        lines = numbers.replace(_LABELS, self._labels % tuple(map(_escaped, values)))
        shown = {bisect_left(self._bounds, one.value): one for one in exemplars}
        if shown:
            each = lines.split("\n")
            for bucket, one in shown.items():
                each[bucket] += one.text()
            lines = "\n".join(each)
        self.lines.append(lines)


def text(families: Iterable[Family | Histograms], *, openmetrics: bool = False) -> bytes:
    """All families, each with its description and its kind."""
    lines: list[str] = []
    for family in families:
        name = family.name + ("_total" if family.kind == "counter" and not openmetrics else "")
        described = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        lines += (f"# HELP {name} {described}", f"# TYPE {name} {family.kind}", *family.lines)
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


_LABELS: Final = "\0"
"""Stands in a template for labels that are filled in after the numbers."""


@lru_cache(1024)
def _template(sample: str, labels: tuple[str, ...], others: tuple[tuple[str, ...], ...]) -> str:
    first, *rest = labels
    lines = []
    for values in others:
        own = [f'{label}="{_escaped(value)}"' for label, value in zip(rest, values, strict=True)]
        line = sample + _braced([f'{first}="{_LABELS}"', *own])
        lines.append(line.replace("%", "%%") + " %s")
    return "\n".join(lines)


def _braced(labels: Sequence[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


def _number(value: float) -> str:
    written = repr(value)
    return written.replace("inf", "Inf").replace("nan", "NaN") if written[-1] in "fn" else written
