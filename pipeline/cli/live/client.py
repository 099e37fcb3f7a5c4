# SPDX-License-Identifier: Apache-2.0
"""Asks a running daemon how its streams are: one connection to one address, kept open, never redirected."""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline.errors import ConfigError, ServerError, UsageError
from pipeline.redact import Secret, scrub

LOCAL: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 64 << 20
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon is asked, and with what.

    Attributes:
        host, port, tls: where.
        token: sent in a header, or None.
        verify: whether the certificate must be of this host.
    """

    host: str
    port: int
    tls: bool = False
    token: Secret | None = None
    verify: bool = True

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Nobody else can listen on the way."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @classmethod
    def of_url(cls, text: str, token: Secret | None = None, *, insecure: bool = False) -> Address:
        """``http://host:port`` or ``host:port``; raises UsageError."""
        parts = urlsplit(text if "://" in text else f"http://{text}")
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or "@" in parts.netloc:
            raise UsageError(f"{scrub(text)}: expected http://HOST:PORT or https://HOST:PORT of a running daemon")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), tls, token, not insecure)

    @classmethod
    def of_config(cls, path: Path, *, insecure: bool = False) -> Address:
        """Where the daemon of this streams.yaml serves, here if it listens here; raises ConfigError."""
        from pipeline.config import load_config_quarantining
        from pipeline.config.credentials import read_token

        try:
            server = load_config_quarantining(path).config.server
        except ConfigError as error:
            hint = (
                f"{path}: where its daemon serves cannot be read; `pipeline top http://HOST:PORT` asks it all the same"
            )
            raise ConfigError([*error.faults, hint]) from None
        if server is None:
            raise ConfigError(
                f"{path}: it has no section server, so its daemon cannot be asked; add "
                "`server: {listen: 127.0.0.1:8080}` and start it again"
            )
        if server.port == 0:
            raise ConfigError(f"{path}: server.listen takes any free port; give the address that the daemon's log says")
        host = _ANYWHERE.get(server.host, server.host)
        address = cls(host, server.port, server.tls is not None, read_token(server), verify=not insecure)
        # The certificate names the machine as others call it: not judged on the way to ourselves.
        return replace(address, verify=False) if address.is_here else address


def is_loading(answer: Mapping[str, Any]) -> bool:
    """Whether ``/api/streams`` is of a daemon that runs nothing yet: its model is being loaded."""
    return answer.get("streams") == {} and not answer.get("uptime_s")


class Refused(UsageError):
    """The daemon answered, and will not tell: another try changes nothing."""


class DaemonClient:
    """One daemon. Not thread-safe."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connection: http.client.HTTPConnection | None = None

    def streams(self) -> dict[str, Any]:
        """``/api/streams``; raises ServerError where nobody answers as a daemon does, Refused where it will not."""
        try:
            return self._ask("/api/streams")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise ServerError(f"{self.address}: {_why(error)}") from error

    def close(self) -> None:
        """Hang up; the next question calls again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask(self, path: str) -> dict[str, Any]:
        token = self.address.token
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        self._connection = connection = self._connection or self._call()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
        if answer.status in (401, 403):
            word = "the token is not the right one" if token is not None else "it needs a token: --token-file FILE"
            raise Refused(f"{self.address}: {word} (HTTP {answer.status})")
        if answer.status in (400, 404, 421) or answer.status in range(300, 400):
            raise Refused(f"{self.address}: no pipeline daemon answers here (HTTP {answer.status})")
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}")
        found = json.loads(body)
        if not isinstance(found, dict) or not isinstance(found.get("streams"), dict):
            raise Refused(f"{self.address}: no pipeline daemon answers here")
        return found

    def _call(self) -> http.client.HTTPConnection:
        to = self.address
        if not to.tls:
            return http.client.HTTPConnection(to.host, to.port, timeout=TIMEOUT_S)
        context = ssl.create_default_context()
        if not to.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(to.host, to.port, timeout=TIMEOUT_S, context=context)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified ({error.verify_message}); --insecure does without"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; is the daemon running, and has its streams.yaml a section server?"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(error, json.JSONDecodeError):
        return "no pipeline daemon answers here"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return scrub(" ".join(str(reason).split()).lower())
