# SPDX-License-Identifier: Apache-2.0
"""Where secrets come from: environment variables and files, read late and handed on only in redacting types."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pipeline.config.outputs import ServerConfig
from pipeline.config.streams import StreamConfig, StreamSettings
from pipeline.errors import ConfigError
from pipeline.redact import Secret, SourceUrl

EXPANDED_KEYS = frozenset({"source", "username", "password", "password_file", "token_file", "cert_file", "key_file"})
"""The keys in whose values ``${VARIABLE}`` is read. ``$${`` stands for a plain ``${``."""

_MAX_SECRET_BYTES = 4096
_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}?")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USUAL_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


class CredentialError(Exception):
    """A secret could not be had.

    Attributes:
        key: the key that names it.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def expand(text: str, key: str, environ: Mapping[str, str]) -> str:
    """``text`` with each ``${VARIABLE}`` replaced; raises CredentialError where one is unset or empty."""

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if not match[0].endswith("}") or not _VARIABLE_NAME.fullmatch(match[2]):
            raise CredentialError(key, "expected ${VARIABLE}; a plain ${ is written $${")
        found = environ.get(match[2])
        if not found:
            name = _shown(match[2]) if key != "password" else ""
            raise CredentialError(key, f"the environment variable{name} that is used here is not set")
        return found

    return _VARIABLE.sub(value, text)


def _shown(variable: str) -> str:
    """The name of a variable, after a space, where it looks like one: people do write the password itself here.

    In capitals, and with digits only beside an underscore: ``CAM1_PASSWORD``, but not ``HUNTER2``.
    """
    return f" {variable}" if _USUAL_NAME.fullmatch(variable) and ("_" in variable or variable.isalpha()) else ""


def read_password(settings: StreamSettings, environ: Mapping[str, str]) -> Secret | None:
    """The password that a stream is to use, or None; raises CredentialError."""
    if settings.password is not None:
        return settings.password
    if settings.password_env is not None:
        found = environ.get(settings.password_env)
        if not found:
            name = _shown(settings.password_env)
            raise CredentialError("password_env", f"the environment variable{name} that this key names is not set")
        return Secret(found)
    if settings.password_file is not None:
        return Secret(_first_line(settings.password_file, "password_file"))
    return None


def complete_source(stream: StreamConfig, environ: Mapping[str, str]) -> SourceUrl:
    """The stream's source with its credentials put in; raises CredentialError."""
    password = read_password(stream, environ)
    user = stream.username or stream.source.user_name
    if user is None or (password is None and stream.username is None):
        return stream.source
    return stream.source.with_credentials(user, password.reveal() if password is not None else "")


def resolve_source(stream: StreamConfig, environ: Mapping[str, str] | None = None) -> SourceUrl:
    """The stream's source with its credentials put in, read now: a changed password file counts at the next call.

    Args:
        stream: whose source.
        environ: environment variables; those of the process unless given.

    Raises:
        ConfigError: the password cannot be had.
    """
    try:
        return complete_source(stream, os.environ if environ is None else environ)
    except CredentialError as error:
        raise ConfigError(f"stream {stream.name}: {error.key}: {error}") from None


def read_token(server: ServerConfig) -> Secret | None:
    """The token that clients of the HTTP server must send, or None; raises ConfigError."""
    if server.token_file is None:
        return None
    try:
        return Secret(_first_line(server.token_file, "token_file"))
    except CredentialError as error:
        raise ConfigError(f"server.{error.key}: {error}") from None


def read_secret(path: str) -> Secret:
    """The only line of a file; raises CredentialError."""
    return Secret(_first_line(path, "file"))


def _first_line(path: str, key: str) -> str:
    # Without the path: people do write the password itself here.
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise CredentialError(key, f"the file named here cannot be read: {reason}") from None
    if len(data) > _MAX_SECRET_BYTES:
        raise CredentialError(key, f"expected one line, found more than {_MAX_SECRET_BYTES} bytes")
    try:
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CredentialError(key, "expected one line of text, found something that is not UTF-8") from None
    if not text or any(character < " " for character in text):
        raise CredentialError(key, "expected one line of text, found " + ("several" if text else "none"))
    return text
