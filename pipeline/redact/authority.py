# SPDX-License-Identifier: Apache-2.0
"""The authority of a URL: its user info, host and port, also where a password was not percent-encoded."""

from __future__ import annotations

import ipaddress


def without_user_info(rest: str) -> str:
    """What follows the ``//`` of a URL, without its user info.

    A raw ``/``, ``?`` or ``#`` inside a password ends the authority early, as RFC 3986 section 3.2 reads it. So where
    an ``@`` follows later and the host cannot be told from half a password, everything before the last ``@`` goes.
    """
    authority, tail = split_authority(rest)
    _, at, host = authority.rpartition("@")
    if "@" in tail and (at or ":" in host) and not _is_address(host):
        return rest.rpartition("@")[2]
    return (host if at else authority) + tail


def split_authority(rest: str) -> tuple[str, str]:
    """What follows the ``//`` of a URL, in two: the authority, and all from its first ``/``, ``?`` or ``#`` on."""
    end = next((index for index, character in enumerate(rest) if character in "/?#"), len(rest))
    return rest[:end], rest[end:]


def split_port(host: str) -> tuple[str, str | None]:
    """Name and port of an authority without user info; None where it has none. An IPv6 address keeps its brackets."""
    if host.startswith("["):
        name, bracket, port = host.partition("]")
        return name + bracket, port.removeprefix(":") if port else None
    name, colon, port = host.partition(":")
    return name, port if colon else None


def _is_address(host: str) -> bool:
    name, port = split_port(host)
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return port is None or port.isdecimal()
