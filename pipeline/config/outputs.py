# SPDX-License-Identifier: Apache-2.0
"""The sections that say where results go: ``sinks`` and ``server``."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictStr,
    ValidationInfo,
    model_validator,
)

from pipeline.config.rotation import RotateConfig, Rotation, VideoRotateConfig, VideoRotation, false_is_none
from pipeline.config.values import LocalPath, Section, local_path, refusal

_PLACEHOLDER = re.compile(r"\{[^}]*\}?")


def _template(text: str, info: ValidationInfo) -> str:
    if "${" in text:
        raise refusal("environment variables are not read here; write the path out")
    if any(found != "{stream}" for found in _PLACEHOLDER.findall(text)):
        raise refusal("the only placeholder is {stream}, the name of the stream")
    if text.endswith("/"):
        raise refusal("expected a file name at the end, not a folder")
    return local_path(text, info)


def _fixed_folder(text: str, info: ValidationInfo) -> str:
    if "{" in text:
        raise refusal("expected the path of one folder for all streams, without placeholders")
    return local_path(text, info)


def events_beside(results: str) -> str | None:
    """Where the events of a results file go: ``out/gate.events.jsonl`` beside ``out/gate.jsonl``.

    None beside what is not a file (a pipe, ``/dev/stdout``): nothing can be laid there.
    """
    if results.startswith("/dev/") or (os.path.exists(results) and not os.path.isfile(results)):
        return None
    return results.removesuffix(".jsonl") + ".events.jsonl"


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536):
        raise refusal("expected an address and a port, such as 127.0.0.1:8080 or [::1]:8080")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise refusal("an IPv6 address stands in brackets, such as [::1]:8080")
    return text


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", text):
        raise refusal("expected the name of a host, without scheme, port and path")
    return text.lower()


Template = Annotated[StrictStr, AfterValidator(_template)]
FolderPath = Annotated[StrictStr, AfterValidator(_fixed_folder)]
HostName = Annotated[StrictStr, AfterValidator(_host_name)]
Listen = Annotated[StrictStr, AfterValidator(_listen)]
Required = Annotated[
    StrictBool,
    Field(
        description="The run is worthless without it: the first result that it cannot keep ends the daemon, with exit "
        "code 1 for a supervisor. Else the loss is counted and it is tried again."
    ),
]


_ROTATE = "When to begin a new file, and how many are kept; `false`: one file that grows without bound."


class JsonlSinkConfig(Section):
    """One JSON object per processed frame and line."""

    type: Literal["jsonl"]
    path: Template = Field(
        description="File to append to, such as `out/{stream}.jsonl`. Without `{stream}` all streams share one file."
    )
    rotate: Rotation = Field(default_factory=RotateConfig, description=_ROTATE)
    fsync: Literal["never", "interval", "always"] = Field(
        default="interval",
        description="When lines are made safe against a power loss: left to the system, once a second, each.",
    )
    required: Required = False

    events: Annotated[
        Template | None, BeforeValidator(false_is_none, json_schema_input_type=Template | Literal[False] | None)
    ] = Field(
        default=None,
        description="File for events of streams: cameras that go and come back, stalls, other sizes and codecs. Unset: "
        "beside the results, such as `out/{stream}.events.jsonl`; `false`: none.",
    )

    @property
    def events_path(self) -> str | None:
        """Where events go; None for nowhere."""
        return self.events if "events" in self.model_fields_set else events_beside(self.path)


class CsvSinkConfig(Section):
    """One line per detection."""

    type: Literal["csv"]
    path: Template = Field(description="File per stream, such as `out/{stream}.csv`.")
    rotate: Rotation = Field(default_factory=RotateConfig, description=_ROTATE)
    required: Required = False


class MotSinkConfig(Section):
    """MOTChallenge text, one line per detection.

    A format for recordings: with a live camera it grows without bound."""

    type: Literal["mot"]
    path: Template = Field(description="File per stream, such as `out/{stream}.mot.txt`.")
    required: Required = False


class CocoSinkConfig(Section):
    """COCO results of all streams together, written when the run ends; a later run writes `coco.2.json` and so on.

    A format for recordings: with a live camera it grows without bound."""

    type: Literal["coco"]
    path: FolderPath = Field(description="Folder for `coco.json` and `coco_images.json`.")
    required: Required = False


class VideoSinkConfig(Section):
    """H.264 video with the boxes drawn, in segments. Each plays by itself, and has when it began (UTC) and a number in
    its name: `out/gate.2026-11-28T13-03-56Z.17.mp4`. Nothing but such files is ever removed."""

    type: Literal["video"]
    path: Template = Field(description="File per stream, such as `out/{stream}.mp4`.")
    rotate: VideoRotation = Field(
        default_factory=VideoRotateConfig,
        description="How long segments are, and how many are kept; `false`: one file per start, which grows without "
        "bound, `<file>.2.mp4` and so on after the first; none is removed.",
    )
    required: Required = False


SinkConfig = Annotated[
    JsonlSinkConfig | CsvSinkConfig | MotSinkConfig | CocoSinkConfig | VideoSinkConfig, Field(discriminator="type")
]
SINK_TYPES: dict[str, type[Section]] = {
    "jsonl": JsonlSinkConfig,
    "csv": CsvSinkConfig,
    "mot": MotSinkConfig,
    "coco": CocoSinkConfig,
    "video": VideoSinkConfig,
}


class TlsConfig(Section):
    """Certificate and key of the server, PEM."""

    cert_file: LocalPath = Field(description="Certificate chain, PEM. `${CREDENTIALS_DIRECTORY}/name` works.")
    key_file: LocalPath = Field(description="Private key, PEM, not encrypted. `${CREDENTIALS_DIRECTORY}/name` works.")


class ServerConfig(Section):
    """The HTTP server: dashboard, API and metrics. Without this section nothing is served."""

    listen: Listen = Field(
        default="127.0.0.1:8080",
        description="Address and port; port 0 takes a free one. Any but a loopback address needs `token_file`, and "
        "`tls` or `pipeline run --insecure`.",
    )
    token_file: LocalPath | None = Field(
        default=None,
        description="File whose only line is the token that clients must send. `${CREDENTIALS_DIRECTORY}/name` works.",
    )
    tls: TlsConfig | None = Field(default=None, description="Serve HTTPS with this certificate.")
    hosts: tuple[HostName, ...] = Field(
        default=(),
        description="Names under which it is reached, such as `cameras.example.org`, beside its address and "
        "`localhost`. Requests for any other name are refused.",
    )

    @property
    def host(self) -> str:
        """The address without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _needs_a_token(self) -> Self:
        if not self.is_loopback and self.token_file is None:
            raise refusal("an address that others can reach needs token_file", "listen")
        return self


