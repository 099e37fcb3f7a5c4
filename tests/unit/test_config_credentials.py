# SPDX-License-Identifier: Apache-2.0
"""Where the user names and passwords of a streams.yaml come from, and who else may read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config import StreamConfig, load_config_quarantining, resolve_source
from pipeline.errors import ConfigError
from tests.configs import load


def test_inherited_credentials() -> None:
    config = load(
        "defaults: {username: viewer, password_env: SHARED, fps: 3}\n"
        "streams:\n"
        "  - {name: plain, source: rtsp://c/x}\n"
        "  - {name: own, source: rtsp://c/x, password_env: OWN}\n"
        "  - {name: url, source: 'rtsp://me:mine@c/x'}\n"
        "  - {name: half, source: 'rtsp://me@c/x'}\n"
        "  - {name: file, source: a.mp4}\n"
        "  - {name: faster, source: rtsp://c/x, fps: 9}\n",
        environ={"SHARED": "hunter2", "OWN": "p/w"},
    ).config
    resolved = {
        entry.name: resolve_source(entry, {"SHARED": "hunter2", "OWN": "p/w"}).reveal() for entry in config.streams
    }
    assert resolved == {
        "plain": "rtsp://viewer:hunter2@c/x",
        "own": "rtsp://viewer:p%2Fw@c/x",
        "url": "rtsp://me:mine@c/x",
        "half": "rtsp://me:hunter2@c/x",
        "file": "a.mp4",
        "faster": "rtsp://viewer:hunter2@c/x",
    }
    assert [entry.fps for entry in config.streams] == [3, 3, 3, 3, 3, 9]


def test_environment_variables_in_values() -> None:
    entry = '{name: a, source: "rtsp://${HOST}:${PORT}/$${x}", username: "${USER}", password: "${PW}"}'
    environ = {"HOST": "cam", "PORT": "554", "USER": "viewer", "PW": "p@${ss}"}
    (found,) = load(f"streams: [{entry}]", environ=environ).config.streams
    assert resolve_source(found, environ).reveal() == "rtsp://viewer:p%40%24%7Bss%7D@cam:554/${x}"


def test_resolving_reads_anew_and_refuses_in_one_line(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("first\r\n")
    entry = StreamConfig.model_validate(
        {"name": "a", "source": "rtsp://c/x", "username": "u", "password_file": str(secret)}
    )
    assert resolve_source(entry, {}).reveal() == "rtsp://u:first@c/x"
    for content, says in [
        (b"", "found none"),
        (b"a\nb\n", "found several"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 5000, "more than 4096 bytes"),
    ]:
        secret.write_bytes(content)
        with pytest.raises(ConfigError, match=f"^stream a: password_file: .*{says}") as caught:
            resolve_source(entry, {})
        assert str(secret) not in str(caught.value)
    secret.write_text("second")
    assert resolve_source(entry, {}).reveal() == "rtsp://u:second@c/x"
    secret.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        resolve_source(entry, {})
    no_password = StreamConfig.model_validate({"name": "a", "source": "rtsp://c/x", "username": "u"})
    assert resolve_source(no_password, {}).reveal() == "rtsp://u:@c/x"


def test_disabled_streams_need_no_password() -> None:
    loaded = load("streams: [{name: a, source: rtsp://c/x, username: u, password_env: P, enabled: false}]")
    assert loaded.quarantined == ()


def test_user_info_in_urls_is_accepted_with_one_warning() -> None:
    loaded = load(
        "streams:\n"
        "  - {name: a, source: 'rtsp://viewer:hunter2@c/x'}\n"
        "  - {name: b, source: 'rtsp://viewer:hunter2@d/x'}\n"
        "  - {name: c, source: 'rtsp://viewer:${PW}@d/x'}\n"
        "sinks: [{type: coco, path: out}]\n",
        environ={"PW": "hunter2"},
    )
    (warning,) = loaded.warnings
    assert warning.startswith("s.yaml:2:23: streams[0].source: this URL holds a user name or a password (so do 1 more)")
    assert [str(entry.source) for entry in loaded.config.streams] == ["rtsp://c/x", "rtsp://d/x", "rtsp://d/x"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
@pytest.mark.parametrize(
    ("entry", "secret"),
    [
        ("source: 'rtsp://u:hunter2@c/x'", True),
        ("source: rtsp://c/x, username: u, password: hunter2", True),
        ("source: rtsp://c/x, username: u, password: '${PW}'", False),
        ("source: rtsp://c/x, username: u, password_env: PW", False),
        ("source: a.mp4", False),
    ],
)
def test_a_readable_file_with_secrets_is_warned_about(tmp_path: Path, mode: int, entry: str, secret: bool) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(f"streams: [{{name: a, {entry}}}]")
    os.chmod(path, mode)
    warnings = load_config_quarantining(path, environ={"PW": "hunter2"}).warnings
    assert any("chmod 600" in warning for warning in warnings) == (secret and mode != 0o600)


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o440, False), (0o644, True)])
def test_a_password_file_that_everybody_can_read_is_warned_about(tmp_path: Path, mode: int, told: bool) -> None:
    (tmp_path / "gate.password").write_text("hunter2\n")
    os.chmod(tmp_path / "gate.password", mode)
    path = tmp_path / "streams.yaml"
    streams = "".join(f"  - {{name: {name}, source: rtsp://c/x, username: u}}\n" for name in "ab")
    sinks = "sinks: [{type: jsonl, path: a}]\n"
    path.write_text(f"defaults:\n  username: u\n  password_file: gate.password\nstreams:\n{streams}{sinks}")
    warnings = load_config_quarantining(path, environ={}).warnings
    where = f"{path}:3:18: defaults.password_file: every user of this machine can read this file; remedy: chmod 600"
    assert [str(warning) for warning in warnings] == ([where] if told else [])
