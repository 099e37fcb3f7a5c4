# SPDX-License-Identifier: Apache-2.0
"""The sections `defaults` and `streams`: cameras and files, and what they inherit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from pipeline.config.values import (
    CREDENTIAL_SCHEMES,
    Hwaccel,
    LocalPath,
    Name,
    Password,
    PlayoutMs,
    Region,
    Section,
    Source,
    refusal,
)
from pipeline.redact import SourceUrl

Policy = Literal["freshest", "every_frame"]
Codec = Literal["h264", "hevc", "mjpeg", "mpeg4", "mpeg2video", "vp8", "vp9", "av1", "rawvideo"]
PASSWORD_KEYS = ("password", "password_env", "password_file")
_SHARES = {"low": 1, "normal": 4, "high": 16}


class StreamSettings(Section):
    """What every stream can set, and what ``defaults`` sets for all of them."""

    username: StrictStr | None = Field(
        default=None, min_length=1, description="User name for the camera. May hold `${VARIABLE}`."
    )
    password: Password | None = Field(
        default=None, description="Password for the camera, best as `${VARIABLE}`; better: one of the next two keys."
    )
    password_env: StrictStr | None = Field(
        default=None, min_length=1, description="Name of the environment variable that holds the password."
    )
    password_file: LocalPath | None = Field(
        default=None, description="File whose only line is the password; `${CREDENTIALS_DIRECTORY}/name` for systemd's."
    )
    loop: StrictBool = Field(default=False, description="Files: begin again at the end, for ever.")
    pace: Literal["asap", "realtime"] = Field(
        default="asap", description="Files: as fast as they can be processed, or at the speed of their time stamps."
    )
    fps: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        strict=True,
        description="Most frames per second to process; more are left out. Unset: all.",
    )
    stride: StrictInt = Field(
        default=1, ge=1, le=100_000, description="Process each n-th frame only; `fps` thins what is left."
    )
    policy: Policy | None = Field(
        default=None,
        description="When frames come faster than they are processed: `freshest` drops the oldest, `every_frame` holds "
        "the source back. Unset: `every_frame` for files, `freshest` for everything else.",
    )
    weight: StrictInt = Field(
        default=1, ge=1, le=100, description="Share of this stream when the detector cannot serve all."
    )
    priority: Literal["low", "normal", "high"] = Field(
        default="normal",
        description="The same in words: `high` has four times the share of `normal`, `normal` four times that of "
        "`low`, each times `weight`. No stream starves.",
    )
    latency_budget_ms: float | None = Field(
        default=None,
        gt=0,
        le=600_000,
        strict=True,
        description="A result should be there so many milliseconds after its frame arrived: a frame waits for those of "
        "other streams only as far as that allows, and one that takes longer is late, and says why. Unset: by measured "
        "rates and service times; late is what takes longer than 99 of 100.",
    )
    playout_delay_ms: PlayoutMs | None = Field(
        default=None,
        description="Results leave as evenly as the camera made its frames: each is held until so many milliseconds "
        "after its frame's place on the stream's own time line. One that is ready later leaves at once and is counted "
        "(`playout` in the report). `p90`: as long as 90 of the last 100 results needed (`p50` to `p99`), "
        "up to a second or `latency_budget_ms`; `auto`: `p99`. "
        "Says nothing to files with `pace: asap`. Unset: each leaves once it is ready.",
    )
    max_staleness_ms: float | None = Field(
        default=None,
        gt=0,
        le=600_000,
        strict=True,
        description="A frame that would not be done so many milliseconds after it arrived, by the time that batches "
        "took lately, is dropped (`stale`) before the detector sees it. A result is older where its batch takes "
        "longer. Says nothing to `policy: every_frame`. Unset: none is dropped for its age.",
    )
    region: Region | None = Field(
        default=None,
        description="Part of the picture that is looked at, `[x, y, width, height]`: fractions of the picture when "
        "none is over 1, else pixels. Unset: all of it.",
    )
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="RTSP: how the media travel.")
    parser: Literal["auto", "libav"] = Field(
        default="auto",
        description="RTSP with H.264 or H.265: `auto` shows a picture with its last packet, once the camera's habits "
        "are known; `libav` waits until the next picture begins, one frame interval later.",
    )
    low_delay: StrictBool = Field(
        default=False,
        description="Cameras: nothing is waited for that may be missing. Over UDP packets are not put back in order, "
        "so a lost one holds nothing up; the decoder is asked not to hold frames back. For cameras without B-frames.",
    )
    codecs: tuple[Codec, ...] | None = Field(
        default=None,
        min_length=1,
        description="Codecs that may be decoded; others are refused before the first frame. Unset: for cameras `h264`, "
        "`hevc`, `mjpeg`, `mpeg4`, `vp8`, `vp9`, so AV1 over a network has to be named; for webcams `rawvideo`, "
        "`mjpeg`, `h264`; for files all of them.",
    )
    isolation: Literal["thread", "process"] = Field(
        default="thread",
        description="`process`: a camera is met and decoded in a process of its own, which has little memory and no "
        "passwords of others; should it crash, only this stream begins anew. Linux; decodes on the CPU. Recordings are "
        "read in the daemon.",
    )
    isolation_memory_mb: StrictInt = Field(
        default=1024,
        ge=320,
        le=65536,
        description="Address space of such a process, in MiB; 200 of it are its programs.",
    )
    open_timeout_s: float = Field(
        default=5.0, gt=0, le=300, strict=True, description="Longest wait for a connection, in seconds."
    )
    read_timeout_s: float = Field(
        default=5.0, gt=0, le=300, strict=True, description="Longest silence while reading, in seconds."
    )
    skip: Literal["auto", "none", "nonref", "nonkey"] = Field(
        default="none",
        description="What the decoder may leave out: nothing (`none`), the frames that no other needs (`nonref`), all "
        "but key frames (`nonkey`), or whichever of these `fps` can spare, from what the stream is seen to do (`auto`; "
        "nothing with a `stride`, and in `replay`). `frame` in the results counts every frame of the source only while "
        "nothing is left out.",
    )
    hwaccel: Hwaccel = Field(
        default="none",
        description="What decodes: the CPU (`none`), a kind of hardware by libav's name, such as `cuda` or `cuda:1` "
        "(NVDEC) or `vaapi`, or the first kind that is to be had (`auto`). Where it is not to be had, or cannot decode "
        "the stream, the CPU does; reports and API say what it was. What kinds there are depends on the build of PyAV.",
    )
    max_pixels: StrictInt = Field(
        default=7680 * 4320, ge=1, le=1 << 30, description="Largest picture (width x height) that is decoded."
    )
    corrupt: Literal["keep", "drop"] = Field(
        default="keep", description="Frames that the decoder calls damaged; counted either way."
    )

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        given = [key for key in PASSWORD_KEYS if getattr(self, key) is not None]
        if len(given) > 1:
            raise refusal(f"'{given[0]}' is given as well; keep one of them", given[1])
        return self

    @model_validator(mode="after")
    def _budget_is_more_than_the_delay(self) -> Self:
        budget_ms, delay_ms = self.latency_budget_ms, self.playout_delay_ms
        if budget_ms is not None and isinstance(delay_ms, float) and budget_ms < delay_ms:
            text = f"results are held for {delay_ms:g} ms, so a latency_budget_ms of {budget_ms:g} cannot be kept"
            raise refusal(text, "playout_delay_ms")
        return self

    @property
    def share(self) -> int:
        """``weight`` and ``priority`` together."""
        return self.weight * _SHARES[self.priority]


class StreamConfig(StreamSettings):
    """One camera or file, ``defaults`` included."""

    name: Name = Field(description="Name in results, file names and metrics. Upper and lower case make no difference.")
    source: Source = Field(
        description="URL (`rtsp: rtsps: http: https: file:`), path of a file, webcam (`v4l2:/dev/video0`) or test "
        "pattern (`pattern:?size=640x360&fps=30`). May hold `${VARIABLE}`."
    )
    enabled: StrictBool = Field(default=True, description="`false` leaves the stream out without deleting it.")

    @property
    def effective_policy(self) -> Policy:
        """``policy``, or what fits the source where it is unset."""
        return self.policy or ("every_frame" if self.source.is_file else "freshest")

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        password_key = next((key for key in PASSWORD_KEYS if getattr(self, key) is not None), None)
        key = "username" if self.username is not None else password_key
        if key is None:
            return self
        if self.source.scheme not in CREDENTIAL_SCHEMES:
            raise refusal("a source of this kind takes no user name and no password", key)
        if self.username is not None and self.source.user_name is not None:
            raise refusal("the URL holds a user name as well; keep one of them", "username")
        if password_key is not None and self.source.has_password:
            raise refusal("the URL holds a password as well; keep one of them", password_key)
        if self.username is None and self.source.user_name is None:
            raise refusal("a password needs a username", password_key)
        return self


def inherit(defaults: Mapping[str, Any], stream: Mapping[str, Any]) -> dict[str, Any]:
    """A stream entry with what it does not set itself taken from ``defaults``; both as plain data.

    Credentials are inherited only by sources that take some, and a stream's own password of any kind, or one in its
    URL, comes before the shared one.
    """
    drop: set[str] = set()
    url = _url(stream.get("source"))
    if url is None or url.scheme not in CREDENTIAL_SCHEMES:
        drop.update(PASSWORD_KEYS, ["username"])
    else:
        if url.has_password or any(stream.get(key) is not None for key in PASSWORD_KEYS):
            drop.update(PASSWORD_KEYS)
        if url.user_name is not None:
            drop.add("username")
    return {key: value for key, value in defaults.items() if key not in drop} | dict(stream)


def _url(source: Any) -> SourceUrl | None:
    try:
        return SourceUrl.parse(source) if isinstance(source, str) else source if isinstance(source, SourceUrl) else None
    except ValueError:
        return None
