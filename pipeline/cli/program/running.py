# SPDX-License-Identifier: Apache-2.0
"""What surrounds every command: one line per error, the right exit code, and a log on stderr that tells no secret."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from pipeline.cli.program.folding import Folding, looked_after
from pipeline.cli.program.logs import AsJson, OneLine, times_for
from pipeline.cli.program.outputs import GONE, silence_stdout, survive_any_output
from pipeline.cli.program.stray import strays_logged
from pipeline.cli.terminal.printing import broken, fault_as_data, print_json, print_lines
from pipeline.errors import ConfigError, ModelLoadError, PipelineError, UsageError
from pipeline.redact import ScrubbingFilter, scrub

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a name on the command line could tell a terminal to do. Line breaks and tabs are none of them."""
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
"""A path of the user's: asking whether a file is there is refused, too, in a folder without rights."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSALS = (ConfigError, ModelLoadError, UsageError)


class CommandLineError(UsageError):
    """The command line could not be understood.

    Attributes:
        program: as which command it was read, such as ``pipeline replay``.
    """

    def __init__(self, program: str, message: str) -> None:
        super().__init__(message)
        self.program = program


class Stopped(BaseException):
    """A signal came before there was anything to drain.

    Attributes:
        signum: which one.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def guarded(command: Callable[[], int], *, debug: bool = False, as_json: bool = False, log_json: bool = False) -> int:
    """Run ``command`` and turn whatever it raises into a line on stderr and an exit code.

    With ``as_json`` stdout then holds ``{"error": {"kind", "message", "exit_code"}}``, for a ConfigError with
    ``faults`` too. ``kind`` is the name of the class in :mod:`pipeline.errors`, ``InternalError`` or ``Stopped``.
    With ``log_json`` what is said on stderr is a JSON document per line, as in the log.
    """
    debug = debug or os.environ.get("PIPELINE_DEBUG", "") not in ("", "0")
    say = _say_as_json if log_json else _say
    survive_any_output()
    try:
        with _hearing_signals():
            code = command()
            sys.stdout.flush()
        return code
    except SystemExit as ending:  # argparse's help
        return ending.code if isinstance(ending.code, int) else 2
    except KeyboardInterrupt:
        error = _Refusal("Stopped", ["stopped"], 130)
    except Stopped as stopped:
        error = _Refusal("Stopped", ["stopped"], 128 + stopped.signum)
    except BrokenPipeError:
        silence_stdout()  # whoever read it has gone
        return 1
    except CommandLineError as wrong:
        error = _Refusal("UsageError", [str(wrong)], 2, wrong.program)
    except PipelineError as known:
        _trace(debug, say)
        lines = known.faults if isinstance(known, ConfigError) else [str(known)]
        error = _Refusal(type(known).__name__, lines, 2 if isinstance(known, _REFUSALS) else 1)
    except Exception as unknown:  # noqa: BLE001 - the last word of the program
        _trace(debug, say)
        error = _of_unknown(unknown, debug)
    return error.tell(say, as_json)


def _of_unknown(unknown: Exception, debug: bool) -> _Refusal:
    """Of what no command expected: a fault of this program, unless the system says whose it is."""
    if isinstance(unknown, OSError) and unknown.errno in _UNUSABLE:
        return _Refusal("UsageError", [f"{unknown.filename or 'this'}: {unknown.strerror}"], 2)
    if isinstance(unknown, OSError) and unknown.errno in GONE and not unknown.filename:
        silence_stdout()
        return _Refusal("Stopped", ["nobody reads standard output any more"], 1)
    if isinstance(unknown, OSError) and unknown.errno in _FULL:
        if not unknown.filename:  # standard output, most likely
            silence_stdout()
        where = f"{unknown.filename}: " if unknown.filename else ""
        return _Refusal("SinkError", [f"{where}what is to be written has no room: {unknown.strerror}"], 1)
    remedy = "" if debug else " (--debug shows where; please report it)"
    return _Refusal("InternalError", [f"internal error: {type(unknown).__name__}: {unknown}{remedy}"], 1)


