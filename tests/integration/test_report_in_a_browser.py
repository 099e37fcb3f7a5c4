# SPDX-License-Identifier: Apache-2.0
"""report.html and plan.html as people see them: light and dark, on a desk and on a phone, in headless Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.plan.page import page as plan_page
from pipeline.report import compose, save_html
from tests.chromium import CHROMIUM, browser
from tests.ledgers import FACTS, a_run, lose
from tests.plans import a_plan, said

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

TEXT = "document.querySelector('svg.plot text')"


def test_pictures_take_their_colours_and_letters_from_the_page_and_fit_every_screen(tmp_path: Path) -> None:
    ledger = a_run("lobby", "gate", frames=60)
    lose(ledger.streams["gate"], "stale", 3)
    path = save_html(compose(ledger.as_dict(), FACTS), tmp_path)
    inks = set()
    with browser(tmp_path / "profile") as page:
        for width, dark in ((1280, False), (1280, True), (390, True)):
            page.look(width, 900, dark=dark, phone=width < 600)
            page.go(path.as_uri())
            page.until(f"document.readyState == 'complete' && innerWidth == {width} && !!{TEXT}")
            assert page.run("document.querySelectorAll('svg.plot').length") == 8
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run(f"getComputedStyle({TEXT}).fontFamily == getComputedStyle(document.body).fontFamily")
            inks.add(page.run(f"getComputedStyle({TEXT}).fill"))
            assert page.run(f"{TEXT}.getBoundingClientRect().height") >= 9
            # Nothing is cut off, and no picture is wider than what holds it.
            assert page.run(
                "[...document.querySelectorAll('figure')].every(f => f.firstElementChild && "
                "[...f.querySelectorAll('svg.plot text')].every(t => "
                "t.getBoundingClientRect().left >= f.getBoundingClientRect().left - 2 && "
                "t.getBoundingClientRect().right <= f.getBoundingClientRect().right + 8))"
            )
        assert page.complaints() == []
    assert len(inks) == 2


def test_a_run_of_one_recording_fills_the_page(tmp_path: Path) -> None:
    path = save_html(compose(a_run("lobby", frames=60).as_dict(), FACTS), tmp_path)
    with browser(tmp_path / "profile") as page:
        page.look(1280, 900, dark=False, phone=False)
        page.go(path.as_uri())
        page.until(f"document.readyState == 'complete' && innerWidth == 1280 && !!{TEXT}")
        # Rows of panels, by what is at the same height, end where the page's content ends; figures are in one row.
        assert page.run(
            "(() => { const edge = document.querySelector('header').getBoundingClientRect().right, rows = {};"
            "document.querySelectorAll('.panel, .card').forEach(p => { const r = p.getBoundingClientRect();"
            "rows[Math.round(r.top)] = Math.max(rows[Math.round(r.top)] || 0, r.right) });"
            "return Object.values(rows).every(right => Math.abs(right - edge) < 1) })()"
        )
        assert page.run("new Set([...document.querySelectorAll('.figures > div')].map(d => d.offsetTop)).size") == 1


def test_a_plan_fits_every_screen(tmp_path: Path) -> None:
    path = tmp_path / "plan.html"
    path.write_text(plan_page(said(a_plan(unreachable={"yard": "rtsp://10.0.0.9/x: cannot open"}))))
    with browser(tmp_path / "profile") as page:
        for width, dark in ((1280, False), (390, True)):
            page.look(width, 900, dark=dark, phone=width < 600)
            page.go(path.as_uri())
            page.until(f"document.readyState == 'complete' && innerWidth == {width} && !!{TEXT}")
            assert page.run("document.querySelectorAll('svg.plot').length") == 3
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run("document.querySelector('.pill').innerText") == "sustainable"
        assert page.complaints() == []
