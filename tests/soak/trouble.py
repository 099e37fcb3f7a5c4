# SPDX-License-Identifier: Apache-2.0
"""What goes wrong: each trouble is a block that yields the streams that feel it, and mends it at its end."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from tests.faults import camera
from tests.soak.world import CAMERAS, PATTERN, World

Trouble = Callable[[World, random.Random], Iterator[list[str]]]
SICK: dict[str, Callable[[int], camera.Fault]] = {
    "stalls": lambda seed: camera.Stalls(),
    "trickles": lambda seed: camera.Trickles(),
    "hangs up": lambda seed: camera.HangsUp(),
    "is reset": lambda seed: camera.Resets(),
    "says goodbye": lambda seed: camera.SaysGoodbye(),
    "babbles": lambda seed: camera.Babbles(seed=seed),
    "sends damaged pictures": lambda seed: camera.Corrupts(share=0.5, seed=seed),
    "loses pictures": lambda seed: camera.Loses(0.3, seed=seed),
    "freezes": lambda seed: camera.Freezes(),
    "jumps in time": lambda seed: camera.Jumps(3600.0),
}


def a_camera_is_sick(what: str) -> Trouble:
    def trouble(world: World, chance: random.Random) -> Iterator[list[str]]:
        name = f"cam{chance.randrange(CAMERAS)}"
        world.suffer(name, SICK[what](chance.randrange(1 << 30)))
        yield [name]
        world.heal(name)

    return trouble


def a_camera_shows_another_size(world: World, chance: random.Random) -> Iterator[list[str]]:
    name = f"cam{chance.randrange(CAMERAS)}"
    before = world.cameras.do(lambda cameras: cameras[name].clip)
    world.cameras.do(lambda cameras: cameras[name].show(world.other))
    yield [name]
    world.cameras.do(lambda cameras: cameras[name].show(before))


def all_cameras_vanish(world: World, chance: random.Random) -> Iterator[list[str]]:
    world.cameras.vanish()
    yield [f"cam{n}" for n in range(CAMERAS)]
    world.cameras.come_back()


def the_configuration_changes(world: World, chance: random.Random) -> Iterator[list[str]]:
    removed, changed = chance.sample(list(world.entries), 2)
    rate = chance.choice((2, 4, 8))
    changes = {removed: None, changed: f"{world.entries[changed]}, fps: {rate}", "new": f"source: '{PATTERN}'"}
    world.write(**changes)
    if chance.random() < 0.5:
        world.reload()  # else it notices by itself
    yield [removed, changed]
    world.write()
    world.reload()


def the_configuration_is_broken(world: World, chance: random.Random) -> Iterator[list[str]]:
    world.break_the_file()
    world.reload()
    yield []
    world.write()
    world.reload()


def a_storm_of_reloads(world: World, chance: random.Random) -> Iterator[list[str]]:
    for _ in range(100):
        world.reload()
    yield []


def it_is_suspended(world: World, chance: random.Random) -> Iterator[list[str]]:
    world.run.send(signal.SIGSTOP)
    yield list(world.entries)
    world.run.send(signal.SIGCONT)


def the_disk_is_full(world: World, chance: random.Random) -> Iterator[list[str]]:
    world.run.files_up_to(max(entry.stat().st_size for entry in os.scandir(world.folder / "out")) // 2)
    yield []
    world.run.files_up_to(-1)


def a_stream_is_paused(world: World, chance: random.Random) -> Iterator[list[str]]:
    name = chance.choice(list(world.entries))
    world.run.web.post(f"/api/streams/{name}/pause")
    yield [name]
    world.run.web.post(f"/api/streams/{name}/resume")


def clients_are_slow(world: World, chance: random.Random) -> Iterator[list[str]]:
    """Viewers that do not read, requests that never end, and metrics that are asked for by the dozen."""
    address = urlsplit(str(world.run.web.base_url))
    with ExitStack() as stack:
        for number in range(12):
            asked = ("/api/streams/cam0/video.mjpg", "/metrics", "/api/streams")[number % 3]
            text = f"GET {asked} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            connected = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=10))
            connected.sendall(text if number % 4 else text[:20])
        yield []


TROUBLES: dict[str, Trouble] = {
    **{f"a camera {what}": a_camera_is_sick(what) for what in SICK},
    "a camera shows another size": a_camera_shows_another_size,
    "all cameras vanish": all_cameras_vanish,
    "the configuration changes": the_configuration_changes,
    "the configuration is broken": the_configuration_is_broken,
    "a storm of reloads": a_storm_of_reloads,
    "it is suspended": it_is_suspended,
    "the disk is full": the_disk_is_full,
    "a stream is paused": a_stream_is_paused,
    "clients are slow": clients_are_slow,
}


@contextmanager
def troubled(name: str, world: World, chance: random.Random) -> Iterator[list[str]]:
    """A trouble for the length of a block; the streams that feel it."""
    with contextmanager(TROUBLES[name])(world, chance) as streams:
        yield streams
