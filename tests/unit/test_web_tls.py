# SPDX-License-Identifier: Apache-2.0
"""HTTPS: certificates, and clients that never begin."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from pipeline.web import Limits
from tests.boards import TOKEN, FakeBoard, answers_again, board, client, ends, refused, serving, token_file

__all__ = ["board"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return cert, key


def test_https(board: FakeBoard, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    tls = {"cert_file": str(cert), "key_file": str(key)}
    with serving(board, token_file=token_file(tmp_path), tls=tls) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with client(server, verify=ssl.create_default_context(cafile=str(cert))) as http:
            assert http.get("/live").status_code == 200
            assert "Secure" in http.post("/login", data={"token": TOKEN}).headers["set-cookie"]


def test_clients_that_never_begin_their_handshake(
    board: FakeBoard, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """They are bounded from the first byte that they do not send on: each holds a file descriptor."""
    cert, key = certificate
    tls = {"cert_file": str(cert), "key_file": str(key)}
    with serving(board, Limits(connections=4), token_file=token_file(tmp_path), tls=tls) as server:
        host, port = server.url.removeprefix("https://").strip("/").split(":")
        silent = [socket.create_connection((host, int(port)), timeout=2.5) for _ in range(200)]
        for each in silent[4:]:
            assert ends(each)  # at once: a handshake may take five seconds
        for each in silent:
            each.close()
        with client(server, verify=ssl.create_default_context(cafile=str(cert))) as http:
            answers_again(http)


def test_certificates_that_cannot_be_used(board: FakeBoard, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "ec", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(locked)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    (tmp_path / "none.pem").write_text("nothing")
    refused(board, r"server\.tls\.cert_file: .* cannot be read: No such file", tls=pair(tmp_path / "gone.pem", key))
    refused(board, r"server\.tls: certificate and key cannot be used", tls=pair(tmp_path / "none.pem", key))
    refused(board, r"server\.tls: certificate and key cannot be used", tls=pair(cert, locked))


def pair(cert: Path, key: Path) -> dict[str, str]:
    return {"cert_file": str(cert), "key_file": str(key)}
