# SPDX-License-Identifier: Apache-2.0
"""What a killed process started ends with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.background import until

PARENT = """
import subprocess, sys
from pipeline.host.orphans import no_orphan
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, preexec_fn=no_orphan())
print(child.pid, flush=True)
child.wait()
"""


def ended(pid: int) -> bool:
    """It is no more, or a zombie that whoever inherits it has not reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except OSError:
        return True


def test_a_child_dies_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not ended(child)
        parent.kill()
        parent.wait()
    until(lambda: ended(child), "the end of its child")
