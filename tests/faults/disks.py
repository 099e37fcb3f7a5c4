# SPDX-License-Identifier: Apache-2.0
"""Disks that are full: a small one that only a child process sees, gone when that ends, and a limit for files."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_UNAVAILABLE = 77


def in_child(body: Callable[[], None]) -> None:
    """Run ``body`` in a forked process, since limits and mounts are the process's own; its failure is ours."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except _Unavailable:
            status = _UNAVAILABLE
        except BaseException:  # noqa: BLE001 (it is printed by the parent)
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writing)
    said = b""
    try:
        while more := os.read(reading, 65536):
            said += more
    except BaseException:
        os.kill(pid, signal.SIGKILL)  # the test takes too long
        raise
    finally:
        os.close(reading)
        _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == _UNAVAILABLE:
        pytest.skip("this user may not mount a file system")
    assert code == 0, said.decode()


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size`` bytes. (Python ignores SIGXFSZ: writes fail with EFBIG.)"""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mount(folder: Path, kib: int) -> None:
    """Give this process, a child of :func:`in_child`, an empty file system of so many KiB in ``folder``.

    Programs that it starts see it, too. It needs no rights of root where the system lets users have namespaces;
    elsewhere the test is skipped.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    mine = f"{os.getuid()} {os.getuid()} 1"
    root = os.geteuid() == 0
    folder.mkdir(exist_ok=True)
    if libc.unshare(_CLONE_NEWNS | (0 if root else _CLONE_NEWUSER)) != 0:
        raise _Unavailable
    if not root:
        Path("/proc/self/uid_map").write_text(mine)
    private, recursive = 1 << 18, 1 << 14
    if libc.mount(None, b"/", None, private | recursive, None) != 0:
        raise _Unavailable
    if libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, f"size={kib}k".encode()) != 0:
        raise _Unavailable


def fill(folder: Path, name: str = "filler") -> Path:
    """Leave not one block free; the file that takes them."""
    filler = folder / name
    with open(filler, "ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


class _Unavailable(Exception):
    """The system refuses."""
