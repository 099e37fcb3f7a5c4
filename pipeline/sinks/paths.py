# SPDX-License-Identifier: Apache-2.0
"""Where a sink's files lie, and how the operating system's complaints about them are told."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from pipeline.errors import ConfigError, NoRoom, SinkError

_STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACEHOLDER = re.compile(r"\{[^}]*\}")

_REMEDIES = {
    errno.ENOSPC: "results are lost until there is room again",
    errno.EDQUOT: "results are lost until there is room again",
    errno.EFBIG: "raise the file size limit (ulimit -f) or rotate sooner",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EACCES: "choose a folder that this user may write to",
    errno.EPERM: "choose a folder that this user may write to",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENOTDIR: "choose another folder: a file is in the way",
    errno.EEXIST: "choose another folder: a file is in the way",
    errno.ENXIO: "nobody reads this pipe: writing begins once somebody does",
}


def sink_error(doing: str, path: Path, error: OSError) -> SinkError:
    """A one-line SinkError such as ``cannot write out/gate.jsonl: No space left on device (results are lost ...)``;
    of a full disk it is a :class:`pipeline.errors.NoRoom`."""
    reason = (os.strerror(error.errno) if error.errno else "") or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0)
    kind = NoRoom if error.errno in (errno.ENOSPC, errno.EDQUOT) else SinkError
    return kind(f"cannot {doing} {path}: {reason}" + (f" ({remedy})" if remedy else ""))


def make_folder(folder: Path) -> None:
    """Create ``folder`` where it is missing; raises SinkError unless files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
            raise OSError(errno.EROFS if read_only else errno.EACCES, "")
    except OSError as error:
        raise sink_error("write into the folder", folder, error) from error


class StreamPaths:
    """A template such as ``out/{stream}.jsonl`` and the paths made from it.

    Without ``{stream}`` all streams share one file. Raises ConfigError for any other placeholder.
    """

    def __init__(self, template: str | os.PathLike[str]) -> None:
        self.template = os.fspath(template)
        unknown = [found for found in _PLACEHOLDER.findall(self.template) if found != "{stream}"]
        if unknown:
            raise ConfigError(f"path {self.template!r}: unknown placeholder {unknown[0]}; expected {{stream}}")
        if not Path(self.template).name or self.template.endswith(os.sep):
            raise ConfigError(f"path {self.template!r}: expected a file name at the end, such as {{stream}}.jsonl")

    @property
    def absolute(self) -> str:
        """The template as it can be understood without the folder that the program was started in."""
        return os.path.abspath(self.template)

    def prepare(self) -> None:
        """Create the folders that are known before any stream is; raises SinkError."""
        fixed = self.template.partition("{stream}")[0]
        make_folder(Path(os.path.dirname(fixed)))

    def named(self, stream: str) -> Path:
        """The file of ``stream``, whether its folder exists or not; raises SinkError as :meth:`of` does."""
        return Path(self.template.replace("{stream}", checked_name(stream)))

    def of(self, stream: str) -> Path:
        """The file of ``stream``, in a folder that exists; raises SinkError for a name that could lead elsewhere."""
        path = self.named(stream)
        make_folder(path.parent)
        return path


def checked_name(stream: str) -> str:
    """``stream`` itself, or SinkError when it is not fit to be part of a path."""
    if not _STREAM_NAME.fullmatch(stream):
        raise SinkError(f"stream name {stream!r} cannot be part of a file name: expected 1 to 64 of A-Z a-z 0-9 _ -")
    return stream
