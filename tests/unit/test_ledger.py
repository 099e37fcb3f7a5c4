# SPDX-License-Identifier: Apache-2.0
"""The accounts: every frame is somewhere, and the figures of the whole are those of the parts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame import Capture, Picture, SourceCounters, StreamInfo
from pipeline.ledger import ENDED, BatchRun, Latency, Ledger, SinkLedger, StreamLedger
from pipeline.ledger.blocks import SERIES, Block
from pipeline.ledger.measured import Measured
from pipeline.timing import Mark, new_trace
from tests.background import Background
from tests.journeys import BY_ITS_READER

MS = 1_000_000
S = 1_000_000_000


def latency(*durations_ns: int) -> Latency:
    """Of frames that took so long."""
    filled = Latency()
    if durations_ns:
        Latency.add_each([filled], Block([trace(S, duration_ns) for duration_ns in durations_ns]))
    return filled


def trace(start_ns: int, *gaps_ns: int) -> list[int]:
    """A frame read at ``start_ns``; each further mark comes a gap later, those beyond the gaps were not passed."""
    marks = new_trace()
    for mark, gap_ns in zip(BY_ITS_READER, (0, *gaps_ns), strict=False):
        start_ns += gap_ns
        marks[mark] = start_ns
    return marks


class TestLatency:
    def test_jitter_of_several_streams_is_weighted_by_their_counts(self) -> None:
        shaky, steady = latency(0, 160), latency(*[50] * 6)
        assert (shaky.end_to_end.jitter_ns, steady.end_to_end.jitter_ns) == (10.0, 0.0)
        shaky.merge(steady)
        assert shaky.end_to_end.jitter_ns == pytest.approx(10 * 2 / 8)
        shaky.merge(latency(0, 320))  # jitter 20 over two more
        assert shaky.end_to_end.jitter_ns == pytest.approx((2.5 * 8 + 20 * 2) / 10)
        assert shaky.frames == shaky.end_to_end.histogram.count == 10

    def test_merging_nothing_changes_nothing(self) -> None:
        filled = latency(0, 160)
        filled.merge(Latency())
        assert (filled.end_to_end.jitter_ns, filled.frames) == (10.0, 2)
        empty = Latency()
        empty.merge(Latency())
        assert (empty.end_to_end.jitter_ns, empty.frames, empty.end_to_end.as_dict()) == (0.0, 0, None)
        assert empty.as_dict() == {"stages": {}, "waits": {}, "end_to_end": None}
        empty.merge(filled)
        assert empty.as_dict() == filled.as_dict()

    def test_what_was_merged_is_left_as_it_was(self) -> None:
        first, second = Latency(), latency(1, 2, 3)
        before = second.as_dict()
        first.merge(second)
        Latency.add_each([first], Block([trace(S, 99)]))
        assert second.as_dict() == before

    def test_figures_are_milliseconds(self) -> None:
        figures = latency(1 * MS, 3 * MS, 2 * MS, 10 * MS).end_to_end.as_dict()
        assert figures is not None
        assert (figures["count"], figures["mean_ms"], figures["max_ms"]) == (4, 4.0, 10.0)
        assert figures["p50_ms"] == pytest.approx(2, rel=0.01)
        assert figures["p90_ms"] == figures["p95_ms"] == figures["p99_ms"] == pytest.approx(10, rel=0.01)
        jitter = 0.0
        for change in (2, 1, 8):
            jitter += (change - jitter) / 16
        assert figures["jitter_ms"] == pytest.approx(jitter)

    def test_merging_equals_adding_everything_but_for_the_jitter(self) -> None:
        traces = [trace(0, *range(1, 11)), trace(5, *[3] * 10), trace(7, *[2] * 6)]
        one, two, both = Latency(), Latency(), Latency()
        for number, marks in enumerate(traces):
            Latency.add_each([(one, two)[number % 2]], Block([marks]))
        Latency.add_each([both], Block(traces))
        one.merge(two)
        assert list(one.as_dict()["stages"]) == list(both.as_dict()["stages"])
        for series in SERIES:
            merged, whole = one[series].histogram, both[series].histogram
            assert (merged.sparse(), merged.count) == (whole.sparse(), whole.count)
            assert (merged.total, merged.maximum) == (whole.total, whole.maximum)

    def test_sums_are_exact_whatever_their_size(self) -> None:
        century = latency(10**18)
        for _ in range(6):
            century.merge(century)
        assert century.end_to_end.histogram.total == 64 * 10**18 > 1 << 64


class TestFramesOfAStream:
    @pytest.mark.parametrize(
        ("truncation", "at_limit", "asked", "state", "error"),
        [
            (None, False, False, "finished", None),
            (None, True, False, "finished", None),
            ("3 of 9", True, False, "finished", None),
            (None, True, True, "finished", None),
            ("3 of 9", False, False, "truncated", "3 of 9"),
            ("3 of 9", False, True, "stopped", None),
            (None, False, True, "stopped", None),
        ],
    )
    def test_how_a_stream_ended(
        self, truncation: str | None, at_limit: bool, asked: bool, state: str, error: str | None
    ) -> None:
        account = StreamLedger("a")
        account.ended(truncation, at_limit=at_limit, asked=asked)
        assert (account.state, account.error) == (state, error)
        assert account.state in ENDED

    def test_what_is_neither_published_nor_dropped_nor_thinned_is_in_flight(self) -> None:
        account = StreamLedger("a")
        assert account.in_flight == 0
        for index in range(10):
            account.arrived(index, 0.0, 0, corrupt=index == 3)
        assert (account.decoded, account.corrupt, account.in_flight) == (10, 1, 10)
        account.decimated += 2
        account.published(trace(0, *[1] * 11))
        for reason in ("overflow", "corrupt", "corrupt"):
            account.lost(reason, trace(0, 1, 1))
        assert account.dropped == {"overflow": 1, "corrupt": 2}
        assert account.in_flight == 4

    def test_the_first_and_the_last_result(self) -> None:
        account = StreamLedger("a")
        account.opened(
            StreamInfo("a"), SourceCounters(decode_errors=4, skipped=5, discontinuities=6, reconnects=7), 2 * S
        )
        assert account.state == "live"
        assert account.as_dict(S)["first_result_ms"] is None
        assert account.as_dict(S)["fps"] is None
        for at_ns in (3 * S, 4 * S, 6 * S):
            assert account.as_dict(S)["jitter"]["departure_ms"] is None  # before the second interval
            account.published(trace(at_ns - 11, *[1] * 11))
            account.finished(trace(at_ns - 11, *[1] * 11))
        report = account.as_dict(S)
        assert report["first_result_ms"] == 2000.0
        assert report["fps"] == 0.75  # three in the four seconds since it opened
        assert report["jitter"]["departure_ms"] == 500.0  # intervals of 1 and 2 s
        assert (report["frames"]["decode_errors"], report["frames"]["skipped"]) == (4, 5)
        assert (report["discontinuities"], report["reconnects"]) == (6, 7)


class TestArrivalJitter:
    def jitter(self, account: StreamLedger) -> float | None:
        value: float | None = account.as_dict(0)["jitter"]["arrival_ms"]
        return value

    def test_it_is_measured_where_frames_come_at_a_pace_of_their_own(self) -> None:
        for account in (StreamLedger("a", live=True), StreamLedger("a", paced=True)):
            account.arrived(0, 0.0, 0, False)
            assert self.jitter(account) is None
            account.arrived(40 * MS + 16 * MS, 0.04, 0, False)
            assert self.jitter(account) == pytest.approx(1.0)
        as_fast_as_possible = StreamLedger("a")
        as_fast_as_possible.arrived(0, 0.0, 0, False)
        as_fast_as_possible.arrived(56 * MS, 0.04, 0, False)
        assert self.jitter(as_fast_as_possible) is None

    def test_the_order_of_b_frames_is_not_jitter(self) -> None:
        account = StreamLedger("a", live=True)
        for number, read in enumerate((0, 3, 2, 4, 7, 6)):  # shown in this order, 40 ms apart; read at these times
            account.arrived(read * 40 * MS, number * 0.04, 0, False)
        assert self.jitter(account) is None
        for number, read in enumerate((100, 101, 102)):  # they were switched off, so the camera was connected anew
            account.arrived(read * 40 * MS, number * 0.04, 1, False)
        assert self.jitter(account) is not None

    def test_b_frames_are_noticed_also_where_one_is_looked_at_by_itself(self) -> None:
        account = StreamLedger("a", live=True)
        for number, read in enumerate((0, 3, 2)):
            account.arrived(read * 40 * MS, number * 0.04, 0, False)
            found = self.jitter(account)
        assert found is None

    def test_a_new_epoch_is_a_break_not_jitter(self) -> None:
        account = StreamLedger("a", live=True)
        account.arrived(0, 0.0, 0, False)
        account.arrived(40 * MS, 0.04, 0, False)
        assert self.jitter(account) == 0.0
        account.arrived(60 * S, 0.08, 1, False)  # reconnected after a minute
        assert self.jitter(account) == 0.0
        account.arrived(60 * S + 40 * MS + 16 * MS, 0.12, 1, False)  # within the new epoch it is measured again
        assert self.jitter(account) == pytest.approx(1.0)
        account.arrived(99 * S, 0.16, 2, False)
        assert self.jitter(account) == pytest.approx(1.0)  # the value is kept over the break


class TestSettling:
    def run(self) -> Ledger:
        """Two streams with a few frames each; jitter and sums are whole numbers of 1/16 ns."""
        ledger = Ledger()
        for name, gaps in {"a": [16, 32, 48, 16], "b": [160, 160]}.items():
            account = StreamLedger(name)
            ledger.add(account)
            for gap in gaps:
                account.decoded += 1
                account.published(trace(S, *[gap] * 13))
                account.finished(trace(S, *[gap] * 13))
        return ledger

    def test_the_total_stays_the_same(self) -> None:
        ledger = self.run()
        merged = Latency()
        for account in ledger.streams.values():
            merged.merge(account.times.measured(0).latency)
        total = ledger.as_dict()["total"]
        assert {kind: total[kind] for kind in ("stages", "waits", "end_to_end")} == merged.as_dict()
        assert total["end_to_end"]["count"] == 6
        before = ledger.as_dict()
        for account in ledger.streams.values():
            ledger.settle(account)
            assert ledger.as_dict()["total"] == total
        assert ledger.as_dict()["streams"] == before["streams"]

    def test_a_stream_that_settles_while_it_is_being_added_up_counts_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = self.run()
        total = ledger.as_dict()["total"]
        sound = ledger.batches

        def meanwhile() -> dict[int, int]:  # asked for after the streams were looked at
            ledger.settle(ledger.streams["a"])
            return sound()

        monkeypatch.setattr(ledger, "batches", meanwhile)
        assert ledger.as_dict()["total"] == total

    def test_a_stream_that_is_added_up_while_it_settles_counts_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger = self.run()
        total, account = ledger.as_dict()["total"], ledger.streams["a"]
        sound, asked = account.settle, list[Background]()

        def meanwhile() -> Measured:
            measured = sound()
            asked.append(Background(ledger.as_dict))
            asked[0].ended_within(0.1)  # it has to wait
            return measured

        monkeypatch.setattr(account, "settle", meanwhile)
        ledger.settle(account)
        assert asked[0].result()["total"] == total

    def test_a_settled_stream_keeps_its_figures_and_gives_its_distributions_away(self) -> None:
        ledger = self.run()
        account = ledger.streams["a"]
        figures = account.as_dict(0)
        assert figures["end_to_end"]["count"] == 4
        ledger.settle(account)
        assert account.as_dict(0) == figures
        assert account.times.measured(0).latency.end_to_end.histogram.count == 0

    def test_while_the_run_goes_on_a_recording_is_live_until_its_last_sink_has_finished_it(self) -> None:
        ledger = self.run()
        for account in ledger.streams.values():
            account.state = "finished"
        ledger.settle(ledger.streams["a"])
        states = {name: report["state"] for name, report in ledger.as_dict()["streams"].items()}
        assert states == {"a": "finished", "b": "live"}
        ledger.end(9 * S)
        states = {name: report["state"] for name, report in ledger.as_dict()["streams"].items()}
        assert states == {"a": "finished", "b": "finished"}

    def test_a_copy_is_a_copy(self) -> None:
        account = self.run().streams["a"]
        copy = account.times.measured(0).latency
        Latency.add_each([copy], Block([trace(0, 1, 2)]))
        assert account.times.measured(0).latency.end_to_end.histogram.count == 4

    @given(st.lists(st.lists(st.integers(0, 10**9), min_size=1, max_size=5), min_size=1, max_size=4), st.data())
    def test_whoever_has_settled_counts_and_sums_are_the_same(
        self, streams: list[list[int]], data: st.DataObject
    ) -> None:
        ledger = Ledger()
        for number, gaps in enumerate(streams):
            account = StreamLedger(str(number))
            ledger.add(account)
            for gap in gaps:
                account.finished(trace(0, gap))
            if data.draw(st.booleans()):
                ledger.settle(account)
        total = ledger.as_dict()["total"]["end_to_end"]
        everything = [gap for gaps in streams for gap in gaps]
        assert total["count"] == len(everything)
        assert total["mean_ms"] == pytest.approx(sum(everything) / len(everything) / MS, abs=1e-8)
        assert total["max_ms"] == max(everything) / MS


class TestBalance:
    def ledger(self) -> Ledger:
        ledger = Ledger()
        for name, decoded, processed in (("sound", 5, 5), ("short", 9, 6), ("over", 2, 3)):
            account = StreamLedger(name)
            account.decoded, account.processed = decoded, processed
            ledger.add(account)
        return ledger

    def test_only_streams_that_do_not_balance_are_named(self) -> None:
        assert self.ledger().unbalanced() == {"short": 3, "over": -1}

    def test_a_shutdown_accounts_for_what_was_under_way_and_hides_no_fault(self) -> None:
        ledger = self.ledger()
        ledger.streams["short"].lost("shutdown", trace(0))
        ledger.account_for_shutdown()
        assert [account.dropped for account in ledger.streams.values()] == [{}, {"shutdown": 3}, {}]
        assert ledger.unbalanced() == {"over": -1}
        ledger.account_for_shutdown()
        assert ledger.streams["short"].dropped == {"shutdown": 3}

    def test_after_a_shutdown_every_stream_has_ended(self) -> None:
        ledger = self.ledger()
        ledger.streams["sound"].state = "finished"
        ledger.streams["short"].state = "failed"
        ledger.account_for_shutdown()
        states = {name: account.state for name, account in ledger.streams.items()}
        assert states == {"sound": "finished", "short": "failed", "over": "stopped"}


class TestRun:
    def test_the_whole_run(self) -> None:
        ledger = Ledger()
        ledger.begin(10 * S)
        for name, first_s in (("a", 12), ("b", 11)):
            account = StreamLedger(name)
            ledger.add(account)
            for index in range(5):
                account.published(trace((first_s + index) * S, *[0] * 11))
        ledger.add(StreamLedger("silent"))
        for size in (4, 4, 2):
            ledger.batch(BatchRun("detect:0", 1, size, 1, 2, 3))
        ledger.end(14 * S)
        report = ledger.as_dict()
        assert (report["wall_s"], report["frames"], report["fps"], report["first_result_ms"]) == (4.0, 10, 2.5, 1000.0)
        assert report["batches"] == {"count": 3, "mean_size": 3.3333, "sizes": {"2": 1, "4": 2}}
        assert list(report["streams"]) == ["a", "b", "silent"]
        assert report["cpu_s"] >= 0
        json.dumps(report)

    def test_what_measuring_costs_is_in_the_report(self) -> None:
        ledger = Ledger()
        ledger.begin(S)
        ledger.add(StreamLedger("a", live=True))
        for number in range(300):
            marks = trace(S + number * 40 * MS, *[MS] * 13)
            ledger.streams["a"].arrived(marks[Mark.READ], number / 25, 0, False)
            ledger.streams["a"].published(marks)
            ledger.streams["a"].finished(marks)
        ledger.end(13 * S)
        cost = ledger.as_dict()["tracker"]
        assert cost["frames"] == 300
        assert 0 < cost["us_per_frame"] == pytest.approx(cost["cpu_ms"] * 1e3 / 300, abs=0.01)
        assert 0 < cost["marks_us_per_frame"] < 1000
        both_ms = cost["cpu_ms"] + 300 * cost["marks_us_per_frame"] / 1e3
        assert cost["core_percent"] == pytest.approx(100 * both_ms / 12_000, rel=0.01, abs=1e-3)

    def test_a_run_without_anything(self) -> None:
        report = Ledger().as_dict()
        assert (report["frames"], report["fps"], report["first_result_ms"]) == (0, 0.0, None)
        assert report["batches"] == {"count": 0, "mean_size": None, "sizes": {}}
        nothing = {"stages": {}, "waits": {}, "end_to_end": None}
        assert report["total"] == {
            **nothing,
            "end_to_end_corrected": None,
            "windows": {"10s": nothing, "60s": nothing},
            "distributions": {},
            "over_time": None,
        }

    def test_a_name_that_comes_again_keeps_the_accounts_of_its_earlier_lives(self) -> None:
        ledger = Ledger()
        lives = [StreamLedger("a") for _ in range(3)]
        ledger.add(StreamLedger("b"))
        for number, account in enumerate(lives):
            account.processed = account.decoded = 10**number
            ledger.add(account)
        assert ledger.streams["a"] is lives[2]
        kept = [account for name, account in ledger.streams.items() if name.startswith("a~")]
        assert sorted(account.processed for account in kept) == [1, 10]
        assert ledger.as_dict()["frames"] == 111
        lives[0].decoded += 1
        assert sum(ledger.unbalanced().values()) == 1

    def test_what_a_sink_lost_is_counted_by_reason(self) -> None:
        sink = SinkLedger("jsonl", received=9, written=5)
        assert not sink.lost_data
        sink.lost["write_error"] += 3
        sink.lost["overflow"] += 1
        assert sink.lost_data
        report = sink.as_dict()
        assert (report["received"], report["written"], report["state"], report["error"]) == (9, 5, "ok", None)
        assert list(report["lost"].items()) == [("overflow", 1), ("write_error", 3)]
        assert report["received"] == report["written"] + sum(report["lost"].values())
        detached = SinkLedger("mp4", state="failed")
        assert detached.lost_data
        assert SinkLedger("csv", faults=1).lost_data


class TestCamera:
    def live(self, ppm: float, jitter_ms: float, frames: int = 1500) -> StreamLedger:
        """25 frames per second by a clock that is fast by ``ppm``; declared are 30."""
        account = StreamLedger("a", live=True)
        account.opened(StreamInfo("a", fps=30.0, live=True), SourceCounters(), S)
        late = np.random.default_rng(7).uniform(0, jitter_ms, frames)
        for number in range(frames):
            host_s = number / 25
            account.arrived(S + round(host_s * S + late[number] * MS), host_s * (1 + ppm / 1e6), 0, False)
        return account

    @pytest.mark.parametrize("ppm", [-200, 0, 75])
    def test_its_clock_against_the_host(self, ppm: float) -> None:
        camera = self.live(ppm, 5).as_dict(0)["camera"]
        assert (camera["declared_fps"], camera["measured_fps"]) == (30.0, pytest.approx(25, rel=0.01))
        assert camera["drift_ppm"] == pytest.approx(ppm, abs=4 * camera["drift_error_ppm"])
        assert 0 < camera["drift_error_ppm"] < 10

    @pytest.mark.parametrize(("gap_ms", "freezes"), [(189, 0), (191, 1)])
    def test_a_freeze_by_webrtcs_rule(self, gap_ms: int, freezes: int) -> None:
        """25 frames per second: above max(3 x 40, 40 + 150) ms."""
        account = StreamLedger("a", live=True)
        for number in range(30):
            account.arrived(S + number * 40 * MS + (number >= 20) * (gap_ms - 40) * MS, number / 25, 0, False)
        camera = account.as_dict(0)["camera"]
        assert (camera["freezes"], camera["largest_gap_ms"]) == (freezes, gap_ms)

    def test_a_reconnect_and_b_frames_are_no_freeze(self) -> None:
        """Of a picture of B-frames the first packet is that of the frame that is shown last."""
        account = StreamLedger("a", live=True)
        for number in range(600):
            packet = number // 4 * 4 + (number + 1) % 4
            epoch = number // 300
            account.arrived(S + packet * 100 * MS + epoch * 60 * S, number / 10, epoch, False)
        camera = account.as_dict(0)["camera"]
        assert (camera["freezes"], camera["largest_gap_ms"]) == (0, pytest.approx(100, abs=100))
        assert camera["measured_fps"] == pytest.approx(10, rel=0.01)

    def test_how_far_reading_is_behind_the_camera(self) -> None:
        account = StreamLedger("a", live=True)
        late = np.random.default_rng(3).gamma(2.0, 5.0, 400) * MS
        for number, by_ns in enumerate(late):
            account.arrived(S + number * 40 * MS + round(by_ns), number / 25, 0, False)
            if number == 200:  # whoever asks meanwhile changes nothing
                account.as_dict(0)
        behind = account.as_dict(0)["camera"]["behind"]
        assert behind["count"] == 400
        for key, percent in (("p50_ms", 50), ("p99_ms", 99)):
            exact = np.percentile((late - late.min()) / MS, percent, method="inverted_cdf")
            assert behind[key] == pytest.approx(exact, rel=0.01, abs=0.5)

    def test_what_drifts_does_not_add_up_and_a_new_connection_begins_anew(self) -> None:
        account = StreamLedger("a", live=True)
        for number in range(25 * 120):  # two minutes of a clock that is slow by 100 ppm, 12 ms in all
            epoch = number // 1500
            away_ns = epoch * 60 * S
            account.arrived(S + round(number * 40 * MS * 1.0001) + away_ns, number / 25, epoch, False)
        assert account.as_dict(0)["camera"]["behind"]["max_ms"] <= 20 * 0.1 + 0.01

    def test_too_early_to_tell(self) -> None:
        assert self.live(100, 0, 200).as_dict(0)["camera"]["drift_ppm"] is None  # eight seconds
        assert StreamLedger("file").as_dict(0)["camera"] is None

    def test_the_steady_rate_leaves_the_start_out(self) -> None:
        account = StreamLedger("a")
        account.opened(StreamInfo("a"), SourceCounters(), S)
        for number in range(11):
            account.published(trace(9 * S + number * S // 10 - 11, *[1] * 11))
        report = account.as_dict(S)
        assert (report["steady_fps"], report["fps"]) == (10.0, pytest.approx(11 / 9, abs=1e-3))

    def test_one_batch_is_no_rate(self) -> None:
        account = StreamLedger("a")
        account.opened(StreamInfo("a"), SourceCounters(), S)
        for number in range(5):
            account.published(trace(9 * S + 50_000 * number - 11, *[1] * 11))
        assert account.as_dict(S)["steady_fps"] is None


def test_frame_numbers_and_epochs_go_on_when_a_stream_is_begun_anew() -> None:
    ledger = Ledger()
    picture = Picture((np.zeros((4, 4), np.uint8),), "gray")
    seen = []
    for frames, epoch in ((3, 1), (0, 0), (2, 0), (1, 0)):  # the second life ends before its first frame
        account = StreamLedger("gate")
        ledger.add(account)
        for index in range(frames):
            capture = account.numbered(Capture(picture, index, 0.0, 1, 2, epoch=min(index, epoch)))
            account.arrived(capture.read_ns, capture.pts_s, capture.epoch, corrupt=False)
            seen.append((capture.index, capture.epoch))
        if frames == 2:
            ledger.retire("gate")  # removed, and added again later
    assert seen == [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]
