# SPDX-License-Identifier: Apache-2.0
"""A model that does not fit into the memory that is left."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.workshop.doctor.finding import Finding

_MEMORY = Path("/proc/meminfo")
_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
_COPIES = 2.5  # the file's bytes, the tensors made of them, and what the first run needs besides


def memory_fits(path: Path) -> Finding | None:
    """Loading needs the file's size about two and a half times; raises OSError where there is no such file."""
    size, free = path.stat().st_size, available_bytes()
    if free is None or size * _COPIES <= free:
        return None
    return Finding(
        "memory",
        "fault",
        f"{path}: {size / 1e6:,.0f} MB; loading it takes about {size * _COPIES / 1e6:,.0f} MB, and "
        f"{free / 1e6:,.0f} MB are free",
        "free memory or raise the container's limit; or make the model smaller: pipeline model quantize",
    )


def available_bytes() -> int | None:
    """What this process may still take: of the machine, and of its control group; None where nothing tells."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _read(_MEMORY), re.MULTILINE)
    known = [int(found[1]) * 1024] if found else []
    for limit, used in _LIMITS:
        texts = [_read(path).strip() for path in (limit, used)]
        if all(text.isdecimal() for text in texts):
            known.append(max(0, int(texts[0]) - int(texts[1])))
    return min(known) if known else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
