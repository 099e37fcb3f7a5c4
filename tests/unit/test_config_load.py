# SPDX-License-Identifier: Apache-2.0
"""streams.yaml to a configuration: what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import (
    Config,
    JsonlSinkConfig,
    StreamConfig,
    load_config,
    load_config_quarantining,
    resolve_source,
)
from pipeline.errors import ConfigError
from tests.configs import GOOD, load

EXAMPLE = """\
model:    {path: builtin:people, device: auto, precision: auto, confidence: 0.4, iou: 0.5, classes: [person]}
batch:    {max_size: 8, max_wait_ms: 10, workers: auto}
defaults: {fps: 5, policy: freshest}             # every stream inherits these
streams:
  - {name: lobby, source: "rtsp://10.0.0.5/stream1", username: viewer, password_env: LOBBY_PASSWORD}
  - {name: gate,  source: sample_videos/plaza.mp4, loop: true, pace: realtime}
sinks:
  - {type: jsonl, path: "out/{stream}.jsonl"}
server:   {listen: 127.0.0.1:8080}               # token_file:, tls:
"""


def stream(entry: str, before: str = "") -> StreamConfig:
    loaded = load(f"{before}\nstreams:\n  - {entry}\n")
    assert loaded.quarantined == ()
    return loaded.config.streams[0]


def test_the_example_of_the_manual(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(EXAMPLE)
    config = load_config(path, environ={})
    lobby, gate = config.streams
    assert config.model.classes == ("person",)
    assert (config.batch.max_size, config.batch.max_wait_ms, config.batch.workers) == (8, 10.0, "auto")
    assert (lobby.fps, lobby.policy, lobby.username, lobby.password_env) == (
        5.0,
        "freshest",
        "viewer",
        "LOBBY_PASSWORD",
    )
    assert (gate.loop, gate.pace, gate.fps, gate.username) == (True, "realtime", 5.0, None)
    assert gate.source.reveal() == str(tmp_path / "sample_videos/plaza.mp4")
    assert isinstance(config.sinks[0], JsonlSinkConfig)
    assert config.sinks[0].path == str(tmp_path / "out/{stream}.jsonl")
    assert config.sinks[0].rotate is not None, "files rotate unless told otherwise"
    assert config.server is not None
    assert (config.server.host, config.server.port, config.server.is_loopback) == ("127.0.0.1", 8080, True)


def test_a_stream_and_nothing_else_is_enough() -> None:
    config = load("streams: [{name: a, source: a.mp4}]").config
    assert config == Config(streams=(StreamConfig.model_validate({"name": "a", "source": "a.mp4"}),))
    assert config.model.path == "builtin:people"
    assert config.streams[0].effective_policy == "every_frame"
    assert stream("{name: a, source: rtsp://cam/x}").effective_policy == "freshest"
    assert stream("{name: a, source: a.mp4, policy: freshest}").effective_policy == "freshest"


def test_sections_without_keys_mean_the_defaults() -> None:
    config = load("model:\nbatch:\ndefaults:\nsinks:\nserver:\nstreams: [{name: a, source: a.mp4}]").config
    assert config == load("streams: [{name: a, source: a.mp4}]").config


def test_the_configuration_is_frozen() -> None:
    config = load(EXAMPLE, credentials=False).config
    with pytest.raises(ValidationError):
        config.batch.max_size = 3


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        ("fps: 2.5", "fps", 2.5),
        ("fps: null", "fps", None),
        ("loop: yes", "loop", True),
        ("region: [0, 0, 640, 480]", "region", (0.0, 0.0, 640.0, 480.0)),
        ("region: [0.1, 0, 0.9, 1]", "region", (0.1, 0.0, 0.9, 1.0)),
        ("skip: nonkey", "skip", "nonkey"),
        ("weight: 3", "weight", 3),
        ("enabled: off", "enabled", False),
        ("max_pixels: 100", "max_pixels", 100),
    ],
)
def test_stream_values(entry: str, key: str, value: object) -> None:
    assert getattr(stream(f"{{name: a, source: a.mp4, {entry}}}", "defaults: {fps: 7}"), key) == value


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("input: 640", "input", (640, 640)),
        ("input: [384, 640]", "input", (384, 640)),
        ("classes: [0, person]", "classes", (0, "person")),
        ("sha256: sha256:" + "AB" * 32, "sha256", "ab" * 32),
        ("device: cuda:1", "device", "cuda:1"),
        ("confidence: 0", "confidence", 0.0),
    ],
)
def test_model_values(model: str, key: str, value: object) -> None:
    assert getattr(load(f"model: {{{model}}}\nstreams: [{{name: a, source: a.mp4}}]").config.model, key) == value


def test_strict_and_quarantining_readers(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text("streams:\n  - {name: a, source: a.mp4}\n  - {name: a, source: b.mp4}\n")
    loaded = load_config_quarantining(path, environ={})
    assert [good.name for good in loaded.config.streams] == ["a"]
    assert [(entry.index, entry.name) for entry in loaded.quarantined] == [(1, "a")]
    with pytest.raises(ConfigError, match=r"streams\[1\]\.name"):
        load_config(path, environ={})
    path.write_text("streams: [{name: a b, source: a.mp4}]")
    with pytest.raises(ConfigError, match=r"streams\[0\]\.name"):
        load_config_quarantining(path, environ={})
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    path.write_text("model: {confidence: 0.2}")
    assert load_config(path, environ={}, streams_required=False).model.confidence == 0.2


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "secret").write_text("hunter2\n")
    (folder / "streams.yaml").write_text(
        "model: {path: m.pt}\n"
        "streams:\n"
        "  - {name: a, source: ../a.mp4}\n"
        "  - {name: b, source: /data/b.mp4}\n"
        "  - {name: c, source: rtsp://c/x, username: u, password_file: secret}\n"
        "  - {name: d, source: /dev/video2}\n"
        "  - {name: e, source: 'file:///data/e%20e.mp4'}\n"
        "sinks: [{type: coco, path: out}]\n"
        "server: {token_file: token}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config_quarantining("etc/streams.yaml", environ={}).config
    assert config.model.path == str(folder / "m.pt")
    assert [entry.source.reveal() for entry in config.streams] == [
        str(tmp_path / "a.mp4"),
        "/data/b.mp4",
        "rtsp://c/x",
        "v4l2:/dev/video2",
        "/data/e e.mp4",
    ]
    assert config.streams[2].password_file == str(folder / "secret")
    assert resolve_source(config.streams[2], {}).reveal() == "rtsp://u:hunter2@c/x"
    assert config.sinks[0].path == str(folder / "out")
    assert config.server is not None
    assert config.server.token_file == str(folder / "token")


def test_no_sinks_is_worth_a_warning() -> None:
    warnings = [str(warning) for warning in load(GOOD).warnings]
    assert warnings == ["s.yaml:1:1: sinks: none are given: results go nowhere"]


def test_python_callers_get_the_same_checks() -> None:
    data = {
        "defaults": {"fps": 4},
        "streams": [{"name": "a", "source": "a.mp4"}, {"name": "b", "source": "b.mp4", "fps": 1}],
    }
    assert [entry.fps for entry in Config.model_validate(data).streams] == [4, 1]
    with pytest.raises(ValidationError, match="two streams have one name"):
        Config.model_validate({"streams": [{"name": "a", "source": "a.mp4"}, {"name": "A", "source": "b.mp4"}]})
    with pytest.raises(ValidationError, match="cannot share one file"):
        Config.model_validate(data | {"sinks": [{"type": "mot", "path": "x.txt"}]})
