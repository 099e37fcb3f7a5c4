# SPDX-License-Identifier: Apache-2.0
"""Whether anybody is at home, asked before a place among those who connect is taken up."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

from pipeline.errors import SourceTimeout, SourceUnavailable
from pipeline.redact import SourceUrl
from pipeline.timing import now_ns

_PORTS: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def knock(url: SourceUrl, timeout_s: float) -> None:
    """Connect to the port of ``url`` and hang up; raises SourceTimeout or SourceUnavailable where nobody answers.

    A camera that is switched off answers nothing at all, not even that it refuses: each attempt lasts until its time
    limit. Fifty of them would hold all places in :class:`pipeline.sources.gate.Gate` for most of the time, and one that
    comes back would wait behind them.

    ``timeout_s`` is for all addresses of a name together; looking the name up has the resolver's own limits.
    """
    parts = urlsplit(url.reveal())
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme.lower(), 554)
    try:
        _connect(host, port, timeout_s)
    except TimeoutError as exc:
        raise SourceTimeout(f"{url}: cannot open: no data within the time limit") from exc
    except ConnectionRefusedError as exc:
        raise SourceUnavailable(f"{url}: cannot open: connection refused", cause="refused") from exc
    except UnicodeError as exc:
        raise SourceUnavailable(f"{url}: cannot open: this cannot be the name of a host", cause="io") from exc
    except OSError as exc:
        raise SourceUnavailable(f"{url}: cannot open: {(exc.strerror or 'unknown host').lower()}", cause="io") from exc


def unknown_host(address: str) -> str | None:
    """Why the name of the host in ``address`` cannot be looked up, or None where it can."""
    try:
        host = urlsplit(address).hostname
        if host:  # as bytes: for text Python imports a codec, which a confined process may not be able to read
            socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            return "the name server gives no answer"
        return f"unknown host {host}"
    except (OSError, ValueError):  # ValueError: no URL, or a name that cannot be one
        return "unknown host"
    return None


def _connect(host: str, port: int, timeout_s: float) -> None:
    """To the first address that answers. Each may take an equal part of the time that is left, so that one that is dead
    does not use up that of the others; raises OSError, that of the last one."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    until_ns = now_ns() + int(timeout_s * 1e9)
    failure = OSError("no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left_s = (until_ns - now_ns()) / 1e9
        if left_s <= 0:
            raise TimeoutError
        try:
            with socket.socket(family, kind, protocol) as door:
                door.settimeout(left_s / (len(addresses) - number))
                door.connect(address)
                return
        except OSError as error:
            failure = error
    raise failure
