# SPDX-License-Identifier: Apache-2.0
"""``check``, ``probe`` and ``run``: the commands around a streams.yaml."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipeline import build
from pipeline.config import StreamConfig
from pipeline.config.credentials import resolve_source
from pipeline.protocols import Source
from tests.commands import cli
from tests.http_servers import Quiet, answering
from tests.media import B_FRAMES, Media, media
from tests.models import model

__all__ = ["cli", "media", "model"]


def written(path: Path, model: Path, *streams: str) -> Path:
    lines = [f"model: {{path: {model}}}", "streams:", *(f"  - {{{stream}}}" for stream in streams)]
    path.write_text("\n".join([*lines, "sinks:", "  - {type: jsonl, path: 'out/{stream}.jsonl'}", ""]))
    return path


def test_check_opens_every_source_and_loads_the_model(cli: Any, model: Path, media: Media, tmp_path: Path) -> None:
    path = written(
        tmp_path / "s.yaml",
        model,
        f"name: good, source: {media.clip()}",
        "name: nowhere, source: 'rtsp://127.0.0.1:1/stream', username: me, password_env: PATH",
        f"name: later, source: {media.clip()}, enabled: false",
    )
    run = cli("check", path, "--json")
    assert (run.code, run.err) == (3, "")
    found = json.loads(run.out)
    assert found["ok"] is False
    assert found["faults"] == []
    assert found["model"]["adapter"] == "ultralytics"
    states = {stream["name"]: stream["state"] for stream in found["streams"]}
    assert states == {"good": "ok", "nowhere": "unreachable", "later": "disabled"}
    good, nowhere, _ = found["streams"]
    assert (good["probe"]["width"], good["probe"]["height"], good["probe"]["codec"]) == (64, 48, "h264")
    assert "refused" in nowhere["error"]
    assert "me:" not in run.out

    lines = cli("check", path).out.splitlines()
    assert lines[0].startswith(f"model {model}: ultralytics, 64 x 64, cpu")
    assert lines[1].split()[:3] == ["good", "ok", "h264"]
    assert lines[2].split()[:2] == ["nowhere", "unreachable"]
    assert lines[-1] == f"{path}: no fault, 1 unreachable"
    quiet = cli("check", path, "--quiet")
    assert (quiet.code, quiet.out) == (3, "")
    assert quiet.err.startswith("pipeline: nowhere: ")


def test_check_of_a_good_file(cli: Any, model: Path, media: Media, tmp_path: Path) -> None:
    path = written(tmp_path / "s.yaml", model, f"name: good, source: {media.clip()}")
    assert cli("check", path).code == 0
    assert cli("check", path, "--quiet") == (0, "", "")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["s.yaml"], "a check writes nothing"


def test_check_says_that_the_network_cannot_keep_up(
    cli: Any, model: Path, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = media.clip(count=50)
    path = written(
        tmp_path / "s.yaml",
        model,
        f"name: camera, source: {clip}, pace: realtime, loop: true",
        f"name: thin, source: {clip}, pace: realtime, fps: 5",
        f"name: quick, source: {clip}",
    )
    found = json.loads(cli("check", path, "--json").out)
    assert found["demand"]["fps"] == pytest.approx(30, rel=0.01)
    assert 0.005 < found["demand"]["frame_ms"] < 500
    assert found["demand"]["cores"] == pytest.approx(0.03 * found["demand"]["frame_ms"], rel=0.01)
    assert found["warnings"] == []  # a tiny network, and 30 frames a second
    monkeypatch.setattr("pipeline.cli.capacity.demand.NEAR", 0.0)
    assert f"says what fits\n{path}: no fault" in cli("check", path).out
    monkeypatch.setattr("pipeline.cli.capacity.demand.BEYOND", 0.0)
    run = cli("check", path)
    assert run.code == 0
    assert "pipeline: warning: the network alone needs " in run.err
    assert "it cannot keep up" in run.err


def test_check_offline_opens_nothing(cli: Any, media: Media, tmp_path: Path) -> None:
    path = written(tmp_path / "s.yaml", tmp_path / "none.pt", "name: away, source: 'rtsp://127.0.0.1:1/stream'")
    run = cli("check", path, "--offline", "--json")
    assert run.code == 0
    assert [stream["state"] for stream in json.loads(run.out)["streams"]] == ["not opened"]


def test_check_names_all_faults_one_line_each(cli: Any, model: Path, media: Media, tmp_path: Path) -> None:
    path = written(
        tmp_path / "s.yaml",
        model,
        f"name: good, source: {media.clip()}",
        "name: bad, sorce: x.mp4",
        "name: worse, source: x.mp4, fps: -3",
    )
    run = cli("check", path, "--offline")
    assert run.code == 2
    faults = [line for line in run.err.splitlines() if "warning" not in line]
    assert [line.split(": ")[1].rsplit(":", 2)[1] for line in faults] == ["4", "5"]
    assert "did you mean 'source'?" in faults[0]
    data = json.loads(cli("check", path, "--offline", "--json").out)
    assert [fault["line"] for fault in data["faults"]] == [4, 5]
    assert data["faults"][0]["path"] == ["streams", 1, "sorce"]
    assert {stream["name"]: stream["state"] for stream in data["streams"]} == {
        "good": "not opened", "bad": "faulty", "worse": "faulty",
    }  # fmt: skip


def test_a_global_fault_does_not_end_the_check(cli: Any, model: Path, media: Media, tmp_path: Path) -> None:
    path = written(
        tmp_path / "s.yaml",
        model,
        f"name: good, source: {media.clip()}",
        "name: away, source: away.mp4",
        "name: bad, sorce: x.mp4",
    )
    path.write_text(f"{path.read_text()}bach: {{max_size: 4}}\n")
    run = cli("check", path)
    assert run.code == 2
    assert [line.split(": ")[2] for line in run.err.splitlines()] == ["streams[2].sorce", "bach"]
    states = [line.split(maxsplit=2)[:2] for line in run.out.splitlines()]
    assert run.out.startswith(f"model {model}: ultralytics")
    assert states[1:4] == [["bad", "faulty"], ["good", "ok"], ["away", "no"]]
    assert run.out.splitlines()[-1] == f"{path}: 2 faults, 1 no such file"
    path.write_text(path.read_text().replace("path: ", "pth: ", 1))
    found = json.loads(cli("check", path, "--json").out)
    assert (found["model"], found["unchecked"]) == (None, ["model"])
    assert {stream["name"]: stream["state"] for stream in found["streams"]}["good"] == "ok"
    assert cli("check", path).out.splitlines()[-1].endswith("; not checked because of that: model")


def test_check_says_that_nothing_behind_broken_yaml_was_checked(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("streams:\n  - {name: a, source: [\n")
    run = cli("check", "s.yaml")
    assert run.code == 2
    assert run.out == "s.yaml: 1 fault; not checked because of that: model, streams\n"


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_video_is_no_configuration(command: str, cli: Any, media: Media) -> None:
    run = cli(command, media.clip())
    assert run.code == 2
    assert "this is not text; expected a streams.yaml. A video is looked at with 'pipeline probe'" in run.err


def test_a_file_from_another_editor(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("streams: []", encoding="utf-16")
    assert "s.yaml: this text is in UTF-16; save it in UTF-8\n" in cli("check", "s.yaml").err


def test_check_refuses_a_model_that_is_none(cli: Any, media: Media, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"not a model")
    path = written(tmp_path / "s.yaml", tmp_path / "bad.pt", f"name: good, source: {media.clip()}")
    run = cli("check", path)
    assert run.code == 2
    assert f"pipeline: {path}:1:15: model.path: " in run.err
    assert "good  ok" in run.out


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_class_that_the_model_does_not_have_is_told_with_its_place(
    cli: Any, model: Path, media: Media, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "s.yaml"
    lines = [
        "model:",
        f"  path: {model}",
        "  classes: [red, gren]",
        "streams:",
        f"  - {{name: a, source: {media.clip()}}}",
    ]
    path.write_text("\n".join(lines))
    run = cli(command, path)
    assert run.code == 2
    assert f"pipeline: {path}:3:12: model.classes: the model has no class 'gren'; did you mean 'green'?" in run.err


def test_check_knows_whether_a_region_lies_in_the_picture(cli: Any, model: Path, media: Media, tmp_path: Path) -> None:
    clip = media.clip()  # 64 x 48
    entries = [
        f"name: good, source: {clip}, region: [0, 0, 64, 48]",
        f"name: parts, source: {clip}, region: [0.5, 0.5, 0.5, 0.5]",
        f"name: wide, source: {clip}, region: [32, 0, 640, 48]",
        f"name: heir, source: {clip}",
        "name: gone, source: gone.mp4, region: [0, 0, 9999, 9999]",
    ]
    path = written(tmp_path / "s.yaml", model, *entries)
    path.write_text(path.read_text() + "defaults: {region: [0, 0, 2, 480]}\n")
    run = cli("check", path, "--json")
    assert run.code == 2
    found = json.loads(run.out)
    assert [(fault["line"], fault["path"]) for fault in found["faults"]] == [
        (5, ["streams", 2, "region"]), (10, ["defaults", "region"]),
    ]  # fmt: skip
    wide, heir = (fault["message"] for fault in found["faults"])
    assert wide.startswith("the region ends at (672, 48) but the picture has 64x48 pixels; make it smaller")
    assert heir.endswith("(inherited by heir)")
    states = {stream["name"]: stream["state"] for stream in found["streams"]}
    assert states == {"good": "ok", "parts": "ok", "wide": "faulty", "heir": "faulty", "gone": "no such file"}
    assert f"pipeline: {path}:5:" in cli("check", path).err


@pytest.mark.parametrize(
    ("status", "state"),
    [(401, "refused (401)"), (403, "refused (403)"), (404, "not found (404)"), (500, "unreachable")],
)
def test_check_says_what_a_camera_answered(cli: Any, model: Path, tmp_path: Path, status: int, state: str) -> None:
    class Answer(Quiet):
        def do_GET(self) -> None:
            self.send_error(status)

    with answering(Answer) as url:
        path = written(tmp_path / "s.yaml", model, f"name: gate, source: '{url}/live'")
        run = cli("check", path)
    assert run.code == 3
    assert f"gate  {state}" in run.out
    assert run.out.splitlines()[-1] == f"{path}: no fault, 1 {state}"


def test_check_sees_a_sink_that_could_not_write(cli: Any, model: Path, media: Media, tmp_path: Path) -> None:
    path = written(tmp_path / "s.yaml", model, f"name: good, source: {media.clip()}")
    (tmp_path / "out").write_text("a file where a folder must be")
    run = cli("check", path, "--offline")
    assert run.code == 2
    assert f"sinks[0].path: {tmp_path / 'out'} cannot be written to: it is not a folder" in run.err


@pytest.mark.parametrize(
    ("sink", "fault"),
    [
        ("{type: jsonl, path: '/proc/here/{stream}.jsonl'}", "sinks[1].path: /proc cannot be written to: "),
        ("{type: csv, path: '/proc/{stream}.csv'}", "sinks[1].path: /proc cannot be written to: "),
        ("{type: coco, path: /proc/coco}", "sinks[1].path: /proc cannot be written to: "),
        ("{type: csv, path: folder}", "folder is a folder; expected a file"),
        ("{type: jsonl, path: /dev/null}", None),
        ("{type: jsonl, path: 'new/deep/{stream}/x.jsonl'}", None),
        ("{type: coco, path: folder}", None),
    ],
)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which even root can make nothing")
def test_check_tries_whether_a_sink_can_write(
    sink: str, fault: str | None, cli: Any, model: Path, media: Media, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    path = written(tmp_path / "s.yaml", model, f"name: good, source: {media.clip()}")
    path.write_text(f"{path.read_text()}  - {sink}\n")
    run = cli("check", path, "--offline")
    assert (run.code, fault is None) == (2 if fault else 0, run.err == "")
    assert (fault or "") in run.err
    assert len(run.err.splitlines()) == bool(fault)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "s.yaml"], "nothing is left behind"


def test_check_says_why_a_file_does_not_open(cli: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    streams = ("name: away, source: away.mp4", "name: text, source: text.mp4")
    path = written(tmp_path / "s.yaml", model, *streams)
    run = cli("check", path)
    assert run.code == 3
    lines = run.out.splitlines()
    assert lines[1] == f"away  no such file  {tmp_path / 'away.mp4'}: no such file"
    assert lines[2].startswith(f"text  no video      {tmp_path / 'text.mp4'}: ")
    assert lines[-1] == f"{path}: no fault, 1 no such file, 1 no video"
    states = [stream["state"] for stream in json.loads(cli("check", path, "--json").out)["streams"]]
    assert states == ["no such file", "no video"]
    assert len(cli("check", path, "--quiet").err.splitlines()) == 2


def test_probe_tells_what_a_source_really_is(cli: Any, media: Media) -> None:
    clip = media.clip(count=60, texture=True, options=B_FRAMES)
    run = cli("probe", clip, "--json")
    assert (run.code, run.err) == (0, "")
    found = json.loads(run.out)
    assert (found["codec"], found["width"], found["height"]) == ("h264", 64, 48)
    assert found["measured_fps"] == pytest.approx(25, rel=0.01)
    assert found["gop_max"] == 12
    assert found["b_frames"] is True
    lines = cli("probe", clip).out.splitlines()
    assert lines[0] == str(clip)
    words = dict(line.strip().split("  ", 1) for line in lines[1:])
    assert words["size"].strip() == "64 x 48"
    assert words["frame rate"].strip() == "25 declared, 25 measured, constant"
    assert "every 12.0 frames, 12 at most; with B-frames" in words["key frames"]


def test_probe_looks_at_a_stream_of_a_configuration(
    cli: Any, model: Path, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def look(config: StreamConfig) -> Source:
        opened.append((config.name, config.transport, config.hwaccel, resolve_source(config).reveal()))
        return glance(StreamConfig.model_validate({"name": "clip", "source": str(media.clip())}))

    glance = build.glance
    monkeypatch.setattr(build, "glance", look)
    monkeypatch.setenv("GATE_PASSWORD", "hunter2-Secret")
    camera = "name: Gate, source: 'rtsp://10.0.0.5/a', username: viewer, password_env: GATE_PASSWORD, transport: udp"
    path = written(tmp_path / "s.yaml", model, camera, "name: odd, source: 'pattern:', fsp: 5")
    run = cli("probe", "gate", "--config", path, "--json")
    assert (run.code, json.loads(run.out)["source"]) == (0, "rtsp://10.0.0.5/a")
    assert "hunter2" not in run.out + run.err
    assert "warning" not in run.err
    assert cli("probe", "gate", "--config", path, "--transport", "tcp", "--hwaccel", "auto").code == 0
    address = "rtsp://viewer:hunter2-Secret@10.0.0.5/a"
    assert opened == [("Gate", "udp", "none", address), ("Gate", "tcp", "auto", address)]
    run = cli("probe", "yard", "--config", path)
    assert (run.code, run.err) == (2, f"pipeline: {path}: it has no stream yard; its streams are Gate, odd\n")
    for typed, meant in (("gaet", "Gate"), ("odf", "odd")):
        assert cli("probe", typed, "--config", path).err.endswith(f"no stream {typed}; did you mean '{meant}'?\n")
    run = cli("probe", "odd", "--config", path)
    assert (run.code, "unknown key; did you mean 'fps'?" in run.err) == (2, True)
    monkeypatch.delenv("GATE_PASSWORD")
    run = cli("probe", "gate", "--config", path)
    assert (run.code, "password_env: the environment variable GATE_PASSWORD that" in run.err) == (2, True)


def test_probe_and_check_agree_on_a_variable_rate(cli: Any, model: Path, media: Media, tmp_path: Path) -> None:
    """Three seconds at 25 fps, then at 5: the look of ``check`` ends in the first part."""
    pts = [*range(0, 3000, 40), *range(3000, 9200, 200)]
    clip = media.clip("mkv", count=len(pts), pts=pts, time_base=Fraction(1, 1000))
    probed = json.loads(cli("probe", clip, "--json").out)
    path = written(tmp_path / "s.yaml", model, f"name: good, source: {clip}")
    checked = json.loads(cli("check", path, "--json").out)["streams"][0]
    assert probed["measured_fps"] == checked["probe"]["measured_fps"] == pytest.approx((len(pts) - 1) / 9.0, rel=0.001)
    assert (probed["variable_rate"], checked["probe"]["variable_rate"]) == (True, True)
    assert checked["summary"].startswith("h264 64 x 48, 11.7 fps (")
    assert checked["summary"].endswith(", variable")
    assert checked["probe"]["frames"] < 60, "a check only glances"


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("text.mp4", 1, "text.mp4"),
        ("rtsp://me:pa55word@127.0.0.1:1/x", 1, "rtsp://127.0.0.1:1/x: cannot open: connection refused"),
        ("rtsp://me:pa55/word@127.0.0.1:1/x", 2, "must be percent-encoded"),
        (".", 2, "one source at a time; this means 2"),
    ],
)
def test_probe_of_what_is_no_source(cli: Any, source: str, code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "more.mp4").write_text("no video\n" * 100)
    run = cli("probe", source)
    assert (run.code, run.out) == (code, "")
    assert message in run.err
    assert "pa55" not in run.err
    lines = [line for line in run.err.splitlines() if "shows in the list of processes" not in line]
    assert len(lines) == 1
    assert len(run.err.splitlines()) - len(lines) == ("pa55word" in source), "a hint where a password was typed"
    assert len(cli("probe", source, "--quiet").err.splitlines()) == 1


def test_probe_sees_that_a_recording_is_cut_short(cli: Any, media: Media, model: Path, tmp_path: Path) -> None:
    whole = media.clip(count=200, texture=True, muxing={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-1000])
    assert json.loads(cli("probe", whole, "--json").out)["truncated"] is None
    assert cli("probe", whole).err == ""
    run = cli("probe", cut, "--seconds", "0.5")
    assert (run.code, run.err.count("\n")) == (0, 1)
    assert run.err.startswith("pipeline: warning: ")
    assert "cut.mp4: truncated: 1000 of " in run.err
    assert "  cut short " in run.out
    assert json.loads(cli("probe", cut, "--json").out)["truncated"].startswith("1000 of ")
    path = written(tmp_path / "s.yaml", model, f"name: cut, source: {cut}")
    assert cli("check", path).out.splitlines()[1].endswith(", cut short")


def test_run_ends_when_its_recordings_end(cli: Any, model: Path, media: Media, tmp_path: Path) -> None:
    path = written(tmp_path / "s.yaml", model, f"name: good, source: {media.clip(count=10)}, policy: every_frame")
    run = cli("run", path)
    assert run.code == 0
    assert run.out == ""
    assert re.search(r"pipeline: detector ready: .+ on cpu; 1 stream; PID \d+\n", run.err)
    assert len((tmp_path / "out" / "good.jsonl").read_text().splitlines()) == 10
