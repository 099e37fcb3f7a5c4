# SPDX-License-Identifier: Apache-2.0
"""What a run counts and times, as Prometheus metrics."""

from pipeline.metrics.exposition import CONTENT_TYPE, Watched, exposition

__all__ = ["CONTENT_TYPE", "Watched", "exposition"]
