# SPDX-License-Identifier: Apache-2.0
"""Damaged recordings are as repeatable as whole ones: the same bytes come out whatever the threads did."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.replaying import Replay, ReplayOptions
from tests.models import save_cells

SAMPLES = Path(__file__).parents[2] / "sample_videos"
FRAMES = 90
WAYS = {"inline": {"inline": True}, "one": {"workers": 1}, "two": {"workers": 2}, "again": {"workers": 2}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its scores are means of cells of the picture, so that a grey level more or less is seen."""
    return save_cells(tmp_path_factory.mktemp("model"), 96, 160)


def flipped(data: bytes, seed: int) -> bytes:
    """One bit in about 400 bytes of media data; the index, which stands before them, stays whole."""
    begin = data.index(b"mdat") + 4
    damaged, noise = bytearray(data), random.Random(seed)
    for _ in range((len(data) - begin) // 400):
        damaged[noise.randrange(begin, len(data))] ^= 1 << noise.randrange(8)
    return bytes(damaged)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("damaged")
    made = []
    for name in ("lobby", "gate"):  # both with B-frames, where libav conceals damage from several neighbours
        data = (SAMPLES / f"{name}.mp4").read_bytes()
        for kind, content in (
            ("flipped", flipped(data, 1)),
            ("cut", data[: len(data) // 8]),
            ("both", flipped(data, 2)[: len(data) // 8]),
        ):
            made.append(folder / f"{name}-{kind}.mp4")
            made[-1].write_bytes(content)
    return made


def test_damaged_recordings_give_the_same_bytes_however_they_are_run(
    damaged: list[Path], model: Path, tmp_path: Path
) -> None:
    found: dict[str, dict[str, bytes]] = {}
    accounts: dict[str, dict[str, tuple[object, ...]]] = {}
    for name, way in WAYS.items():
        out = tmp_path / name
        options = ReplayOptions(
            sources=tuple(map(str, damaged)), model=str(model), out=out, confidence=0.05, limit=FRAMES, **way
        )  # type: ignore[arg-type]
        replay = Replay(options)
        replay.start()
        assert replay.wait(60)
        found[name] = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
        accounts[name] = {
            stream: (account.state, account.decoded, account.corrupt, account.counters.decode_errors, account.error)
            for stream, account in replay.ledger.streams.items()
        }
    reference = found["inline"]
    assert sorted(reference) == sorted(f"{path.stem}.jsonl" for path in damaged)
    for name in WAYS:
        assert found[name] == reference, name
        assert accounts[name] == accounts["inline"], name
    faults = {
        stream: corrupt + errors
        for stream, (_, _, corrupt, errors, _) in accounts["inline"].items()  # type: ignore[operator]
    }
    assert all(faults[stream] > 0 for stream in faults if "cut" not in stream), f"nothing was damaged: {faults}"
    states = {stream: account[0] for stream, account in accounts["inline"].items()}
    assert {states[stream] for stream in states if "flipped" not in stream} == {"truncated"}
    assert all(content.count(b"class_id") > 100 for content in reference.values())
