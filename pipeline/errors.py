# SPDX-License-Identifier: Apache-2.0
"""Every error that the pipeline raises on purpose.

::

    PipelineError
    ├── ConfigError              a faulty setting; one line per fault, no traceback      exit 2
    ├── UsageError               a wrong command line or an unusable path                exit 2
    ├── SourceError
    │   ├── SourceUnavailable    nobody answers, or the connection ended; worth a retry
    │   ├── SourceTimeout        opened, but no data in time; worth a retry
    │   └── SourceInvalid        never a video: this stream ends, the others go on
    ├── DecodeError              one packet could not be decoded; counted
    ├── StageError               one frame could not be prepared; dropped and counted
    ├── ModelError
    │   ├── ModelLoadError       not a usable detector                                   exit 2
    │   ├── InferenceError       a batch failed; it is split until the bad frame is alone
    │   ├── DeviceLost           the GPU refuses all work from here on; likewise             exit 1
    │   └── ModelHung            a batch does not end; only the end of the process helps     exit 1
    ├── ServerError              the HTTP server's address cannot be had now; worth a retry  exit 1
    └── SinkError                a sink lost data; it degrades and is reported
        └── NoRoom               the disk is full

Foreign errors (libav, OpenCV, torch, the operating system) are mapped to these in the adapter that meets them,
always ``from exc``. Messages are one line and free of secrets: sources build them with :func:`pipeline.redact.scrub`.
"""

from __future__ import annotations

from typing import Literal

Cause = Literal[
    "refused", "timeout", "auth", "not_found", "eof", "io", "invalid_data", "stall", "decode", "hung", "crash",
    "memory", "stage", "inference",
]  # fmt: skip
"""What is wrong with a stream: a closed set, since it becomes a metric label. ``stall``: its source neither fails nor
delivers; ``hung``: what reads it never came back; ``crash``, ``memory``: the process that decodes it died, or had no
more memory; ``stage``, ``inference``: it is live, and its latest frame could not be prepared or followed, or the model
failed on it, so there is no result of it.
"""


class PipelineError(Exception):
    """Base of all errors of this package. ``str(error)`` is one line, fit to be shown to a user."""


class ConfigError(PipelineError):
    """One or more faults in the configuration.

    Attributes:
        faults: one readable line per fault, in file order.
    """

    def __init__(self, faults: str | list[str]) -> None:
        self.faults: list[str] = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class UsageError(PipelineError):
    """A command cannot start as it was typed: unknown path, unwritable folder, contradictory options."""


class SourceError(PipelineError):
    """A source failed.

    Attributes:
        cause: see :data:`Cause`.
    """

    def __init__(self, message: str, *, cause: Cause = "io") -> None:
        super().__init__(message)
        self.cause = cause


class SourceUnavailable(SourceError):
    """The peer refused, vanished or closed the connection: transient, worth a retry."""


class SourceTimeout(SourceError):
    """The peer accepted but delivered nothing within its deadline: transient, worth a retry."""

    def __init__(self, message: str, *, cause: Cause = "timeout") -> None:
        super().__init__(message, cause=cause)


class SourceInvalid(SourceError):
    """What was opened is not a usable video (wrong data, no video track, forbidden codec or size): final."""

    def __init__(self, message: str, *, cause: Cause = "invalid_data") -> None:
        super().__init__(message, cause=cause)


class DecodeError(SourceError):
    """Too many packets in a row could not be decoded."""

    def __init__(self, message: str, *, cause: Cause = "decode") -> None:
        super().__init__(message, cause=cause)


class StageError(PipelineError):
    """A preprocessing stage could not handle one frame."""


class ModelError(PipelineError):
    """Something about the detector."""


class ModelLoadError(ModelError):
    """The file is not a detector that this pipeline can run; the message says what was found and what to do."""


class InferenceError(ModelError):
    """The detector failed on a batch, or returned something that does not fit the batch."""


class DeviceLost(ModelError):
    """The GPU serves this process no more: after a faulty kernel or a fault of its own every further call fails."""


class ModelHung(ModelError):
    """A batch has been in the network for longer than ``model.timeout_s``; its thread cannot be stopped."""


class ServerError(PipelineError):
    """The HTTP server cannot listen where it should: the port is taken, or the address is not there yet."""


class SinkError(PipelineError):
    """A sink could not keep a result."""


class NoRoom(SinkError):
    """There is no room for it on the disk, or within this user's share of it."""
