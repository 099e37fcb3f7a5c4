# SPDX-License-Identifier: Apache-2.0
"""Log lines for machines, and lines that are said again and again."""

from __future__ import annotations

import io
import json
import logging
import os
import random
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.cli.program.folding import FOLD_NS, MOST_REMEMBERED, SETTLED_NS, Folding
from pipeline.cli.program.logs import OneLine, times_for
from pipeline.cli.program.running import logging_to_stderr
from pipeline.errors import SinkError
from pipeline.events import Condition
from pipeline.flow.outlet import Delivery, Outlet
from pipeline.frame import Detections, Result
from pipeline.ledger import StreamLedger
from pipeline.sources.reconnecting import Reconnecting
from pipeline.testing import ListSink, ManualClock, ScriptedSource
from pipeline.timing import new_trace


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = re.sub(r"\d\d:\d\d:\d\d\)$", "TIME)", record.getMessage())
        self.texts.append(f"{record.levelname}: {text}")


class Talk:
    """A folding handler under a manual clock."""

    def __init__(self) -> None:
        self.clock, self.heard = ManualClock(), Heard()
        self.handler = Folding(self.heard, self.clock)

    def say(self, text: str, level: int = logging.WARNING) -> None:
        self.handler.handle(logging.LogRecord("pipeline", level, "x.py", 1, "%s", (text,), None))


class Disk(ListSink):
    full = False

    def write(self, result: Result) -> None:
        if self.full:
            raise SinkError("the disk is full")


@contextmanager
def listening(handler: logging.Handler) -> Iterator[None]:
    """To what supervised sources say."""
    log = logging.getLogger("pipeline.sources.reconnecting")
    before = log.level
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True
        log.setLevel(before)


def test_what_was_said_does_not_keep_what_it_was_about_alive() -> None:
    class Torn(Exception):
        pass

    talk, error = Talk(), Torn("torn")
    torn = weakref.ref(error)
    info = (Torn, error, error.__traceback__)
    talk.handler.handle(logging.LogRecord("pipeline", logging.ERROR, "x.py", 1, "gate: %s", (error,), info))
    del error, info
    assert torn() is None
    talk.say("gate: torn", logging.ERROR)
    talk.handler.close()
    assert talk.heard.texts == ["ERROR: gate: torn", "ERROR: gate: torn (repeated once more within a minute from TIME)"]


def test_what_is_said_again_within_a_minute_becomes_a_count() -> None:
    talk = Talk()
    for _ in range(5):
        talk.say("gate: backoff")
        talk.clock.advance(1_000_000_000)
    talk.say("gate: backoff", logging.ERROR)
    talk.say("other")
    talk.clock.advance(FOLD_NS)
    talk.say("later")
    assert talk.heard.texts == [
        "WARNING: gate: backoff",
        "ERROR: gate: backoff",
        "WARNING: other",
        "WARNING: gate: backoff (repeated 4 more times within a minute from TIME)",
        "WARNING: later",
    ]
    talk.say("later")
    talk.handler.close()
    assert talk.heard.texts[-1] == "WARNING: later (repeated once more within a minute from TIME)"


def test_what_goes_on_for_long_is_a_line_a_minute() -> None:
    talk = Talk()
    for _ in range(190):
        talk.say("gate: backoff")
        talk.clock.advance(1_000_000_000)
    talk.handler.close()
    counts = [int(text.partition("repeated ")[2].split()[0]) for text in talk.heard.texts[1:]]
    assert len(counts) == 4
    assert sum(counts) == 189, "no repetition is lost"


def test_fifty_cameras_that_come_and_go_fill_no_log() -> None:
    """Up and down each second for five minutes, in the words of the reader, whose pauses are all different."""
    talk = Talk()
    cameras = [Reconnecting(lambda: ScriptedSource(()), name=f"camera-{n}") for n in range(50)]
    with listening(talk.handler):
        for second in range(300):
            for number, camera in enumerate(cameras):
                camera._tell(Condition("live"))
                pause = 0.5 + (second * 7 + number) % 60 / 10
                detail = f"rtsp://10.0.0.{number}/x: the feed ended"
                camera._tell(Condition("backoff", detail, "eof", 1, pause))
            talk.clock.advance(1_000_000_000)
    talk.handler.close()
    # Of each: it came and went; then in a minute once that it came back, as it was told that it went, and two counts.
    assert len(talk.heard.texts) <= 50 * (2 + 3 * 5)
    assert sum("camera-7: live" in text for text in talk.heard.texts) <= 1 + 2 * 5
    counts = [text.partition("repeated ")[2].split()[0] for text in talk.heard.texts if "repeated" in text]
    more = sum(1 if count == "once" else int(count) for count in counts)
    said = sum("repeated" not in text for text in talk.heard.texts)
    assert more + said == 50 * 2 * 300, "each of them is counted"


