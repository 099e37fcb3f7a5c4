# SPDX-License-Identifier: Apache-2.0
"""What surrounds every command: one line per error, the right exit code, and a log on stderr that tells no secret."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.errors import ConfigError, ModelLoadError, PipelineError, UsageError
from pipeline.redact import ScrubbingFilter, scrub

_REFUSALS = (ConfigError, ModelLoadError, UsageError)


class Stopped(BaseException):
    """A signal came before there was anything to drain.

    Attributes:
        signum: which one.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def guarded(command: Callable[[], int], *, debug: bool = False) -> int:
    """Run ``command`` and turn whatever it raises into a line on stderr and an exit code."""
    debug = debug or os.environ.get("PIPELINE_DEBUG", "") not in ("", "0")
    _survive_any_encoding()
    try:
        code = command()
        sys.stdout.flush()
        return code
    except SystemExit as ending:  # argparse
        return ending.code if isinstance(ending.code, int) else 2
    except KeyboardInterrupt:
        return _say("stopped", code=130)
    except Stopped as stopped:
        return _say("stopped", code=128 + stopped.signum)
    except BrokenPipeError:
        # Whoever read our output has gone. What is still buffered must not fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except PipelineError as error:
        if debug:
            print(scrub(traceback.format_exc()), end="", file=sys.stderr)
        lines = error.faults if isinstance(error, ConfigError) else [str(error)]
        return _say(*lines, code=2 if isinstance(error, _REFUSALS) else 1)
    except Exception as error:  # noqa: BLE001 - the last word of the program
        if debug:
            print(scrub(traceback.format_exc()), end="", file=sys.stderr)
        remedy = "" if debug else " (--debug shows where; please report it)"
        return _say(f"internal error: {type(error).__name__}: {error}{remedy}", code=1)


@contextmanager
def logging_to_stderr(level: int, *, debug: bool = False) -> Iterator[None]:
    """Send the log to stderr, one line per record, for as long as the block lasts. Python's warnings are for
    developers: they are shown with ``debug`` only."""
    debug = debug or os.environ.get("PIPELINE_DEBUG", "") not in ("", "0")
    handler = _StderrHandler()
    handler.addFilter(ScrubbingFilter())
    handler.setFormatter(_OneLine())
    root, of_python = logging.getLogger(), logging.getLogger("py.warnings")
    before = (root.level, of_python.propagate)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else level)
    logging.captureWarnings(True)
    silent = logging.NullHandler()
    of_python.addHandler(silent)
    of_python.propagate = debug
    try:
        yield
    finally:
        logging.captureWarnings(False)
        of_python.removeHandler(silent)
        root.removeHandler(handler)
        root.level, of_python.propagate = before


class _StderrHandler(logging.StreamHandler[io.TextIOBase]):
    """Looks stderr up at every record: a progress display stands in for it while it is on the screen."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> io.TextIOBase:  # type: ignore[override]
        return sys.stderr  # type: ignore[return-value]


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"pipeline: {level}{text}"


def _say(*lines: str, code: int) -> int:
    for line in lines:
        print(f"pipeline: {scrub(line)}", file=sys.stderr)
    return code


def _survive_any_encoding() -> None:
    """Names of files may hold what a terminal cannot show; that must not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
