# SPDX-License-Identifier: Apache-2.0
"""From configuration to objects: the only place that names concrete classes."""

from pipeline.build.detection import (
    USUAL_BATCH,
    batch_size,
    detector,
    detector_arguments,
    limits,
    tuned,
    tuned_facts,
    tuned_key,
    workers,
)
from pipeline.build.feeds import (
    absent,
    budget_ns,
    decoder_limits,
    feed,
    glance,
    played,
    playout,
    recording,
    skipping,
)
from pipeline.build.outputs import required_sinks, saved, sinks

__all__ = [
    "USUAL_BATCH",
    "absent",
    "batch_size",
    "budget_ns",
    "decoder_limits",
    "detector",
    "detector_arguments",
    "feed",
    "glance",
    "limits",
    "played",
    "playout",
    "recording",
    "required_sinks",
    "saved",
    "sinks",
    "skipping",
    "tuned",
    "tuned_facts",
    "tuned_key",
    "workers",
]
