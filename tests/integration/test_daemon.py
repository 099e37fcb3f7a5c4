# SPDX-License-Identifier: Apache-2.0
"""``pipeline run`` as a process: what it survives, how signals end it, and what it leaves behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.daemons import GOP_OF_A_SECOND, JSONL, config, records
from tests.media import Media, media
from tests.models import Cells, save
from tests.processes import Running, daemon, hurried

__all__ = ["daemon", "media"]

LIVE_KEYS = ["stream", "frame", "pts", "time", "width", "height", "detections"]
LIVE_KEYS += ["run", "epoch", "latency_ms", "dropped_before"]
SHIPPED = Path(__file__).parents[2] / "streams.yaml"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Cells(), tmp_path_factory.mktemp("model") / "cells.pt")


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_whole_life(
    daemon: Callable[..., Running], media: Media, model: Path, tmp_path: Path, closed_port: int
) -> None:
    """Two good streams, one camera that is not there, one faulty entry and one full disk; then SIGTERM."""
    clip = media.clip("mkv", count=40, options=GOP_OF_A_SECOND)
    path = config(
        tmp_path,
        model,
        [
            "name: bars, source: 'pattern:?size=128x96&fps=30', fps: 15",
            f"name: clip, source: {clip}, loop: true, pace: realtime",
            f"name: gone, source: 'rtsp://viewer:hunter2-Secret@127.0.0.1:{closed_port}/stream'",
            "name: wrong, source: 'ftp://127.0.0.1/x'",
        ],
        [JSONL, "type: jsonl, path: /dev/full", "type: csv, path: 'out/{stream}.csv'", "type: coco, path: out"],
    )
    (tmp_path / "out").mkdir()
    whole = b'{"stream":"clip","frame":7,"pts":0.28}\n'
    (tmp_path / "out" / "clip.jsonl").write_bytes(whole + b'{"stream":"clip","fra')
    run = daemon(path, program=hurried())
    run.until(r"clip: live, \d+ results?, [3-9]\d in all")
    run.until(r"bars: live, \d+ results?, [2-9]\d in all")
    code, err = run.end()
    assert (code, run.out) == (0, ""), err

    assert re.search(r"warning: .*streams\[3\]\.source: sources of this kind are not allowed", err)
    assert re.search(r"warning: gone: rtsp://127\.0\.0\.1:\d+/stream: cannot open: connection refused", err)
    assert err.count("warning: gone: ") == 1, "once, however often it is tried"
    assert re.search(r"gone: (reconnecting|connecting), 0 results", err)
    assert err.count("error: sink jsonl-1: cannot write /dev/full") == 1
    assert re.search(r"sink jsonl-1 lost [\d,]+ results? \(write error [\d,]+\)", err)
    assert "SIGTERM: stopping" in err
    assert "unaccounted" not in err

    first, *live = (tmp_path / "out" / "clip.jsonl").read_bytes().splitlines(keepends=True)
    assert first == whole, "what was torn off is gone, what was whole is not"
    lines = {"clip": [json.loads(line) for line in live], "bars": records(tmp_path / "out" / "bars.jsonl")}
    for name, found in lines.items():
        assert len(found) >= 20
        for line in found:
            assert list(line) == LIVE_KEYS
            assert line["stream"] == name
            assert RFC3339.fullmatch(line["time"])
            stages = dict(line["latency_ms"])
            assert stages.pop("end_to_end") == pytest.approx(sum(stages.values()), abs=1e-6)
            assert set(stages) <= {"decode", "preprocess", "queue", "infer", "postprocess", "follow"}
        frames = [line["frame"] for line in found]
        assert frames == sorted(set(frames))
        assert sum(line["dropped_before"] for line in found) <= frames[-1] + 1 - len(found)
        assert [line["time"] for line in found] == sorted(line["time"] for line in found)
    assert lines["clip"][-1]["epoch"] == (len(live) - 1) // 40, "each lap is an epoch"
    assert len({line["run"] for found in lines.values() for line in found}) == 1
    assert [line["frame"] % 2 for line in lines["bars"][:10]] == [0] * 10, "15 of 30 frames per second"

    assert not (tmp_path / "out" / "gone.jsonl").exists(), "it was never there"
    images = json.loads((tmp_path / "out" / "coco_images.json").read_text())["images"]
    assert len(images) == sum(len(found) for found in lines.values())
    left = [err, *(path.read_text() for path in (tmp_path / "out").iterdir())]
    assert not any("hunter2" in text for text in left)


@pytest.fixture
def unread_pipe() -> Iterator[Callable[[Path], None]]:
    """Makes pipes that are open for reading, soon full, and never read."""
    with ExitStack() as stack:

        def make(path: Path) -> None:
            os.mkfifo(path)
            end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, end)
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)

        yield make


def test_the_second_signal_leaves_at_once(
    daemon: Callable[..., Running], unread_pipe: Callable[[Path], None], model: Path, tmp_path: Path
) -> None:
    """A sink that is stuck in the operating system."""
    unread_pipe(tmp_path / "pipe")
    run = daemon(
        config(tmp_path, model, ["name: bars, source: 'pattern:?fps=30'"], ["type: jsonl, path: pipe"]),
        program=hurried(),
    )
    run.until("bars: live, [1-9]")
    run.send(signal.SIGINT)
    run.until("stopping")
    assert run.end(signal.SIGTERM)[0] == 128 + signal.SIGTERM


def test_what_cannot_be_drained_is_given_up(
    daemon: Callable[..., Running], unread_pipe: Callable[[Path], None], model: Path, tmp_path: Path
) -> None:
    unread_pipe(tmp_path / "pipe")
    run = daemon(
        config(tmp_path, model, ["name: bars, source: 'pattern:?fps=30'"], ["type: jsonl, path: pipe"]),
        program=hurried(grace_s=0.5),
    )
    run.until("bars: live, [1-9]")
    code, err = run.end()
    assert code == 1
    assert "not drained within 0.5 s: write:jsonl" in err


def test_a_camera_that_never_answers_does_not_hold_the_stop_up(
    daemon: Callable[..., Running], model: Path, tmp_path: Path
) -> None:
    """libav waits out its time limit, here 60 s, and cannot be woken: the thread is left behind, nothing is lost."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/stream"
        streams = [f"name: deaf, source: '{url}', open_timeout_s: 60", "name: bars, source: 'pattern:?fps=30'"]
        run = daemon(config(tmp_path, model, streams, [JSONL]), program=hurried())
        run.until(r"bars: live, \d+ results?, [1-9]")
        code, err = run.end()
    assert code == 0
    assert "left behind: read:deaf\n" in err
    assert re.search(r"^bars +stopped +[1-9]", err, re.MULTILINE), "the tables come all the same"
    assert re.search(r"^deaf +stopped +0 ", err, re.MULTILINE)
    in_all = re.findall(r"bars: stopped, \d+ results?, (\d+) in all", err)
    assert len(records(tmp_path / "out" / "bars.jsonl")) == int(in_all[-1])


