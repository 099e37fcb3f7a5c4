# SPDX-License-Identifier: Apache-2.0
"""Memory that keeps growing is named, with the figure; memory that settles is not."""

from __future__ import annotations

import gc
import mmap
import platform
import subprocess
import sys
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.host import footprint as module
from pipeline.host.footprint import GIVE_BACK_NS, Footprint, give_back, keep_for_good, resident_bytes
from pipeline.testing import ManualClock

MINUTE = 60_000_000_000


def test_growth_after_the_start_is_said_when_it_is_large_and_then_when_it_has_doubled() -> None:
    clock = ManualClock(1)
    footprint = Footprint(clock)
    said = []
    for minute in range(60):
        text = footprint.look(500_000_000 + minute * 20_000_000)
        if text is not None:
            said.append((minute, text))
        clock.advance(MINUTE)
    assert [minute for minute, _ in said] == [15, 25, 45], "settled at 5 min; 200, 400 and 800 MB more"
    assert said[0][1].startswith("memory grew from 600 MB to 800 MB in 10 min (20.0 MB a minute)")


def test_what_is_taken_at_the_start_or_comes_and_goes_is_not_growth() -> None:
    clock = ManualClock(1)
    footprint = Footprint(clock)
    for minute in range(120):
        assert footprint.look(min(minute, 5) * 400_000_000 + (minute % 7) * 20_000_000) is None
        clock.advance(MINUTE)


def test_a_system_that_does_not_tell() -> None:
    clock = ManualClock(1)
    footprint = Footprint(clock)
    clock.advance(10 * MINUTE)
    assert footprint.look(None) is None


def test_this_process_has_a_size() -> None:
    before = resident_bytes()
    assert before is not None
    ballast = mmap.mmap(-1, 50_000_000)  # pages of its own: the allocator may have old ones to give
    ballast.write(b"x" * 50_000_000)
    after = resident_bytes()
    assert after is not None
    assert 40_000_000 < after - before < 200_000_000
    assert len(ballast) == 50_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc_trim")
def test_free_pages_between_used_ones_go_back_to_the_system() -> None:
    size, count = 100_000, 2000  # below the threshold from which glibc maps each by itself
    blocks = [np.ones(size, np.uint8) for _ in range(count)]
    last = blocks[-1]  # keeps the heap's end where it is
    full = resident_bytes()
    assert full is not None
    del blocks
    assert give_back()
    left = resident_bytes()
    assert left is not None
    assert full - left > 0.8 * size * count
    assert last.all()


def test_free_memory_goes_back_once_a_minute_however_often_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    clock = ManualClock(1)
    monkeypatch.setattr(module, "give_back", lambda: given.append(clock.now_ns()))
    footprint = Footprint(clock)
    for _ in range(1000):
        footprint.tidy()
        clock.advance(GIVE_BACK_NS // 100)
    assert len(given) == 9


class Node:
    """Part of a circle, which only the garbage collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With all that the tests keep, too."""
    monkeypatch.setattr(module, "gc", gc)
    yield
    keep_for_good()


@pytest.mark.usefixtures("unhurried")
def test_what_is_kept_for_good_is_not_looked_through_until_it_is_said_anew() -> None:
    node = Node()
    gone = weakref.ref(node)
    keep_for_good()
    assert not any(each is node for each in gc.get_objects())
    del node
    gc.collect()
    assert gone() is not None
    keep_for_good()
    assert gone() is None


def test_what_is_kept_for_good_goes_with_the_program() -> None:
    """Else a library that counts what is left of it at the end prints dozens of lines about leaks."""
    program = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(before, gc.get_freeze_count()))\n"
        "from pipeline.host.footprint import keep_for_good\n"
        "keep_for_good()\n"
        "keep_for_good()\n"
        "before = gc.get_freeze_count() > 0\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("True 0\n", "")
