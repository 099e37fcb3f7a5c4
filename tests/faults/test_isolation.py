# SPDX-License-Identifier: Apache-2.0
"""A camera that is decoded in a process of its own: the same frames and errors; what kills it kills nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import build
from pipeline.build import feeds
from pipeline.config import StreamConfig
from pipeline.errors import SourceError
from pipeline.flow import Pipeline
from pipeline.flow.stream import FlowOptions
from pipeline.frame import Capture
from pipeline.host.neighbours import moment
from pipeline.protocols import Source
from pipeline.sources import Isolation
from pipeline.sources.isolation import process as isolation_process
from pipeline.testing import FakeDetector, ListSink
from pipeline.threads import StopFlag
from pipeline.timing import cpu_ns, now_ns
from tests.faults.camera import Access, Answers, Camera, Cameras, Clip, HangsUp, Shows, Stalls, read_clip, serving
from tests.media import H264, Media, level_of, luma, media
from tests.processes import awaited

__all__ = ["media"]

GOP_5 = {**H264, "x264-params": "keyint=5:min-keyint=5:scenecut=0:threads=1"}
NTP_TO_UNIX_S = 2_208_988_800
"""From 1900 to 1970."""
PATIENCE_S = 30.0
"""A process takes a while to start where everybody else is at work, too."""


@pytest.fixture
def clip(media: Media) -> Clip:
    return read_clip(media.clip("mkv", count=60, options=GOP_5))


@pytest.fixture
def home() -> Iterator[Isolation]:
    one = Isolation("gate", memory_mb=1024, largest_picture=3 * 1920 * 1080)
    yield one
    one.close()
    assert one.pid is None


def camera(home: Isolation | None, url: str, **entry: Any) -> Source:
    """One connection as the daemon makes it: in that process, or in this thread."""
    config = StreamConfig.model_validate(
        {"name": "gate", "source": url, "open_timeout_s": 5.0, "read_timeout_s": 0.5, **entry}
    )
    if home is None:
        return feeds._camera(config, config.source, "none")
    return feeds._isolated(home, config, config.source, "none")


def gone(pid: int) -> bool:
    """Not even a zombie is left."""
    return not Path(f"/proc/{pid}").exists()


def read_all(source: Source, most: int = 1000) -> tuple[list[Capture], SourceError | None]:
    """Frames until the connection is lost, and why; and hang up."""
    captures: list[Capture] = []
    try:
        source.open(StopFlag())
        while len(captures) < most:
            capture = source.read()
            assert capture is not None
            captures.append(capture)
    except SourceError as error:
        return captures, error
    finally:
        source.close()
    return captures, None


def at_work(home: Isolation, url: str) -> tuple[Source, int]:
    """A connection that has delivered, and the process that serves it."""
    source = camera(home, url)
    source.open(StopFlag())
    assert source.read() is not None
    assert home.pid is not None
    return source, home.pid


def read_on(source: Source) -> None:
    """Until it raises."""
    while source.read() is not None:
        pass


def in_place(captures: list[Capture]) -> bool:
    """Whether these show the frames of the counting clip of 60 that their numbers say, from any on."""
    seen = [(capture.index, luma(capture)) for capture in captures]
    return any(all(abs(level_of((start + index) % 60) - level) <= 3 for index, level in seen) for start in range(60))


def told(captures: list[Capture], error: SourceError | None) -> tuple[Any, ...]:
    """What must be the same wherever it is decoded."""
    frames = [(c.index, c.epoch, c.corrupt, c.picture.size, c.picture.layout, c.picture.matrix) for c in captures]
    return frames, type(error), None if error is None else (error.cause, str(error))


def test_frames_and_errors_are_those_of_a_thread(media: Media, clip: Clip, home: Isolation) -> None:
    other = read_clip(media.clip("mkv", count=30, size=(48, 64), options=GOP_5))
    denied = Access("viewer", "hunter2")

    def look(where: Isolation | None) -> list[Any]:
        seen: list[Any] = []
        with serving(
            Camera("ends", clip, fps=120, faults=[HangsUp(after=20)]),
            Camera("grows", clip, fps=120, faults=[Shows(other, after=15)]),
            Camera("denied", clip, access=denied),
            Camera("lost", clip, faults=[Answers(404)]),
            Camera("gate", clip),
        ) as cameras:
            url, port = cameras.url, cameras.port
            patient = {"read_timeout_s": 5.0}  # nothing here is silent, but a busy machine may be slow
            ends = camera(where, url("ends"), **patient)
            captures, error = read_all(ends)
            assert in_place(captures)
            assert all(c.decoded_ns - c.read_ns >= 0 and c.read_ns <= now_ns() for c in captures), "one clock"
            assert all(c.wall_ns for c in captures)
            seen += [told([], error), ends.counters.decoder]
            captures, _ = read_all(camera(where, url("grows"), **patient), 30)
            assert all(c.picture.size == ((64, 48) if c.index < 15 else (48, 64)) for c in captures)
            for name, more in (("denied", {}), ("lost", {}), ("gate", {"codecs": ["hevc"]})):
                seen.append(told(*read_all(camera(where, url(name, "viewer:wrong"), **patient, **more))))
        seen.append(told(*read_all(camera(where, f"rtsp://127.0.0.1:{port}/gate", **patient))))
        return [str(one).replace(str(port), "PORT") for one in seen]

    assert look(home) == look(None)
    assert home.started == 1, "one process for all of these connections"


def test_it_knows_no_secrets_but_its_own_and_shows_none(clip: Clip, home: Isolation, monkeypatch: Any) -> None:
    monkeypatch.setenv("LOBBY_PASSWORD", "another-secret")
    with serving(Camera("gate", clip, fps=60, access=Access("viewer", "hunter2-Secret"))) as cameras:
        source = camera(home, cameras.url("gate", "viewer:hunter2-Secret"))
        source.open(StopFlag())
        assert source.read() is not None
        process = Path(f"/proc/{home.pid}")
        shown = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
        assert b"hunter2" not in shown
        assert b"another-secret" not in shown
        status = process.joinpath("status").read_text()
        assert "NoNewPrivs:\t1" in status
        limits = process.joinpath("limits").read_text()
        assert f"{1024 << 20}" in next(line for line in limits.splitlines() if "address space" in line)
        assert "torch" not in process.joinpath("maps").read_text()
        source.close()


def test_a_crash_has_a_cause_and_the_next_connection_a_new_process(clip: Clip, home: Isolation) -> None:
    with serving(Camera("gate", clip, fps=60)) as cameras:
        source, first = at_work(home, cameras.url("gate"))
        os.kill(first, signal.SIGKILL)
        with pytest.raises(SourceError, match="its process was ended by SIGKILL") as caught:
            read_on(source)
        source.close()
        assert caught.value.cause == "crash"
        assert gone(first)
        captures, error = read_all(camera(home, cameras.url("gate")), 5)
        assert (len(captures), error, home.started) == (5, None, 2)


def test_a_process_that_stands_still_is_ended(clip: Clip, home: Isolation) -> None:
    with serving(Camera("gate", clip, fps=60)) as cameras:
        source, first = at_work(home, cameras.url("gate"))
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(SourceError, match="no sign of life") as caught:
            read_on(source)
        source.close()
    assert caught.value.cause == "hung"
    assert gone(first)


def test_no_more_memory_than_it_was_given(media: Media) -> None:
    large = read_clip(media.clip("mkv", count=5, size=(3840, 2160), options={**H264, "qp": "40"}))
    with serving(Camera("gate", large, fps=10)) as cameras:
        small = Isolation("gate", memory_mb=260, largest_picture=3 * 3840 * 2160)
        try:
            captures, error = read_all(camera(small, cameras.url("gate"), read_timeout_s=5.0), 10)
        finally:
            small.close()
    assert error is not None, f"{len(captures)} frames fit"
    assert error.cause in ("memory", "crash")
    assert error.cause == "crash" or str(error).endswith("; raise isolation_memory_mb (260 now)")


def test_what_a_process_is_given_at_least_is_enough_for_full_hd(media: Media) -> None:
    """And it holds no library that it does not need: OpenCV's are 220 MB of address space."""
    clip = read_clip(media.clip("mkv", count=10, size=(1920, 1080), options={**GOP_5, "qp": "40"}))
    least = next(each.ge for each in StreamConfig.model_fields["isolation_memory_mb"].metadata if hasattr(each, "ge"))
    with serving(Camera("gate", clip, fps=20)) as cameras:
        home = Isolation("gate", memory_mb=least, largest_picture=3 * 1920 * 1080)
        try:
            source = camera(home, cameras.url("gate"), read_timeout_s=5.0)
            source.open(StopFlag())
            captures = [source.read() for _ in range(8)]
            maps = Path(f"/proc/{home.pid}/maps").read_text()
            source.close()
        finally:
            home.close()
    assert all(captures)
    assert "cv2" not in maps


