# SPDX-License-Identifier: Apache-2.0
"""Damaged recordings of every container, decoded in a child: frames or a documented error of one line, in bounded time
and memory, and never a crash. ``FUZZ=100`` damages a hundred times as many."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.media import Media, media

__all__ = ["media"]

TIMES = int(os.environ.get("FUZZ", "1"))
FRAMES = 30
SECONDS_EACH = 60.0
PEAK_MB = 300
CODING = {"preset": "ultrafast", "qp": "30", "x264-params": "keyint=10:scenecut=0:threads=1"}
CONTAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("mp4", {"options": CODING, "muxing": {"movflags": "faststart"}}),
    "fragmented": ("mp4", {"options": CODING, "muxing": {"movflags": "frag_keyframe+empty_moov"}}),
    "mkv": ("mkv", {"options": CODING}),
    "ts": ("ts", {"options": CODING}),
    "flv": ("flv", {"options": CODING}),
    "avi": ("avi", {"codec": "mpeg4", "options": {"g": "10"}}),
    "mjpeg": ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "texture": False, "options": {}}),
    "webm": ("webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}),
}


def flipped(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 4, 40))):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def flipped_head(data: bytes, chance: random.Random) -> bytes:
    return flipped(data[:1500], chance) + data[1500:]


def zeroed(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes(500) + data[at + 500 :]


def grown(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(chance.randint(1, 300)) + data[at:]


def spliced(data: bytes, chance: random.Random) -> bytes:
    a, b = chance.randrange(len(data)), chance.randrange(len(data))
    return data[:a] + data[b:]


def numbers_maximal(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(min(len(data), 3000))
    return data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


DAMAGES: Sequence[Callable[[bytes, random.Random], bytes]] = (
    flipped, flipped_head, zeroed, grown, spliced, numbers_maximal,
)  # fmt: skip


def damaged(data: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents: cut at every kB, and each damage a number of times."""
    chance = random.Random(seed)
    for size in range(0, len(data), 1024):
        yield f"cut-{size}", data[:size]
    for number in range(TIMES):
        for damage in DAMAGES:
            yield f"{damage.__name__}-{number}", damage(data, chance)


def play(paths: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What came of each file; a child that dies is seen, and another one goes on with the next file."""
    left = list(paths)
    while left:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.playing"],
            input="".join(f"{path}\n" for path in left),
            capture_output=True,
            text=True,
            check=False,
            timeout=60 + SECONDS_EACH * len(left),
            cwd=Path(__file__).parents[2],
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        yield from zip(left, answers, strict=False)
        left = left[len(answers) :]
        if left:
            yield left.pop(0), {"crash": f"exit code {done.returncode}: {done.stderr[-2000:]}"}


def wrong(found: dict[str, Any], whole: int) -> str | None:
    """Why an outcome is not as documented."""
    if "crash" in found:
        return str(found["crash"])
    for said in (found["error"], found["truncation"]):
        if said is not None and "\n" in said:
            return f"more than a line: {said!r}"
    if found["seconds"] > SECONDS_EACH or found["peak_mb"] > PEAK_MB:
        return f"{found['seconds']} s, {found['peak_mb']} MB"
    if not found["frames"] and not (found["error"] or found["truncation"]):
        return "no frame, and nothing said"
    # More frames than were recorded may be found where a piece stands in the file twice.
    return None if found["frames"] <= 2 * whole else f"{found['frames']} frames"


@pytest.mark.timeout(120 * max(1, TIMES))
@pytest.mark.parametrize("name", CONTAINERS)
def test_damaged_recordings(name: str, media: Media, tmp_path: Path) -> None:
    suffix, encoding = CONTAINERS[name]
    data = media.clip(suffix, count=FRAMES, size=(64, 48), **{"texture": True, **encoding}).read_bytes()
    paths = []
    for what, content in damaged(data, seed=sum(map(ord, name))):
        paths.append(tmp_path / f"{what}.{suffix}")
        paths[-1].write_bytes(content)
    for other in ("mp4", "mkv", "ts", "avi", "mjpg"):  # what it is says its content, not its name
        paths.append(tmp_path / f"misnamed.{other}")
        paths[-1].write_bytes(data)
    outcomes = dict(play(paths))
    faults = {path.name: fault for path, found in outcomes.items() if (fault := wrong(found, FRAMES)) is not None}
    assert not faults, faults
    assert len(outcomes) == len(paths)


def test_a_count_of_samples_that_no_file_can_hold(media: Media, tmp_path: Path) -> None:
    """libav reserves an index for as many as a fragment claims: 800 MB here, of which it had touched 400."""
    suffix, encoding = CONTAINERS["fragmented"]
    data = bytearray(media.clip(suffix, count=FRAMES, size=(64, 48), texture=True, **encoding).read_bytes())
    at = data.index(b"trun", data.index(b"trun") + 4)
    data[at + 8 : at + 12] = (33_554_442).to_bytes(4, "big")
    path = tmp_path / "claims.mp4"
    path.write_bytes(data)
    ((_, found),) = play([path])
    assert "asks for too much at once" in found["error"]
    assert found["peak_mb"] < 150
