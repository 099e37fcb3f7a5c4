# SPDX-License-Identifier: Apache-2.0
"""The folder that a run writes into."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import UsageError

RUNS = Path("runs")
"""Without ``--out`` results go into a numbered folder in here."""


@contextmanager
def output_folder(wanted: Path | None) -> Iterator[Path]:
    """Make ``wanted``, or the next numbered folder in ``runs/``. When the block fails, new empty folders go again.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    made: list[Path] = []
    try:
        folder = _numbered(made) if wanted is None else _make(wanted, made)
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written to: {error.strerror or error}") from error
        yield folder
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):  # something was written into it: it stays
                path.rmdir()
        raise


def _make(folder: Path, made: list[Path]) -> Path:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror or error}") from error
    if not folder.is_dir():
        raise UsageError(f"{folder}: is a file; --out needs a folder")
    return folder


def _numbered(made: list[Path]) -> Path:
    _make(RUNS, made)
    number = max((int(path.name) for path in RUNS.iterdir() if path.name.isdecimal()), default=0)
    while True:
        number += 1
        folder = RUNS / str(number)
        try:
            folder.mkdir()
        except FileExistsError:  # another run was faster
            continue
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made: {error.strerror or error}; --out names another") from error
        made.append(folder)
        return folder
