# SPDX-License-Identifier: Apache-2.0
"""What a decoding process gives up before it meets any camera: outliving its parent, privileges, memory, core dumps."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from pipeline.host.orphans import die_with

_PR_SET_NAME: Final = 15
_PR_SET_NO_NEW_PRIVS: Final = 38
_FILES: Final = 64
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "VIRTUAL_ENV")


def environment(parent: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment of ``parent`` that a decoding process is given: no passwords of cameras."""
    kept = {name: parent[name] for name in _KEPT if name in parent}
    path = os.pathsep.join(entry for entry in sys.path if entry)  # it finds what its parent found
    # One arena and no worker threads: address space is what is limited.
    return {**kept, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def confine(parent: int, memory_bytes: int, name: str) -> None:
    """Bind this process: it dies with the thread that started it, whatever kills that; it gains no privileges, has
    ``memory_bytes`` of address space, few files and no core dumps, and is the first that the kernel ends for memory.

    Exits at once where ``parent`` is gone already. What a system does not have is left out.
    """
    die_with(parent)
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        prctl(_PR_SET_NAME, f"feed:{name}"[:15].encode(), 0, 0, 0)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