@contextmanager
def _hearing_signals() -> Iterator[None]:
    """Within it SIGTERM, and SIGHUP of a terminal that is closed, raise Stopped where a command does not hear them
    itself: temporary files go, as at Ctrl-C.

    So the first process of a container ends too, which no signal ends that it has no handler for.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    # Who calls this program from his own may hear SIGHUP himself.
    closed = (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL else ()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, *closed)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> NoReturn:
    """End the process at once. The end of the interpreter unwinds threads that come back from native code, which C++
    does not always expect: the process would end by SIGABRT, whatever its exit code was to be."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a command ended without its result; ``command_line`` is the program whose options were wrong."""

    kind: str
    lines: list[str]
    code: int
    command_line: str | None = None

    def tell(self, say: _Say, as_json: bool) -> int:
        """On stderr, and as data on stdout where that was asked for; returns the exit code."""
        for line in self.lines:
            say(self.command_line or "pipeline", line)
        if self.command_line is not None:
            say("", f"Try '{self.command_line} --help'.")
        if as_json:
            error: dict[str, Any] = {"kind": self.kind, "message": scrub("\n".join(self.lines))}
            if self.kind == "ConfigError":
                error["faults"] = [fault_as_data(line) for line in self.lines]
            with suppress(BrokenPipeError):
                print_json({"error": error | {"exit_code": self.code}})
        return self.code


@contextmanager
def logging_to_stderr(
    level: int,
    *,
    debug: bool = False,
    as_json: bool = False,
    folded: bool = False,
    timed: bool = False,
    reported: bool = False,
) -> Iterator[Callable[[], None]]:
    """Send the log to stderr, one line per record, for as long as the block lasts. Python's warnings are for
    developers: they are shown with ``debug`` only.

    Yields what says all that is still to be said, before something else is printed.

    ``folded``: what is said again within a minute is counted. ``timed``: lines have the time where nobody else notes
    it. ``reported``: a report follows; what it says of a stream that failed is not said before as well.
    """
    debug = debug or os.environ.get("PIPELINE_DEBUG", "") not in ("", "0")
    on_stderr = _StderrHandler()
    on_stderr.setFormatter(AsJson() if as_json else OneLine(times_for(sys.stderr, os.environ) if timed else "none"))
    handler = Folding(on_stderr) if folded else on_stderr
    handler.addFilter(ScrubbingFilter())
    if reported:
        handler.addFilter(lambda record: not getattr(record, "in_report", False))
    root, of_python = logging.getLogger(), logging.getLogger("py.warnings")
    before = (root.level, of_python.propagate)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else level)
    logging.captureWarnings(True)
    silent = logging.NullHandler()
    of_python.addHandler(silent)
    of_python.propagate = debug
    try:
        with (
            looked_after(handler) if isinstance(handler, Folding) else nullcontext(),
            strays_logged() if as_json else nullcontext(),
        ):
            yield handler.say_all if isinstance(handler, Folding) else lambda: None
    finally:
        logging.captureWarnings(False)
        of_python.removeHandler(silent)
        root.removeHandler(handler)
        handler.close()
        root.level, of_python.propagate = before


class _StderrHandler(logging.StreamHandler[io.TextIOBase]):
    """Looks stderr up at every record: a progress display stands in for it while it is on the screen."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> io.TextIOBase:  # type: ignore[override]
        return sys.stderr  # type: ignore[return-value]

    def format(self, record: logging.LogRecord) -> str:
        """In a terminal broken between words; a traceback stays as it is, and so does JSON."""
        text = super().format(record)
        if not sys.stderr.isatty() or "\n" in text or isinstance(self.formatter, AsJson):
            return text
        columns = shutil.get_terminal_size().columns
        return broken(text, columns) if len(text) > columns > 0 else text


_Say = Callable[[str, str], None]
"""Says a text of a program, or of none, on stderr."""


def _say(program: str, text: str) -> None:
    text = _CONTROLS.sub(lambda found: repr(found[0])[1:-1], scrub(text))
    if program:
        print_lines([f"{program}: {text}"], sys.stderr)
    else:
        print(text, file=sys.stderr)


def _say_as_json(program: str, text: str) -> None:
    record = logging.LogRecord("pipeline", logging.ERROR, "", 0, scrub(text), None, None)
    print(AsJson().format(record), file=sys.stderr)


def _trace(debug: bool, say: _Say) -> None:
    if debug:
        say("", traceback.format_exc().rstrip("\n"))
