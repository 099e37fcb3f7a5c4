# SPDX-License-Identifier: Apache-2.0
"""Whether streams ask for more than the network could do on this machine if it had that for itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.errors import ModelError
from pipeline.figures import count, milliseconds, rate

if TYPE_CHECKING:
    from pipeline.config import Config, StreamConfig
    from pipeline.detectors.engine import TorchScriptDetector
    from pipeline.plan.demand import Demand
    from pipeline.sources import SourceReport

BEYOND: Final = 1.5
"""A network that needs so many times the cores that there are cannot keep up, even if other programs made it slow while
it was measured (by a third where ten threads wanted two cores)."""
NEAR: Final = 0.5
"""From this share of the cores on it is worth a word that everything else needs some as well."""


def measured(
    config: Config, detector: TorchScriptDetector, most: int, seen: Sequence[tuple[StreamConfig, SourceReport]]
) -> tuple[Demand | None, list[str]]:
    """What the streams ask, and faults; nothing of a model on a GPU.

    Args:
        config: the whole.
        detector: loaded.
        most: pictures in a batch.
        seen: the streams that opened, and what was seen of them.
    """
    from pipeline.daemon.loading import loading_limit_s
    from pipeline.host.cores import allowed_cores
    from pipeline.plan.demand import demand, shown, wanted_fps
    from pipeline.threads import Crew

    if detector.model_info()["device"] != "cpu":
        return None, []
    wanted = [(shown(stream, report, detector.spec), wanted_fps(stream, report) or 0.0) for stream, report in seen]
    crew: Crew[Demand | None] = Crew(["check"])
    crew.start()
    try:
        handed = crew.hand(lambda: demand(wanted, detector, most, allowed_cores()))
        return handed.result(loading_limit_s(config.model.timeout_s)), []  # it is many batches, and warming
    except ModelError as error:
        return None, [f"model: {error}"]
    finally:
        crew.rest()


def in_words(asked: Demand | None, path: Path) -> tuple[str, str]:
    """A warning where the streams are clearly too many, a word where they may be; one of the two, or neither."""
    if asked is None or asked.cores < NEAR * asked.allowed:
        return "", ""
    fact = (
        f"the network alone needs {asked.cores:.1f} of {count(asked.allowed, 'core')} for {rate(asked.fps)} frames a "
        f"second at {milliseconds(asked.frame_ms)} ms of CPU time each"
    )
    if asked.cores < BEYOND * asked.allowed:
        return "", f"{fact}; `pipeline plan {path}` says what fits"
    return f"{fact}: it cannot keep up; `pipeline plan {path}` says what fits", ""