def test_a_process_that_is_given_too_little_says_so(clip: Clip) -> None:
    """It does not even get as far as to say it: its status tells."""
    with serving(Camera("gate", clip, fps=60)) as cameras:
        home = Isolation("gate", memory_mb=100, largest_picture=3 * 1920 * 1080)
        try:
            _, error = read_all(camera(home, cameras.url("gate")), 10)
        finally:
            home.close()
    assert error is not None
    assert (error.cause, str(error)) == (
        "memory",
        "its process has no more memory; raise isolation_memory_mb (100 now)",
    )


def test_nobody_waits_for_a_parent_that_does_not_read(clip: Clip, home: Isolation) -> None:
    """The camera is read at its rate; of what nobody took the newest is kept, and the rest is counted."""
    with serving(Camera("gate", clip, fps=100)) as cameras:
        source = camera(home, cameras.url("gate"))
        source.open(StopFlag())
        first = source.read()
        assert first is not None
        held = [first]
        threading.Event().wait(0.5)
        captures = [source.read() for _ in range(15)]
        source.close()
    total = len(captures) + 1
    missed = sum(one.missed for one in captures if one is not None)
    assert missed > 20, "half a second at 100 frames a second, of which eight are kept"
    last = captures[-1]
    assert last is not None
    assert last.index + 1 == total + missed, "each frame was seen or is counted"
    assert held[0].picture.planes[0].max() > 0, "what is being looked at is not written over"
    assert (now_ns() - last.read_ns) < 5e9


