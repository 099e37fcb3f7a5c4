# SPDX-License-Identifier: Apache-2.0
"""What a changed streams.yaml asks for, when it counts as changed, and how it is taken while streams run."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import build
from pipeline.config import Config, LoadedConfig, parse_config
from pipeline.daemon.difference import difference, enabled
from pipeline.daemon.reload import Reloader
from pipeline.daemon.shard import WHOLE
from pipeline.daemon.watched import LOOK_NS, WatchedFile
from pipeline.errors import ConfigError
from pipeline.events import Condition
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions
from pipeline.ledger import StreamLedger
from pipeline.ledger.folding import KEPT
from pipeline.testing import FakeDetector, ListSink, ManualClock
from tests.background import until as eventually

PATTERN = "pattern:?size=64x48&fps=50"


def loaded(*entries: str, rest: str = "") -> LoadedConfig:
    text = rest + "streams:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries)
    return parse_config(text.encode())


def entry(name: str, more: str = "") -> str:
    return f"name: {name}, source: '{PATTERN}', policy: every_frame{more}"


def test_only_what_differs_is_touched() -> None:
    before = loaded(entry("a"), entry("b"), entry("c"), entry("d"), rest="model: {confidence: 0.4}\n")
    after = loaded(
        entry("b", ", fps: 5"),
        entry("a"),
        "name: c, source: 'ftp://x/y'",
        entry("e"),
        entry("f", ", enabled: false"),
        rest="model: {confidence: 0.5}\nsinks: [{type: jsonl, path: 'out/{stream}.jsonl'}]\n",
    )
    found = difference(before.config, enabled(before.config), after)
    assert (found.remove, [one.name for one in found.change], [one.name for one in found.add]) == (("d",), ["b"], ["e"])
    assert (found.untouched, found.kept, found.at_start) == (2, ("c",), ("sinks",))
    assert str(found) == "1 added, 1 changed, 1 removed, 2 untouched (added e; changed b; removed d)"
    same = difference(before.config, enabled(before.config), before)
    assert (same.remove, same.change, same.add) == ((), (), ())
    assert str(same) == "0 added, 0 changed, 0 removed, 4 untouched"


def test_defaults_change_the_streams_that_inherit_them() -> None:
    before = loaded(entry("a"), entry("b", ", fps: 5"), rest="defaults: {fps: 10}\n")
    after = loaded(entry("a"), entry("b", ", fps: 5"), rest="defaults: {fps: 12}\n")
    assert [one.name for one in difference(before.config, enabled(before.config), after).change] == ["a"]


def test_a_stream_that_is_switched_off_is_removed() -> None:
    before, after = loaded(entry("a"), entry("b")), loaded(entry("a"), entry("b", ", enabled: false"))
    assert difference(before.config, enabled(before.config), after).remove == ("b",)


@pytest.fixture
def watched(tmp_path: Path) -> tuple[Path, Callable[[], bool]]:
    """A file, and a function that says whether it has changed at the next look."""
    path, clock = tmp_path / "streams.yaml", ManualClock()
    path.write_text("one")
    file = WatchedFile(path, clock.now_ns)

    def look() -> bool:
        clock.advance(LOOK_NS)
        return file.changed()

    return path, look


def test_a_change_counts_once_it_has_kept_still(watched: tuple[Path, Callable[[], bool]]) -> None:
    path, look = watched
    assert not look()
    path.write_text("one, two")
    assert not look(), "it may still be written"
    path.write_text("one, two, three")
    assert not look()
    assert look()
    assert not look()


def test_a_file_that_is_replaced_or_gone_for_a_moment(watched: tuple[Path, Callable[[], bool]]) -> None:
    path, look = watched
    path.unlink()
    assert [look(), look()] == [False, False]
    path.write_text("new")
    assert [look(), look(), look()] == [False, True, False]


def test_a_link_that_is_switched(tmp_path: Path) -> None:
    """As Kubernetes updates a ConfigMap: the folder behind a link is another one, all at once."""
    clock = ManualClock()
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "streams.yaml").write_text(name)
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "streams.yaml").symlink_to("data/streams.yaml")
    file = WatchedFile(tmp_path / "streams.yaml", clock.now_ns)
    (tmp_path / "next").symlink_to("v2")
    os.replace(tmp_path / "next", tmp_path / "data")
    seen = []
    for _ in range(3):
        clock.advance(LOOK_NS)
        seen.append(file.changed())
    assert seen == [False, True, False]


class Running:
    """A pipeline of patterns, kept as a file says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sink = ListSink()
        options = FlowOptions(fixed_batch=False, batch_size=2, outlet_policy="freshest", outlet_capacity=1000)
        self.pipeline = Pipeline(FakeDetector(), [self.sink], options)
        self.clock = ManualClock()

    def start(self, *entries: str) -> None:
        self.write(*entries)
        file = WatchedFile(self.path, self.clock.now_ns)
        config = loaded(*entries)
        self.pipeline.start()
        for stream in config.config.streams:
            self.pipeline.add(build.feed(stream))
        self.reloader = Reloader(file, WHOLE, config, config.config.streams, self.pipeline, build.feed, self.model)

    def model(self, config: Config, asked: bool) -> None:
        """Nobody changes it here."""

    def write(self, *entries: str) -> None:
        self.path.write_text("streams:\n" + "".join(f"  - {{{one}}}\n" for one in entries))

    def reload(self) -> None:
        self.reloader.ask()
        self.reloader.look()

    def results(self, name: str) -> int:
        return sum(result.stream == name for result in list(self.sink.results))

    def more(self, name: str, count: int = 5) -> None:
        """Wait for ``count`` new results of a stream."""
        before = self.results(name)

        def come() -> bool:
            self.reloader.look()
            return self.results(name) >= before + count

        eventually(come, f"results of {name}")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path / "streams.yaml")
    yield one
    one.pipeline.stop()
    assert one.pipeline.join(20), one.pipeline.alive()


