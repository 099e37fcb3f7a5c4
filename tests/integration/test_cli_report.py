# SPDX-License-Identifier: Apache-2.0
"""``pipeline report``: a run told again, runs side by side, and what is not a report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.report import compose, save_html, save_json
from tests.ledgers import FACTS, a_run


def spoken(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["report", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs over the streams a and b."""
    made = tmp_path / "one", tmp_path / "two"
    for folder in made:
        folder.mkdir()
        save_json(compose(a_run("a", "b", frames=40).as_dict(), FACTS), folder)
    return made


def test_one_run_is_told_again_and_its_page_is_what_it_was(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((folders[0] / "report.json").read_text())
    page = save_html(report, folders[0])
    written = page.read_text()
    page.unlink()
    code, out, err = spoken(capsys, folders[0])
    assert (code, err) == (0, "")
    assert "80 frames of 2 streams" in out
    assert "all 2 streams, ms" in out
    assert page.read_text() == written


def test_json_of_one_run_is_its_report(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = spoken(capsys, folders[0] / "report.json", "--json")
    assert (code, out) == (0, (folders[0] / "report.json").read_text())
    assert not (folders[0] / "report.html").exists()


def test_two_runs_are_compared(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = spoken(capsys, *folders)
    assert (code, err) == (0, "")
    assert out.startswith(f"A  {folders[0]}: replay, complete, ")
    row = next(line for line in out.splitlines() if line.startswith("decode"))
    assert row.split() == ["decode", "A", "1.00", "1.00", "1.00"]
    after = out.splitlines()[out.splitlines().index(row) + 1]
    assert after.split() == ["B", "1.00", "1.00", "1.00", "1.00", "1.00", "1.00", "same"]
    assert not (folders[0] / "report.html").exists()


def test_a_pipe_cuts_nothing_off(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for folder, slower in zip(folders, (1.0, 10_000.0), strict=True):
        report = json.loads((folder / "report.json").read_text())
        for figure in ("mean_ms", "p50_ms", "p99_ms"):
            report["total"]["stages"]["queue"][figure] = 1_234.56 * slower
        (folder / "report.json").write_text(json.dumps(report))
    code, out, _ = spoken(capsys, *folders)
    assert code == 0
    long = next(line for line in out.splitlines() if "12,345,600" in line)
    assert len(long.rstrip()) > 80
    assert long.split()[1:7] == ["12,345,600.00"] * 3 + ["10,000"] * 3
    assert long.rstrip().endswith("same")


def test_json_of_two_runs_is_the_comparison(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = spoken(capsys, *folders, "--json")
    found = json.loads(out)
    assert code == 0
    assert [run["folder"] for run in found["runs"]] == list(map(str, folders))
    assert found["total"]["infer"][1]["likeness"]["text"] == "same"


def without(report: dict[str, Any], *path: str) -> dict[str, Any]:
    part = report
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return report


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "there is no report.json in this folder"),
        ("", "is not JSON"),
        ("[]", "is not the report of a replay or a run"),
        ('{"command": "bench"}', "is not the report of a replay or a run"),
        ('{"command": "replay"}', "without machine, model, startup_s"),
        (("total",), "without total"),
        (("streams", "a", "stages"), "without streams.a.stages"),
        (("streams", "a", "end_to_end", "p50_ms"), "KeyError: 'p50_ms'"),
        (("streams", "a", "frames", "dropped"), "KeyError: 'dropped'"),
        (("total", "distributions", "infer", "counts"), "KeyError: 'counts'"),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_no_report_is_refused_in_one_line(
    text: Any, expected: str, count: int, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = folders[1] / "report.json"
    if text is None:
        file.unlink()
    elif isinstance(text, tuple):
        file.write_text(json.dumps(without(json.loads(file.read_text()), *text)))
    else:
        file.write_text(text)
    code, out, err = spoken(capsys, *folders[2 - count :])
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err
    assert str(folders[1]) in err
    assert "Traceback" not in err
    assert not out or count == 1


def test_of_several_runs_the_one_that_is_not_understood_is_named(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((folders[1] / "report.json").read_text())
    del report["streams"]["a"]["frames"]["dropped"]
    (folders[1] / "report.json").write_text(json.dumps(report))
    code, out, err = spoken(capsys, *folders)
    assert (code, out) == (2, "")
    assert err.startswith(f"pipeline: {folders[1]}: is not a report that this version understands: ")


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = spoken(capsys, tmp_path / "none")
    assert (code, out, err) == (2, "", f"pipeline: {tmp_path / 'none'}: no such folder\n")


def test_a_folder_of_runs_names_the_newest(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    parent = folders[0].parent
    os.utime(folders[0] / "report.json", ns=(2**62, 2**62))
    code, _, err = spoken(capsys, parent)
    assert (code, err) == (
        2, f"pipeline: {parent}: there is no report.json in this folder; the newest below it is in {folders[0]}\n"
    )  # fmt: skip


def test_an_older_report_is_told_without_pictures_of_what_it_does_not_know(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = folders[0] / "report.json"
    report = json.loads(file.read_text())
    for part in (report["total"], *report["streams"].values()):
        for key in ("distributions", "over_time", "waits", "windows", "end_to_end_corrected"):
            part.pop(key, None)
    file.write_text(json.dumps(report))
    code, _, err = spoken(capsys, folders[0])
    assert (code, err) == (0, "")
    assert "The mean journey" in (folders[0] / "report.html").read_text()


def test_a_page_that_cannot_be_written_is_said(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (folders[0] / "report.html").mkdir()
    code, out, err = spoken(capsys, folders[0])
    assert (code, err.count("\n")) == (1, 1)
    assert "report.html cannot be written" in err
    assert "80 frames of 2 streams" in out


@pytest.mark.parametrize("count", [4, 5, 11])
def test_figures_of_many_runs_keep_their_names(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], count: int
) -> None:
    assert main(["report", *map(str, folders), *[str(folders[1])] * (count - 2)]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("run ")) :]
    table = table[: table.index("")]
    assert all(len(line) <= 80 for line in table)
    for name in ("wall time", "fps", "peak memory"):
        assert any(line.startswith(name) for line in table)
    letters = set(" ".join(table).split())
    assert set("ABCDEFGHIJK"[:count]) <= letters
    assert len(table) == (9 if count == 4 else 1 + 8 * count)


def test_more_runs_than_letters(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = spoken(capsys, *[folders[0]] * 27)
    assert (code, err) == (2, "pipeline: 27 runs; at most 26 can be compared at once\n")
