# SPDX-License-Identifier: Apache-2.0
"""What others take of the cores, told from what this program and its children take."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.host import neighbours
from pipeline.host.neighbours import Moment, count_as_own, count_no_longer, moment, others
from pipeline.timing import cpu_ns, process_cpu_ns

S = 1_000_000_000
STAT = """\
cpu  999 999 999 999 999 999 999 999 999 999
cpu0 10 20 30 4000 500 6 7 8 9 10
cpu1 100 0 0 4000 500 0 0 0 0 0
cpu11 5000 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""


def test_the_busy_time_of_the_cores_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT)
    monkeypatch.setattr(neighbours, "_STAT", stat)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    now = moment()
    assert now is not None
    assert now.used_ns == (10 + 20 + 30 + 6 + 7 + 8 + 100) * 10_000_000  # neither idle nor waiting for a disk
    for text in ("", "cpu0 1 2\n", "cpu0 a b c d e f g h\n", "cpu0 0 0 0 0 0 0 0 0 0 0\n"):
        stat.write_text(text)
        assert moment() is None, text
    stat.unlink()
    assert moment() is None


def test_what_is_not_ours_is_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "visible_cores", lambda: 4)
    monkeypatch.setattr(neighbours, "allowed_cores", lambda: 4)
    before = Moment(10 * S, 100 * S, 40 * S)
    assert others(before, Moment(20 * S, 115 * S, 45 * S)) == pytest.approx(1.0)
    assert others(before, Moment(20 * S, 104 * S, 45 * S)) == 0.0, "clocks of different fineness"
    assert others(before, Moment(10 * S + S // 4, 101 * S, 40 * S)) is None, "too short a time"
    assert others(None, before) is None
    assert others(before, None) is None


@pytest.mark.parametrize(("busy", "taken"), [(0.0, 0.0), (30.0, 0.0), (62.0, 0.0), (63.5, 1.5), (64.0, 2.0)])
def test_what_a_quota_never_granted_is_taken_by_nobody(
    busy: float, taken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of 64 cores, as ``docker run --cpus 2`` has them."""
    monkeypatch.setattr(neighbours, "visible_cores", lambda: 64)
    monkeypatch.setattr(neighbours, "allowed_cores", lambda: 2)
    assert others(Moment(0, 0, 0), Moment(10 * S, round(10 * S * busy) + S, S)) == pytest.approx(taken)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_child_is_no_other() -> None:
    """Until it ends, and after."""
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    before = moment()
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        count_as_own(child.pid)
        child.stdout.readline()
        own_ns, child_ns = cpu_ns(), process_cpu_ns(child.pid)
        during = moment()
        child.send_signal(signal.SIGKILL)
    count_no_longer(child.pid)
    after = moment()
    assert before is not None
    assert during is not None
    assert after is not None
    assert child_ns > 0.3 * S
    assert during.own_ns >= own_ns + child_ns
    assert after.own_ns >= during.own_ns - 30_000_000, "what has ended is told in hundredths of a second"
    assert during.used_ns - before.used_ns > 0.2 * S
