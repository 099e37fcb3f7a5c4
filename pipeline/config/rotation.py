# SPDX-License-Identifier: Apache-2.0
"""How much of what a sink writes is kept: the key ``rotate``."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, model_validator

from pipeline.config.values import Section, refusal

USUAL_GB: Final = 10.0
"""What is kept of a stream's video where no limit was given."""
_DAY_S: Final = 86_400


def false_is_none(value: object) -> object:
    """``false`` switches a section off; inside, None says so."""
    return None if value is False else value


class RotateConfig(Section):
    """When a file is full, and how many full ones are kept beside it."""

    max_mb: float = Field(
        default=100.0, gt=0, le=1_000_000, strict=True, description="Megabytes (10^6 bytes) a file may reach."
    )
    keep: StrictInt = Field(
        default=5, ge=1, le=10_000, description="Full files kept, as `<file>.1` (newest) to `<file>.<keep>`."
    )


class VideoRotateConfig(Section):
    """How long one file (segment) of video is, and how much is kept: of each stream, and of all streams of the sink
    together. Of several limits the first that is reached counts; the oldest segments go."""

    segment_s: float = Field(
        default=3600.0,
        ge=1,
        le=7 * _DAY_S,
        strict=True,
        description="Length of a segment in seconds. It ends sooner where it has a tenth of `max_gb`, or of "
        "`max_total_gb` divided by the number of streams; where the picture's size changes; and where its camera goes "
        "away after a minute of it or more.",
    )
    keep: StrictInt | None = Field(
        default=None, ge=1, le=1_000_000, description="Finished segments kept, beside the one that is being written."
    )
    keep_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        strict=True,
        description="Segments that began more days ago are removed: when a segment begins, and once a minute while any "
        "stream of the sink has pictures.",
    )
    max_gb: float | None = Field(
        default=None,
        ge=0.01,
        le=1_000_000,
        strict=True,
        description="Gigabytes (10^9 bytes) that a stream's segments may take, with the one that is being written. "
        f"Unset: {USUAL_GB:g}, where none of the other limits is given.",
    )
    max_total_gb: float | None = Field(
        default=None,
        ge=0.01,
        le=1_000_000,
        strict=True,
        description="Gigabytes (10^9 bytes) that the segments of all streams of this sink may take together, with "
        "those that are being written and those of streams that were taken out of this file. The oldest of all streams "
        "go first. Such a sink needs a folder of its own.",
    )

    @property
    def limit_gb(self) -> float | None:
        """Of a stream: ``max_gb``, or what holds where no limit was given."""
        others = (self.keep, self.keep_days, self.max_total_gb)
        return USUAL_GB if self.max_gb is None and all(limit is None for limit in others) else self.max_gb

    @model_validator(mode="after")
    def _keeps_a_segment(self) -> Self:
        if self.keep_days is not None and self.keep_days * _DAY_S < self.segment_s:
            raise refusal("less than one segment (segment_s) would be kept", "keep_days")
        return self


Rotation = Annotated[
    RotateConfig | None, BeforeValidator(false_is_none, json_schema_input_type=RotateConfig | Literal[False] | None)
]
VideoRotation = Annotated[
    VideoRotateConfig | None,
    BeforeValidator(false_is_none, json_schema_input_type=VideoRotateConfig | Literal[False] | None),
]