def test_pictures_that_are_kept_do_not_change(clip: Clip, home: Isolation) -> None:
    with serving(Camera("gate", clip, fps=100)) as cameras:
        source = camera(home, cameras.url("gate"))
        source.open(StopFlag())
        captures = [source.read() for _ in range(40)]
        source.close()
        assert in_place([one for one in captures if one is not None])


CHILD_OF_ONE = """
import sys
from pipeline.sources import IsolatedSource, Isolation
from pipeline.threads import StopFlag
home = Isolation("gate", memory_mb=512, largest_picture=1 << 20)
order = {"kind": "camera", "address": sys.argv[1], "auto_skip": None, "options": {}}
source = IsolatedSource(home, order, open_s=10.0, read_s=10.0)
source.open(StopFlag())
print(home.pid, flush=True)
while True:
    source.read()
"""


def test_the_clock_of_a_camera_may_never_have_been_set(clip: Clip, home: Isolation) -> None:
    """Its sender reports then begin with 1900: that is no fault of the process that tells of them."""
    with serving(Camera("gate", clip, clock_s=60 - NTP_TO_UNIX_S - time.time())) as cameras:
        captures, error = read_all(camera(home, cameras.url("gate")), 10)
    assert (error, home.started) == (None, 1)
    told = [capture.camera_ns for capture in captures]
    assert all(ns is not None and 0 < ns / 1e9 + NTP_TO_UNIX_S < 60 + PATIENCE_S for ns in told)


