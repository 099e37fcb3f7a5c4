# SPDX-License-Identifier: Apache-2.0
"""Where a stream comes from, as a type that shows no secret."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote, unquote

from pipeline.redact.authority import split_authority, split_port, without_user_info
from pipeline.redact.patterns import NETWORK_SCHEMES, PAIR, USER_KEY, mask_pairs
from pipeline.redact.scrubbing import register_secret
from pipeline.redact.sealed import Sealed

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


class SourceUrl(Sealed):
    """Where a stream comes from: a URL or the path of a file. Its text form holds no secret.

    ``str(url)`` has no user info, and ``***`` for the values of secret queries (``?token=``). Two are equal when they
    are equal with their secrets. Make one with :meth:`parse`.
    """

    __slots__ = ()

    def __init__(self, text: str) -> None:
        super().__init__(text)
        for secret in self._secrets():
            register_secret(secret)

    def __str__(self) -> str:
        text = self.reveal()
        if self.is_file:
            return text
        head, slashes, rest = text.partition("//")
        if not slashes:  # a device, or a pattern: of a network parse() takes none like this
            return text
        return head + slashes + mask_pairs(without_user_info(rest))

    @classmethod
    def parse(cls, text: str) -> SourceUrl:
        """Take a URL or a path and register the secrets in it.

        ``file:`` URLs become plain paths. A text without a scheme is a path and passes through unchanged.

        Raises:
            ValueError: what is wrong, in words that repeat nothing of ``text``.
        """
        if not text or any(character < " " or character == "\x7f" for character in text):
            raise ValueError("a source is a URL or a path, without control characters, and not empty")
        url = cls(_file_path(text))
        if not url.is_file:
            _check_authority(text)
        return url

    @property
    def scheme(self) -> str:
        """The scheme in lower case; ``file`` for a path."""
        match = _SCHEME.match(self.reveal())
        return match[1].lower() if match else "file"

    @property
    def is_file(self) -> bool:
        """Whether this is a path in the file system."""
        return self.scheme == "file"

    @property
    def user_name(self) -> str | None:
        """The user name in the URL, decoded, or None."""
        user_info = self._user_info()
        return unquote(user_info.partition(":")[0]) if user_info is not None else None

    @property
    def has_password(self) -> bool:
        """Whether the user info holds a password."""
        return ":" in (self._user_info() or "")

    def with_credentials(self, user: str, password: str) -> SourceUrl:
        """The same URL with this user info, percent-encoded, in place of what was there.

        Raises:
            ValueError: a path, or a URL without an authority, has no place for credentials.
        """
        head, slashes, rest = self.reveal().partition("//")
        if self.is_file or not slashes:
            raise ValueError("only a URL such as rtsp://host/path can carry a user name and a password")
        authority, tail = split_authority(rest)
        host = authority.rpartition("@")[2]
        return SourceUrl.parse(f"{head}//{quote(user, safe='')}:{quote(password, safe='')}@{host}{tail}")

    def _user_info(self) -> str | None:
        if self.is_file:
            return None
        user_info, at, _ = split_authority(self.reveal().partition("//")[2])[0].rpartition("@")
        return user_info if at else None

    def _secrets(self) -> list[str]:
        """Everything in this URL that must not be shown, decoded; with the form that a Basic header gives it."""
        if self.is_file:
            return []
        pairs = [(match[1] or match[3], unquote(match[2] or match[4])) for match in PAIR.finditer(self.reveal())]
        # Short values are too common elsewhere: they are masked where they stand, not everywhere.
        found = [value for key, value in pairs if len(value) >= 4 and not USER_KEY.search(key)]
        user, colon, password = (self._user_info() or "").partition(":")
        if colon:
            pair = f"{unquote(user)}:{unquote(password)}".encode("utf-8", "surrogatepass")
            found += [unquote(password), base64.b64encode(pair).decode("ascii")]
        return found


def _file_path(text: str) -> str:
    """A path for a ``file:`` URL (RFC 8089: no host or ``localhost``), anything else unchanged."""
    if not text.lower().startswith("file:"):
        return text
    rest = text[len("file:") :]
    if rest.startswith("//"):
        host, path = split_authority(rest[2:])
        if host.lower() not in ("", "localhost") or not path.startswith("/"):
            raise ValueError("a file URL names no host: write file:///folder/name or just the path")
        rest = path
    if not rest:
        raise ValueError("a file URL needs a path")
    return unquote(rest)


def _check_authority(text: str) -> None:
    """Refuse a network URL without a host, or whose port is none: mostly a password that was not percent-encoded. And
    one without its ``//``, which libav would open all the same, user info and all."""
    if re.match(rf"(?i)(?:{NETWORK_SCHEMES}):(?!//)", text) is not None:
        raise ValueError("a network URL has // after its scheme, as in rtsp://host/path")
    head, _, rest = text.partition("//")
    if re.fullmatch(rf"(?i)(?:{NETWORK_SCHEMES}):", head) is None:
        return
    authority, tail = split_authority(rest)
    name, port = split_port(authority.rpartition("@")[2])
    if port is not None and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        if "@" in tail:
            raise ValueError(
                "the user info of the URL holds a character that must be percent-encoded there (such as / ? #); "
                "giving user name and password apart from the URL avoids that"
            )
        raise ValueError("the port of the URL is not a number from 1 to 65535")
    if not name:
        raise ValueError("the URL names no host")
    if any(character.isspace() for character in text):
        raise ValueError("a URL holds no spaces; write %20")
