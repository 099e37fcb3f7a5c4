# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with a streams.yaml, no message repeats what may be a secret, and no text crashes the reader."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline import config, redact
from pipeline.config import Config, Fault, parse_config
from pipeline.errors import ConfigError

SHIPPED = (Path(__file__).parents[2] / "streams.yaml").read_text()
SECRET = "hunter2"


class Idle(redact.Scrubber):
    """Removes nothing: messages have to be free of secrets by themselves."""

    def register(self, secret: str) -> None:
        pass

    def scrub(self, text: str) -> str:
        return text


@pytest.fixture(autouse=True)
def no_scrubber(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact.scrubbing, "_SCRUBBER", Idle())


def said(text: str | bytes) -> list[Fault]:
    """Every fault and warning."""
    try:
        loaded = parse_config(text.encode() if isinstance(text, str) else text, environ={}, file="s.yaml", shared=True)
    except ConfigError as error:
        return [fault for fault in error.faults if isinstance(fault, Fault)]
    return [*loaded.warnings, *(fault for stream in loaded.quarantined for fault in stream.faults)]


PLACES = [
    "{%s}",
    "modle: %s",
    "model: %s",
    "model: {path: 'builtin:%s'}",
    "model: {device: %s, precision: %s, adapter: [%s], input: %s, sha256: %s, classes: %s, names: %s, iou: %s}",
    "batch: {workers: %s, max_size: %s}",
    "server: {listen: %s, tls: %s, token_file: [%s]}",
    "sinks: [{type: %s}, {type: csv, path: 'x{%s}'}, {type: jsonl, path: x, rotate: %s, fsync: %s}, %s]",
    "streams: %s",
    "streams: [%s]",
    "streams: [{name: %s?, source: [%s]}]",
    "streams: [{name: a, source: '%s:x'}]",
    "streams: [{name: a, source: 'rtsp://u:%s@'}]",
    "streams: [{name: a, source: 'rtsp://u:%s/x@c/y'}]",
    "streams: [{name: a, source: 'rtsp://c:%s/y'}]",
    "streams: [{name: a, source: 'http://c/a b?token=%s'}]",
    "streams: [{name: a, source: 'rtsp://u:%s@c/x', username: %s, password: %s, password_env: %s}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password_env: %s}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password_file: /nowhere/%s}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: &%s x}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: *%s }]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: !%s x}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: !%s!x y}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: x,%s}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: x,%s,%s}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password:%s}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: '%s}]",
    'streams: [{name: a, source: rtsp://c/x, username: u, password: "%s\\q"}]',
    "streams: [{name: a, source: rtsp://c/x, username: u, password: @%s}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: '%s'x}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: [%s]}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: {%s: x}}]",
    "streams: [{name: a, source: rtsp://c/x, username: u, password: '${%s}'}]",
    "streams: [{name: a, source: rtsp://c/x, username: '${%s}', password: x}]",
    "streams: [{name: a, source: a.mp4, pace: %s, policy: %s, fps: %s, loop: %s, region: %s, skip: %s, transport: %s}]",
    "streams: [{name: a, source: a.mp4, weight: %s, stride: %s, corrupt: %s, enabled: %s, max_pixels: %s}]",
    "streams: [{name: a, source: a.mp4, weight: '${%s'}]",
    "streams:\n  - name: a\n    source: rtsp://u:%s@c/x: y\n",
    "streams:\n  - name: a\n   password: %s\n",
    "streams:\n  - name: a\n    password: |\n      %s\n      %s\n",
    "streams:\n  - name: a\n    password: %%%s\n",
    "%s\n",
    "%%TAG ! tag:%s,2000:\n---\na: !x y\n",
    "a: b\n--- %s\n",
    "? %s\n",
    "'%s': 1\n'%s': 2\n".replace("%s", "%s!"),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_message_repeats_a_value(place: str) -> None:
    text = place.replace("%%", "\0").replace("%s", SECRET).replace("\0", "%")
    found = said(text)
    assert found, "each of these is faulty, or at least worth a warning"
    for fault in found:
        assert SECRET not in fault
        assert SECRET not in repr(fault.path)


@pytest.mark.parametrize("name", ["GATE_PASSWORD", "CAM1_PASSWORD", "PASSWORD", "_P"])
def test_a_variable_that_is_not_set_is_named(name: str) -> None:
    faults = said(f"streams: [{{name: a, source: rtsp://c/x, username: u, password_env: {name}}}]")
    assert any(f"the environment variable {name} that this key names is not set" in fault for fault in faults)


@pytest.mark.parametrize("password", ["hunter2", "HUNTER2", "Gate_Password", "hunter_2"])
@pytest.mark.parametrize("place", ["username: u, password_env: '%s'", "username: '${%s}'"])
def test_what_may_be_a_password_is_not_named(place: str, password: str) -> None:
    faults = said(f"streams: [{{name: a, source: rtsp://c/x, {place % password}}}]")
    assert any("is not set" in fault for fault in faults)
    assert not any(password in fault for fault in faults)


def test_the_configuration_itself_shows_no_secret() -> None:
    text = (
        "defaults: {username: viewer, password: hunter2}\n"
        "streams: [{name: a, source: 'rtsp://u:hunter2@c/x?token=hunter2'}, {name: b, source: rtsp://c/x}]\n"
    )
    whole = parse_config(text.encode(), environ={}).config
    for shown in (repr(whole), str(whole), whole.model_dump_json(), json.dumps(whole.model_dump(mode="json"))):
        assert SECRET not in shown
    assert SECRET not in str(whole.model_dump())
    with pytest.raises(ValueError, match="rtsp") as caught:
        Config.model_validate({"streams": [{"name": "a", "source": "rtps://u:hunter2@c/x", "password": ["hunter2"]}]})
    assert SECRET not in str(caught.value)


# A password such as "passwor" is a piece of what the messages say anyway.
OWN_WORDS = "".join(file.read_text() for file in Path(config.__file__).parent.glob("*.py"))
words = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=6, max_size=14
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=words, flow=st.booleans())
def test_an_unquoted_password_of_any_kind_is_not_repeated(secret: str, flow: bool) -> None:
    """Typed as it is, a password may end as an alias, a tag, a key, a comment or a syntax error."""
    assume(secret[1:-1] not in OWN_WORDS)
    if flow:
        text = f"streams: [{{name: a, source: rtsp://c/x, username: u, password: {secret}}}]\n"
    else:
        text = f"streams:\n  - name: a\n    source: rtsp://c/x\n    username: u\n    password: {secret}\n"
    for fault in said(text):
        assert secret not in fault
        assert secret[1:] not in fault
        assert secret[:-1] not in fault


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    lines = sum(text.count(sign) for sign in "\n\r\x85\u2028\u2029") + 1
    for fault in said(data):
        assert "\n" not in fault
        assert fault.startswith(f"s.yaml:{fault.mark.line}:{fault.mark.column}: ")
        assert 1 <= fault.mark.line <= lines
        assert fault.mark.column >= 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | st.text("streams:-[]{}&*!|>'\"%@`#,? \n\t01name$", max_size=80).map(str.encode))
def test_any_text_gives_a_configuration_or_faults_with_lines(data: bytes) -> None:
    check(data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_a_damaged_file_gives_a_configuration_or_faults_with_lines(seed: int) -> None:
    """The shipped file with a few bytes, characters of YAML or whole lines changed."""
    chance = random.Random(seed)
    text = SHIPPED
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        match chance.randrange(4):
            case 0:
                text = text[:at] + chance.choice("{}[]:,&*!|>'\"%@`#?- \n\t\0\x85é0") + text[at:]
            case 1:
                text = text[:at] + text[at + chance.randint(1, 9) :]
            case 2:
                other = chance.randrange(len(text))
                text = text[:at] + text[other : other + 40] + text[at:]
            case _:
                lines = text.splitlines(keepends=True)
                chance.shuffle(lines)
                text = "".join(lines[: max(1, len(lines) - 3)])
    check(text.encode())
