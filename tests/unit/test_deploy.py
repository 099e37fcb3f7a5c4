# SPDX-License-Identifier: Apache-2.0
"""What ``deploy/`` holds fits the program: the health check, the build's context, the unit's times, the pods."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import reload, run
from pipeline.cli.program.parser import Parser
from pipeline.config import ModelConfig, ServerConfig, load_config, load_config_quarantining
from pipeline.daemon.loading import loading_limit_s
from pipeline.daemon.shard import Shard
from pipeline.web.hosts import Hosts
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


def unit() -> dict[str, str]:
    """What the systemd unit sets; of what it sets twice the last."""
    text = (ROOT / "deploy/pipeline.service").read_text()
    return dict(line.split("=", 1) for line in text.splitlines() if line[:1].isupper())


def test_the_unit_leaves_the_last_word_to_the_daemon() -> None:
    minutes = re.fullmatch(r"(\d+)min", unit()["TimeoutStartSec"])
    assert minutes is not None
    assert int(minutes[1]) * 60 >= loading_limit_s(ModelConfig(path="builtin:people").timeout_s) + 60
    assert unit()["Restart"] == "on-failure"
    assert unit()["RestartPreventExitStatus"] == "2"


def test_a_reload_that_is_refused_fails() -> None:
    start, asked = unit()["ExecStart"].split(), unit()["ExecReload"].split()
    assert asked == [start[0], "reload", start[2], "--pid", "$MAINPID"]
    parser = Parser("reload", "", "")
    reload.configure(parser)
    assert str(parser.parse([*asked[2:4], "4711"]).config) == start[2]


def test_the_unit_leaves_the_processes_of_cameras_to_the_daemon() -> None:
    """They know no signal, and one that the kernel ends for memory takes only its own camera along."""
    assert unit()["KillMode"] == "mixed"
    assert unit()["OOMPolicy"] == "continue"
    kills = re.findall(r"systemctl kill .*", (ROOT / "deploy/pipeline.service").read_text())
    assert kills
    assert all("--kill-whom=main" in each for each in kills)


def test_what_the_head_of_the_unit_installs_is_what_it_starts() -> None:
    head, body = (ROOT / "deploy/pipeline.service").read_text().split("[Unit]")
    start = re.search(r"^ExecStart=(\S+) run (\S+)$", body, re.MULTILINE)
    assert start is not None
    program, config = start.groups()
    pip = Path(program).with_name("pip")
    assert f"python3 -m venv {pip.parents[1]} && {pip} install -c constraints.txt ." in head
    assert f"{program} check {config}\n" in head
    results = re.search(r"path: (\S+)", head)
    state = re.search(r"^WorkingDirectory=(\S+)$", body, re.MULTILINE)
    assert results is not None
    assert state is not None
    assert results[1].startswith(f"{state[1]}/")  # beside the configuration nothing can be written
    assert "Documentation=file:" not in body  # the wheel brings no README


def test_the_secrets_that_the_unit_shows_reach_the_daemon(tmp_path: Path) -> None:
    """Each file that its example of a streams.yaml names is handed over, and each that is handed over is named."""
    text = (ROOT / "deploy/pipeline.service").read_text()
    example = re.search(r"^#   (server: .*?)\n#\n", text, re.MULTILINE | re.DOTALL)
    assert example is not None
    lines = "\n".join(line.removeprefix("#   ").removeprefix("#") for line in example[0].splitlines())
    (tmp_path / "streams.yaml").write_text(lines + "\nmodel: {path: 'builtin:people'}\n")
    handed_over = dict(re.findall(r"^#LoadCredential=([\w.]+):(\S+)$", text, re.MULTILINE))
    assert handed_over == {name: f"/etc/pipeline/secrets/{name}" for name in ("gate", "token", "cert.pem", "key.pem")}
    for name in handed_over:
        (tmp_path / name).write_text("hunter2-Secret\n")
    config = load_config(
        tmp_path / "streams.yaml", environ={"CREDENTIALS_DIRECTORY": str(tmp_path), "SHOP_PASSWORD": "x"}
    )
    assert config.server is not None
    assert config.server.tls is not None
    files = [config.server.token_file, config.server.tls.cert_file, config.server.tls.key_file]
    assert {*files, config.streams[0].password_file} == {str(tmp_path / name) for name in handed_over}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("with_secrets", [False, True])
def test_systemd_understands_the_unit(tmp_path: Path, with_secrets: bool) -> None:
    text = (
        (ROOT / "deploy/pipeline.service").read_text().replace("/opt/pipeline/bin/pipeline", shutil.which("true") or "")
    )
    if with_secrets:
        text = re.sub(r"^#(LoadCredential|EnvironmentFile)=", r"\1=", text, flags=re.MULTILINE)
        assert text.count("\nLoadCredential=") == 4
    (tmp_path / "pipeline.service").write_text(text)
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "pipeline.service")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    about_it = [line for line in told.stderr.splitlines() if "pipeline.service" in line]
    assert about_it == []


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


def manifest() -> dict[str, dict[str, Any]]:
    """The documents of the Kubernetes manifest, by kind."""
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


def pod() -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod's specification, and that of its one container."""
    spec = manifest()["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


@pytest.mark.parametrize("version", ["1.28", "latest"])
def test_the_manifest_is_what_kubernetes_takes(version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in manifest().values():
        asked = validator.latest_version() if version == "latest" else version
        validator.validate(document, asked, strict=True)


def test_every_stream_belongs_to_one_pod() -> None:
    spec = manifest()["StatefulSet"]["spec"]
    _, container = pod()
    by_name = {each["name"]: each for each in container["env"]}
    assert int(by_name["SHARDS"]["value"]) == spec["replicas"]
    assert by_name["POD_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"].endswith("['apps.kubernetes.io/pod-index']")
    shards = []
    for index in range(spec["replicas"]):
        values = {"POD_INDEX": str(index), "SHARDS": by_name["SHARDS"]["value"]}
        asked = [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], each) for each in container["args"]]  # noqa: B023
        assert asked[0] == "run"
        parser = Parser("run", "", "")
        run.configure(parser)
        options = parser.parse(asked[1:])
        assert (str(options.config), options.log) == ("/etc/pipeline/streams.yaml", "json")
        shards.append(Shard.parse(options.shard))
    assert all(sum(shard.takes(f"camera-{number}") for shard in shards) == 1 for number in range(100))


