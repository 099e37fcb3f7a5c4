# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz.playing``: plays the files that it reads from standard input, one path a line, and writes what
came of each as a line of JSON. A process of its own, so that a crash in native code is seen for what it is."""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.errors import SourceError
from pipeline.sources import FileSource
from pipeline.threads import StopFlag

MEMORY = 3 << 30
"""Address space that decoding a small clip may take, whatever is in it."""


def played(path: Path) -> dict[str, Any]:
    """Frames, and the error that a file ends with."""
    source = FileSource(path)
    frames, error = 0, None
    try:
        source.open(StopFlag())
        while source.read() is not None:
            frames += 1
    except SourceError as known:
        error = str(known)
    finally:
        source.close()
    return {"frames": frames, "error": error, "truncation": source.truncation}


def peak_mb() -> int:
    """Of this program; getrusage would tell that of whoever started it, where that was more."""
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) // 1024


def main() -> None:
    """Until the end of standard input."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        began = time.perf_counter()
        found = played(Path(line.rstrip("\n")))
        found["seconds"] = round(time.perf_counter() - began, 3)
        found["peak_mb"] = peak_mb()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
