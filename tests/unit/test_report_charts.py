# SPDX-License-Identifier: Apache-2.0
"""Pictures: what they say in words, where things are drawn, and that nothing of this machine is in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest

from pipeline.ledger import Ledger
from pipeline.measures import bucket_of
from pipeline.report import charts, compose
from pipeline.report.plotting import NAMES, WIDTH, colour, drawn
from pipeline.timing import STAGES
from tests.ledgers import FACTS, a_run

MS = 1_000_000
COURSE: dict[str, Any] = {
    "start_s": 0.0,
    "step_s": 1.0,
    "results": [10, 10, 0, 0, 0, 0, 0, 10, 9, 10],
    "dropped": [0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    "reconnects": [0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    **{key: [20.0, 21.0, *[None] * 5, 22.0, 23.0, 20.0] for key in ("mean_ms", "p50_ms")},
    **{key: [25.0, 26.0, *[None] * 5, 44.0, 28.0, 25.0] for key in ("p99_ms", "max_ms")},
}


def label(svg: str) -> str:
    found = re.search(r'aria-label="([^"]*)"', svg)
    assert found is not None
    return found[1]


def inked(svg: str, name: str) -> list[str]:
    """The outlines of what has this colour."""
    paths = re.findall(r"<path ([^>]*)/>", svg, re.DOTALL)
    return [re.findall(r'\bd="([^"]*)"', path)[0] for path in paths if f"var(--{name})" in path]


def across(outline: str) -> tuple[float, float]:
    """From where to where it reaches, in pixels."""
    xs = [float(x) for x, _ in re.findall(r"([\d.]+) ([\d.]+)", outline)]
    return min(xs), max(xs)


def test_a_course_marks_losses_and_reconnects_where_they_were() -> None:
    svg = charts.over_time(COURSE)
    assert label(svg).endswith("over 10 s; 1 dropped, 1 reconnect")
    left, right = 44.0, WIDTH - 18.0
    [reconnects, below] = inked(svg, "warning")
    for line in (reconnects, below):
        assert across(line)[0] == pytest.approx(left + (right - left) * 0.75, abs=0.5)  # in the middle of slot 7
    bars = [across(bar) for bar in inked(svg, "bad")]
    lost = [bar for bar in bars if bar[0] == pytest.approx(left + (right - left) * 0.8, abs=0.5)]
    assert lost
    lines = [across(line) for line in inked(svg, "accent") if "z" not in line]
    assert len(lines) == 4  # p50 and p99, before and after the outage: nothing is drawn through it


@pytest.mark.parametrize("course", [None, {**COURSE, "results": [0] * 10}, {**COURSE, "results": [3]}])
def test_a_course_of_nothing_or_of_a_moment_has_no_picture(course: Any) -> None:
    assert charts.over_time(course) == ""


def test_a_rate_is_of_enough_results_to_be_one() -> None:
    """Batches of four a second apart, in slots of a tenth: that is four a second, not forty now and then."""
    results = ([4] + [0] * 9) * 6
    course = COURSE | {"step_s": 0.1, "results": results, "dropped": [0] * 60, "reconnects": [0] * 60}
    course |= {key: [20.0 if count else None for count in results] for key in ("p50_ms", "p99_ms")}
    edges_s, (done, lost) = charts._rates(course)
    assert edges_s.tolist() == pytest.approx([0, 2, 4, 6])
    assert done.tolist() == pytest.approx([4, 4, 4])
    assert not lost.any()


@pytest.mark.parametrize(("step_s", "unit"), [(1.0, "10 s"), (60.0, "10 min"), (3600.0, "10 h")])
def test_time_has_a_unit_that_fits(step_s: float, unit: str) -> None:
    assert f"over {unit};" in label(charts.over_time(COURSE | {"step_s": step_s}))


def test_an_outlier_makes_the_scale_one_of_powers() -> None:
    wild = COURSE | {"p99_ms": [25.0, 9000.0, *[None] * 5, 44.0, 28.0, 25.0]}
    assert ">100 ms<" in charts.over_time(wild)
    assert ">100 ms<" not in charts.over_time(COURSE)


def test_the_journey_is_the_mean_frame_part_by_part() -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    parts = charts.mean_parts(report["total"])
    assert list(parts) == [
        "decode", "decoder", "preprocess", "scheduler", "batch", "infer", "postprocess", "reorder", "follow", "outlet",
        "sink",
    ]  # fmt: skip
    assert sum(parts.values()) == pytest.approx(report["total"]["end_to_end"]["mean_ms"])
    svg = charts.waterfall(report["total"])
    assert "infer 1.00 ms" in label(svg)
    infer = across(inked(svg, "infer")[0])
    before = sum(list(parts.values())[: list(parts).index("infer")])
    left, right = 78.0, WIDTH - 18.0
    assert infer == pytest.approx(
        [left + (right - left) * share for share in (before / 10, (before + 1) / 10)], abs=0.5
    )


def test_the_time_of_a_part_never_stands_over_the_names() -> None:
    times = {"decode": 0.6, "preprocess": 67.0, "infer": 2.0, "sink": 9.0}
    stages = {name: {"mean_ms": ms, "count": 10} for name, ms in times.items()}
    svg = charts.waterfall({"stages": stages, "end_to_end": {"count": 10}})
    texts = re.findall(r'text-anchor: (\w+);[^>]* x="([\d.]+)"[^>]*>([\d.]+) ms<', svg)
    places = {float(ms): (anchor, float(x)) for anchor, x, ms in texts if anchor != "middle"}
    assert sorted(places) == sorted(times.values())
    for anchor, x in places.values():
        left, right = (x, x + 55) if anchor == "start" else (x - 55, x)
        assert 78 <= left < right <= WIDTH


def test_parts_that_not_every_frame_passed_count_for_what_they_are() -> None:
    stats = {"mean_ms": 4.0, "count": 5}
    part = {"stages": {"decode": {"mean_ms": 2.0, "count": 10}, "infer": stats}, "end_to_end": {"count": 10}}
    assert charts.mean_parts(part) == {"decode": 2.0, "infer": 2.0}
    assert charts.mean_parts({"stages": {}, "end_to_end": None}) == {}
    assert charts.waterfall({"stages": {}, "end_to_end": None}) == ""


def test_distributions_are_told_by_their_percentiles() -> None:
    found = {"infer": {"buckets": [bucket_of(10 * MS), bucket_of(40 * MS)], "counts": [98, 2]}}
    svg = charts.distributions(found, ["infer", "decode"])
    assert re.fullmatch(r"infer: half of the frames within (9\.9\d|10\.\d) ms, 99 % within (39|40)\.\d ms", label(svg))
    assert charts.distributions({}, STAGES) == ""


def test_jitter_has_the_sign_of_what_a_stage_did() -> None:
    svg = charts.jitter_added({"queue": {"interval_added_ms": 3.0}, "infer": {"interval_added_ms": -1.0}})
    assert label(svg) == "added to the deviation of intervals: queue +3.00 ms, infer -1.00 ms"
    queue, infer = across(inked(svg, "queue")[0]), across(inked(svg, "infer")[0])
    assert infer[1] == pytest.approx(queue[0], abs=0.1)
    assert queue[1] - queue[0] == pytest.approx(3 * (infer[1] - infer[0]), abs=0.1)
    assert charts.jitter_added({"queue": {"interval_added_ms": None}}) == ""


def test_every_size_of_batch_has_its_column() -> None:
    svg = charts.batches({"1": 5, "4": 20})
    assert label(svg) == "batches: 5 of 1, 20 of 4"
    assert len(inked(svg, "accent")) == 2
    assert charts.batches({}) == ""


def test_every_colour_is_one_of_the_style_sheet_in_light_and_dark() -> None:
    style = files("pipeline.report").joinpath("style.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark")
    for name in NAMES:
        assert f"--{name}: #" in light
        assert f"--{name}: #" in dark.split("}")[0]
    assert set(STAGES) <= set(NAMES)
    assert colour("nobody's") == colour("soft")


def test_a_picture_holds_letters_and_nothing_of_this_machine() -> None:
    svg = charts.waterfall(compose(a_run("a").as_dict(), FACTS)["total"])
    assert "font-family" not in svg
    assert "DejaVu" not in svg
    assert not re.search(r"#[0-9a-f]{6}|https?:|url\(|<use|<defs|<style|\bid=", svg)
    assert svg == charts.waterfall(compose(a_run("a").as_dict(), FACTS)["total"])


def test_a_name_with_dollars_is_no_formula() -> None:
    svg = drawn("x", (40,), lambda axes: axes.annotate("$\\alpha$ <b>", (0, 0)))
    assert "$\\alpha$ &lt;b&gt;" in svg


def test_a_report_of_eight_streams_is_small() -> None:
    from pipeline.report.page import page

    ledger: Ledger = a_run(*(f"s{index}" for index in range(8)), frames=200)
    assert len(page(compose(ledger.as_dict(), FACTS)).encode()) < 700_000


def test_nothing_is_drawn_with_before_a_page_is_made() -> None:
    program = "import sys, pipeline.report, pipeline.report.page; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_a_machine_without_a_folder_to_write_to_has_a_report_without_pictures() -> None:
    """As a container whose file system is read-only: matplotlib wants a folder and does not get one."""
    program = (
        "import logging, os, tempfile\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "os.environ['MPLCONFIGDIR'] = os.devnull\n"
        "def refuse(**named): raise OSError('read-only file system')\n"
        "tempfile.mkdtemp = refuse\n"
        "from pipeline.report import compose\n"
        "from pipeline.report.page import page\n"
        "from tests.ledgers import FACTS, a_run\n"
        "html = page(compose(a_run('a').as_dict(), FACTS))\n"
        "print(html.count('There are no pictures: mat'), html.count('class=\"plot\"'), html.count('<h2>Batches'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["1", "0", "1"], "")


def test_where_matplotlib_keeps_its_list_of_fonts_is_not_told() -> None:
    program = (
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from pipeline.report.plotting import why_not; print(repr(why_not()))"
    )
    environment = os.environ | {"MPLCONFIGDIR": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    assert (done.stdout, done.stderr) == ("''\n", "")
