# SPDX-License-Identifier: Apache-2.0
"""A daemon whose cameras have secrets of every form: nothing that leaves it holds one."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.daemons import JSONL, config
from tests.models import Cells, save

# Addresses of cameras, of which PORT refuses connections, and what of each must never be seen; raw, not encoded.
FORMS = {
    "plain": ("rtsp://viewer:hunter2-plain@127.0.0.1:PORT/x", ["hunter2-plain"]),
    "dotted": ("rtsp://john.doe:hunter2-dotted@127.0.0.1:PORT/x", ["hunter2-dotted", "john.doe"]),
    "mail": ("rtsp://john@corp.example:hunter2-mail@127.0.0.1:PORT/x", ["hunter2-mail", "john@corp.example"]),
    "nobody": ("rtsp://:hunter2-nobody@127.0.0.1:PORT/x", ["hunter2-nobody"]),
    "path": ("rtsp://127.0.0.1:PORT/user=admiral_password=hunter2pa_channel=1.sdp", ["hunter2pa", "admiral"]),
    "pwd": ("http://127.0.0.1:PORT/video.cgi?usr=admiral&pwd=hunter2-pwd", ["hunter2-pwd", "admiral"]),
    "token": ("http://127.0.0.1:PORT/live?channel=1&token=hunter2/token==", ["hunter2/token"]),
    "six": ("rtsp://viewer:hunter2-six@[::1]:PORT/x", ["hunter2-six"]),
    "encoded": ("rtsp://viewer:hunter2%40e%3An%2Fc@127.0.0.1:PORT/x", ["hunter2@e:n/c"]),
    "upper": ("RTSP://viewer:hunter2-upper@LOCALHOST:PORT/x", ["hunter2-upper"]),
    "tls": ("rtsps://viewer:hunter2-tls@127.0.0.1:PORT/x", ["hunter2-tls"]),
    "nested": ("http://127.0.0.1:PORT/r?url=rtsp%3A%2F%2Fviewer%3Ahunter2-nested%40cam%2Fs", ["hunter2-nested"]),
    "fragment": ("http://127.0.0.1:PORT/live?access_token=hunter2-frag#x", ["hunter2-frag"]),
    "signed": ("http://127.0.0.1:PORT/live?X-Amz-Signature=hunter2-sign&x=1", ["hunter2-sign"]),
}
TOKEN = "hunter2-the-token-of-the-server"
PASSWORD = "hunter2 of/the:environment@"
CREDENTIAL = "hunter2-of-the-credentials"


def renderings(secret: str) -> set[str]:
    encoded = quote(secret, safe="")
    return {
        secret,
        encoded,
        quote(encoded, safe=""),
        encoded.lower(),
        base64.b64encode(f"viewer:{secret}".encode()).decode(),
    }


def processes(pid: int) -> str:
    """Command lines of a process and of its children."""
    told = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return told + "".join(processes(int(child)) for child in children)


@pytest.mark.parametrize("log_format", ["json", pytest.param("text", marks=pytest.mark.slow)])
def test_nothing_that_leaves_the_daemon_holds_a_secret(tmp_path: Path, log_format: str) -> None:
    model = save(Cells(), tmp_path / "cells.pt")
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "credential").write_text(CREDENTIAL + "\n")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    streams = [f"name: {name}, source: '{form.replace('PORT', str(port))}'" for name, (form, _) in FORMS.items()]
    streams += [
        f"name: environment, source: 'rtsp://127.0.0.1:{port}/x', username: viewer, password_env: CAMERA_PASSWORD",
        f"name: credential, source: 'rtsp://127.0.0.1:{port}/x', username: viewer, "
        "password_file: '${CREDENTIALS_DIRECTORY}/credential'",
        "name: faulty, source: 'rtps://viewer:hunter2-faulty@127.0.0.1/x'",
        "name: bars, source: 'pattern:?size=128x96&fps=10'",
    ]
    path = config(tmp_path, model, streams, [JSONL])
    path.write_text(path.read_text() + "server: {listen: '127.0.0.1:0', token_file: token}\n")
    path.chmod(0o600)
    command = [sys.executable, "-m", "pipeline", "run", str(path), "--log", log_format, "--debug", "--json"]
    hidden = {"OMP_NUM_THREADS": "1", "CAMERA_PASSWORD": PASSWORD, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    with (tmp_path / "log").open("wb") as err:
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path / "report")], stdout=subprocess.PIPE, stderr=err, env=os.environ | hidden
        )
    pause, until = threading.Event(), time.monotonic() + 90
    told: dict[str, str] = {}
    try:
        while (found := re.search(r"serving (http://[^/\"]+)/", (tmp_path / "log").read_text())) is None:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            pause.wait(0.1)
        with httpx.Client(
            base_url=found[1], trust_env=False, timeout=20, headers={"authorization": f"Bearer {TOKEN}"}
        ) as http:
            expected = {*FORMS, "environment", "credential", "faulty"}
            seen: dict[str, dict[str, str]] = {}
            while not expected <= {name for name, stream in seen.items() if stream["detail"]}:
                assert time.monotonic() < until, seen
                pause.wait(0.2)
                seen = http.get("/api/streams").json()["streams"]
            paths = ["/", "/login", "/metrics", "/api/streams", "/api/report", "/api/streams/nobody"]
            for asked in paths + [f"/api/streams/{name}" for name in seen]:
                told[asked] = http.get(asked).text
                told[f"{asked}, not let in"] = http.get(asked, headers={"authorization": ""}).text
        process.send_signal(signal.SIGUSR1)
        path.write_text(path.read_text().replace("hunter2-plain", "hunter2-plain?x y"))  # a faulty entry, while it runs
        process.send_signal(signal.SIGHUP)
        while "reloaded" not in (tmp_path / "log").read_text():
            assert time.monotonic() < until
            pause.wait(0.1)
        told["command lines"] = processes(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    told |= {"stdout": out.decode(), "log": (tmp_path / "log").read_text()}
    for written in (*(tmp_path / "report").iterdir(), *(tmp_path / "out").iterdir()):
        told[written.name] = written.read_text()
    assert {"report.json", "report.html", "bars.jsonl"} <= set(told)
    assert "most recent call first" in told["log"]
    secrets = [
        TOKEN,
        PASSWORD,
        CREDENTIAL,
        "hunter2-faulty",
        *(each for _, hidden in FORMS.values() for each in hidden),
    ]
    for secret in secrets:
        for rendering in renderings(secret):
            for where, text in told.items():
                assert rendering not in text, f"{secret} in {where}"
    assert not any("hunter2" in text for text in told.values())
