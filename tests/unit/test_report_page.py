# SPDX-License-Identifier: Apache-2.0
"""report.html: sound markup, every text escaped, no network, and the figures of the report."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.figures import milliseconds, rate
from pipeline.report import compose
from pipeline.report.page import page
from pipeline.report.pictures import PICTURED
from tests.journeys import World
from tests.ledgers import FACTS, a_run, lose

VOID = {"meta", "br", "link", "img", "input", "hr"}
EVIL = "<script>alert(1)</script>\"' onload=x &amp;"


class Reader(HTMLParser):
    """Checks that tags are balanced; keeps texts and tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and (not self.open or self.open[-1] != "style"):
            self.texts.append(data.strip())


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without pictures: to draw them takes most of the time of a page, and not every test is about them."""
    for name in ("waterfall", "distributions", "jitter_added", "over_time"):
        monkeypatch.setattr(f"pipeline.report.pictures.{name}", lambda *given: "")


def read(report: dict[str, Any]) -> Reader:
    reader = Reader()
    reader.feed(page(report))
    reader.close()
    assert reader.open == []
    return reader


def test_the_figures_are_there() -> None:
    ledger = a_run("lobby", "gate")
    ledger.streams["gate"].ended("it ends 2 s early", at_limit=False, asked=False)
    reader = read(compose(ledger.as_dict(), FACTS))
    texts = reader.texts
    assert {"lobby", "gate", "truncated", "it ends 2 s early", "partial", "50.0", "10 frames, 2 streams"} <= set(texts)
    assert texts.count("end to end") == 6  # tables and distributions: of all, and of each
    kinds = Counter(attributes["class"] for tag, attributes in reader.tags if tag == "svg")
    assert (kinds["bar"], kinds["plot"]) == (2, 5)  # journey and batches; distributions of all and of each


@pytest.mark.usefixtures("words_only")
def test_the_slowest_frames_are_there_and_why() -> None:
    world = World("gate", "lobby", budget_ms=80)
    assert "Slowest frames" not in read(compose(world.ledger.as_dict(), FACTS)).texts
    world.frame("lobby", sink=1001)
    world.as_usual("gate")
    world.frame("gate", infer=100)
    texts = read(compose(world.ledger.as_dict(), FACTS)).texts
    first = texts.index("Slowest frames")
    assert texts[first + 5 :][:8] == [
        "lobby", "0", "1,046", "sink +1.0 s: jsonl wrote", "gate", "100", "116", "infer +70 ms: batch 7 of size 2",
    ]  # fmt: skip


@pytest.mark.usefixtures("words_only")
def test_what_is_known_of_the_model_is_in_rows_and_words() -> None:
    facts = FACTS | {
        "model": FACTS["model"]
        | {
            "input_spec": {"size": [96, 128], "scale": 1 / 255, "mean": [0.0, 0.5], "as_list": False, "pad_value": 0},
            "tuned": None,
            "verdict": {
                "repeatable": False,
                "finite": 1.0,
                "ms_per_picture": {"1": 0.4, "2": 0.25},
                "checked": ["batches of 2", "finite outputs"],
                "why": "",
                "fixed": None,
            },
            "nonfinite_rows": 0,
        }
    }
    texts = read(compose(a_run("a").as_dict(), facts)).texts
    pairs = dict(itertools.pairwise(texts[texts.index("Model") + 1 :]))
    assert pairs["input"] == pairs["size"] == "96 x 128 (height x width)"
    assert (pairs["scale"], pairs["mean"], pairs["as list"], pairs["pad value"]) == ("0.00392157", "0, 0.5", "no", "0")
    assert (pairs["repeatable"], pairs["finite outputs"]) == ("no", "all")
    assert pairs["ms per picture, by batch"] == "1: 0.4, 2: 0.25"
    assert pairs["checked"] == "batches of 2, finite outputs"
    assert not {"why", "fixed", "tuned", "nonfinite rows"} & pairs.keys()
    assert not any(sign in text for text in texts for sign in "{}[]")


@pytest.mark.usefixtures("words_only")
def test_the_segments_of_a_bar_are_the_shares_of_the_mean() -> None:
    html = page(compose(a_run("a").as_dict(), FACTS))
    bar = re.search(r'<svg class="bar".*?</svg>', html)
    assert bar is not None
    widths = {name: float(width) for name, width in re.findall(r'rect class="(\w+)".*?width="([\d.]+)"', bar[0])}
    # ten intervals of 1 ms; queue owns four of them
    assert widths == {
        "decode": 100, "preprocess": 100, "queue": 400, "infer": 100, "postprocess": 100, "follow": 100, "sink": 100,
    }  # fmt: skip


def test_every_text_is_escaped() -> None:
    ledger = a_run(EVIL)
    ledger.streams[EVIL].failed(EVIL)
    lose(ledger.streams[EVIL], EVIL, 3)
    ledger.sinks[EVIL] = ledger.sinks.pop("jsonl")
    ledger.sinks[EVIL].error = EVIL
    ledger.sinks[EVIL].lost[EVIL] = 1
    facts = {**FACTS, "command": EVIL, "model": {EVIL: EVIL, "path": EVIL}, "startup_s": {EVIL: 1.0}}
    report = compose(ledger.as_dict(), facts)
    report["streams"][EVIL]["stages"][EVIL] = report["total"]["stages"][EVIL] = report["total"]["end_to_end"]
    report["total"]["distributions"][EVIL] = report["total"]["distributions"]["infer"]
    report["streams"][EVIL]["jitter"]["added"] = {EVIL: {"interval_added_ms": 1.0}}
    report["slow_frames"] = [{"stream": EVIL, "frame": 1, "end_to_end_ms": 2.0, "verdict": EVIL}]
    report |= {"machine": {EVIL: EVIL, "gpus": [EVIL]}, "version": EVIL, "created": EVIL, "error": EVIL}
    reader = read(report)
    allowed = {"html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "article"}
    allowed |= {"p", "h1", "h2", "h3", "span", "small", "b", "i", "ul", "li", "dl", "dt", "dd", "div", "details"}
    allowed |= {"summary", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "lang"}
    allowed |= {"figure", "figcaption", "g", "path", "text", "code"}
    assert {tag for tag, _ in reader.tags} <= allowed
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert EVIL in reader.texts


def test_tables_that_may_be_wider_than_the_page_scroll_with_mouse_and_keyboard() -> None:
    html = page(compose(a_run("a", "b").as_dict(), FACTS))
    narrow = html.count('<table class="limits"')  # two words and a bar
    assert narrow == 1
    assert html.count('<div class="scroll" tabindex="0"><table') == 4  # all, two streams, sinks
    assert html.count("<table") == 4 + narrow


def test_the_table_of_a_stream_fits_half_a_page() -> None:
    """Of a long run: six figures of frames, minutes of waiting."""
    report = compose(a_run("a").as_dict(), FACTS)
    stream = report["streams"]["a"]
    for stats in (*stream["stages"].values(), stream["end_to_end"]):
        stats.update({key: 123_456 if key == "count" else 45_678.901 for key in stats})
    card = page(report).split('<article class="card">')[1].split("</article>")[0]
    rows = re.findall(r"<tr.*?</tr>", card)
    assert len(rows) == 9
    for row in rows[1:]:
        assert re.findall(r"<td>([^<]*)</td>", row)[-6:] == ["123,456", *["45,679"] * 5]


def test_it_loads_nothing() -> None:
    reader = read(compose(a_run("a").as_dict(), FACTS))
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "img", "iframe")
        assert not {"src", "href", "xlink:href", "id"} & set(attributes)
        assert tag in ("g", "path", "text") or "style" not in attributes
    html = page(compose(a_run("a").as_dict(), FACTS))
    assert "@import" not in html
    assert "url(" not in html
    policy = [attributes["content"] for tag, attributes in reader.tags if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


@pytest.mark.parametrize("streams", [0, 1, 30])
def test_any_number_of_streams(streams: int) -> None:
    report = compose(a_run(*(f"s{index}" for index in range(streams))).as_dict(), FACTS)
    reader = read(report)
    assert sum(tag == "article" for tag, _ in reader.tags) == streams


def test_a_run_without_a_frame() -> None:
    """What was not measured has no place on the page: no model, no start, no words about tables."""
    never = {"model": dict.fromkeys(FACTS["model"]), "startup_s": dict.fromkeys(FACTS["startup_s"], 0.0)}
    reader = read(compose(a_run("a", frames=0).as_dict(), {"command": "replay", **never}))
    assert "0 frames, 1 stream" in reader.texts
    assert not {"Model", "start", "Batches", "What limited it"} & set(reader.texts)
    assert not any("add up to its end-to-end time" in text for text in reader.texts)


@pytest.mark.usefixtures("words_only")
def test_who_made_it_unsteady_has_a_table_where_frames_have_a_pace_of_their_own() -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    assert "who added it" not in page(report)
    figures = {"transit_ms": 2.5, "interval_ms": 1.25, "largest_gap_ms": 191.0, "freezes": 3}
    report["streams"]["a"]["jitter"]["exits"] = {
        "arrival": figures | {"transit_added_ms": None, "interval_added_ms": None},
        "infer": figures | {"transit_added_ms": 1.75, "interval_added_ms": -0.5},
    }
    html = page(report)
    assert "who added it" in html
    row = re.search(r"<tr><th scope=row>infer</th>(.*?)</tr>", html)
    assert row is not None
    assert re.findall(r"<td>(.*?)</td>", row[1]) == ["2.50", "+1.75", "1.25", "-0.500", "191", "3"]


@pytest.mark.usefixtures("words_only")
def test_the_slowest_frames_and_why_where_the_report_knows_them() -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    assert "Slowest frames" not in page(report | {"slow_frames": []})
    report["slow_frames"] = [
        {"stream": "a", "frame": 1412, "end_to_end_ms": 312.4, "verdict": "queue +83 ms: batch 7 waited for lobby"}
    ]
    row = re.search(r"<tr><th scope=row>a</th>(<td>1,412.*?)</tr>", page(report))
    assert row is not None
    assert re.findall(r"<td>(.*?)</td>", row[1]) == ["1,412", "312", "queue +83 ms: batch 7 waited for lobby"]


def test_of_many_streams_the_slowest_have_pictures() -> None:
    report = compose(a_run(*(f"s{index}" for index in range(PICTURED + 4))).as_dict(), FACTS)
    for index, stream in enumerate(report["streams"].values()):
        stream["end_to_end"]["p95_ms"] = float(index)
    html = page(report)
    cards = html.split('<article class="card">')[1:]
    assert ["<summary>pictures" in card for card in cards] == [False] * 4 + [True] * PICTURED
    assert f"pictures of the {PICTURED} slowest" in html


@pytest.mark.usefixtures("words_only")
def test_one_of_a_thousand_has_a_column_where_there_are_a_thousand() -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    assert "p99.9" not in page(report)
    for stats in (*report["total"]["stages"].values(), report["total"]["end_to_end"]):
        stats["p999_ms"] = 12.5
    assert page(report).count("<th scope=col>p99.9</th>") == 1
    assert page(report).count("<td>12.50</td>") == 8  # seven stages and the whole


@pytest.mark.usefixtures("words_only")
def test_a_camera_that_was_away_when_it_was_stopped_is_down_as_in_the_terminal() -> None:
    report = compose(a_run(*"abcde").as_dict(), FACTS)
    report["streams"]["b"] |= {"state": "stopped", "error": "rtsp://10.0.0.9/x: no route to host"}
    assert page(report).count('<span class="pill bad">down</span>') == 2  # its row and its card


@pytest.mark.usefixtures("words_only")
def test_many_streams_have_a_row_each_before_their_cards() -> None:
    few, many = (a_run(*(f"s{index}" for index in range(number))) for number in (4, 5))
    assert 'class="overview"' not in page(compose(few.as_dict(), FACTS))
    lose(many.streams["s3"], "stale", 3)
    report = compose(many.as_dict(), FACTS)
    report["streams"]["s3"]["reconnects"] = 2
    before, after = page(report).split('<table class="overview">')
    assert '<article class="card">' not in before
    row = re.search(r"<tr><th scope=row>s3 .*?</tr>", after)
    assert row is not None
    whole = report["streams"]["s3"]["end_to_end"]
    cells = re.findall(r"<td>([^<]*)</td>", row[0])
    assert cells == [
        "5",
        rate(report["streams"]["s3"]["fps"]),
        *(milliseconds(whole[f"p{p}_ms"]) for p in (50, 95, 99)),
        "3",
        "2",
    ]


@pytest.mark.usefixtures("words_only")
def test_what_would_help_is_shown_as_what_can_be_typed() -> None:
    report = compose(a_run("a").as_dict(), FACTS)
    report["bottleneck"] |= {"text": "network-bound: a < b", "advice": "`pipeline model tune a&b.pt`, once"}
    html = page(report)
    assert "network-bound: a &lt; b. What would help most: <code>pipeline model tune a&amp;b.pt</code>, once." in html


@pytest.mark.usefixtures("words_only")
def test_of_many_findings_the_first_are_open() -> None:
    ledger = a_run(*(f"s{index}" for index in range(20)))
    for account in ledger.streams.values():
        account.failed("no such file")
    html = page(compose(ledger.as_dict(), FACTS))
    before, after = html.split("<summary>and 8 more</summary>")
    assert (before.count("failed: no such file"), after.count("failed: no such file")) == (12, 8)


@pytest.mark.usefixtures("words_only")
def test_a_figure_below_the_last_digit_is_text_and_no_tag() -> None:
    report = compose(a_run(*"abcde").as_dict(), FACTS)
    for part in (report["total"], *report["streams"].values()):
        for stats in (*part["stages"].values(), part["end_to_end"]):
            stats |= {"p50_ms": 0.0001, "p95_ms": 0.0001}
    html = page(report)
    assert "<td>&lt;0.01</td>" in html, "in the table of all"
    assert "<td>&lt;0.001</td>" in html, "in the cards, and in the row of each"
    assert not re.search("<[0-9]", html)
