# SPDX-License-Identifier: Apache-2.0
"""Where threads meet: bounds, policies, both ends of a channel, and who owns the threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from pipeline.threads import Channel, Closed, StopFlag, WorkerGroup
from tests.background import DEADLINE_S, Background


class TestBound:
    def test_elements_come_out_in_the_order_in_which_they_went_in(self) -> None:
        channel: Channel[int] = Channel(3)
        for number in range(3):
            assert channel.put(number) is None
        assert len(channel) == 3
        assert [channel.get() for _ in range(3)] == [0, 1, 2]
        assert len(channel) == 0

    def test_a_producer_waits_at_the_capacity_until_an_element_is_taken(self) -> None:
        channel: Channel[int] = Channel(2)
        channel.put(0)
        channel.put(1)
        producer = Background(lambda: channel.put(2)).parked()
        assert len(channel) == 2
        assert channel.get() == 0
        assert producer.result() is None
        assert channel.drain() == [1, 2]

    def test_a_consumer_waits_for_an_element(self) -> None:
        channel: Channel[str] = Channel(1)
        consumer = Background(channel.get).parked()
        channel.put("a")
        assert consumer.result() == "a"

    def test_what_belongs_together_goes_in_at_once_as_soon_as_there_is_room_for_one(self) -> None:
        channel: Channel[int] = Channel(2)
        channel.put_all(0, 1)
        producer = Background(lambda: channel.put_all(2, 3, 4)).parked()
        assert channel.get() == 0
        producer.result()
        assert channel.get_all() == [1, 2, 3, 4]

    def test_who_has_no_patience_left_gets_nothing_and_goes_on(self) -> None:
        channel: Channel[int] = Channel(2)
        assert channel.get_all(lambda: 0.0) == []
        assert channel.get_all(iter([0.001, -0.001]).__next__) == []
        channel.put(1)
        assert channel.get_all(lambda: 0.0) == [1]

    def test_patience_is_asked_for_again_when_somebody_wakes_the_consumer(self) -> None:
        channel: Channel[int] = Channel(2)
        left_s = [3600.0]
        consumer = Background(lambda: channel.get_all(lambda: left_s[0])).parked()
        left_s[0] = 0.0
        channel.wake()
        assert consumer.result() == []

    def test_patience_outlasts_the_end_but_no_abort(self) -> None:
        channel: Channel[int] = Channel(2)
        channel.close()
        assert channel.get_all(iter([0.001, -0.001]).__next__) == []
        with pytest.raises(Closed):
            channel.get_all()
        consumer = Background(lambda: channel.get_all(lambda: 3600.0)).parked()
        channel.abort()
        with pytest.raises(Closed):
            consumer.result()

    def test_all_that_is_there_is_taken_at_once(self) -> None:
        channel: Channel[int] = Channel(2)
        consumer = Background(channel.get_all).parked()
        channel.put(0)
        assert consumer.result() == [0]
        channel.put_all(1, 2)
        producers = [Background(lambda number=number: channel.put(number)).parked() for number in (3, 4)]
        assert channel.get_all() == [1, 2]  # and all that it held up go on
        for producer in producers:
            assert producer.result() is None
        assert sorted(channel.get_all()) == [3, 4]

    @pytest.mark.parametrize("capacity", [0, -1])
    def test_a_channel_without_room_is_refused(self, capacity: int) -> None:
        with pytest.raises(ValueError, match="at least one element"):
            Channel(capacity)


class TestFreshest:
    def test_the_oldest_makes_room(self) -> None:
        channel: Channel[int] = Channel(2, "freshest")
        assert [channel.put(number) for number in range(4)] == [None, None, 0, 1]
        assert channel.drain() == [2, 3]

    def test_only_what_is_spare_is_pushed_out(self) -> None:
        channel: Channel[str] = Channel(2, "freshest", spare=str.islower)
        assert channel.put("A") is None
        assert channel.put("b") is None
        assert channel.put("c") == "b"
        assert channel.put("D") == "c"
        assert channel.put("E") is None  # nothing spare: kept above the capacity
        assert channel.put("f") is None
        assert channel.put("g") == "f"
        assert channel.drain() == ["A", "D", "E", "g"]

    def test_it_says_when_nobody_will_take_it_any_more(self) -> None:
        closed: Channel[int] = Channel(1, "freshest")
        closed.put(0)
        closed.close()
        with pytest.raises(Closed):
            closed.put(1)
        assert closed.drain() == [0]  # nothing was pushed out for it


class TestEnds:
    def test_what_is_inside_at_the_close_is_delivered_then_closed(self) -> None:
        channel: Channel[int] = Channel(2)
        channel.put(0)
        channel.put(1)
        channel.close()
        assert [channel.get(), channel.get_all()] == [0, [1]]
        for take in (channel.get, channel.get_all):
            with pytest.raises(Closed):
                take()

    def test_an_abort_delivers_nothing_but_to_the_drain(self) -> None:
        channel: Channel[int] = Channel(3)
        channel.put(0)
        channel.put(1)
        channel.abort()
        with pytest.raises(Closed):
            channel.get()
        with pytest.raises(Closed):
            channel.get_all()
        for put in (channel.put, channel.put_all):
            with pytest.raises(Closed):
                put(2)
        assert channel.drain() == [0, 1]
        assert len(channel) == 0
        with pytest.raises(Closed):
            channel.get()

    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_the_end_wakes_every_waiting_consumer(self, end: str) -> None:
        channel: Channel[int] = Channel(1)
        consumers: list[Background[Any]] = [Background(take).parked() for take in (channel.get, channel.get_all)]
        getattr(channel, end)()
        for consumer in consumers:
            with pytest.raises(Closed):
                consumer.result()

    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_the_end_wakes_every_waiting_producer(self, end: str) -> None:
        channel: Channel[int] = Channel(1)
        channel.put(0)
        producers: list[Background[Any]] = [
            Background(lambda put=put: put(1)).parked() for put in (channel.put, channel.put_all)
        ]
        getattr(channel, end)()
        for producer in producers:
            with pytest.raises(Closed):
                producer.result()
        assert channel.drain() == [0]

    def test_a_drain_makes_room_for_every_waiting_producer(self) -> None:
        channel: Channel[int] = Channel(2)
        channel.put(0)
        channel.put(1)
        producers = [Background(lambda number=number: channel.put(number)).parked() for number in (2, 3)]
        assert channel.drain() == [0, 1]
        for producer in producers:
            assert producer.result() is None
        assert sorted(channel.drain()) == [2, 3]


class TestStopFlag:
    def test_a_stop_stays(self) -> None:
        stop = StopFlag()
        assert not stop.is_set()
        assert not stop.wait(0)
        stop.set()
        stop.set()
        assert stop.is_set()
        assert stop.wait(DEADLINE_S)

    def test_it_wakes_everybody_who_pauses(self) -> None:
        stop = StopFlag()
        pauses = [Background(lambda: stop.wait(10 * DEADLINE_S)).parked() for _ in range(2)]
        stop.set()
        assert [pause.result() for pause in pauses] == [True, True]


class TestWorkerGroup:
    def test_threads_are_named_and_waited_for(self) -> None:
        group, hold, names = WorkerGroup(), threading.Event(), []

        def body() -> None:
            hold.wait(DEADLINE_S)
            names.append(threading.current_thread().name)

        thread = group.start("detect:0", body)
        assert thread.daemon  # a thread stuck in native code never keeps the process
        assert group.alive() == ["detect:0"]
        assert group.join(0) == ["detect:0"]
        assert group.join(0.01) == ["detect:0"]
        hold.set()
        assert group.join(DEADLINE_S) == []
        assert names == ["detect:0"]
        assert group.alive() == []

    def test_a_join_without_a_deadline_waits_for_all(self) -> None:
        group, hold, done = WorkerGroup(), threading.Event(), []
        for number in range(3):
            group.start(str(number), lambda number=number: (hold.wait(DEADLINE_S), done.append(number)))
        waiting = Background(group.join)
        hold.set()
        assert waiting.result() == []
        assert sorted(done) == [0, 1, 2]

    def test_a_thread_that_could_not_be_started_is_nobodys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group, done = WorkerGroup(), []

        def refused(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            with pytest.raises(RuntimeError):
                group.start("first", lambda: done.append("first"))
        assert group._threads == []
        group.start("second", lambda: done.append("second"))
        assert group.join(DEADLINE_S) == []
        assert done == ["second"]

    def test_what_a_thread_starts_is_waited_for_too(self) -> None:
        group, hold = WorkerGroup(), threading.Event()
        first = group.start("first", lambda: group.start("second", lambda: hold.wait(DEADLINE_S)))
        first.join(DEADLINE_S)
        assert group.join(0.01) == ["second"]
        hold.set()
        assert group.join(DEADLINE_S) == []


GOES_FIRST = """
import os, sys, threading
from pipeline.threads import go_first

if sys.argv[1] == "without":
    os.setuid(65534)
seen, before = [], os.getpriority(os.PRIO_PROCESS, 0)

def work():
    for _ in range(2):
        go_first()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) - before)

def begun_by_it():
    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

thread = threading.Thread(target=begun_by_it)
thread.start()
thread.join()
print(*seen, os.getpriority(os.PRIO_PROCESS, 0) - before)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a right away takes having it")
@pytest.mark.parametrize(("right", "told"), [("with", "-10 -10 -10 -10 0"), ("without", "0 0 0 0 0")])
def test_a_thread_goes_first_where_that_is_allowed_and_only_it(right: str, told: str) -> None:
    done = subprocess.run([sys.executable, "-c", GOES_FIRST, right], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told
