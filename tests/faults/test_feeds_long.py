# SPDX-License-Identifier: Apache-2.0
"""What takes minutes: cameras that are not there, a thousand connections, clocks that are set, a machine that halts.

``make faults`` runs it; ``make faults MINUTES=10`` has cameras that are not there for ten minutes.
"""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.faults import feeds
from tests.faults.camera import Answers, Camera, Fault, HangsUp, Healthy, Stalls, Trickles, serving
from tests.faults.criteria import balanced, forms, no_more_than, no_secret, undisturbed, window
from tests.faults.peers import MAKES, peer
from tests.faults.watched import Footprint, Watched, watching
from tests.media import Media, media

__all__ = ["media"]

pytestmark = pytest.mark.slow

SETTLED_S = 30.0
"""The start, with its first tries and its first lines, is over."""
MINUTES = float(os.environ.get("MINUTES", "1.5"))
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
IMPATIENT = """
import sys
from functools import partialmethod
from pipeline.host import footprint
from pipeline.build import feeds
from pipeline.cli import main
footprint.GIVE_BACK_NS = 1_000_000_000
class Impatient(feeds.Reconnecting):
    __init__ = partialmethod(feeds.Reconnecting.__init__, first_backoff_s=0.02, max_backoff_s=0.1)
feeds.Reconnecting = Impatient
sys.argv.insert(1, "run")
sys.exit(main())
"""
"""The command, with pauses between connections, and until free memory is given back, as short as tests need them."""


