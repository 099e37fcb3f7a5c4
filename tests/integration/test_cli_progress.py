# SPDX-License-Identifier: Apache-2.0
"""The bars at a given moment, and the pictures of the window."""

from __future__ import annotations

import io
import sys
import threading

import numpy as np
import pytest
from rich.console import Console

from pipeline.cli.terminal import progress as module
from pipeline.cli.terminal.progress import EVERY_STREAM, display, progress
from pipeline.frame import Detections, Picture, Result, StreamInfo
from pipeline.ledger import Ledger, StreamLedger
from tests.ledgers import lose

S = 1_000_000_000


def ledger_of(count: int, *, waiting: int = 0, frames: int | None = 100) -> Ledger:
    """``count`` streams that have done half of their frames in two seconds, and some that have not begun."""
    ledger = Ledger()
    ledger.begin(1 * S)
    for index in range(count):
        account = ledger.streams[f"camera-{index}"] = StreamLedger(f"camera-{index}")
        account.life.info = StreamInfo(account.name, frames=frames)
        account.opened_ns, account.last_result_ns, account.state = 1 * S, 3 * S, "live"
        account.decoded, account.processed = 52, 50
    for index in range(waiting):
        ledger.streams[f"waiting-{index}"] = StreamLedger(f"waiting-{index}")
    return ledger


def lines(ledger: Ledger, streams: int, *, limit: int | None = None, rows: int = 40, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(display(ledger, streams, limit, 3 * S, rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_bar_per_stream_and_a_line_of_all() -> None:
    ledger = ledger_of(2, waiting=1)
    ledger.streams["camera-1"].state = "truncated"
    shown = lines(ledger, 3)
    assert len(shown) == 4
    assert shown[0].startswith("camera-0  ")
    assert shown[0].split()[2:] == ["50/100", "25.0", "fps"]
    assert shown[1].split()[2:] == ["50/52", "25.0", "fps", "truncated"]
    assert shown[2].split()[2:] == ["0", "waiting"]
    assert shown[3] == "1/3 streams, 100 frames, 50.0 fps, 2.00 s, about 2.56 s left"


def test_what_is_left_is_told_where_the_lengths_are_known() -> None:
    assert lines(ledger_of(2), 2)[-1].endswith("about 2.00 s left")
    assert "left" not in lines(ledger_of(2, frames=None), 2)[-1]
    assert lines(ledger_of(2, frames=None), 2, limit=75)[-1].endswith("about 1.00 s left")


def test_of_streams_that_wait_the_length_is_taken_to_be_the_average() -> None:
    assert lines(ledger_of(2, waiting=2), 4)[-1].endswith("about 6.00 s left")
    assert lines(ledger_of(2), 4)[-1].endswith("about 6.00 s left")  # not even in the accounts yet
    ledger = ledger_of(2, waiting=1)
    ledger.streams["waiting-0"].state = "failed"  # never opened: it will have none
    assert lines(ledger, 3)[-1].endswith("about 2.00 s left")


def test_drops_are_told() -> None:
    ledger = ledger_of(1)
    lose(ledger.streams["camera-0"], "inference_error", 2)
    assert ", 2 dropped" in lines(ledger, 1)[-1]


@pytest.mark.parametrize(
    ("streams", "rows", "bars"), [(12, 40, 12), (13, 40, 12), (500, 40, 12), (500, 5, 5), (10, 5, 5)]
)
def test_many_streams_show_those_that_are_open(streams: int, rows: int, bars: int) -> None:
    ledger = ledger_of(streams)
    shown = lines(ledger, streams, rows=rows)
    assert len(shown) == min(bars, EVERY_STREAM) + 1
    assert max(map(len, shown)) <= 80


def test_of_many_streams_those_that_have_ended_make_room() -> None:
    ledger = ledger_of(30, waiting=10)
    for index in range(25):
        ledger.streams[f"camera-{index}"].state = "finished"
    shown = lines(ledger, 40)
    assert [line.split()[0] for line in shown[:-1]] == [f"camera-{index}" for index in range(25, 30)]
    assert shown[-1].startswith("25/40 streams")


@pytest.mark.parametrize("width", [40, 60, 200])
def test_any_width(width: int) -> None:
    assert max(map(len, lines(ledger_of(3), 3, width=width))) <= width


def test_nothing_is_shown_of_a_short_run_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    with progress(lambda: ledger_of(1), 1, limit=None, quiet=False, loading="loading"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_run_on_a_virtual_clock_is_as_old_as_it_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ledger.ledger.now_ns", lambda: 1 * S)
    ledger = ledger_of(2)
    ledger.pauses = None
    ledger.begin(90_000 * S)
    assert lines(ledger, 2)[-1] == "0/2 streams, 100 frames, 50.0 fps, 2.00 s, about 2.00 s left"


def test_a_long_run_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_EVERY_S", 0.001)
    monkeypatch.setattr(module, "now_ns", lambda: 3 * S)
    looks: list[int] = []
    looked = threading.Event()

    def ledger() -> Ledger | None:
        looks.append(1)
        if len(looks) > 4:
            looked.set()
        return ledger_of(2) if len(looks) > 2 else None  # the model is still being loaded

    with progress(ledger, 2, limit=None, quiet=False, loading="loading"):
        assert looked.wait(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) >= 2
    assert set(err.splitlines()) == {"pipeline: 0/2 streams, 100 frames, 50.0 fps, 2.00 s, about 2.00 s left"}
    assert "progress" not in [thread.name for thread in threading.enumerate()]
    looks.clear()
    with progress(ledger, 2, limit=None, quiet=True, loading="loading"):
        pass
    assert (looks, capsys.readouterr()) == ([], ("", ""))


def test_the_window_lays_pictures_out_in_a_grid() -> None:
    pytest.importorskip("cv2")
    from pipeline.cli.terminal.window import mosaic

    def result(stream: str, grey: int) -> Result:
        plane = np.full((60, 80), grey, np.uint8)
        return Result(stream, 0, 0.0, None, 80, 60, Detections.empty(), {}, picture=Picture((plane,), "gray"))

    canvas = np.full((240, 320, 3), 7, np.uint8)
    results = [result("c", 150), result("a", 50), result("b", 100)]
    shown = mosaic(results, canvas)
    assert shown is canvas
    middles = [int(shown[row, column, 0]) for row, column in ((40, 80), (40, 240), (160, 80), (160, 240))]
    assert middles == [50, 100, 150, 0]
