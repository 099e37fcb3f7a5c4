# SPDX-License-Identifier: Apache-2.0
"""Secrets in URLs: one type that shows them to nobody, and one scrubber for texts made elsewhere.

Two lines of defence. :class:`SourceUrl` and :class:`Secret` hold what is secret and have a harmless text form, so that
this program never writes a secret by itself. :func:`scrub` is for texts that others made (libav puts whole URLs into
its error messages): it removes every secret that was ever registered, however it is encoded, and whatever looks like
credentials although nobody registered it. When in doubt it removes too much.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import re
import threading
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import quote, unquote

MASK = "***"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_NETWORK_SCHEMES = "rtsps?|https?|rtmps?|rtp|udp|tcp|srt|ftps?|wss?|mqtts?|amqps?|rediss?"
_SECRET_KEYS = (
    r"(?:[\w.-]{0,40}(?:pass|passwd|password|passphrase|passcode|pwd|psw|secret|token|api_?key|access_?key|auth"
    r"|authorization|credentials?|signature|sig|session(?:_?id)?|psk)|pw)"
)
_KEYS = rf"(?:{_SECRET_KEYS}|key|user|usr|user_?name|login|account)"
_QUOTE_ENDS = r"'(?:$|[\s:;,)\]}])"
# name=value in a query, where only "&" ends a value, or in the path, as some recorders have it
# (/user=..._password=..._channel=1).
_PAIR = re.compile(
    rf"(?i)([?&]{_KEYS}=)((?:(?!{_QUOTE_ENDS})[^&\s\"<>])+)"
    rf"|(?<![A-Za-z])({_KEYS}=)((?:(?!_[A-Za-z]+=|{_QUOTE_ENDS})[^&\s\"<>])+)"
)
_QUOTED_PAIR = re.compile(rf"(?i)(([\"']){_SECRET_KEYS}\2\s*:\s*)([\"'])(?:\\.|(?!\3).)*\3")
_HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization\s*[:=]\s*(?:(?:basic|bearer|digest|token)\s+)?)[^\s][^\r\n]*")
# A run of text after "//": ends at white space, at a double quote or angle bracket, and where the next URL begins.
_URL = re.compile(
    rf"(?i)((?:[a-z][a-z0-9+.-]{{0,20}}:)?//|\b(?:{_NETWORK_SCHEMES}):/?)"
    r"((?:(?!\b[a-z][a-z0-9+.-]{0,20}://)[^\s\"<>`])+)"
)
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}
_USER_KEY = re.compile(r"(?i)(?:user|usr|user_?name|login|account)=$")
_ENCODED_URL = re.compile(r"(?i)(%3A%2F%2F)(?:(?!%3A%2F%2F)[^\s\"<>&])*%40")


class Scrubber:
    """Knows secrets and removes them from texts. Threads may share one."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def register(self, secret: str) -> None:
        """Remember a text that must never be shown. Empty texts and mere asterisks are not secrets."""
        if not secret.strip("*"):
            return
        with self._lock:
            if secret not in self._secrets:
                self._secrets.add(secret)
                self._pattern = None

    def scrub(self, text: str) -> str:
        """``text`` without secrets; see :func:`scrub`."""
        pattern = self._known()
        if pattern is not None:
            text = pattern.sub(MASK, text)
        if "@" in text:
            text = _URL.sub(lambda match: match[1] + _without_user_info(match[2]), text)
        if "uthorization" in text or "UTHORIZATION" in text:
            text = _HEADER.sub(rf"\1{MASK}", text)
        if '"' in text or "'" in text:
            text = _QUOTED_PAIR.sub(rf"\1\3{MASK}\3", text)
        return _mask_pairs(text)

    def _known(self) -> re.Pattern[str] | None:
        with self._lock:
            if self._pattern is None and self._secrets:
                longest_first = sorted(self._secrets, key=lambda secret: (-len(secret), secret))
                self._pattern = re.compile("|".join(map(_any_rendering, longest_first)))
            return self._pattern


_SCRUBBER = Scrubber()


def register_secret(text: str) -> None:
    """Remember ``text`` as a secret of this process: :func:`scrub` removes it from now on.

    A secret of fewer than four characters is removed only where no letter or digit touches it; anything else would
    leave no log line readable.
    """
    _SCRUBBER.register(text)


def scrub(text: str) -> str:
    """``text`` with every registered secret replaced by ``***`` and without whatever else looks like credentials.

    A registered secret is found raw, percent-encoded wholly or in part (once or several times), and escaped as in JSON,
    in a Python literal and in HTML. Beyond that go: the user info of anything that looks like a URL, the values of
    ``password=``, ``user=``, ``token=`` and the like, and the value of an ``Authorization`` header.
    """
    return _SCRUBBER.scrub(text)


def _mask_pairs(text: str) -> str:
    if "%40" in text:
        text = _ENCODED_URL.sub(r"\1", text)
    return _PAIR.sub(rf"\1\3{MASK}", text) if "=" in text else text