@contextmanager
def black_hole() -> Iterator[int]:
    """A port at which connections are neither taken nor refused: its queue is full, so the kernel answers no SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                waiting.append(client)
            yield port
        finally:
            for client in waiting:
                client.close()


def slope_mb_per_h(at_s: list[float], rss_mb: list[float]) -> float:
    return float(np.polyfit(at_s, rss_mb, 1)[0]) * 3600


@pytest.mark.timeout(60 * MINUTES + 120)
def test_fifty_cameras_that_are_not_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refused = closed.getsockname()[1]
    with black_hole() as hole:
        streams = [f"name: cam{n}, source: 'rtsp://127.0.0.1:{refused if n % 2 else hole}/{n}'" for n in range(50)]
        path = feeds.watched_config(tmp_path, streams, "policy: freshest")
        with watching(path, looks=False) as daemon:
            daemon.until("detector ready")
            began_s, first = time.monotonic(), daemon.footprint()
            at_s: list[float] = []
            rss_mb: list[float] = []
            settled, settled_s, said = first, began_s, 0
            pause = threading.Event()
            while (passed_s := time.monotonic() - began_s) < 60 * MINUTES:
                pause.wait(1.0)
                now = daemon.footprint()
                if passed_s < SETTLED_S:
                    settled, settled_s, said = now, time.monotonic(), len(daemon.lines)
                else:
                    at_s.append(passed_s)
                    rss_mb.append(now.rss_mb)
            share = (now.cpu_s - settled.cpu_s) / (time.monotonic() - settled_s)
            told = daemon.streams()
            lines = [line for line in daemon.lines[said:] if re.search(r"cam\d+: ", line)]
            code, report = daemon.stop()
    figures = (
        f"{MINUTES:g} min: CPU {share:.2%} of a core, RSS {rss_mb[0]:.1f} -> {rss_mb[-1]:.1f} MB "
        f"({slope_mb_per_h(at_s, rss_mb):+.2f} MB/h), {len(lines)} lines in the log"
    )
    print(figures)
    assert code == 0
    assert [told[f"cam{n}"]["cause"] for n in range(50)] == ["timeout", "refused"] * 25
    assert share < 0.02, figures
    assert len(lines) <= 50 * math.ceil(MINUTES - SETTLED_S / 60), figures
    # Growth of a few minutes says little of an hour: what counts is that nothing grows with the attempts.
    assert rss_mb[-1] - statistics.median(rss_mb[:10]) < 0.5, figures
    assert now.threads <= settled.threads, figures
    balanced(report)


@pytest.mark.timeout(400)
def test_a_thousand_reconnects(media: Media, tmp_path: Path) -> None:
    """Ten cameras hang up after 15 frames, two hundred times each; memory is compared once the last minute is full."""
    names = [f"cam{n}" for n in range(10)]
    clip = feeds.landscape(media)
    with serving(*(Camera(name, clip, fps=60) for name in names)) as cameras:
        path = feeds.watched_config(tmp_path, feeds.entries(cameras, *names), "policy: freshest")
        with watching(path, program=IMPATIENT) as daemon:
            daemon.wait(lambda: feeds.all_live(daemon, *names), 60, "cameras that are live")
            base = daemon.footprint()

            def reconnects() -> int:
                told = daemon.looks[-1].streams
                return sum(told[name]["reconnects"] for name in names)

            def held_after(rounds: int) -> Footprint:
                """Each hangs up so many times more; what the daemon holds when all are live again."""
                enough = reconnects() + len(names) * rounds
                faults = [HangsUp(after=15)] * (rounds - 1)
                cameras.do(lambda each: [camera.inflict(HangsUp(), faults) for camera in each.values()])
                daemon.wait(lambda: reconnects() >= enough, 300, f"{enough} reconnects")
                cameras.do(lambda each: [camera.inflict(Healthy()) for camera in each.values()])
                daemon.wait(lambda: feeds.all_live(daemon, *names), 20, "cameras that are live")
                settle(daemon, 3.0)
                return daemon.footprint()

            warm, at_warm, warm_s = held_after(120), reconnects(), time.monotonic()
            now = held_after(80)
            total, took_s = reconnects(), time.monotonic() - warm_s
            code, report = daemon.stop()
    per_reconnect_kb = (now.rss_mb - warm.rss_mb) * 1024 / (total - at_warm)
    # A camera that hangs up again and again is tried every 15 s on average, once pauses are at their 30 s: 240 an hour.
    figures = (
        f"{total} reconnects, {total - at_warm} in {took_s:.0f} s; threads {base.threads} -> {now.threads}, "
        f"descriptors {base.descriptors} -> {now.descriptors}, RSS {warm.rss_mb:.1f} -> {now.rss_mb:.1f} MB, "
        f"{per_reconnect_kb:.2f} kB each, {per_reconnect_kb * 240 / 1024:+.2f} MB/h"
    )
    print(figures)
    assert code == 0
    assert (now.threads, now.descriptors) == (base.threads, base.descriptors), figures
    assert per_reconnect_kb * 240 / 1024 < 1.0, figures
    balanced(report)
    for name in names:
        feeds.sound(feeds.results(tmp_path, name))


def settle(daemon: Watched, seconds: float) -> None:
    """Let it run on."""
    until_s = time.monotonic() + seconds
    daemon.wait(lambda: time.monotonic() > until_s, seconds + 30, "time")


STALLS: dict[str, list[Fault]] = {
    "stalls": [Stalls(after=5)],
    "mute": [Answers(None)],
    "idle": [Stalls()],
    "trickles": [Trickles(after=5, every_s=0.2)],
}


@pytest.mark.timeout(300)
def test_a_hundred_stalls_of_each_kind(media: Media, tmp_path: Path) -> None:
    """No reader and no descriptor is left behind by connections that only a time limit ended."""
    clip = feeds.landscape(media)
    names = [*STALLS, "good"]
    with serving(*(Camera(name, clip, fps=30) for name in names)) as cameras:
        limits = "open_timeout_s: 0.4, read_timeout_s: 0.4"
        path = feeds.watched_config(tmp_path, feeds.entries(cameras, *names), limits)
        with watching(path, program=IMPATIENT) as daemon:
            daemon.wait(lambda: feeds.all_live(daemon, *names), 60, "cameras that are live")
            base, began_s = daemon.footprint(), time.monotonic()

            def connections() -> int:
                return min(cameras.do(lambda each: [each[name].connections for name in STALLS]))

            cameras.do(lambda each: [each[name].inflict(HangsUp(), fault * 200) for name, fault in STALLS.items()])
            daemon.wait(lambda: connections() >= 100, 250, "a hundred connections to each")
            took_s = time.monotonic() - began_s
            cameras.do(lambda each: [camera.inflict(Healthy()) for camera in each.values()])
            daemon.wait(lambda: feeds.all_live(daemon, *names), 30, "cameras that are live")
            settle(daemon, 2.0)
            now = daemon.footprint()
            code, report = daemon.stop()
    print(f"in {took_s:.0f} s: {base} -> {now}")
    assert code == 0
    no_more_than(base, now)
    assert "left behind" not in daemon.log
    balanced(report)


@pytest.mark.parametrize("kind", [*STALLS])
def test_a_stall_by_the_limits_that_everybody_has(media: Media, tmp_path: Path, kind: str) -> None:
    """Named within 5 s, and its connection given up within twice the limit of 5 s."""
    clip = feeds.landscape(media)
    with serving(Camera(kind, clip, fps=10), Camera("good", clip, fps=10)) as cameras:
        path = feeds.watched_config(tmp_path, feeds.entries(cameras, kind, "good"), "policy: freshest")
        with watching(path) as daemon:
            daemon.wait(lambda: feeds.all_live(daemon, kind, "good"), 60, "cameras that are live")
            settle(daemon, 5.0)
            struck_s, struck_wall_s = time.monotonic(), time.time()
            now = HangsUp() if kind in ("mute", "idle") else STALLS[kind][0]
            cameras.do(lambda each: each[kind].inflict(now, STALLS[kind]))
            named_s = daemon.wait_for(kind, lambda told: told["state"] != "live", 10, "another state")
            tries = 3 if kind in ("mute", "idle") else 2  # of which the last one is due to the limit
            daemon.wait(lambda: cameras.do(lambda each: each[kind].connections) >= tries, 40, "another try")
            given_up_s = time.monotonic() - struck_s
            cameras.do(lambda each: each[kind].inflict(Healthy()))
            daemon.wait(lambda: feeds.all_live(daemon, kind), 60, "recovery")
            ended_s = time.time()
            code, report = daemon.stop()
    print(f"{kind}: named after {named_s:.1f} s, next connection after {given_up_s:.1f} s")
    assert code == 0
    assert named_s <= 5.0
    assert given_up_s <= 2 * 5.0 + 2.0, "twice the limit, and the pauses before and after"
    good = tmp_path / "out" / "good.jsonl"
    undisturbed(window(good, struck_wall_s - 5, struck_wall_s), window(good, struck_wall_s, ended_s), 10)
    balanced(report)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("make", MAKES)
def test_a_camera_that_is_away_for_a_minute(media: Media, tmp_path: Path, make: str) -> None:
    with peer(make, media) as gone, serving(Camera("good", feeds.landscape(media), fps=15)) as stays:
        entries = [f"name: gate, source: '{gone.url}'", *feeds.entries(stays, "good")]
        path = feeds.watched_config(tmp_path, entries, "policy: freshest")
        with watching(path) as daemon:
            daemon.wait(lambda: feeds.all_live(daemon, "gate", "good"), 60, "cameras that are live")
            settle(daemon, 5.0)
            away_s = time.time()
            gone.vanish()
            down_s = daemon.wait_for("gate", lambda told: told["state"] != "live", 10, "another state")
            settle(daemon, 60.0)
            # In the middle of a pause: a camera that returns while it is being called turns that call away.
            daemon.wait_for("gate", lambda told: (told["next_try_s"] or 0.0) > 1.0, 40, "a pause")
            told = daemon.streams()["gate"]
            count, step_s = told["frames"]["processed"], told["next_try_s"] or 0.0
            gone.come_back()
            back_s = time.time()
            daemon.wait_for("gate", lambda told: told["frames"]["processed"] > count, 40, "a result")
            code, report = daemon.stop()
    lines = feeds.results(tmp_path, "gate")
    wait_s = feeds.first_result_s(lines, back_s) - back_s
    print(f"down seen after {down_s:.1f} s; first result {wait_s:.2f} s after its return, the step was {step_s:.1f} s")
    assert code == 0
    assert down_s <= 5.0
    assert wait_s <= 2.0 + step_s
    good = tmp_path / "out" / "good.jsonl"
    undisturbed(window(good, away_s - 5, away_s), window(good, away_s, back_s), 15)
    feeds.sound(lines)
    balanced(report)


@pytest.mark.parametrize("make", MAKES)
def test_a_password_that_is_put_right(media: Media, tmp_path: Path, make: str) -> None:
    wrong, right = "0ld/One?", "n3w&One+"
    with peer(make, media, "viewer", right) as door:
        path = feeds.watched_config(
            tmp_path, [f"name: gate, source: '{door.url}', username: viewer, password: '{wrong}'"], "policy: freshest"
        )
        with watching(path) as daemon:
            named_s = daemon.wait_for("gate", lambda told: told["state"] == "auth_failed", 30, "refusal")
            assert daemon.looks[-1].streams["gate"]["cause"] == "auth"
            settle(daemon, 2.0)
            path.write_text(path.read_text().replace(wrong, right))
            reloaded_s = time.time()
            daemon.send(signal.SIGHUP)
            daemon.wait(lambda: feeds.all_live(daemon, "gate"), 30, "a camera that is live")
            daemon.see_all()
            code, report = daemon.stop()
    wait_s = feeds.first_result_s(feeds.results(tmp_path, "gate"), reloaded_s) - reloaded_s
    print(f"refusal named after {named_s:.1f} s; first result {wait_s:.2f} s after SIGHUP")
    assert code == 0
    assert wait_s <= 1.0
    for secret in (wrong, right):
        no_secret(daemon, forms("viewer", secret), tmp_path / "out")
    balanced(report)


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs Debian's faketime")
@pytest.mark.parametrize("step_s", [3600, -3600])
def test_the_wall_clock_is_set(media: Media, tmp_path: Path, step_s: int) -> None:
    clip = feeds.landscape(media)
    names = ["tcp", "udp"]
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    env = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    with serving(*(Camera(name, clip, fps=15) for name in names)) as cameras:
        entries = feeds.entries(cameras, "tcp") + feeds.entries(cameras, "udp", more=", transport: udp")
        path = feeds.watched_config(tmp_path, entries, "policy: freshest")
        with watching(path, env=env) as daemon:
            daemon.wait(lambda: feeds.all_live(daemon, *names), 60, "cameras that are live")
            settle(daemon, 4.0)
            looks = len(daemon.looks)
            offset.write_text(f"{step_s:+d}\n")
            settle(daemon, 10.0)
            states = {look.streams[name]["state"] for look in daemon.looks[looks:] for name in names}
            ages = [look.streams[name]["age_s"] for look in daemon.looks[looks:] for name in names]
            code, report = daemon.stop()
    assert code == 0
    assert states == {"live"}, daemon.log
    assert all(0 <= age < 3 for age in ages), ages
    for name in names:
        lines = feeds.results(tmp_path, name)
        feeds.sound(lines)
        assert report["streams"][name]["reconnects"] == 0
        assert report["streams"][name]["discontinuities"] == 0
        steps = [feeds.captured_s(b) - feeds.captured_s(a) for a, b in pairwise(lines)]
        jumps = [step for step in steps if abs(step) > 60]
        assert len(jumps) == 1, "the wall time of results follows the clock, once"
        assert jumps[0] == pytest.approx(step_s, abs=2.0)
        assert len(lines) >= 0.95 * 15 * 10
    balanced(report)


@pytest.mark.timeout(240)
def test_a_machine_that_halts_for_a_minute(media: Media, tmp_path: Path) -> None:
    clip = feeds.landscape(media)
    names = [f"cam{n}" for n in range(8)]
    with serving(*(Camera(name, clip, fps=15) for name in names)) as cameras:
        path = feeds.watched_config(tmp_path, feeds.entries(cameras, *names), "policy: freshest")
        with watching(path) as daemon:
            daemon.wait(lambda: feeds.all_live(daemon, *names), 60, "cameras that are live")
            settle(daemon, 3.0)
            base = daemon.footprint()
            daemon.send(signal.SIGSTOP)
            threading.Event().wait(60.0)
            daemon.send(signal.SIGCONT)
            went_on_s = time.monotonic()
            daemon.wait(lambda: daemon.looks[-1].at_s > went_on_s, 20, "an answer")
            daemon.wait(lambda: feeds.all_live(daemon, *names), 20, "cameras that are live")
            live_s = time.monotonic() - went_on_s
            settle(daemon, 5.0)
            told = daemon.streams()
            now = daemon.footprint()
            code, report = daemon.stop()
    reconnects = {name: told[name]["reconnects"] for name in names}
    print(f"live {live_s:.1f} s after it went on; reconnects {reconnects}")
    print("".join(line for line in daemon.lines if "warning" in line or "error" in line))
    assert code == 0
    assert sum(map(bool, reconnects.values())) <= len(names) // 2, "healthy streams were connected anew"
    no_more_than(base, now)
    balanced(report)
