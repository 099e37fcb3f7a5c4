# SPDX-License-Identifier: Apache-2.0
"""What a run counts and times, as Prometheus metrics."""

from pipeline.metrics.exemplars import Shown
from pipeline.metrics.exposition import exposition
from pipeline.metrics.text import CONTENT_TYPE, OPENMETRICS

__all__ = ["CONTENT_TYPE", "OPENMETRICS", "Shown", "exposition"]
