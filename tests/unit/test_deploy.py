# SPDX-License-Identifier: Apache-2.0
"""What ``deploy/`` holds fits the program: the health check, the build's context, the unit's times."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import ModelConfig, ServerConfig
from pipeline.daemon.run import loading_limit_s
from tests.boards import FakeBoard, serving, token_file

ROOT = Path(__file__).resolve().parents[2]


def health(folder: Path, text: str) -> tuple[int, str]:
    (folder / "streams.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy/health.py"), str(folder / "streams.yaml")],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"},
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """Of another name than the one that is asked, signed by nobody."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=cameras.example.org"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return {"cert_file": str(cert), "key_file": str(key)}


def section(server: Any) -> str:
    return yaml.safe_dump({"model": {"path": "builtin:people"}, "server": server})


def test_the_health_check_finds_the_server(tmp_path: Path) -> None:
    board = FakeBoard()
    with serving(board) as server:
        listen = server.url.removeprefix("http://").strip("/")
        assert health(tmp_path, section({"listen": listen})) == (0, "200 live\n")
        port = listen.rpartition(":")[2]
        assert health(tmp_path, section({"listen": f"0.0.0.0:{port}"})) == (0, "200 live\n")
        board.turns = False
        assert health(tmp_path, section({"listen": listen})) == (1, "503 not live\n")
    code, told = health(tmp_path, section({"listen": listen}))
    assert (code, told.partition(":")[0]) == (1, "ConnectionRefusedError")


def test_the_health_check_speaks_tls(tmp_path: Path, tls: dict[str, str]) -> None:
    with serving(FakeBoard(), tls=tls, token_file=token_file(tmp_path)) as server:
        listen = server.url.removeprefix("https://").strip("/")
        assert health(tmp_path, section({"listen": listen, "tls": tls})) == (0, "200 live\n")


@pytest.mark.parametrize(
    ("text", "code"), [("streams: []\n", 0), ("server:\n", 0), ("[", 1), ("", 1), ("server: x", 1)]
)
def test_the_health_check_without_a_server(tmp_path: Path, text: str, code: int) -> None:
    found, told = health(tmp_path, text)
    assert found == code
    assert len(told.splitlines()) == 1


def test_the_health_check_knows_the_usual_address(tmp_path: Path) -> None:
    assert f'LISTEN = "{ServerConfig().listen}"' in (ROOT / "deploy/health.py").read_text()
    assert 'CMD ["python", "/opt/pipeline/health.py"]' in (ROOT / "deploy/Dockerfile").read_text()


def test_the_unit_leaves_the_last_word_to_the_daemon() -> None:
    unit = dict(
        line.split("=", 1) for line in (ROOT / "deploy/pipeline.service").read_text().splitlines() if line[:1].isupper()
    )
    minutes = re.fullmatch(r"(\d+)min", unit["TimeoutStartSec"])
    assert minutes is not None
    assert int(minutes[1]) * 60 >= loading_limit_s(ModelConfig(path="builtin:people").timeout_s) + 60
    assert unit["Restart"] == "on-failure"
    assert unit["RestartPreventExitStatus"] == "2"


def let_in(path: str) -> bool:
    """Whether the build sees a path: the last line of .dockerignore that fits it, or a folder above it, decides."""
    seen = True
    parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#"):
            plain = pattern.removeprefix("**/")
            names = [Path(each).name for each in parents] if plain != pattern else parents
            if any(fnmatch.fnmatchcase(name, plain) for name in names):
                seen = line.startswith("!")
    return seen


def test_the_build_sees_the_program_and_nothing_private() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = ["pyproject.toml", "constraints.txt", project["readme"], *project["license-files"], "deploy/health.py"]
    for path in [*needed, "pipeline/cli/run.py", "pipeline/web/static/app.js", "pipeline/sinks/font/glyphs.npz"]:
        assert (ROOT / path).exists(), path
        assert let_in(path), path
    copied = re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert copied == [".", "deploy/health.py"]
    for path in (".git/config", ".venv/bin/python", "streams.yaml", "token", "runs/1/report.json", "out/a.jsonl"):
        assert not let_in(path), path
    assert not let_in("pipeline/web/__pycache__/app.cpython-311.pyc")