def sink_clash(sinks: Sequence[Section], streams: int) -> tuple[int, str] | None:
    """The first sink that would write into a file of another, mix streams in one file, or take the segments of another
    for its own: (position, why), or None.

    Args:
        sinks: the sinks.
        streams: how many streams write to them.
    """
    taken: dict[str, int] = {}
    for index, sink in enumerate(sinks):
        path: str = getattr(sink, "path", "")
        for each in filter(None, (path, getattr(sink, "events_path", None))):
            if taken.setdefault(each, index) != index:
                return index, f"sinks[{taken[each]}] writes to the same path"
        if streams > 1 and isinstance(sink, (CsvSinkConfig, MotSinkConfig, VideoSinkConfig)) and "{stream}" not in path:
            return index, f"{streams} streams cannot share one file of this kind; write {{stream}} into the file name"
    films = [(index, sink) for index, sink in enumerate(sinks) if isinstance(sink, VideoSinkConfig)]
    for (one, first), (other, second) in itertools.combinations(films, 2):
        if (_has_total(first) or _has_total(second)) and _may_share_a_folder(first.path, second.path):
            return (
                other,
                f"max_total_gb needs a folder of its own, and sinks[{one}] may write into the same one",
            )
    return None


def _has_total(sink: VideoSinkConfig) -> bool:
    return sink.rotate is not None and sink.rotate.max_total_gb is not None


def _may_share_a_folder(one: str, other: str) -> bool:
    """Whether some streams' names make one folder of the two."""
    parts, others = (os.path.dirname(os.path.abspath(path)).split(os.sep) for path in (one, other))
    return len(parts) == len(others) and all(a == b or "{stream}" in a + b for a, b in zip(parts, others, strict=True))
