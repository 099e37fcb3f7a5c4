# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema, the generated page CONFIG.md and the shipped streams.yaml agree with the reader."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Config, json_schema, load_config, load_config_quarantining, parse_config
from pipeline.config.reference import markdown
from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "streams.yaml"
SCHEMA = json_schema()


def misfits(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """What of ``value`` does not fit, by the rules of JSON Schema 2020-12 for the words that the schema uses."""
    known = {
        "$schema", "$defs", "$ref", "title", "description", "default", "writeOnly", "discriminator", "type",
        "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems",
        "enum", "const", "anyOf", "oneOf", "pattern", "minLength", "minimum", "maximum", "exclusiveMinimum",
    }  # fmt: skip
    assert not set(schema) - known, f"this check does not know {set(schema) - known}"
    if "$ref" in schema:
        return misfits(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], at)
    for word, enough in (("anyOf", lambda n: n >= 1), ("oneOf", lambda n: n == 1)):
        if word in schema and not enough(sum(not misfits(value, each, at) for each in schema[word])):
            return [f"{at}: not {word}"]
    kinds = {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, (int, float)) and not isinstance(value, bool),
        "null": value is None,
    }
    if "type" in schema and not kinds[schema["type"]]:
        return [f"{at}: not of type {schema['type']}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: not in enum")
    if "const" in schema and (value != schema["const"] or type(value) is not type(schema["const"])):
        found.append(f"{at}: not {schema['const']}")
    if kinds["number"]:
        low, high, above = (schema.get(word) for word in ("minimum", "maximum", "exclusiveMinimum"))
        if (
            (low is not None and value < low)
            or (high is not None and value > high)
            or (above is not None and value <= above)
        ):
            found.append(f"{at}: out of range")
    if kinds["string"] and (
        len(value) < schema.get("minLength", 0) or ("pattern" in schema and not re.search(schema["pattern"], value))
    ):
        found.append(f"{at}: too short or not of the pattern")
    if kinds["array"]:
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{at}: wrong length")
        prefix = schema.get("prefixItems", [])
        for index, item in enumerate(value):
            found += misfits(item, prefix[index] if index < len(prefix) else schema.get("items", {}), f"{at}[{index}]")
    if kinds["object"] and "properties" in schema:
        found += [f"{at}: {key} is missing" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            if key in schema["properties"]:
                found += misfits(item, schema["properties"][key], f"{at}.{key}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{at}: unknown key {key}")
    return found


def test_shipped_file_is_valid_and_says_what_the_first_run_needs() -> None:
    loaded = load_config_quarantining(SHIPPED, environ={})
    assert loaded.quarantined == ()
    assert loaded.warnings == ()
    assert misfits(yaml.safe_load(SHIPPED.read_text()), SCHEMA) == []
    for stream in loaded.config.streams:
        assert stream.source.reveal().startswith(str(ROOT / "sample_videos")), "runs without a camera"
        assert (stream.loop, stream.pace, stream.policy) == (True, "realtime", "freshest")
    assert sum(stream.fps or 99 for stream in loaded.config.streams) <= 10, "two cores hold ten pictures a second"
    assert loaded.config.sinks[0].path == str(ROOT / "out/{stream}.jsonl")


def uncommented() -> str:
    """The shipped file with every example in it switched on."""
    text = re.sub(r"(?m)^( *)# (?=(?: *- )?(?: *\{?[a-z_0-9]+: ))", r"\1", SHIPPED.read_text())
    return text.replace("0c4f...", "0c4f" * 16)


def test_every_commented_example_of_the_shipped_file_is_valid() -> None:
    environ = {"CAMERA_PASSWORD": "hunter2", "GATE_PASSWORD": "hunter3"}
    text = uncommented()
    loaded = parse_config(text.encode(), environ=environ)
    assert loaded.quarantined == ()
    assert misfits(yaml.safe_load(text), SCHEMA) == []
    assert [stream.name for stream in loaded.config.streams] == ["plaza", "lobby", "gate", "desk"]
    assert {sink.type for sink in loaded.config.sinks} == {"jsonl", "csv", "mot", "coco", "video"}
    assert loaded.config.telemetry is not None
    assert loaded.config.server is not None
    assert loaded.config.server.tls is not None


def test_the_shipped_file_shows_every_key() -> None:
    text = SHIPPED.read_text()
    names = set(SCHEMA["properties"])
    for definition in SCHEMA["$defs"].values():
        names |= set(definition["properties"])
    assert {name for name in names if not re.search(rf"\b{name}:", text)} <= {"password"}, "a password stays out of it"


def test_page_is_up_to_date() -> None:
    assert (ROOT / "CONFIG.md").read_text() == markdown(), "run: python -m pipeline.config.reference > CONFIG.md"


def test_every_key_is_described_and_numbers_about_time_say_their_unit() -> None:
    sections = [*SCHEMA["$defs"].values(), SCHEMA]
    for section in sections:
        for name, schema in section["properties"].items():
            if name != "type":
                assert len(schema.get("description", "")) > 10, name
            if schema.get("type") != "boolean" and re.search("timeout|wait|interval|delay", name):
                assert name.endswith(("_s", "_ms")), name


BAD = [
    ("{streams: [{name: a, source: b, sorce: c}]}", "unknown key sorce"),
    ("{streams: [{name: a}]}", "source is missing"),
    ("{streams: [{name: a b, source: c}]}", "pattern"),
    ("{streams: [{name: a, source: b, fps: 0}]}", "anyOf"),
    ("{streams: [{name: a, source: b, pace: fast}]}", "enum"),
    ("{streams: [{name: a, source: b, region: [1, 2]}]}", "anyOf"),
    ("{streams: [], model: {confidence: 2}}", "anyOf"),
    ("{streams: [], sinks: [{type: jsonl}]}", "anyOf"),
    ("{model: {}}", "streams is missing"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_schema_refuses(text: str, says: str) -> None:
    found = misfits(yaml.safe_load(text), SCHEMA)
    if says == "anyOf":
        assert any("not anyOf" in fault for fault in found)
    else:
        # Sections may be null, which hides what is wrong inside: look at the entry itself.
        entries = yaml.safe_load(text).get("streams", [])
        stream = SCHEMA["$defs"]["StreamConfig"]
        found += [fault for entry in entries for fault in misfits(entry, stream)]
        assert any(says in fault for fault in found), found


def test_schema_is_json_and_closed() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["additionalProperties"] is False
    assert all(section["additionalProperties"] is False for section in SCHEMA["$defs"].values())
    assert set(SCHEMA["properties"]) == set(Config.model_fields)


some_value = st.sampled_from(
    [None, True, False, 0, 1, 2, 5, 64, 1000, 0.5, -1, "auto", "a", "a.mp4", "rtsp://c/x", "cpu", "udp",
     "out/{stream}.x", "freshest", "realtime", "127.0.0.1:80", "ab" * 32, [], [1, 2],
     [32, 64], ["a"], [0, 0, 1, 1], {}, {"keep": 2}]
)  # fmt: skip


def section_of(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    properties = {key for name in names for key in SCHEMA["$defs"][name]["properties"]} - {"type"}
    return st.dictionaries(st.sampled_from(sorted(properties)), some_value, max_size=3)


files = st.fixed_dictionaries(
    {
        "streams": st.lists(
            section_of("StreamConfig").map(lambda keys: {"name": "a", "source": "a.mp4"} | keys), min_size=1, max_size=1
        )
    },
    optional={
        "model": section_of("ModelConfig"),
        "batch": section_of("BatchConfig"),
        "defaults": section_of("StreamSettings"),
        "sinks": st.lists(
            st.tuples(st.sampled_from(["jsonl", "csv", "mot", "coco", "video"]), section_of("JsonlSinkConfig")).map(
                lambda pair: {"type": pair[0], "path": "x"} | pair[1]
            ),
            max_size=1,
        ),
        "server": section_of("ServerConfig"),
        "telemetry": section_of("TelemetryConfig"),
    },
)


@settings(max_examples=200, deadline=None)
@given(files)
def test_whatever_the_reader_accepts_fits_the_schema(data: dict[str, Any]) -> None:
    try:
        loaded = parse_config(yaml.safe_dump(data).encode(), environ={}, credentials=False)
    except ConfigError:
        return
    if not loaded.quarantined:
        assert misfits(data, SCHEMA) == []


def test_reading_the_configuration_needs_no_heavy_library() -> None:
    code = (
        "import sys, time; begin = time.process_time(); import pipeline.config; used = time.process_time() - begin; "
        "print(used, *(name for name in ('torch', 'cv2', 'av', 'numpy') if name in sys.modules))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    used = [run.split() for run in runs]
    assert all(len(words) == 1 for words in used), used
    # About 0.1 s on an idle core; the limit allows for a machine that is busy with other tests.
    assert min(float(words[0]) for words in used) < 0.4


def test_load_config_logs_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("streams: [{name: a, source: 'rtsp://viewer:hunter2@c/x'}]\nsinks: [{type: coco, path: out}]\n")
    path.chmod(0o600)
    load_config(path, environ={})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "hunter2" not in caplog.text
