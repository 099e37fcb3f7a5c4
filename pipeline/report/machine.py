# SPDX-License-Identifier: Apache-2.0
"""The machine and the versions that a run's figures belong to, and the most memory that this process ever held."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import resource
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.host.cores import allowed_cores

_MEMORY_INFO = Path("/proc/meminfo")
_CPU_INFO = Path("/proc/cpuinfo")
_OWN_STATUS = Path("/proc/self/status")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def describe_machine() -> dict[str, Any]:
    """``machine`` of the report. Nothing heavy is imported: GPUs are named only where torch is loaded already.

    ``cores`` are those that this process may use, ``memory_mb`` is what a container's limit leaves of it.
    """
    return {
        "cpu": _cpu_model(),
        "cores": allowed_cores(),
        "memory_mb": _memory_mb(),
        "gpus": _gpus(),
        "os": platform.platform(terse=True),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "torchvision": _version("torchvision"),
        "opencv": _version("opencv-python") or _version("opencv-python-headless"),
        "pyav": _version("av"),
        "ffmpeg": _ffmpeg(),
        "numpy": _version("numpy"),
    }


def peak_rss_mb() -> float:
    """The most resident memory that this process held so far, in MiB.

    ``VmHWM`` comes first: ``ru_maxrss`` survives ``exec`` and so may tell the peak of a large parent.
    """
    found = _figure(_OWN_STATUS, "VmHWM")
    if found is not None:
        return round(found / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB on Linux, bytes on macOS
    return round(peak / (1 << 20) if sys.platform == "darwin" else peak / 1024, 1)


def package_version() -> str:
    """The version of this program."""
    return _version("video-pipeline") or "unknown"


@cache  # a server makes reports again and again
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _cpu_model() -> str:
    text = _read(_CPU_INFO)
    match = re.search(r"^(?:model name|Hardware|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _memory_mb() -> int | None:
    total_kb = _figure(_MEMORY_INFO, "MemTotal")
    limits = [int(text) // 1024 for text in map(_read, _LIMITS) if text.strip().isdecimal()]
    known = [*limits, *([total_kb] if total_kb is not None else [])]
    return min(known) // 1024 if known else None


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _ffmpeg() -> str | None:
    av = sys.modules.get("av")
    if av is None:
        return None
    version = getattr(av, "ffmpeg_version_info", None)
    if version:
        return str(version)
    libraries = getattr(av, "library_versions", {})
    return "libavcodec " + ".".join(map(str, libraries.get("libavcodec", ("?",))))


def _figure(path: Path, name: str) -> int | None:
    """The number in a line ``name:  number kB``."""
    match = re.search(rf"^{name}:\s*(\d+)", _read(path), re.MULTILINE)
    return int(match[1]) if match else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
