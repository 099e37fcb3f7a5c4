# SPDX-License-Identifier: Apache-2.0
"""Why streams lose frames, by how busy network and cores were lately: too many cameras, or other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pipeline.figures import count, percent

if TYPE_CHECKING:
    from pipeline.host.neighbours import Moment

STARVED_BUSY: Final = 0.5
"""A network that is busy for less of the time is not what frames are lost to, whoever has the cores."""
FAR: Final = 0.5
"""Where more than this is lost, another way to run the same network is not enough."""


class Sample(NamedTuple):
    """Nanoseconds so far.

    Attributes:
        at_ns: monotonic.
        busy_ns: of the detect workers.
        cpu_ns: CPU time of this process.
        machine: what is known of everybody's, or None.
    """

    at_ns: int
    busy_ns: int
    cpu_ns: int
    machine: Moment | None


class Cores(NamedTuple):
    """Who used the cores.

    Attributes:
        own: this program, with the processes of its cameras.
        others: other programs; None: not known.
        allowed: how many there are for all.
    """

    own: float
    others: float | None
    allowed: int

    def __str__(self) -> str:
        """``0.9 of 2 cores used, 1.1 by other programs``."""
        told = f"{self.own:.1f} of {count(self.allowed, 'core')} used"
        return f"{told}, {self.others:.1f} by other programs" if (self.others or 0.0) >= 0.1 else told


class Strain(NamedTuple):
    """What is known of the time in which frames were lost.

    Attributes:
        first, last: between these.
        reading: the largest part of the time for which a reader is busy.
        worst: the largest share of a stream's frames that is lost.
        lost: the share of the frames of all streams that lose some.
    """

    first: Sample
    last: Sample
    reading: float
    worst: float
    lost: float

    @property
    def wall_ns(self) -> int:
        """How long it was."""
        return max(1, self.last.at_ns - self.first.at_ns)

    @property
    def busy_ns(self) -> int:
        """Of the detect workers meanwhile."""
        return self.last.busy_ns - self.first.busy_ns

    def cores(self) -> Cores:
        """Who used them meanwhile."""
        from pipeline.host.cores import allowed_cores
        from pipeline.host.neighbours import others

        first, last = self.first, self.last
        own_ns = last.cpu_ns - first.cpu_ns
        if first.machine is not None and last.machine is not None:  # with the processes of cameras
            own_ns = max(own_ns, last.machine.own_ns - first.machine.own_ns)
        return Cores(own_ns / self.wall_ns, others(first.machine, last.machine), allowed_cores())


def why(strain: Strain, model: Mapping[str, Any], streams: int) -> str:
    """How busy network and cores were, and what would help most, in a line.

    Args:
        strain: what is known.
        model: facts of the model, as a report has them.
        streams: how many there are.
    """
    from pipeline.report.advice import advice
    from pipeline.report.bottleneck import SATURATED
    from pipeline.report.cores import are_to_blame, starved

    cores = strain.cores()
    busy = min(1.0, strain.busy_ns / strain.wall_ns / (model.get("workers") or 1))
    lately = {
        "command": "run",
        "machine": {"cores": cores.allowed},
        "model": model,
        "cpu_s": (strain.last.cpu_ns - strain.first.cpu_ns) / 1e9,
        "wall_s": strain.wall_ns / 1e9,
    }
    told = f"the network is busy {percent(busy)} of the time"
    core = starved(lately, strain.busy_ns / 1e9) if busy >= STARVED_BUSY else None
    if core is not None:
        told += f", but has a core for at most {percent(core)} of that"
    if are_to_blame(cores.own, cores.others, cores.allowed, strain.lost, core):
        return f"{told}: the machine has other work; {cores}; what would help most: less of that work, or a lower fps"
    limit: Literal["network", "decode"] = "network" if busy >= min(SATURATED, strain.reading) else "decode"
    if limit == "decode":
        told += f", the reader of a stream {percent(strain.reading)}"
    helps = advice(limit, lately, streams) or ""
    if busy >= SATURATED and strain.worst > FAR and "fps" not in helps:
        helps = f"a lower fps, and {helps}"
    return f"{told}, {cores}; what would help most: {helps}"