def _any_rendering(secret: str) -> str:
    """A regular expression for ``secret`` in which each character may be written in any usual way."""
    pattern = "".join(map(_any_rendering_of_character, secret))
    return pattern if len(secret) >= 4 else rf"(?<![^\W_]){pattern}(?![^\W_])"


def _any_rendering_of_character(character: str) -> str:
    octets = character.encode("utf-8", "surrogatepass")
    percent = "".join(f"%(?:25)*{octet:02x}" for octet in octets)
    literals = {
        character,
        json.dumps(character)[1:-1],
        repr(character)[1:-1],
        ascii(character)[1:-1],
        _HTML.get(character, character),
        "\\" + character if character in "\"'/" else character,
        "+" if character == " " else character,
    }
    forms = [re.escape(literal) for literal in sorted(literals, key=len, reverse=True)]
    return f"(?:{'|'.join(forms)}|(?i:{percent}))"


def _without_user_info(rest: str) -> str:
    """What follows the ``//`` of a URL, without its user info.

    A raw ``/``, ``?`` or ``#`` inside a password ends the authority early, as RFC 3986 section 3.2 reads it. So where
    an ``@`` follows later and the host cannot be told from half a password, everything before the last ``@`` goes.
    """
    authority, tail = _split_authority(rest)
    _, at, host = authority.rpartition("@")
    if "@" in tail and (at or ":" in host) and not _is_address(host):
        return rest.rpartition("@")[2]
    return (host if at else authority) + tail


def _split_authority(rest: str) -> tuple[str, str]:
    end = next((index for index, character in enumerate(rest) if character in "/?#"), len(rest))
    return rest[:end], rest[end:]


def _split_port(host: str) -> tuple[str, str | None]:
    if host.startswith("["):
        name, bracket, port = host.partition("]")
        return name + bracket, port.removeprefix(":") if port else None
    name, colon, port = host.partition(":")
    return name, port if colon else None


def _is_address(host: str) -> bool:
    name, port = _split_port(host)
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return port is None or port.isdecimal()


class _Sealed:
    """An immutable holder of one text that neither ``repr``, ``str``, ``vars``, JSON nor ``asdict`` gives away."""

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """The true text, secrets included. Only for the call that needs it; never for a message."""
        return self._text

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Sealed) and other.reveal() == self.reveal()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.reveal()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[[str], _Sealed], tuple[str]]:
        return (type(self), (self.reveal(),))


class Secret(_Sealed):
    """A password or token. Its text form is ``***``; making one registers it with :func:`scrub`."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        super().__init__(text)
        register_secret(text)

    def __str__(self) -> str:
        return MASK


class SourceUrl(_Sealed):
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
        if not slashes:
            return text
        return head + slashes + _mask_pairs(_without_user_info(rest))

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
        authority, tail = _split_authority(rest)
        host = authority.rpartition("@")[2]
        return SourceUrl.parse(f"{head}//{quote(user, safe='')}:{quote(password, safe='')}@{host}{tail}")

    def _user_info(self) -> str | None:
        if self.is_file:
            return None
        user_info, at, _ = _split_authority(self.reveal().partition("//")[2])[0].rpartition("@")
        return user_info if at else None

    def _secrets(self) -> list[str]:
        """Everything in this URL that must not be shown, decoded; with the form that a Basic header gives it."""
        if self.is_file:
            return []
        pairs = [(match[1] or match[3], unquote(match[2] or match[4])) for match in _PAIR.finditer(self.reveal())]
        # Short values are too common elsewhere: they are masked where they stand, not everywhere.
        found = [value for key, value in pairs if len(value) >= 4 and not _USER_KEY.search(key)]
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
        host, path = _split_authority(rest[2:])
        if host.lower() not in ("", "localhost") or not path.startswith("/"):
            raise ValueError("a file URL names no host: write file:///folder/name or just the path")
        rest = path
    if not rest:
        raise ValueError("a file URL needs a path")
    return unquote(rest)


def _check_authority(text: str) -> None:
    """Refuse a network URL without a host, or whose port is none: mostly a password that was not percent-encoded."""
    head, _, rest = text.partition("//")
    if re.fullmatch(rf"(?i)(?:{_NETWORK_SCHEMES}):", head) is None:
        return
    authority, tail = _split_authority(rest)
    name, port = _split_port(authority.rpartition("@")[2])
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


class ScrubbingFilter(logging.Filter):
    """Scrubs log records, exception texts included. Put it on handlers: filters of a logger do not see its children's
    records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace every text of ``record`` by its scrubbed form; lets every record pass."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            message = f"{record.msg!r} with arguments that do not fit {record.args!r}"
        record.msg, record.args = scrub(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        # Without exc_info no later formatter can make the text anew from the exception itself.
        record.exc_info = None
        for name, value in list(vars(record).items()):
            if name != "msg":
                setattr(record, name, _scrubbed(value))
        return True


def _scrubbed(value: Any) -> Any:
    return scrub(value) if isinstance(value, str) else value