def test_who_was_told_that_it_went_is_told_that_it_came_back() -> None:
    """Whatever was said a minute ago of another outage; and an outage that was only counted has an end that is."""
    talk = Talk()
    camera = Reconnecting(lambda: ScriptedSource(()), name="gate")
    with listening(talk.handler):
        camera._tell(Condition("live"))
        for cause in ("eof", "timeout", "eof", "refused"):
            talk.clock.advance(2_000_000_000)
            camera._tell(Condition("backoff", f"gone: {cause}", cause, 1))
            talk.clock.advance(2_000_000_000)
            camera._tell(Condition("live"))
    talk.handler.close()
    assert [text.partition(": gate: ")[2].partition(" (repeated")[0] for text in talk.heard.texts] == [
        "live", "gone: eof", "live", "gone: timeout", "live", "gone: refused", "live", "gone: eof", "live",
    ]  # fmt: skip


def test_another_cause_of_the_same_outage_is_said_and_folded() -> None:
    talk = Talk()
    camera = Reconnecting(lambda: ScriptedSource(()), name="gate")
    with listening(talk.handler):
        camera._tell(Condition("live"))
        camera._tell(Condition("backoff", "gate: the feed ended", "eof", 1, 0.5))
        for number in range(240):
            talk.clock.advance(500_000_000)
            camera._tell(Condition("connecting"))
            cause = ("refused", "timeout")[number % 8 // 4]
            camera._tell(Condition("backoff", f"gate: {cause}", cause, 2, 0.5))
            talk.handler.look()
        assert [text.partition(": ")[2] for text in talk.heard.texts[:3]] == [
            "gate: live", "gate: gate: the feed ended (next try in 500 ms)", "gate: still reconnecting: gate: refused",
        ]  # fmt: skip
        assert len(talk.heard.texts) <= 3 + 2, "causes that take turns are a line a minute"
        camera._tell(Condition("live"))
        talk.clock.advance(SETTLED_NS)
        talk.handler.look()
        assert talk.heard.texts[-1] == "INFO: gate: live"
    talk.handler.close()


def test_a_sink_that_fails_again_is_not_left_as_one_that_keeps_results() -> None:
    """The second failure within a minute is only counted, until it has lasted."""
    talk = Talk()
    disk = Disk("disk")
    outlet = Outlet(disk, 4, "freshest")
    log = logging.getLogger("pipeline")
    log.addHandler(talk.handler)
    log.propagate = False
    one = Result("gate", 0, 0.0, None, 8, 8, Detections.empty(), {}, trace=new_trace())
    try:
        for disk.full in (True, False, True):
            outlet.write(Delivery(one, StreamLedger("gate"), 1), talk.clock.now_ns)
    finally:
        log.removeHandler(talk.handler)
        log.propagate = True
    assert talk.heard.texts[-1].startswith("WARNING: sink disk keeps results again")
    talk.clock.advance(SETTLED_NS)
    talk.handler.look()
    assert talk.heard.texts[-1] == "ERROR: sink disk: the disk is full"
    before = len(talk.heard.texts)
    talk.handler.close()
    assert len(talk.heard.texts) == before, "what was said in the end is not counted as well"


def test_the_count_of_a_line_whose_numbers_differ_has_the_latest() -> None:
    talk = Talk()
    for lost in (8, 20, 141):
        text = f"keeps results again, lost so far: {lost}"
        record = logging.LogRecord("pipeline", logging.WARNING, "x.py", 1, text, None, None)
        record.same = "keeps results"
        talk.handler.handle(record)
    talk.handler.close()
    assert talk.heard.texts[0].endswith("lost so far: 8")
    assert "lost so far: 141 (repeated 2 more times" in talk.heard.texts[-1]


def test_the_last_line_about_a_camera_says_how_it_stands() -> None:
    """Whatever came and went: after five seconds, after the counts of a minute, and at the end."""
    generator = random.Random(5)
    for _ in range(30):
        talk = Talk()
        camera = Reconnecting(lambda: ScriptedSource(()), name="gate")
        with listening(talk.handler):
            for _ in range(200):
                up = generator.random() < 0.5
                cause = generator.choice(("eof", "timeout"))
                camera._tell(Condition("live") if up else Condition("backoff", f"gone: {cause}", cause, 1))
                stands = camera._told
                talk.clock.advance(int(generator.expovariate(1 / 4e9)))
                held_ns = generator.choice((0, SETTLED_NS))
                talk.clock.advance(held_ns)
                talk.handler.look()
                if held_ns:
                    assert ("live" in talk.heard.texts[-1]) == (stands == "live"), talk.heard.texts[-5:]
        talk.handler.close()
        assert ("live" in talk.heard.texts[-1]) == (stands == "live")


def test_a_stream_that_is_begun_anew_says_that_it_is_there() -> None:
    talk = Talk()
    with listening(talk.handler):
        for _ in range(2):
            Reconnecting(lambda: ScriptedSource(()), name="gate")._tell(Condition("live"))
    assert talk.heard.texts == ["INFO: gate: live"] * 2


def test_what_happens_again_is_said_again() -> None:
    talk = Talk()
    for _ in range(2):
        record = logging.LogRecord("pipeline", logging.ERROR, "x.py", 1, "reload refused", None, None)
        record.event = True
        talk.handler.handle(record)
    assert talk.heard.texts == ["ERROR: reload refused"] * 2


def test_only_so_much_is_remembered_and_no_count_is_lost() -> None:
    talk = Talk()
    talk.say("first")
    talk.say("first")
    for number in range(MOST_REMEMBERED):
        talk.say(f"text {number}")
    assert talk.heard.texts[-2] == "WARNING: first (repeated once more within a minute from TIME)"
    assert len(talk.heard.texts) == MOST_REMEMBERED + 2


def test_counts_are_said_before_what_is_printed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("pipeline")
    with logging_to_stderr(logging.INFO, folded=True) as say_all:
        for _ in range(3):
            log.info("late")
        assert capsys.readouterr().err == "pipeline: late\n"
        say_all()
        told = capsys.readouterr().err
        assert told.startswith("pipeline: late (repeated 2 more times within a minute from ")
        say_all()
    assert capsys.readouterr().err == "", "once"
    with logging_to_stderr(logging.INFO) as say_all:
        say_all()


def test_lines_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(logging.INFO, as_json=True, folded=True):
        log = logging.getLogger("pipeline")
        log.info("gate: two\nlines, rtsp://me:hunter2@host/x", extra={"stream": "gate"})
        for _ in range(3):
            log.warning("again", extra={"stream": "yard"})
        try:
            raise ValueError("oh")
        except ValueError:
            log.exception("it failed")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "error", "warning"]
    assert [line.get("stream") for line in lines] == ["gate", "yard", None, "yard"], "counts know it, too"
    assert lines[0]["message"].startswith("gate: two\nlines, rtsp://")
    assert "hunter2" not in str(lines)
    assert "ValueError: oh" in lines[2]["trace"]
    assert lines[3]["message"].startswith("again (repeated 2 more times within a minute from ")
    assert all(line["time"].endswith("Z") for line in lines)


