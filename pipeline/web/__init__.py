# SPDX-License-Identifier: Apache-2.0
"""HTTP: the API, the live view and the dashboard of a running daemon."""

from pipeline.web.limits import Limits
from pipeline.web.server import WebServer

__all__ = ["Limits", "WebServer"]
