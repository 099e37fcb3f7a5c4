# SPDX-License-Identifier: Apache-2.0
"""Which names a request may be for, and which pages it may come from."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit


def split_host(header: str) -> str | None:
    """The host of a ``Host`` header in lower case, without port and brackets; None where it is no such header."""
    if not header or any(character in header for character in "/?#@\\ \t"):
        return None
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises where it is not a number
        return parts.hostname
    except ValueError:
        return None


class Hosts:
    """A page of another site can make its own name point to this machine (DNS rebinding): it then asks for that name.

    Served are ``localhost``, the configured names, and loopback addresses; where others can reach the server, any
    address, since an address is not a name that somebody could have repointed.
    """

    def __init__(self, *, loopback_only: bool, names: Iterable[str] = ()) -> None:
        self._loopback_only = loopback_only
        self._names = frozenset({"localhost", *(name.lower() for name in names)})

    def served(self, header: str | None) -> bool:
        """Whether a request with this ``Host`` header is to be answered."""
        host = split_host(header or "")
        if host is None:
            return False
        if host in self._names:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback_only


def foreign_page(host: str, origin: str | None, fetch_site: str | None) -> bool:
    """Whether a browser says that a page of another site makes this request to ``host`` (a ``Host`` header).

    ``Sec-Fetch-Site`` comes first: under ``Referrer-Policy: no-referrer`` a form's own ``Origin`` is ``null``. Browsers
    send it over HTTPS and to this machine only; elsewhere the page's script sends the forms, with their ``Origin``.
    """
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    return origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}")
