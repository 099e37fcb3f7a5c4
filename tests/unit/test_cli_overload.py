# SPDX-License-Identifier: Apache-2.0
"""The daemon's words about overload: when it has lasted, when it is over, and few."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.cli.capacity import overload
from pipeline.cli.capacity.overload import Overload
from pipeline.cli.program.folding import Folding
from pipeline.host.neighbours import Moment
from pipeline.ledger import BatchRun, Ledger, StreamLedger
from pipeline.testing import ManualClock
from pipeline.timing import Mark, new_trace
from tests.ledgers import lose

S = 1_000_000_000


class World:
    """A daemon of some streams, second by second; its network is busy for ``busy`` of the time."""

    def __init__(self, *names: str, **model: Any) -> None:
        self.ledger = Ledger()
        self.clock = ManualClock()
        self.ledger.begin(self.clock.now_ns())
        for name in names:
            self.ledger.add(StreamLedger(name, live=True))
        self.cpu_ns = 0
        self.used_ns: int | None = None  # by anybody; None: nothing is known of others
        facts = {"path": "m.pt", "device": "cpu", "workers": 8, **model}
        self.news = Overload(lambda: facts, lambda: self.cpu_ns, self.machine)

    def machine(self) -> Moment | None:
        known = self.used_ns is not None
        return Moment(self.clock.now_ns(), self.used_ns or 0, self.cpu_ns) if known else None

    def second(
        self,
        seconds: int = 1,
        *,
        busy: float = 1.0,
        core: float = 1.0,
        decoding: float = 0.0,
        others: float | None = None,
        reason: str = "overflow",
        decimated: int = 0,
        **lost: int,
    ) -> None:
        """Seconds in each of which every stream has ten frames, and loses so many of them. ``core``: for what part of
        the time that the network is busy it has a core; ``decoding``: for what part of it each reader decodes;
        ``others``: cores that other programs use; ``decimated``: frames of a stream that ``fps`` leaves out beside."""
        for _ in range(seconds):
            self.clock.advance(S)
            now_ns = self.clock.now_ns()
            for name, account in self.ledger.streams.items():
                account.decoded += 10 + decimated
                account.decimated += decimated
                if decoding:
                    account.finished(decoded_for(round(decoding * S / 10), now_ns))
                lose(account, reason, lost.get(name, 0))
            for worker in range(8):
                self.ledger.batch(BatchRun(f"detect:{worker}", 1, 1, now_ns - round(busy * S), now_ns, now_ns))
            self.cpu_ns += round(8 * busy * core * S)
            if others is not None:
                self.used_ns = (self.used_ns or 0) + round((8 * busy * core + others) * S)
            self.news.look(self.ledger, now_ns)


def decoded_for(took_ns: int, ended_ns: int) -> list[int]:
    """The journey of a frame that spent all of its time in the decoder."""
    trace = new_trace()
    for mark in Mark:
        trace[mark] = ended_ns
    trace[Mark.READ] = ended_ns - took_ns
    return trace


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.host.cores.allowed_cores", lambda: 8)
    for which in ("allowed_cores", "visible_cores"):
        monkeypatch.setattr(f"pipeline.host.neighbours.{which}", lambda: 8)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "pipeline")
    return caplog


def test_it_is_said_once_it_has_lasted_and_once_it_is_over(said: pytest.LogCaptureFixture) -> None:
    world = World("gate", "lobby")
    world.second(3)
    world.second(5, gate=4)
    assert said.messages == [], "five seconds are not over"
    world.second(2, gate=4)
    assert len(said.messages) == 1
    world.second(598, gate=4)
    assert said.messages == [
        "overload: gate loses 40 % of its frames; the network is busy 100 % of the time, 8.0 of 8 cores used; "
        "what would help most: `pipeline model tune m.pt`, once"
    ]
    assert said.records[0].levelno == logging.WARNING
    said.clear()
    world.second(59)
    assert said.messages == []
    world.second(120)
    assert said.messages == [
        "overload is over, after 10 min 04 s and 2,420 lost frames; nothing was lost to it for the last minute"
    ]


def test_a_hiccup_is_no_overload(said: pytest.LogCaptureFixture) -> None:
    world = World("gate")
    for _ in range(20):
        world.second(3, gate=5)
        world.second(6)
    world.second(reason="shutdown", seconds=30, gate=9)
    assert said.messages == []


def test_many_streams_are_one_line_and_more_of_them_one_a_minute(said: pytest.LogCaptureFixture) -> None:
    names = [f"cam-{number}" for number in range(40)]
    world = World(*names, tuned={"batch": 4})
    lost = dict.fromkeys(names[:5], 5) | {"cam-3": 9}
    world.second(3, **{"cam-3": 9})
    world.second(10, **lost)
    assert said.messages == [
        "overload: 5 of 40 streams lose frames, up to 90 % of them (cam-3, cam-0, cam-1 and 2 more); the network is "
        "busy 100 % of the time, 8.0 of 8 cores used; what would help most: a smaller model.input, or a lower fps"
    ]
    for number in range(5, 40):  # one more each second
        lost[f"cam-{number}"] = 2
        world.second(**lost)
    assert len(said.messages) == 1
    world.second(120, **lost)
    assert len(said.messages) == 2
    assert said.messages[1].startswith("overload: 40 of 40 streams lose frames")


def test_where_the_network_has_time_left_reading_is_what_is_too_much(said: pytest.LogCaptureFixture) -> None:
    world = World("gate")
    world.second(20, busy=0.5, decoding=0.9, gate=4)
    (message,) = said.messages
    assert (
        "the network is busy 50 % of the time, the reader of a stream 90 %, 4.0 of 8 cores used; what would help most: "
        "a smaller stream"
    ) in message


def test_what_fps_leaves_out_does_not_make_a_loss_small(said: pytest.LogCaptureFixture) -> None:
    world = World("gate")
    world.second(20, decimated=1990, gate=4)
    (message,) = said.messages
    assert message.startswith("overload: gate loses 40 % of its frames")


def test_readers_that_have_time_left_are_not_what_is_too_much(said: pytest.LogCaptureFixture) -> None:
    world = World("gate")
    world.second(20, busy=0.67, core=0.7, decoding=0.03, gate=4)
    (message,) = said.messages
    assert message.endswith("3.8 of 8 cores used; what would help most: `pipeline model tune m.pt`, once")


def test_where_most_is_lost_tuning_alone_is_no_advice(said: pytest.LogCaptureFixture) -> None:
    world = World("gate")
    world.second(20, gate=8)
    (message,) = said.messages
    assert message.endswith("what would help most: a lower fps, and `pipeline model tune m.pt`, once")


@pytest.mark.parametrize("tuned", [None, {"batch": 4}])
def test_a_network_without_a_core_is_not_what_is_too_slow(said: pytest.LogCaptureFixture, tuned: Any) -> None:
    world = World("gate", tuned=tuned)
    world.second(20, busy=0.85, core=0.3, gate=4)
    (message,) = said.messages
    assert message == (
        "overload: gate loses 40 % of its frames; the network is busy 85 % of the time, but has a core for at most "
        "30 % of that: the machine has other work; 2.0 of 8 cores used; what would help most: less of that work, or a "
        "lower fps"
    )


STARVED = ", but has a core for at most 50 % of that"
OTHERS = "the machine has other work; {}; what would help most: less of that work, or a lower fps"
TUNE = ", {}; what would help most: `pipeline model tune m.pt`, once"


@pytest.mark.parametrize(
    ("core", "others", "told"),
    [
        # A third more than 4.8 cores is wanted, and others have 3.2.
        (0.6, 3.2, ": " + OTHERS.format("4.8 of 8 cores used, 3.2 by other programs")),
        (0.5, 4.0, f"{STARVED}: " + OTHERS.format("4.0 of 8 cores used, 4.0 by other programs")),
        # A third more than 7 cores is more than others have: the cameras are too many, too.
        (0.875, 1.0, TUNE.format("7.0 of 8 cores used, 1.0 by other programs")),
        # What any system does beside is not told.
        (0.95, 0.04, TUNE.format("7.6 of 8 cores used")),
        # Cores are left, so it is not others who have them: a quota, or threads that wait for the interpreter.
        (0.5, 1.0, STARVED + TUNE.format("4.0 of 8 cores used, 1.0 by other programs")),
    ],
)
def test_who_has_the_cores_is_counted(said: pytest.LogCaptureFixture, core: float, others: float, told: str) -> None:
    world = World("gate", "lobby")
    world.second(3, core=core, others=others)
    world.second(20, core=core, others=others, gate=3)
    (message,) = said.messages
    assert message.split(" of the time")[1] == told


def test_on_a_gpu_the_network_needs_no_core(said: pytest.LogCaptureFixture) -> None:
    world = World("gate", device="cuda:0")
    world.second(20, core=0.3, gate=4)
    (message,) = said.messages
    assert "other work" not in message


def test_a_stream_that_was_removed_loses_nothing_more(said: pytest.LogCaptureFixture) -> None:
    world = World("gate", "lobby")
    world.second(10, gate=4)
    world.ledger.retire("gate")
    world.second(60)
    assert said.messages[-1].startswith("overload is over, ")


def test_coming_and_going_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    world = World("gate")
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    folding = Folding(Lines(), world.clock)
    logger = logging.getLogger("pipeline")
    before = logger.level
    logger.addHandler(folding)
    logger.setLevel(logging.INFO)
    try:
        for _ in range(30):  # ten minutes
            world.second(10, gate=4)
            world.second(10)
    finally:
        logger.removeHandler(folding)
        logger.setLevel(before)
    assert lines[0].startswith("overload: gate loses ")
    assert len(lines) <= 10, "no more than a line a minute"


class _Failing:
    """Looks fail twice; ``third``: the look after that has been."""

    def __init__(self) -> None:
        self.looks = 0
        self.third = threading.Event()

    def look(self, ledger: Ledger, now_ns: int) -> None:
        self.looks += 1
        if self.looks < 3:
            raise ZeroDivisionError
        self.third.set()


def test_a_look_that_fails_is_said_once_and_the_next_one_comes(
    said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = _Failing()
    monkeypatch.setattr(overload, "Overload", lambda *given: failing)
    monkeypatch.setattr(overload, "EVERY_S", 0.01)
    with overload.overload_told(cast("Any", SimpleNamespace(ledger=Ledger(), stopping=False))):
        assert failing.third.wait(10.0)
    assert said.messages == ["looking for overload failed"]