def test_a_pod_that_is_not_ready_has_a_name() -> None:
    assert manifest()["Service"]["spec"]["publishNotReadyAddresses"] is True


def test_a_pod_has_no_rights() -> None:
    spec, container = pod()
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] | {"runAsNonRoot": True, "runAsUser": 10001} == spec["securityContext"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert f"--uid {spec['securityContext']['runAsUser']} " in (ROOT / "deploy/Dockerfile").read_text()
    assert set(container["resources"]) == {"requests", "limits"}
    mounted = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert "subPath" not in mounted["config"], "a file mounted by itself is never renewed"
    assert all(mounted[name]["readOnly"] for name in ("config", "secrets", "tls"))
    for volume in spec["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] & 0o007 == 0


def test_the_manifest_fits_its_own_example(tmp_path: Path) -> None:
    """The streams.yaml of its comment is taken, and its paths and its server are those that the pods have."""
    text = (ROOT / "deploy/kubernetes.yaml").read_text()
    example = re.search(r"^#   streams:\n(?:#   .*\n)+", text, re.MULTILINE)
    assert example is not None
    lines = "\n".join(line.removeprefix("#   ") for line in example[0].splitlines())
    (tmp_path / "secret").write_text("a camera's password")
    path = tmp_path / "streams.yaml"
    path.write_text(f"model: {{path: builtin:people}}\n{lines}\n".replace("/run/secrets/pipeline/gate", "secret"))
    loaded = load_config_quarantining(path)
    assert loaded.quarantined == ()
    server = loaded.config.server
    assert server is not None
    spec, container = pod()
    (port,) = container["ports"]
    assert server.port == port["containerPort"]
    assert manifest()["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    service, pods = manifest()["Service"]["metadata"]["name"], manifest()["StatefulSet"]["spec"]["replicas"]
    names = Hosts(loopback_only=False, names=server.hosts)
    assert names.served(f"{service}:8080")
    assert all(names.served(f"{service}-{number}.{service}:8080") for number in range(pods))
    folders = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert server.tls is not None
    for used in (server.token_file, server.tls.cert_file, server.tls.key_file, "/data/out", container["args"][1]):
        assert any(str(used).startswith(f"{folder}/") for folder in folders), used
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/live", "/live", "/ready"]
    assert {(probe["scheme"], probe["port"]) for probe in probes} == {("HTTPS", port["name"])}
    assert spec["terminationGracePeriodSeconds"] > 10
