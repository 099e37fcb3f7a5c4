# SPDX-License-Identifier: Apache-2.0
"""The kinds of value that configuration keys take, each with a message that repeats nothing that could be secret."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictFloat,
    StrictStr,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from pipeline.config.wording import did_you_mean, kind_of, nearest, one_of
from pipeline.redact import Secret, SourceUrl

SCHEMES: Final = ("rtsp", "rtsps", "http", "https", "file", "v4l2", "pattern")
"""Sources of these kinds may be opened; a text without a scheme is a path."""

CREDENTIAL_SCHEMES: Final = ("rtsp", "rtsps", "http", "https")
"""Sources of these kinds can be given a user name and a password."""

BUILTIN_MODELS: Final = ("people",)
NAME_PATTERN: Final = "^[A-Za-z0-9_-]{1,64}$"
_DEVICE_PATTERN: Final = r"^(auto|cpu|cuda(:[0-9]{1,2})?)$"
_HWACCELS: Final = ("cuda", "vaapi", "vdpau", "qsv", "drm", "vulkan", "videotoolbox")
_HWACCEL_PATTERN: Final = rf"^(none|auto|({'|'.join(_HWACCELS)})(:[A-Za-z0-9/_.-]{{1,100}})?)$"
_PERCENTILE: Final = "p[5-9][0-9]"
_DIGEST_PATTERN: Final = "^[0-9a-fA-F]{64}$"


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, and no value in an error message."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


def refusal(message: str, key: str | None = None) -> PydanticCustomError:
    """An error with exactly this message, at ``key`` of the section that is being checked."""
    return PydanticCustomError("refused", "{message}", {"message": message, "key": key})


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise refusal("a name is 1 to 64 of the characters A-Z a-z 0-9 _ -, without spaces")
    return text


def _kind(text: str) -> str:
    """Of ``cuda:1``, and of ``cuda1``, which it may not be written: ``cuda``."""
    return text.partition(":")[0].rstrip("0123456789")


def _device(text: str) -> str:
    if not re.fullmatch(_DEVICE_PATTERN, text):
        hint = did_you_mean(_kind(text), ("auto", "cpu", "cuda"))
        raise refusal(f"expected auto, cpu, cuda, or cuda:0 for a certain one{hint}")
    return text


def _hwaccel(text: str) -> str:
    if not re.fullmatch(_HWACCEL_PATTERN, text):
        hint = did_you_mean(_kind(text), ("none", "auto", *_HWACCELS))
        raise refusal(
            f"expected none, auto, or a kind of device such as cuda, cuda:1 or vaapi:/dev/dri/renderD128{hint}"
        )
    if text.startswith("cuda:") and not text[5:].isdecimal():
        raise refusal("cuda's devices are numbered: cuda:0, cuda:1")
    return text


def _digest(text: str) -> str:
    digest = text.removeprefix("sha256:").lower()
    if not re.fullmatch(_DIGEST_PATTERN, digest):
        raise refusal("expected 64 hexadecimal digits, as sha256sum prints them")
    return digest


def local_path(text: str, info: ValidationInfo) -> str:
    """A path; a relative one starts at the folder of the YAML file, where there is one."""
    if not text:
        raise refusal("expected a path, found an empty text")
    if text.startswith("~"):
        raise refusal("~ is not expanded; write the folder out")
    folder: Path | None = (info.context or {}).get("folder")
    # normpath, as joined paths are shown to people; it leaves symbolic links alone but for "link/..".
    return text if folder is None or os.path.isabs(text) else os.path.normpath(folder / text)


def _model_path(text: str, info: ValidationInfo) -> str:
    if not text.startswith("builtin:"):
        return local_path(text, info)
    name = text.removeprefix("builtin:")
    if name not in BUILTIN_MODELS:
        near = nearest(name, BUILTIN_MODELS)
        known = one_of(f"builtin:{name}" for name in BUILTIN_MODELS)
        remedy = f"did you mean 'builtin:{near}'?" if near else f"there is {known}"
        raise refusal(f"no built-in model has this name; {remedy}")
    return text


def _source(value: Any, info: ValidationInfo) -> SourceUrl:
    if isinstance(value, SourceUrl):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        raise refusal("expected text, found a number; a webcam is written v4l2:/dev/video0")
    if not isinstance(value, str):
        raise refusal(f"expected a URL or a path, found {kind_of(value)}")
    try:
        url = SourceUrl.parse(value)
    except ValueError as error:
        raise refusal(str(error)) from None
    if url.scheme not in SCHEMES:
        allowed = ", ".join(f"{scheme}:" for scheme in SCHEMES)
        raise refusal(
            f"sources of this kind are not allowed; expected a path or one of {allowed} "
            f"(a file name with a colon begins with ./){did_you_mean(url.scheme, SCHEMES)}"
        )
    if not url.is_file:
        return url
    path = local_path(url.reveal(), info)
    return SourceUrl(f"v4l2:{path}" if re.fullmatch(r"/dev/video[0-9]+", path) else path)


def _secret(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        remedy = "; put it in quotes" if isinstance(value, (int, float)) else ""
        raise refusal(f"expected text, found {kind_of(value)}{remedy}")
    if not value:
        raise refusal("the password is empty; leave the key out where there is none")
    return Secret(value)


def _input_size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    size = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(size, (tuple, list))
        or len(size) != 2
        or not all(isinstance(side, int) and not isinstance(side, bool) and 32 <= side <= 8192 for side in size)
    ):
        raise refusal("expected [height, width] in pixels, or one whole number for both, from 32 to 8192")
    return (size[0], size[1])


def _scale(value: Any) -> float | str | None:
    if value is None or value == "1/255":
        return value  # type: ignore[no-any-return]
    if not _is_number(value) or value <= 0:
        raise refusal("expected 1/255, or a number above 0: the network's value per grey level")
    return float(value)


def _channels(value: Any) -> tuple[float, float, float] | None:
    if value is None:
        return None
    numbers = value if isinstance(value, (tuple, list)) else (value,) * 3
    if len(numbers) != 3 or not all(_is_number(number) for number in numbers):
        raise refusal("expected three numbers, one per channel, or one number for all of them")
    return (float(numbers[0]), float(numbers[1]), float(numbers[2]))


def _deviations(value: Any) -> tuple[float, float, float] | None:
    numbers = _channels(value)
    if numbers is not None and min(numbers) <= 0:
        raise refusal("expected numbers above 0")
    return numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _options(value: Any) -> dict[str, Any] | None:
    """A flat mapping of text to text, numbers, truth values, and lists of those."""
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) and key.isidentifier() for key in value):
        raise refusal("expected a mapping of option names to values")
    for key, each in value.items():
        values = each if isinstance(each, (tuple, list)) else (each,)
        if not all(isinstance(one, (str, bool)) or _is_number(one) for one in values):
            raise refusal(f"{key}: expected text, a number, true, false, or a list of these")
    return value


def _number_or_auto(value: Any) -> int | str:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 256):
        return value  # type: ignore[no-any-return]
    raise refusal("expected auto, or a whole number from 1 to 256")


def _playout_ms(value: Any) -> float | str:
    if isinstance(value, str) and (value == "auto" or re.fullmatch(_PERCENTILE, value)):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 10_000:
        return float(value)
    raise refusal("expected auto, p50 to p99, or a number of milliseconds from 1 to 10000")


def _class_wanted(value: Any) -> str | int:
    if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise refusal(f"expected a class name or a class id from 0, found {kind_of(value)}")


def _region(values: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = values
    if min(x, y) < 0 or min(width, height) <= 0:
        raise refusal("expected x and y from 0, and a width and a height above 0")
    # The slack forgives 0.1 + 0.9 in binary.
    if max(values) <= 1 and max(x + width, y + height) > 1 + 1e-6:
        raise refusal("these are fractions of the picture (none is over 1), but x + width or y + height is over 1")
    return values


Name = Annotated[StrictStr, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
Device = Annotated[StrictStr, AfterValidator(_device), Field(json_schema_extra={"pattern": _DEVICE_PATTERN})]
Hwaccel = Annotated[StrictStr, AfterValidator(_hwaccel), Field(json_schema_extra={"pattern": _HWACCEL_PATTERN})]
Digest = Annotated[StrictStr, AfterValidator(_digest)]
LocalPath = Annotated[StrictStr, AfterValidator(local_path)]
ModelPath = Annotated[StrictStr, AfterValidator(_model_path)]
ClassWanted = Annotated[
    str | int,
    PlainValidator(_class_wanted),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}]}),
]
Region = Annotated[tuple[StrictFloat, StrictFloat, StrictFloat, StrictFloat], AfterValidator(_region)]
Source = Annotated[
    SourceUrl,
    PlainValidator(_source),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
Password = Annotated[
    Secret,
    PlainValidator(_secret),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 1, "writeOnly": True}),
]
_SIDE = {"type": "integer", "minimum": 32, "maximum": 8192}
InputSize = Annotated[
    tuple[int, int] | None,
    PlainValidator(_input_size),
    WithJsonSchema(
        {"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}, {"type": "null"}]}
    ),
]
_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
Scale = Annotated[
    float | str | None,
    PlainValidator(_scale),
    WithJsonSchema({"anyOf": [{"const": "1/255"}, {"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}),
]
Channels = Annotated[
    tuple[float, float, float] | None,
    PlainValidator(_channels),
    WithJsonSchema({"anyOf": [{"type": "number"}, _NUMBERS, {"type": "null"}]}),
]
Deviations = Annotated[
    tuple[float, float, float] | None,
    PlainValidator(_deviations),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _NUMBERS, {"type": "null"}]}),
]
AdapterOptions = Annotated[
    dict[str, Any] | None,
    PlainValidator(_options),
    WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "null"}]}),
]
PlayoutMs = Annotated[
    float | str,
    PlainValidator(_playout_ms),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "auto"},
                {"type": "string", "pattern": f"^{_PERCENTILE}$"},
                {"type": "number", "minimum": 1, "maximum": 10_000},
            ]
        }
    ),
]
NumberOrAuto = Annotated[
    int | str,
    PlainValidator(_number_or_auto),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}]}),
]
