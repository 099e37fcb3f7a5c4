# SPDX-License-Identifier: Apache-2.0
"""CONFIG.md, made from the same models that read the file: ``python -m pipeline.config.reference > CONFIG.md``."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.config import Config
from pipeline.config.detection import BatchConfig, InputSpecConfig, ModelConfig, SwapConfig
from pipeline.config.outputs import SINK_TYPES, ServerConfig, TlsConfig
from pipeline.config.rotation import RotateConfig, VideoRotateConfig
from pipeline.config.streams import StreamConfig, StreamSettings
from pipeline.config.telemetry import TelemetryConfig
from pipeline.config.values import SCHEMES, Section

_INTRODUCTION = f"""\
# streams.yaml: every key

This page is made from the program (`python -m pipeline.config.reference > CONFIG.md`); a test keeps it true. `pipeline
schema` prints the same as a JSON Schema for editors, `pipeline check --offline streams.yaml` checks a file.

- Relative paths, of sources as well as of results, start at the folder of the YAML file.
- `${{VARIABLE}}` is read from the environment in `source`, `username`, `password`, `password_file`, `token_file`,
  `cert_file` and `key_file`, and nowhere else; one that is unset or empty is a fault. `$${{` stands for a plain `${{`.
- Passwords are best kept out of the file: `password_env` names an environment variable, `password_file` a file (with
  systemd, `LoadCredential=` and `"${{CREDENTIALS_DIRECTORY}}/name"`). A stream's own password, of any of the three
  kinds or in its URL, comes before an inherited one, and files inherit none.
- Sources are paths and URLs of these kinds: {", ".join(f"`{scheme}:`" for scheme in SCHEMES)}.
- Unknown keys, keys given twice, keys that are not text, aliases, anchors, merge keys, tags, several documents and
  files over 1 MiB are refused. Numbers are plain decimals; text that looks like a number or a truth value needs quotes.
- All faults are told at once, by line and column. A faulty entry of `streams` is left out and the others run; any other
  fault stops the program before it starts.
"""


def markdown() -> str:
    """The whole page, newline last."""
    own = tuple(name for name in StreamConfig.model_fields if name not in StreamSettings.model_fields)
    parts = [
        _INTRODUCTION,
        *_table("The file", Config, "Keys at the top of the file."),
        *_table("`model`", ModelConfig),
        *_table("`input_spec` of the model", InputSpecConfig, level=3),
        *_table("`swap` of the model", SwapConfig, level=3),
        *_table("`batch`", BatchConfig),
        *_table("`streams`", StreamConfig, "A list. Each entry also takes every key of `defaults`.", own),
        *_table("`defaults`", StreamSettings, "What every stream inherits unless it says otherwise."),
        "\n## `sinks`\n\nA list. `type` decides which other keys there are.",
    ]
    for name, sink in SINK_TYPES.items():
        parts += _table(
            f"`type: {name}`", sink, names=tuple(key for key in sink.model_fields if key != "type"), level=3
        )
    parts += _table("`rotate` of a jsonl or csv sink", RotateConfig, level=3)
    parts += _table("`rotate` of a video sink", VideoRotateConfig, level=3)
    parts += _table("`server`", ServerConfig)
    parts += _table("`tls` of the server", TlsConfig, level=3)
    parts += _table("`telemetry`", TelemetryConfig)
    return "\n".join(parts) + "\n"


def _table(
    title: str, section: type[Section], text: str | None = None, names: tuple[str, ...] | None = None, level: int = 2
) -> Iterator[str]:
    yield f"\n{'#' * level} {title}\n"
    yield f"{text or inspect.getdoc(section)}\n"
    yield "| key | value | unset | meaning |"
    yield "|---|---|---|---|"
    for name in names or section.model_fields:
        field = section.model_fields[name]
        cells = (f"`{name}`", _value(name, section, field), _default(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        rotates = isinstance(default, (RotateConfig, VideoRotateConfig))
        changed = default.model_dump(mode="json", exclude_none=True) if rotates else {}
        return "`{" + ", ".join(f"{key}: {value:g}" for key, value in changed.items()) + "}`" if changed else ""
    if default is None or default == ():
        return ""
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _value(name: str, section: type[Section], field: FieldInfo) -> str:
    """The kind of value, from the JSON Schema of the field."""
    schema = section.model_json_schema()
    return _kind(schema["properties"][name], schema.get("$defs", {}))


def _kind(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema or "oneOf" in schema:
        return "mapping"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const']) if not isinstance(schema['const'], str) else schema['const']}`"
    if "anyOf" in schema:
        kinds = [_kind(each, definitions) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])} numbers"
        count = (
            f"{schema['minItems']} "
            if schema.get("minItems") == schema.get("maxItems") and "minItems" in schema
            else ""
        )
        return f"list of {count}{_plural(_kind(schema['items'], definitions))}"
    if kind in ("integer", "number"):
        return ("whole number" if kind == "integer" else "number") + _range(schema)
    return {"string": "text", "boolean": "`true` or `false`", "object": "mapping"}[str(kind)]


def _plural(kind: str) -> str:
    return re.sub("mapping|text|number", r"\g<0>s", kind)


def _range(schema: dict[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high = schema.get("maximum")
    words = f" from {low:g}" if low is not None else f" above {above:g}" if above is not None else ""
    return words + (f" to {_plain(high)}" if high is not None else "")


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


if __name__ == "__main__":
    print(markdown(), end="")