def test_streams_come_change_and_go_while_another_loses_nothing(running: Running) -> None:
    running.start(entry("still"), entry("changing"), entry("going"))
    for name in ("still", "changing", "going"):
        running.more(name)
    running.write(entry("still"), entry("changing", ", fps: 25"), entry("coming"))
    running.reload()
    running.more("coming")
    running.more("changing")
    running.more("still")
    streams = running.pipeline.ledger.streams
    eventually(lambda: running.reloader.look() or "going" not in streams, "a removed stream is one that was")
    assert streams["going~1"].state == "stopped"
    assert streams["changing~1"].state == "stopped", "its earlier life keeps its account"
    assert {streams[name].state for name in ("still", "changing", "coming")} == {"live"}
    assert "still~1" not in streams
    running.pipeline.stop()
    assert running.pipeline.join(20), running.pipeline.alive()
    assert streams["still"].dropped.total() == 0
    frames = [result.frame for result in running.sink.results if result.stream == "still"]
    assert frames == list(range(len(frames))), "not one is missing"
    first_life = streams["changing~1"].processed
    frames = [result.frame for result in running.sink.results if result.stream == "changing"]
    assert frames[:first_life] == list(range(first_life)), "what was queued is served before the new life begins"
    assert frames[first_life] == first_life, "a frame number never comes again within a process"


