# SPDX-License-Identifier: Apache-2.0
"""Whether anybody is at home, asked before a place among those who connect is taken up."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

from pipeline.errors import SourceTimeout, SourceUnavailable
from pipeline.redact import SourceUrl

_PORTS: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def knock(url: SourceUrl, timeout_s: float) -> None:
    """Connect to the port of ``url`` and hang up; raises SourceTimeout or SourceUnavailable where nobody answers.

    A camera that is switched off answers nothing at all, not even that it refuses: each attempt lasts until its time
    limit. Fifty of them would hold all places in :class:`pipeline.sources.gate.Gate` for most of the time, and one that
    comes back would wait behind them.
    """
    parts = urlsplit(url.reveal())
    address = parts.hostname or "", parts.port or _PORTS.get(parts.scheme.lower(), 554)
    try:
        socket.create_connection(address, timeout_s).close()
    except TimeoutError as exc:
        raise SourceTimeout(f"{url}: cannot open: no data within the time limit") from exc
    except ConnectionRefusedError as exc:
        raise SourceUnavailable(f"{url}: cannot open: connection refused", cause="refused") from exc
    except OSError as exc:
        raise SourceUnavailable(f"{url}: cannot open: {(exc.strerror or 'unknown host').lower()}", cause="io") from exc
