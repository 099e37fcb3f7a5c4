# SPDX-License-Identifier: Apache-2.0
"""Cameras in a process of their own: ``python -m tests.faults.camera CLIP --cameras 32 --fps 15 --port 8554 --log F``.
Without a clip their frames carry the time at which they are sent in their pixels (:mod:`tests.faults.camera.stamped`).

Writes the addresses to standard output, one a line, and runs until SIGTERM, SIGINT or the end of standard input (with
``--until-eof``). A line of the log is a frame that was due while somebody looked:
``{"camera":"cam0","frame":12,"rtp":1080000,"sent_ns":123}``: its number, RTP time stamp (90 kHz, not wrapped), and the
monotonic clock just before its first byte was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import selectors
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.faults.camera import faults as modes
from tests.faults.camera.camera import Camera, OnSent
from tests.faults.camera.clip import read_clip
from tests.faults.camera.rtsp import HOST, RtspServer
from tests.faults.camera.stamped import StampedCamera

FAULTS: dict[str, Callable[[int], modes.Fault]] = {
    "none": modes.Healthy,
    "silent": lambda after: modes.Answers(None),
    "unauthorized": lambda after: modes.Answers(401),
    "not-found": lambda after: modes.Answers(404),
    "stall": modes.Stalls,
    "trickle": modes.Trickles,
    "fin": modes.HangsUp,
    "rst": modes.Resets,
    "bye": modes.SaysGoodbye,
    "garbage": modes.Babbles,
    "corrupt": modes.Corrupts,
    "loss": functools.partial(modes.Loses, 0.3),
    "back": functools.partial(modes.Jumps, -10.0),
    "forth": functools.partial(modes.Jumps, 3600.0),
    "no-time": modes.TellsNoTime,
    "frozen": modes.Freezes,
}


def log_to(path: Path, stack: ExitStack) -> OnSent:
    """Writes a line per frame; flushed with every frame that finds a second gone by."""
    file = stack.enter_context(path.open("w", encoding="utf-8"))
    flushed_ns = 0

    def on_sent(camera: str, frame: int, stamp: int, sent_ns: int) -> None:
        nonlocal flushed_ns
        file.write(f'{{"camera":"{camera}","frame":{frame},"rtp":{stamp},"sent_ns":{sent_ns}}}\n')
        if sent_ns - flushed_ns > 1_000_000_000:
            flushed_ns = sent_ns
            file.flush()

    return on_sent


async def run(options: argparse.Namespace, on_sent: OnSent | None) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if options.until_eof:
        loop.add_reader(sys.stdin, lambda: sys.stdin.readline() or over.set())
    script = [FAULTS[fault](options.after) for fault in options.fault]
    clips = [read_clip(path) for path in options.clip]
    names = [f"cam{index}" for index in range(options.cameras)]
    server = RtspServer(
        (
            Camera(name, clips[index % len(clips)], fps=options.fps, faults=script, on_sent=on_sent)
            if clips
            else StampedCamera(name, fps=options.fps or 15, on_sent=on_sent)
            for index, name in enumerate(names)
        ),
        options.port,
    )
    await server.start()
    for name in server.cameras:
        print(f"rtsp://{HOST}:{server.port}/{name}", flush=True)
    await over.wait()
    server.close()


def punctual_loop() -> asyncio.AbstractEventLoop:
    """An event loop that wakes up when a frame is due. asyncio's usual one rounds up to whole milliseconds, because
    epoll counts in those; select does not."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.camera", description="Cameras on loopback.")
    parser.add_argument("clip", type=Path, nargs="*", help="H.264 or HEVC; cameras take turns at several")
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--fps", type=float, help="default: that of the clip")
    parser.add_argument("--port", type=int, default=0, help="default: any")
    parser.add_argument("--log", type=Path, help="when each frame was sent, as JSON lines")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append", default=[],
                        help="of the first connection to each camera, the second, ...; the last one stays")  # fmt: skip
    parser.add_argument("--after", type=int, default=30, help="frames before the fault")
    parser.add_argument("--until-eof", action="store_true", help="end with standard input")
    options = parser.parse_args()
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=punctual_loop))
        runner.run(run(options, None if options.log is None else log_to(options.log, stack)))


if __name__ == "__main__":
    main()
