# SPDX-License-Identifier: Apache-2.0
"""Whether a section ``server`` may be served: nobody is to be reachable by accident."""

from __future__ import annotations

import logging
import os
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.config.credentials import read_token
from pipeline.config.outputs import ServerConfig
from pipeline.errors import ConfigError
from pipeline.redact import Secret

log = logging.getLogger("pipeline")

SHORT_TOKEN: Final = 16


def refusals(config: ServerConfig) -> list[str]:
    """Why ``run`` would refuse this section, without binding anything; empty where it would not."""
    found: list[str] = []
    try:
        refuse_unsafe(config, read_token(config), insecure=False)
    except ConfigError as error:
        found += error.faults
    try:
        tls_context(config)
    except ConfigError as error:
        found += error.faults
    return found


def refuse_unsafe(config: ServerConfig, token: Secret | None, insecure: bool) -> None:
    """Raises ConfigError where others could reach the server without a token, or without TLS and ``insecure``."""
    if not config.is_loopback:
        if token is None:
            raise ConfigError("server.listen: an address that others can reach needs token_file")
        if config.tls is None and not insecure:
            raise ConfigError(
                "server.listen: an address that others can reach needs tls, else anybody on the way reads the "
                "token and the pictures; --insecure serves it all the same, for instance behind a proxy that speaks TLS"
            )


def warn_of_token(config: ServerConfig, token: Secret | None) -> None:
    """Say what is weak about the token."""
    if token is not None and len(token.reveal()) < SHORT_TOKEN:
        log.warning("server.token_file: the token is short and can be guessed; make one with: openssl rand -base64 24")
    if token is not None and config.token_file is not None:
        with suppress(OSError):
            if os.stat(config.token_file).st_mode & 0o007:
                log.warning("server.token_file: every user of this machine may use this file; remedy: chmod 600")


def tls_context(config: ServerConfig) -> ssl.SSLContext | None:
    """Certificate and key, or None where HTTP is to be served; raises ConfigError where they cannot be used."""
    if config.tls is None:
        return None
    for key, path in (("cert_file", config.tls.cert_file), ("key_file", config.tls.key_file)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"server.tls.{key}: {path} cannot be read: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key would make OpenSSL ask for its passphrase on the terminal.
        context.load_cert_chain(config.tls.cert_file, config.tls.key_file, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or "it is not a PEM file"
        raise ConfigError(
            f"server.tls: certificate and key cannot be used ({reason}); expected a PEM certificate and its PEM key, "
            "not encrypted"
        ) from None
    return context