def test_a_line_has_the_time_where_nobody_else_notes_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("pipeline")
    with logging_to_stderr(logging.INFO, folded=True, timed=True):
        log.info("gate: live")
        log.warning("gate: away")
    with logging_to_stderr(logging.INFO, folded=True):  # a command that ends
        log.info("done")
    err = capsys.readouterr().err
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert re.fullmatch(rf"{time} pipeline: gate: live\n{time} pipeline: warning: gate: away\npipeline: done\n", err), (
        err
    )


def test_how_a_line_has_the_time() -> None:
    with open(os.devnull, "w") as file:
        told = os.fstat(file.fileno())
        journal = {"JOURNAL_STREAM": f"{told.st_dev}:{told.st_ino}"}
        assert times_for(file, {}) == "full"
        assert times_for(file, journal) == "none"
        assert times_for(file, {"JOURNAL_STREAM": "1:2"}) == "full", "it was redirected from the journal into a file"
    assert times_for(io.StringIO(), journal) == "full"
    assert times_for(None, {}) == "none", "a program may have no stderr"
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal, open(ours, "rb"):
        assert times_for(terminal, {}) == "clock"
    record = logging.LogRecord("pipeline", logging.WARNING, "", 0, "gate: away", None, None)
    record.created = 1_763_911_445.5
    assert OneLine("clock").format(record) == "15:24:05Z pipeline: warning: gate: away"
    assert OneLine("full").format(record) == "2025-11-23T15:24:05.500000Z pipeline: warning: gate: away"
