# SPDX-License-Identifier: Apache-2.0
"""One result on its way to several sinks, and the account of a sink whatever it does."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest

from pipeline.errors import SinkError
from pipeline.flow.outlet import Began, Delivery, Ended, Outlet
from pipeline.frame import Detections, Result, StreamInfo
from pipeline.ledger import SinkLedger, SinkState, StreamLedger
from pipeline.testing import ListSink, ManualClock
from pipeline.threads import Closed, Policy
from pipeline.timing import Mark, new_trace
from tests.background import Background

PUBLISHED_NS = 50
INFO = StreamInfo("a")


def result(frame: int = 0) -> Result:
    trace = new_trace()
    trace[Mark.READ], trace[Mark.FOLLOWED] = 1, PUBLISHED_NS
    return Result("a", frame, 0.0, None, 8, 8, Detections.empty(), {}, trace=trace)


def delivery(frame: int = 0, account: StreamLedger | None = None, outlets: int = 1) -> Delivery:
    return Delivery(result(frame), account or StreamLedger("a"), outlets)


def finished(account: StreamLedger) -> int:
    return account.times.measured(0).latency.end_to_end.histogram.count


class TestDelivery:
    @pytest.mark.parametrize("order", list(itertools.permutations([(60, 90), (80, 85), (55, 70)])))
    def test_the_sink_that_finished_last_ends_the_frame_whoever_says_so_first(
        self, order: tuple[tuple[int, int], ...]
    ) -> None:
        account = StreamLedger("a")
        one = delivery(account=account, outlets=3)
        for began_ns, ended_ns in order:
            assert finished(account) == 0
            one.done(began_ns, ended_ns)
        trace = one.result.trace
        assert (trace[Mark.SINK], trace[Mark.DONE]) == (60, 90)
        assert finished(account) == 1
        assert account.times.measured(0).latency.end_to_end.histogram.total == 89

    @pytest.mark.parametrize("lost_at", [0, 1])
    def test_a_sink_that_lost_it_is_no_part_of_its_way(self, lost_at: int) -> None:
        account = StreamLedger("a")
        one = delivery(account=account, outlets=2)
        for turn in range(2):
            assert finished(account) == 0
            if turn == lost_at:
                one.done()
            else:
                one.done(60, 70)
        assert (one.result.trace[Mark.SINK], one.result.trace[Mark.DONE]) == (60, 70)
        assert finished(account) == 1

    def test_a_frame_that_every_sink_lost_ends_when_it_is_published(self) -> None:
        account = StreamLedger("a")
        one = delivery(account=account, outlets=2)
        one.done()
        one.done()
        assert (one.result.trace[Mark.SINK], one.result.trace[Mark.DONE]) == (0, 0)
        assert account.times.measured(0).latency.end_to_end.histogram.total == PUBLISHED_NS - 1
        assert "sink" not in account.times.measured(0).latency.as_dict()["stages"]

    def test_without_sinks_it_ends_at_once(self) -> None:
        account = StreamLedger("a")
        delivery(account=account, outlets=0)
        assert finished(account) == 1

    def test_many_sinks_finish_it_once(self) -> None:
        account = StreamLedger("a")
        one = delivery(account=account, outlets=8)
        for call in [Background(lambda at=at: one.done(60, 60 + at)) for at in range(1, 9)]:
            call.result()
        assert finished(account) == 1
        assert one.result.trace[Mark.DONE] == 68


class TestEnded:
    def test_it_settles_once_after_the_last_sink(self) -> None:
        settled: list[str] = []
        ended = Ended("a", 3, lambda: settled.append("a"))
        for _ in range(3):
            assert settled == []
            ended.done()
        assert settled == ["a"]

    def test_without_sinks_it_settles_at_once(self) -> None:
        settled: list[str] = []
        Ended("a", 0, lambda: settled.append("a"))
        assert settled == ["a"]


class Breaks(ListSink):
    """Fails in the calls that it is told to."""

    def __init__(self, *calls: str, error: Callable[[], Exception] = lambda: SinkError("disk full")) -> None:
        super().__init__("breaks")
        self.calls = set(calls)
        self.error = error

    def fault(self, call: str) -> None:
        if call in self.calls:
            raise self.error()

    def begin(self, stream: StreamInfo) -> None:
        self.fault("begin")
        super().begin(stream)

    def write(self, result: Result) -> None:
        self.fault("write")
        super().write(result)

    def end(self, stream: str) -> None:
        self.fault("end")
        super().end(stream)

    def close(self) -> None:
        super().close()
        self.fault("close")


def outlet(sink: ListSink, capacity: int = 4, policy: Policy = "freshest") -> Outlet:
    return Outlet(sink, capacity, policy)


class TestPut:
    def test_a_slow_sink_loses_its_oldest_results_but_no_marker(self) -> None:
        account = StreamLedger("a")
        slow = outlet(ListSink(), capacity=2)
        began, ended = Began(INFO), Ended("a", 1, lambda: None)
        results = [delivery(frame, account) for frame in range(3)]
        for event in (began, *results, ended):
            slow.put(event)
        assert slow.channel.drain() == [began, ended]
        assert (slow.account.received, slow.account.lost) == (3, {"overflow": 3})
        assert finished(account) == 3  # what is lost is no longer under way

    def test_only_results_count_as_received(self) -> None:
        roomy = outlet(ListSink())
        for event in (Began(INFO), delivery(), Ended("a", 1, lambda: None)):
            roomy.put(event)
        assert (roomy.account.received, roomy.account.written, roomy.account.lost) == (1, 0, {})
        assert len(roomy.channel) == 3

    def test_a_sink_that_must_have_everything_holds_the_flow_up(self) -> None:
        full = outlet(ListSink(), capacity=1, policy="every_frame")
        first, second = delivery(0), delivery(1)
        full.put(first)
        producer = Background(lambda: full.put(second)).parked()
        assert full.channel.get() is first
        producer.result()
        assert full.channel.drain() == [second]
        assert full.account.lost == {}

    @pytest.mark.parametrize("blocked", [True, False])
    def test_what_comes_too_late_for_an_abort_is_lost_not_forgotten(self, blocked: bool) -> None:
        account, settled = StreamLedger("a"), []
        full = outlet(ListSink(), capacity=1, policy="every_frame")
        full.put(delivery(0, account))
        if blocked:
            producer = Background(lambda: full.put(delivery(1, account))).parked()
            full.channel.abort()
            with pytest.raises(Closed):
                producer.result()
        else:
            full.channel.abort()
            with pytest.raises(Closed):
                full.put(delivery(1, account))
        with pytest.raises(Closed):
            full.put(Ended("a", 1, lambda: settled.append("a")))
        full.close()
        assert (full.account.received, full.account.written, full.account.lost) == (2, 0, {"shutdown": 2})
        assert (finished(account), settled) == (1, []), "what was never published is no frame of the figures"


class TestWrite:
    def test_what_the_sink_kept_is_marked_with_its_time(self) -> None:
        clock = ManualClock(100)
        sink = ListSink(fail=lambda result: clock.advance(7))
        one = delivery()
        writer = outlet(sink)
        writer.write(one, clock.now_ns)
        assert sink.results == [one.result]
        assert (one.result.trace[Mark.SINK], one.result.trace[Mark.DONE]) == (100, 107)
        assert (writer.account.written, writer.account.state) == (1, "ok")

    def test_the_inline_run_counts_and_writes_at_once(self) -> None:
        sink = ListSink()
        writer = outlet(sink)
        settled: list[str] = []
        for event in (Began(INFO), delivery(), Ended("a", 1, lambda: settled.append("a"))):
            writer.take(event, ManualClock().now_ns)
        assert sink.events == ["begin a", "end a"]
        assert (writer.account.received, writer.account.written, settled) == (1, 1, ["a"])

    def test_a_lost_result_degrades_and_the_next_one_recovers(self, caplog: pytest.LogCaptureFixture) -> None:
        account = StreamLedger("a")
        sink = Breaks("write")
        writer = outlet(sink)
        lost = [delivery(frame, account) for frame in range(3)]
        with caplog.at_level(logging.WARNING, "pipeline"):
            for one in lost:
                writer.write(one, ManualClock().now_ns)
                assert (writer.account.state, writer.account.error) == ("degraded", "disk full")
            assert caplog.text.count("disk full") == 1  # said once
            sink.calls.clear()
            writer.write(delivery(3, account), ManualClock().now_ns)
        assert (writer.account.state, writer.account.written, writer.account.lost) == ("ok", 1, {"write_error": 3})
        assert writer.account.faults == 0
        assert "lost so far: 3" in caplog.text
        assert [one.result.trace[Mark.DONE] for one in lost] == [0, 0, 0]
        assert finished(account) == 4

    def test_a_sink_that_is_too_slow_is_degraded_until_it_has_caught_up(self, caplog: pytest.LogCaptureFixture) -> None:
        """It raises nothing: without a word it would be called well while it loses most of its results."""
        writer = outlet(ListSink(), capacity=2)
        with caplog.at_level(logging.WARNING, "pipeline"):
            for frame in range(5):
                writer.put(delivery(frame))
            assert (writer.account.state, writer.account.lost) == ("degraded", {"overflow": 3})
            assert "more slowly than results come" in str(writer.account.error)
            assert caplog.text.count("more slowly than results come") == 1
            writer.write(writer.channel.get(), ManualClock().now_ns)
            assert writer.account.state == "degraded"  # one waits still
            writer.write(writer.channel.get(), ManualClock().now_ns)
        assert (writer.account.state, writer.account.written) == ("ok", 2)
        assert "lost so far: 3" in caplog.text

    def test_a_slow_sink_has_caught_up_also_where_the_end_of_a_stream_is_what_comes_last(self) -> None:
        """No further result will come to show it, and the report would call it degraded for good."""
        writer = outlet(ListSink(), capacity=2)
        for frame in range(3):
            writer.put(delivery(frame))
        writer.put(Ended("a", 1, lambda: None))
        while len(writer.channel):
            writer.write(writer.channel.get(), ManualClock().now_ns)
        assert (writer.account.state, writer.account.written) == ("ok", 1)

    def test_the_end_of_a_stream_does_not_show_that_a_sink_can_write_again(self) -> None:
        writer = outlet(Breaks("write"), capacity=2)
        for frame in range(3):
            writer.put(delivery(frame))
        writer.put(Ended("a", 1, lambda: None))
        while len(writer.channel):
            writer.write(writer.channel.get(), ManualClock().now_ns)
        assert writer.account.state == "degraded"

    def test_why_a_slow_sink_is_given_up_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        writer = outlet(Breaks("write", error=lambda: KeyError("a fault of a plug-in")), capacity=1)
        writer.put(delivery(0))
        writer.put(delivery(1))
        writer.write(writer.channel.get(), ManualClock().now_ns)
        assert writer.account.state == "failed"
        assert "a fault of a plug-in" in caplog.text

    def test_a_sink_that_breaks_while_it_is_called_slow_stays_detached(self) -> None:
        """Its own thread and whoever publishes say how it is at the same time."""
        writer = outlet(Breaks("write", error=lambda: KeyError("a fault of a plug-in")), capacity=1)
        publisher, breaking = threading.current_thread(), list[Background]()

        class Account(SinkLedger):
            @property
            def state(self) -> SinkState:
                seen: SinkState = self.__dict__["state"]
                if threading.current_thread() is publisher and self.lost and not breaking:
                    breaking.append(Background(lambda: writer.write(delivery(), ManualClock().now_ns)))
                    breaking[0].ended_within(0.1)  # it does not, if only one may say it at a time
                return seen

            @state.setter
            def state(self, state: SinkState) -> None:
                self.__dict__["state"] = state

        writer.account = Account("list")
        writer.put(delivery(0))
        writer.put(delivery(1))
        breaking[0].result()
        assert writer.account.state == "failed"

    def test_a_broken_sink_is_not_called_again_and_holds_nothing_up(self, caplog: pytest.LogCaptureFixture) -> None:
        account, settled = StreamLedger("a"), []
        sink = Breaks("write", error=lambda: KeyError("a fault of a plug-in"))
        writer = outlet(sink)
        with caplog.at_level(logging.ERROR, "pipeline"):
            writer.write(delivery(0, account), ManualClock().now_ns)
            sink.calls.clear()
            for event in (delivery(1, account), Began(INFO), Ended("a", 1, lambda: settled.append("a"))):
                writer.write(event, ManualClock().now_ns)
        assert (sink.results, sink.events) == ([], [])
        assert (writer.account.state, writer.account.written, writer.account.lost) == ("failed", 0, {"failed": 2})
        assert "a fault of a plug-in" in str(writer.account.error)
        assert caplog.text.count("a fault of a plug-in") >= 1
        assert (finished(account), settled) == (2, ["a"])

    def test_an_error_without_words_is_named(self) -> None:
        writer = outlet(Breaks("write", error=ZeroDivisionError))
        writer.write(delivery(), ManualClock().now_ns)
        assert writer.account.error == "ZeroDivisionError"

    @pytest.mark.parametrize(
        ("error", "state"), [(lambda: SinkError("disk full"), "degraded"), (lambda: OSError("disk full"), "failed")]
    )
    @pytest.mark.parametrize("call", ["begin", "end"])
    def test_a_stream_that_cannot_be_begun_or_ended_is_seen_in_the_account(
        self, call: str, error: Callable[[], Exception], state: str
    ) -> None:
        settled: list[str] = []
        writer = outlet(Breaks(call, error=error))
        writer.write(Began(INFO), ManualClock().now_ns)
        assert (writer.account.state, settled) == (state if call == "begin" else "ok", [])
        writer.write(Ended("a", 1, lambda: settled.append("a")), ManualClock().now_ns)
        assert (writer.account.state, writer.account.error) == (state, "disk full")
        assert writer.account.faults == 1
        assert writer.account.lost_data
        assert writer.account.lost == {}  # no result was under way
        assert settled == ["a"]  # the others do not wait for it


class TestClose:
    def test_what_never_reached_the_sink_is_lost_by_the_shutdown(self) -> None:
        account, settled = StreamLedger("a"), []
        sink = ListSink()
        closing = outlet(sink)
        for event in (Began(INFO), delivery(0, account), delivery(1, account)):
            closing.put(event)
        closing.put(Ended("a", 1, lambda: settled.append("a")))
        closing.close()
        assert (sink.events, sink.results) == (["close"], [])
        assert (closing.account.received, closing.account.lost) == (2, {"shutdown": 2})
        assert (finished(account), settled) == (2, ["a"])
        assert closing.account.state == "ok"

    def test_both_ends_may_lose_results_at_the_same_time(self) -> None:
        """Whoever publishes hears of the end while the sink's thread empties the channel."""

        class Slow(Counter[str]):
            both = threading.Barrier(2)

            def __missing__(self, reason: str) -> int:
                with suppress(threading.BrokenBarrierError):
                    self.both.wait(0.1)  # it comes alone, if each waits for the other
                return 0

        closing = outlet(ListSink())
        closing.account.lost = Slow()
        for call in [Background(lambda: closing.lose(delivery(), "shutdown")) for _ in range(2)]:
            call.result()
        assert closing.account.lost.total() == 2

    def test_what_is_published_after_it_was_closed_is_lost_too(self) -> None:
        """The sink of a run that ends because of it is closed before the others hear of that."""
        closing = outlet(ListSink())
        closing.close()
        with pytest.raises(Closed):
            closing.put(delivery())
        assert (closing.account.received, closing.account.lost) == (1, {"shutdown": 1})

    @pytest.mark.parametrize("error", [SinkError("disk full"), OSError("disk full")])
    def test_a_sink_that_cannot_be_closed_has_failed(self, error: Exception) -> None:
        closing = outlet(Breaks("close", error=lambda: error))
        closing.close()
        assert (closing.account.state, closing.account.error) == ("failed", "disk full")
        assert closing.account.faults == 1
        assert closing.account.lost_data

    def test_a_sink_that_failed_before_has_its_last_word(self, caplog: pytest.LogCaptureFixture) -> None:
        closing = outlet(Breaks("write", "close", error=lambda: SinkError("disk full")))
        with caplog.at_level(logging.ERROR, "pipeline"):
            closing.write(delivery(), ManualClock().now_ns)
            closing.close()
        assert caplog.text.count("disk full") == 2  # lost results, and then the end of the file