def test_it_does_not_outlive_a_daemon_that_is_killed(clip: Clip) -> None:
    with serving(Camera("gate", clip, fps=30)) as cameras:
        command = [sys.executable, "-c", CHILD_OF_ONE, cameras.url("gate")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            os.kill(child, signal.SIGSTOP)  # it cannot even hear that its parent is gone
            parent.kill()
        awaited(lambda: _ended(child), "the end of its process")


def _ended(pid: int) -> bool:
    """It is no more, or is a zombie that whoever inherits it has not reaped yet."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    return True


def test_one_stream_of_two_crashes(clip: Clip) -> None:
    """It begins anew by itself, with its cause told; the other one does not notice; the accounts balance."""
    sink = ListSink(wants_events=True)
    pipeline = Pipeline(FakeDetector(), [sink], FlowOptions(fixed_batch=False, outlet_policy="freshest"))
    with serving(Camera("gate", clip, fps=30), Camera("lobby", clip, fps=30)) as cameras:
        pipeline.start()
        for name, isolation in (("gate", "process"), ("lobby", "thread")):
            entry = {"name": name, "source": cameras.url(name), "isolation": isolation}
            pipeline.add(build.feed(StreamConfig.model_validate(entry)))
        accounts = pipeline.ledger.streams
        awaited(lambda: all(one.processed > 5 for one in accounts.values()), "both run")
        (child,) = children()
        os.kill(child, signal.SIGKILL)
        awaited(lambda: accounts["gate"].counters.reconnects == 1, "it connects again")
        before = accounts["gate"].processed
        awaited(lambda: accounts["gate"].processed > before + 5, "it runs again")
        pipeline.finish()
        pipeline.stop()
        assert pipeline.join(PATIENCE_S), pipeline.alive()
    assert children() == []
    events = [(event.stream, event.kind, event.cause) for event in sink.told if event.stream == "gate"]
    assert events == [("gate", "up", None), ("gate", "down", "crash"), ("gate", "up", None), ("gate", "ended", None)]
    assert accounts["lobby"].counters.reconnects == 0
    assert pipeline.ledger.unbalanced() == {}


def children() -> list[int]:
    """Processes of feeds that this one has started."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"sources.isolation.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def restarts(cameras: Cameras, home: Isolation, count: int) -> None:
    """As many processes, each of which delivers and is killed, closed, or asked to stop."""
    for number in range(count):
        source = camera(home, cameras.url("gate"))
        source.open(StopFlag())
        assert source.read() is not None
        if number % 2:
            os.kill(home.pid or 0, signal.SIGKILL)
            with pytest.raises(SourceError):
                read_on(source)
        source.close()
        home.close()


def flat_after(count: int, clip: Clip, home: Isolation) -> None:
    with serving(Camera("gate", clip, fps=100)) as cameras:
        restarts(cameras, home, 1)
        files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        mapped = Path("/proc/self/maps").read_text().count("memfd:")
        restarts(cameras, home, count)
        awaited(lambda: len(os.listdir("/proc/self/fd")) <= files, "its sockets are closed")  # the camera's side, too
        assert threading.active_count() == threads
        assert Path("/proc/self/maps").read_text().count("memfd:") <= mapped  # the last one's may be let go already
        assert children() == []


def test_nothing_is_left_of_some_restarts(clip: Clip, home: Isolation) -> None:
    flat_after(3, clip, home)


@pytest.mark.slow
def test_nothing_is_left_of_a_hundred_restarts(clip: Clip, home: Isolation) -> None:
    flat_after(100, clip, home)


def test_a_stop_is_heard_at_once(clip: Clip, home: Isolation) -> None:
    """Not after the time limit of the camera, as in a thread: its process is simply ended."""
    with serving(Camera("gate", clip, fps=60, faults=[Stalls(after=5)])) as cameras:
        source, stop = camera(home, cameras.url("gate"), read_timeout_s=60.0), StopFlag()
        source.open(stop)
        threading.Timer(0.3, stop.set).start()
        while source.read() is not None:
            pass
        began_ns = now_ns()
        source.close()
        home.close()
        assert now_ns() - began_ns < 5e9


@pytest.mark.parametrize(
    ("shell", "gently"),
    [("sleep 600 & echo $!", True), ("sleep 600 & echo $!; wait", True), ("sleep 600 & echo $!; wait", False)],
    ids=["leaves", "stays", "killed"],
)
def test_what_it_started_ends_with_it(shell: str, gently: bool) -> None:
    with subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        started = int(process.stdout.readline())
        isolation_process._ended(process, gently=gently)
        awaited(lambda: _ended(started), "the end of what it started")


def test_the_cpu_time_of_a_process_that_ended_still_counts(clip: Clip, home: Isolation) -> None:
    assert home.cpu_ns == 0
    with serving(Camera("gate", clip, fps=60)) as cameras:
        source, pid = at_work(home, cameras.url("gate"))
        before_ns, own_ns = home.cpu_ns, cpu_ns()
        assert before_ns > 0
        now = moment()
        assert now is not None
        assert now.own_ns >= own_ns + before_ns, "it is this program's, and not others'"
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(SourceError):
            read_on(source)
        source.close()
        assert (home.pid, home.cpu_ns >= before_ns) == (None, True)
        ended_ns = home.cpu_ns
        source, again = at_work(home, cameras.url("gate"))
        assert again != pid
        assert home.cpu_ns > ended_ns
        source.close()