def test_the_shipped_configuration_runs_as_it_stands(daemon: Callable[..., Running], tmp_path: Path) -> None:
    """Results and counted drops together are the five frames a second that it asks for."""
    (tmp_path / "sample_videos").symlink_to(SHIPPED.parent / "sample_videos")
    (tmp_path / "streams.yaml").write_text(SHIPPED.read_text())
    run = daemon(tmp_path / "streams.yaml", program=hurried())
    for stream in ("plaza", "lobby"):
        run.until(rf"{stream}: live, \d+ results?, ([5-9]|[1-9]\d) in all")
    code, err = run.end()
    assert code == 0, err
    for stream in ("plaza", "lobby"):
        found = records(tmp_path / "out" / f"{stream}.jsonl")
        span_s = found[-1]["pts"] - found[0]["pts"]
        # A busy machine needs several laps; in each of them lobby has a hole of 0.4 s, in which nothing comes.
        slack = 1 + 0.4 * 5 * (1 + span_s // 12)
        assert len(found) - 1 + sum(line["dropped_before"] for line in found[1:]) == pytest.approx(
            5 * span_s, abs=slack
        )


def test_sighup_takes_the_changed_file(
    daemon: Callable[..., Running],
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    still = "name: still, source: 'pattern:?size=64x48&fps=20', policy: every_frame"
    other = "name: other, source: 'pattern:?size=64x48&fps=20', fps: 2"
    path = config(tmp_path, model, [still, other], [JSONL])
    run = daemon(path, program=hurried())
    run.until(r"still: live, \d+ results?, [1-9]\d* in all")
    config(tmp_path, model, [still, other.replace("fps: 2", "fps: 4"), still.replace("still", "new")], [JSONL])
    run.send(signal.SIGUSR1)
    run.until(r'File ".*pipeline\.py", line \d+ in _follow')
    run.until(r"thread 0x[0-9a-f]{16} is read:still")
    assert main(["reload", str(path), "--pid", str(run.process.pid)]) == 0
    assert "1 added, 1 changed, 0 removed, 1 untouched" in run.until("reloaded").string
    run.until(r"new: live, \d+ results?, [1-9]\d* in all")
    path.write_text("streams: [")
    assert main(["reload", str(path), "--pid", str(run.process.pid)]) == 1
    assert re.search(r"pipeline: .*streams\.yaml:1:\d+: .*\npipeline: reload refused, nothing", capfd.readouterr().err)
    run.until("reload refused, nothing was changed")
    assert json.loads((tmp_path / "reload.json").read_text())["outcome"] == "refused", "the daemon told it itself"
    assert re.search(r"streams\.yaml:1:\d+:", run.until("streams.yaml:1").string)
    path.unlink()
    config(tmp_path, model, [still], [JSONL])  # noticed without a signal
    assert "0 added, 0 changed, 2 removed, 1 untouched" in run.until("reloaded").string
    run.until(r"still: live, [1-9]\d* results?")
    code, log = run.end()
    assert code == 0, log
    frames = [record["frame"] for record in records(tmp_path / "out" / "still.jsonl")]
    assert frames == list(range(len(frames)))
    assert records(tmp_path / "out" / "new.jsonl")
    outputs = log[log.index("outputs in ") :].splitlines()[0]
    for name in ("still", "other", "new"):  # also of streams that were removed meanwhile
        assert f"{name}.jsonl" in outputs
    assert re.search(r"^[\d,]+ (frames|of [\d,]+ decoded frames processed,)( of)? 3 streams", log, re.MULTILINE), log
