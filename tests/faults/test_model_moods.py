# SPDX-License-Identifier: Apache-2.0
"""A model that raises, forgets a picture or answers with NaN, beside recordings that end early or are not there: what
is lost is what it did itself, and everything else is what a sound model finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.cli import main
from tests.commands import no_pictures
from tests.media import Media, level_of, media
from tests.models import NAMES, Cells, save, ultralytics_metadata

__all__ = ["media", "no_pictures"]

pytestmark = pytest.mark.usefixtures("no_pictures")

FILES = ultralytics_metadata((64, 64), NAMES)
RAISES, FORGETS, NOT_FINITE = 97, 204, 142
"""Grey levels, of frames 3, 7 and 13 of a counting clip among others."""


class Moody(Cells):
    """:class:`Cells`, with moods that depend on the grey level in the middle of each picture."""

    def __init__(self) -> None:
        super().__init__()
        self.raises, self.forgets, self.not_finite = float(RAISES), float(FORGETS), float(NOT_FINITE)

    def forward(self, x: Tensor) -> Tensor:
        level = (x[:, 0, 32, 32] * 255.0).round()
        if bool(((level - self.raises).abs() <= 2.0).any()):
            raise ValueError("not this one")
        boxes, scores = self.cells(x)
        ill = ((level - self.not_finite).abs() <= 2.0).view(-1, 1, 1)
        output = torch.cat((boxes.masked_fill(ill, float("inf")), scores.masked_fill(ill, float("nan"))), 1)
        if bool(((level - self.forgets).abs() <= 2.0).any()):
            return output[1:]
        return output


def frames_at(level: int, count: int) -> set[int]:
    """Frames of a counting clip whose luma is shown as this grey level."""
    return {n for n in range(count) if abs((level_of(n) - 16) * 255 / 219 - level) <= 2}


def lines(folder: Path, stream: str) -> dict[int, bytes]:
    return {json.loads(line)["frame"]: line for line in (folder / f"{stream}.jsonl").read_bytes().splitlines()}


def refuse(word: str) -> Any:
    raise AssertionError(f"{word} is not JSON")


@pytest.mark.parametrize("way", [(), ("--inline",)], ids=["threads", "inline"])
def test_moods_cost_their_own_frames_only(
    way: tuple[str, ...], media: Media, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"short": 9, "long": 25, "middle": 20}
    clips = []
    for name, count in counts.items():
        clips.append(tmp_path / f"{name}.mkv")
        clips[-1].write_bytes(media.clip("mkv", count=count).read_bytes())
    sources = [*map(str, clips), str(tmp_path / "missing.mkv")]
    options = ["--conf", "0.3", "--batch", "8", "--workers", "1", "--json", *way]
    sound, moody = save(Cells(), tmp_path / "sound.pt", FILES), save(Moody(), tmp_path / "moody.pt", FILES)
    assert main(["replay", *sources, "--model", str(sound), "--out", str(tmp_path / "sound"), *options]) == 3
    capsys.readouterr()
    assert main(["replay", *sources, "--model", str(moody), "--out", str(tmp_path / "moody"), *options]) == 3
    out, err = capsys.readouterr()
    report = json.loads(out)

    assert "not this one" in err
    assert "Traceback" not in err
    assert report["streams"]["missing"]["state"] == "failed"
    assert "missing.mkv" in report["streams"]["missing"]["error"]
    for name, count in counts.items():
        # (That a picture was forgotten is the same kind of thing, said at most once a second: counted here.)
        lost = frames_at(RAISES, count) | frames_at(FORGETS, count)
        ill = frames_at(NOT_FINITE, count)
        reference, found = lines(tmp_path / "sound", name), lines(tmp_path / "moody", name)
        assert set(reference) == set(range(count))
        assert set(found) == set(range(count)) - lost
        assert {n for n, line in found.items() if line != reference[n]} == ill - lost
        assert all(json.loads(found[n], parse_constant=refuse)["detections"] == [] for n in ill - lost)
        stream = report["streams"][name]
        assert stream["state"] == "finished"
        assert stream["frames"]["dropped"] == ({"inference_error": len(lost)} if lost else {})
        assert stream["frames"]["decoded"] == stream["frames"]["processed"] + len(lost) == count