def test_a_faulty_file_changes_nothing(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    running.start(entry("a"), entry("b"))
    running.more("a")
    running.path.write_text("streams: [{name: a, source: 'pattern:'}]\nmodle: {}\n")
    running.reload()
    running.path.write_text("streams: [\n")
    running.reload()
    assert running.reloader.reloads == {"done": 0, "refused": 2}
    assert any("streams.yaml:2:1: modle: unknown key" in record.message for record in caplog.records)
    running.more("a")
    running.more("b")
    assert set(running.pipeline.ledger.streams) == {"a", "b"}


def test_a_faulty_entry_is_left_out_alone(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    running.start(entry("a"), entry("b"))
    running.more("a")
    running.write("name: a, source: 'ftp://127.0.0.1/x'", entry("b"), entry("c"))
    running.reload()
    running.more("a")
    running.more("c")
    assert "a~1" not in running.pipeline.ledger.streams
    assert any("a: its new entry is faulty; it runs on as it was" in record.message for record in caplog.records)
    assert running.reloader.refused
    running.write(entry("a"), entry("b"), entry("c"))
    running.reload()
    assert not running.reloader.refused
    assert "a~1" not in running.pipeline.ledger.streams, "it says what runs anyway"


def test_what_has_ended_is_begun_again_only_when_its_entry_changes(running: Running) -> None:
    short = f"name: short, source: '{PATTERN}&frames=3'"
    running.start(entry("a"), short)
    eventually(lambda: running.pipeline.ledger.streams["short"].over, "the short stream ended")
    assert not running.reloader.over
    running.write(entry("a", ", fps: 25"), short)
    running.reload()
    running.more("a")
    assert "short~1" not in running.pipeline.ledger.streams
    running.write(entry("a", ", fps: 25"), short.replace("frames=3", "frames=4"))
    running.reload()
    eventually(lambda: running.reloader.look() or running.results("short") == 3 + 4, "all of its second life")
    running.write(f"name: b, source: '{PATTERN}&frames=2'")
    running.reload()
    eventually(lambda: running.reloader.look() or running.results("b") == 2, "all results of b")
    eventually(lambda: running.reloader.over, "all streams ended")


def test_a_storm_of_requests(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    running.start(entry("still"), entry("other"))
    for number in range(30):
        running.write(entry("still"), entry("other", f", fps: {1 + number}"))
        running.reload()
    running.more("still")
    running.more("other")
    assert sum("results go nowhere" in record.message for record in caplog.records) == 1, "said once"
    assert running.pipeline.ledger.streams["still"].dropped.total() == 0
    names = [name for name in running.pipeline.alive() if name == "read:other"]
    assert len(names) == 1, "one life at a time"


def living() -> Counter[str]:
    """Objects of this package, of the media libraries, and threads, by class; but for what is remembered for some
    seconds, whatever happens."""
    gc.collect()
    names = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    return Counter(
        {name: names[name] for name in names if name.startswith(OURS) and name.rpartition(".")[2] not in LATE}
    )


OURS, LATE = ("pipeline.", "threading.", "av."), ("Pause", "BatchRun", "Write")


def test_reloads_leave_nothing_behind(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams that come, change and go: after seventy times as many objects of each kind are alive as after twenty."""
    caplog.set_level("WARNING", "pipeline")  # pytest keeps what is said, with all that it is about
    monkeypatch.setattr("pipeline.ledger.ledger.LATELY_NS", 0)  # streams that ended are remembered for as long
    running.start(entry("steady", ", fps: 1"), entry("changing"))
    streams = running.pipeline.ledger.streams

    def lives(rounds: int) -> Counter[str]:
        for number in range(rounds):
            coming = [entry(f"coming{number % 2}")]
            running.write(entry("steady", ", fps: 1"), entry("changing", f", fps: {20 + number % 2}"), *coming)
            running.reload()
            running.more("changing", 1)
            running.more(f"coming{number % 2}", 1)
            running.sink.results.clear()
            running.sink.order.clear()
        return living()

    warm, rounds = lives(20), 50
    more = lives(rounds) - warm
    assert running.reloader.reloads == {"done": 20 + rounds, "refused": 0}
    assert len(streams) <= 3 + 3 * KEPT
    assert {name: count for name, count in more.items() if count >= rounds // 2} == {}


def test_a_file_that_would_end_everything_is_refused(running: Running) -> None:
    running.start(entry("a"))
    running.more("a")
    running.write(entry("a", ", enabled: false"))
    running.reload()
    assert running.reloader.reloads == {"done": 0, "refused": 1}
    running.more("a")


def test_a_stream_whose_next_life_cannot_be_made_keeps_this_one(running: Running) -> None:
    running.start(entry("a"))
    running.more("a")

    def fails(config: object) -> None:
        raise ConfigError("a: its password is gone")

    running.reloader._make_feed = fails  # type: ignore[assignment]
    running.write(entry("a", ", fps: 25"))
    running.reload()
    assert running.reloader.refused
    running.more("a")
    running.reloader._make_feed = build.feed
    running.reload()
    eventually(lambda: running.reloader.look() or "a~1" in running.pipeline.ledger.streams, "its next life")


def test_a_feed_that_only_waits_to_be_let_in_is_not_over(running: Running) -> None:
    """404, say: its state is ``failed`` and its reader tries again in a minute. The cure is a changed entry."""
    gone = StreamLedger("gone", live=True)
    gone.at(Condition("failed", "404", "not_found"))
    assert not gone.over
    running.start(entry("a"))
    running.pipeline.ledger.add(gone)
    running.pipeline.remove("a")
    eventually(lambda: running.pipeline.ledger.streams["a"].over, "the other one ended")
    assert not running.reloader.over
    gone.never_opened()
    assert running.reloader.over


def test_a_reload_has_cameras_tried_again_that_wait_for_a_person(running: Running) -> None:
    """The password in a file may have been mended: nothing of the configuration differs."""
    woken: list[str] = []
    running.start(entry("a"))
    running.more("a", 1)
    (stream,) = running.pipeline._roster._open.values()
    stream.wake = lambda: woken.append("a")
    running.reload()
    assert woken == ["a"]
    running.write("name: a, sorce: x")
    running.reload()
    assert woken == ["a"], "a refused file is no reload"


def test_a_stream_that_is_paused_stays_so_when_it_is_changed_and_is_forgotten_when_it_is_removed(
    running: Running,
) -> None:
    running.start(entry("a"), entry("b"))
    running.more("a", 1)
    assert running.pipeline.pause("a", True)
    running.write(entry("a", ", weight: 3"), entry("b"))
    running.reload()
    streams = running.pipeline.ledger.streams
    eventually(lambda: running.reloader.look() or ("a~1" in streams and streams["a"].state == "paused"), "held again")
    running.write(entry("b"))
    running.reload()
    eventually(lambda: running.reloader.look() or "a" not in streams, "it is gone")
    running.write(entry("a"), entry("b"))
    running.reload()
    running.more("a", 1)


def test_a_stream_whose_entry_is_faulty_is_shown_until_it_is_mended(running: Running) -> None:
    running.start(entry("a"), entry("b"))
    running.write(entry("a"), "name: c, source: 'ftp://127.0.0.1/x'")
    running.reload()
    shown = running.pipeline.ledger.streams["c"]
    assert shown.state == "failed"
    assert "streams.yaml:3" in str(shown.error)
    assert not running.reloader.succeeded
    running.write(entry("a"), entry("c"))
    running.reload()
    running.more("c")
    assert running.reloader.succeeded
    assert "c~1" not in running.pipeline.ledger.streams, "it had no earlier life"


def test_a_faulty_entry_that_is_deleted_is_shown_no_longer(running: Running) -> None:
    running.start(entry("a"), entry("b"))
    faulty = "name: {}, source: 'ftp://127.0.0.1/x'".format
    running.write(entry("a"), faulty("c"))  # b goes, c is faulty
    running.reload()
    running.write(entry("a"), faulty("b"))  # before the first b has ended
    running.reload()
    assert "c" not in running.pipeline.ledger.streams
    eventually(lambda: running.pipeline.ledger.streams["b~1"].over, "the earlier b ended")
    running.reloader.look()
    assert running.pipeline.ledger.streams["b"].is_faulty
    running.write(entry("a"))
    running.reload()
    assert set(running.pipeline.ledger.streams) == {"a", "b~1"}
