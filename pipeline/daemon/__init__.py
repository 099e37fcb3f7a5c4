# SPDX-License-Identifier: Apache-2.0
"""``pipeline run``: feeds from a streams.yaml through one detector until somebody stops it."""

from pipeline.daemon.run import Daemon

__all__ = ["Daemon"]
