# SPDX-License-Identifier: Apache-2.0
"""The process of an isolated stream, as its parent sees it: started, asked, never believed, ended."""

from __future__ import annotations

import logging
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from typing import Any, Final, NoReturn

import orjson

from pipeline.complaints import Complaints
from pipeline.errors import SourceError, SourceTimeout, SourceUnavailable
from pipeline.frame import Capture
from pipeline.host.footprint import own_bytes
from pipeline.host.neighbours import count_as_own, count_no_longer
from pipeline.redact import scrub
from pipeline.sources.isolation import wire
from pipeline.sources.isolation.confinement import environment
from pipeline.sources.isolation.loans import Loans
from pipeline.sources.isolation.nonsense import Nonsense
from pipeline.sources.isolation.relay import Listener, Receiver
from pipeline.threads import StopFlag
from pipeline.timing import process_cpu_ns

log = logging.getLogger(__name__)

MODULE: Final = "pipeline.sources.isolation.child"
START_S: Final = 30.0
"""How long a process may take to start, on a machine that is busy."""
_SLICE_MS: Final = 250
_GENTLY_S: Final = 1.0


class Isolation:
    """The process of one stream. It is started when a connection needs it and goes on over many; used by one thread.

    Args:
        name: of the stream.
        memory_mb: mebibytes of address space that the process may have.
        largest_picture: bytes that a picture may have at most.
        receiver: is given the packets as they come; None: they stay there.

    Attributes:
        started: processes so far.
    """

    def __init__(self, name: str, *, memory_mb: int, largest_picture: int, receiver: Receiver | None = None) -> None:
        self._name = name
        self._memory_bytes = memory_mb << 20
        self._largest = largest_picture + mmap.PAGESIZE
        self._receiver = receiver
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._beat: mmap.mmap | None = None
        self._loans: Loans | None = None
        self._packets: Listener | None = None
        self._connections = 0
        self._ended_cpu_ns = 0
        self._counting = threading.Lock()
        self._complaints = Complaints(log)
        self.started = 0

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return None if self._process is None else self._process.pid

    @property
    def cpu_ns(self) -> int:
        """CPU time so far of the process and of those before it. From any thread; never less than it was."""
        with self._counting:
            return self._ended_cpu_ns + (0 if self._process is None else process_cpu_ns(self._process.pid))

    @property
    def own_bytes(self) -> int:
        """Memory that the process alone has now; 0 where there is none. From any thread."""
        with self._counting:
            return 0 if self._process is None else own_bytes(self._process.pid)

    def close(self) -> None:
        """End the process; may be called twice."""
        self._end(gently=True)

    def order(self, order: dict[str, Any], stop: StopFlag) -> int | None:
        """Begin a connection, in a new process where there is none; its number, or None where stop came first.

        ``order`` is for :class:`pipeline.sources.isolation.orders.Maker`.
        """
        if self._process is None and not self._start(stop):
            return None
        self._connections += 1
        self._loans = None
        self.send(wire.OPEN + orjson.dumps([self._connections, order]))
        return self._connections

    def hang_up(self) -> None:
        """End the connection, and keep the process for the next one."""
        if self._process is not None:
            with suppress(SourceError):
                self.send(wire.HANG_UP)

    def want(self) -> None:
        """Ask for the next frame."""
        self.send(wire.pack_freed([] if self._loans is None else self._loans.given_back()))

    def send(self, message: bytes) -> None:
        """Say something; raises SourceUnavailable where nobody listens."""
        assert self._line is not None, "there is a process"
        try:
            self._line.send(message)
        except OSError:
            self.crashed()

    def receive(self, stop: StopFlag, limit_s: float) -> bytes | None:
        """The next message of a connection; None once stop is set. Raises SourceError where the process died, or showed
        no sign of life for ``limit_s``: then it is ended."""
        line = self._line
        assert line is not None, "there is a process"
        poll = select.poll()
        poll.register(line, select.POLLIN)
        if self._packets is not None:
            poll.register(self._packets, select.POLLIN)
        pulse, silent_ms = self._pulse(), 0  # not by the clock: while this machine is halted nobody can give a sign
        while not stop.is_set():
            ready = {descriptor for descriptor, _ in poll.poll(_SLICE_MS)}
            if not ready:
                before, pulse = pulse, self._pulse()
                silent_ms = silent_ms + _SLICE_MS if pulse == before else 0
                if silent_ms > limit_s * 1000:
                    self._end(gently=False)
                    text = f"its process showed no sign of life for {limit_s:.0f} s and was ended"
                    raise SourceTimeout(text, cause="hung")
                continue
            if not self._hear() and self._packets is not None:
                with suppress(KeyError):  # nothing more can come
                    poll.unregister(self._packets)
            if line.fileno() not in ready:
                continue
            try:
                message, descriptors, _, _ = socket.recv_fds(line, wire.LARGEST, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                message, descriptors = b"", []
            if not message:
                self.crashed()
            if message[:1] == wire.SAID:
                self._log(message)
            elif message[:1] == wire.MEMORY and descriptors:
                self._take_memory(message, descriptors[0])
            else:
                for descriptor in descriptors:
                    os.close(descriptor)
                return message
        return None

    def picture(self, sent: wire.Sent) -> Capture:
        """The frame with its pixels; raises Nonsense."""
        loans, size = self._loans, sum(sent.sizes)
        if loans is None or not loans.has(sent.segment, sent.slot, size):
            raise Nonsense("a picture that lies nowhere")
        return sent.capture(wire.planes_of(sent, loans.lend(sent.slot, size)))

    def crashed(self) -> NoReturn:
        """The process is gone; raises SourceUnavailable that says how it ended."""
        status = self._end(gently=True)
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        hint = " (for lack of memory?)" if status == -signal.SIGKILL else ""
        if status == os.EX_OSERR:
            raise self.too_small("its process has no more memory")
        raise SourceUnavailable(f"its process {how}{hint}", cause="crash")

    def too_small(self, text: str) -> SourceUnavailable:
        """Its limit was met, as ``text`` says."""
        return SourceUnavailable(f"{text}; raise isolation_memory_mb ({self._memory_bytes >> 20} now)", cause="memory")

    def betrayed(self, what: Nonsense) -> NoReturn:
        """It said something that no sound process says; raises SourceUnavailable."""
        self._end(gently=False)
        raise SourceUnavailable(f"its process sent {what} and was ended", cause="crash") from what

    def _start(self, stop: StopFlag) -> bool:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        beat = os.memfd_create("beat", os.MFD_CLOEXEC)
        try:
            os.ftruncate(beat, 8)
            limits = [str(self._memory_bytes), str(os.getpid()), self._name]
            with theirs, ExitStack() as given:
                passed = [theirs.fileno(), beat]
                if self._receiver is not None:
                    from_it, to_us = socket.socketpair()
                    given.enter_context(to_us)
                    passed.append(to_us.fileno())
                    limits.append(str(to_us.fileno()))
                    self._packets = Listener(from_it, self._receiver)
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), str(beat), *limits],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=passed,
                    env=environment(os.environ),
                    start_new_session=True,  # Ctrl-C is for the daemon, which then finishes what is under way
                )
                count_as_own(self._process.pid)
            self._line, self._beat = ours, mmap.mmap(beat, 8)
        except OSError as exc:
            ours.close()
            self._end(gently=False)
            raise SourceUnavailable(f"no process can be started: {exc.strerror}", cause="crash") from exc
        finally:
            os.close(beat)
        self.started += 1
        message = self.receive(stop, START_S)
        if message is not None and message != wire.HELLO:
            self.betrayed(Nonsense("no greeting"))
        return message is not None

    def _pulse(self) -> bytes:
        return b"" if self._beat is None else self._beat[:8]

    def _hear(self) -> bool:
        """Hand on the packets that have come; False where nothing more can come."""
        try:
            return self._packets is None or self._packets.take()
        except Nonsense as exc:
            self.betrayed(exc)

    def _take_memory(self, message: bytes, descriptor: int) -> None:
        try:
            connection, segment = wire.take_memory(message, descriptor, self._largest)
        except Nonsense as exc:
            self.betrayed(exc)
        if connection == self._connections:
            self._loans = Loans(segment)

    def _log(self, message: bytes) -> None:
        level = message[1] if len(message) > 1 else logging.INFO
        text = scrub(" ".join(message[2:].decode(errors="replace").split()))
        # Its camera may have taken it over: no flood is passed on.
        self._complaints.say(level, self._name, "said", text)

    def _end(self, *, gently: bool) -> int:
        """End the process, whatever state it is in; returns its status."""
        line, self._line = self._line, None
        packets, self._packets = self._packets, None
        with self._counting:
            process, self._process = self._process, None
            if process is not None:
                self._ended_cpu_ns += process_cpu_ns(process.pid)  # nobody can ask once it is reaped
        beat, self._beat = self._beat, None
        self._loans = None
        if line is not None:
            line.close()  # it ends by itself when it hears that
        try:
            return 0 if process is None else _ended(process, gently=gently)
        finally:
            if packets is not None:
                packets.end(0 if beat is None else int.from_bytes(beat[:8], "little"))


def _ended(process: subprocess.Popen[bytes], *, gently: bool) -> int:
    """The status of a process that is to end, by itself or not. It leads a session of its own, and whatever it started
    there ends with it: a decoder that was taken over leaves nothing behind."""
    if gently:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GENTLY_S)
        if process.returncode is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GENTLY_S)
    with suppress(ProcessLookupError, PermissionError):  # none is left, or only those with other rights
        os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    count_no_longer(process.pid)
    return status
