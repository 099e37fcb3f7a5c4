# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser: what it shows, with keyboard and screen reader, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.ledger import StreamLedger
from pipeline.timing import PTS, Mark, new_trace, now_ns
from pipeline.web import WebServer, api
from tests.boards import SINK_PATH, TOKEN, FakeBoard, Feeder, serving, token_file
from tests.chromium import CHROMIUM, Page, browser
from tests.journeys import World

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
ROWS = "document.querySelectorAll('#rows tr').length"


@pytest.fixture(scope="module")
def board() -> FakeBoard:
    return FakeBoard()


@pytest.fixture(scope="module")
def server(board: FakeBoard) -> Iterator[WebServer]:
    """Its answers are made anew more often than for users, so that nobody waits for them here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "_FRESH_S", 0.05)
        with serving(board) as server, Feeder(server, 0.05):
            yield server


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def patient_page(chromium: Page, server: WebServer, board: FakeBoard) -> Iterator[Page]:
    """As users have it: it asks every two seconds."""
    chromium.events.clear()
    chromium.look(1280, 800)
    chromium.go("about:blank")
    chromium.go(server.url)
    chromium.until(f"{ROWS} === 2")
    yield chromium
    assert chromium.complaints() == []


@pytest.fixture
def page(patient_page: Page) -> Page:
    """It asks more often."""
    patient_page.run("window.often = setInterval(ask, 100); 0")
    return patient_page


def text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector({selector!r}).innerText"))


def test_what_it_shows(page: Page) -> None:
    rows = page.run("[...document.querySelectorAll('#rows tr')].map(row => row.innerText)")
    assert [row.split()[:2] for row in rows] == [["gate", "live"], ["gone", "reconnecting"]]
    assert page.run("document.querySelectorAll('#rows .pill')[1].title") == "backoff", "its name in the API"
    assert "rtsp://10.0.0.9/x: connection refused" in rows[1]
    assert text(page, "#overall") == "1 not live"
    assert text(page, "#tile-live").split() == ["1", "of", "2"]
    assert "builtin:people" in text(page, "#model")
    assert text(page, "#sinks").split()[:2] == ["jsonl", "ok"]
    assert SINK_PATH in text(page, "#sinks")
    assert page.run("document.getElementById('logout').hidden") is True


def test_all_of_it_is_there_for_screen_readers(page: Page) -> None:
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    roles = [role for role, _ in told]
    assert roles.count("columnheader") == 9
    assert roles.count("rowheader") == 2
    assert ("button", "gate") in told
    assert ("heading", "Streams 1 not live") in told
    assert any(role == "image" and name.startswith(("Results per second", "No history")) for role, name in told)


@pytest.mark.parametrize(("width", "height", "phone"), [(1280, 800, False), (390, 844, True), (320, 640, True)])
@pytest.mark.parametrize("dark", [False, True])
def test_every_screen(page: Page, width: int, height: int, phone: bool, dark: bool) -> None:
    page.look(width, height, phone=phone, dark=dark)
    page.until(f"innerWidth === {width}")
    assert page.run("document.documentElement.scrollWidth") <= width, "nothing stands out at the side"
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(14, 18, 23)" if dark else "rgb(246, 247, 249)")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
    assert roles.count("row") == 3, "a table for screen readers, also where rows look like cards"


@pytest.fixture
def added(page: Page, board: FakeBoard) -> Iterator[Callable[..., StreamLedger]]:
    """Makes streams that are live, for as long as the test takes."""
    names: list[str] = []

    def add(name: str) -> StreamLedger:
        assert board.books is not None
        names.append(name)
        board.books.add(account := StreamLedger(name, live=True))
        account.state = "live"
        return account

    yield add
    # A page that still asks for one of them would find it gone, and say so in its console.
    page.run("document.getElementById('view').open && document.getElementById('close').click()")
    page.until("!document.getElementById('view').open")
    for name in names:  # answers are made one after the other: whatever was asked before has been answered by then
        page.run(f"fetch('/api/streams/{name}', {{ cache: 'no-store' }}).then((answer) => answer.text())")
    assert board.books is not None
    for name in names:
        del board.books.streams[name]
    page.until(f"{ROWS} === 2")


def test_the_longest_name_and_the_longest_cause_on_a_phone(page: Page, added: Callable[..., StreamLedger]) -> None:
    longest = "parking_level_2_".ljust(64, "x")
    account = added(longest)
    account.state, account.error = "backoff", "rtsp://10.0.0.9/" + 200 * "y" + ": refused"
    account._lost.update({("overflow", "queue"): 1_234_567, ("inference_error", "infer"): 12})
    page.look(320, 640, phone=True)
    page.until(f"{ROWS} === 3")
    assert page.run("document.documentElement.scrollWidth") <= 320
    assert "12 inference error\n1,234,567 overflow" in text(page, "#rows tr:last-child")
    page.run("document.querySelector('#rows tr:last-child button').click()")
    page.until("document.getElementById('view').open")
    assert page.run("document.documentElement.scrollWidth") <= 320
    box = page.run("(box => [box.left, box.right])(document.getElementById('view').getBoundingClientRect())")
    assert 0 <= box[0] < box[1] <= 320
    page.run("document.getElementById('close').click()")


def test_what_needs_attention_among_many(page: Page, board: FakeBoard, added: Callable[..., StreamLedger]) -> None:
    for number in range(8):
        added(f"cam{number}").last_result_ns = now_ns()
    page.until(f"{ROWS} === 10 && !document.getElementById('only-part').hidden")
    shown = "[...document.querySelectorAll('#rows tr')].filter(row => row.checkVisibility()).length"
    assert page.run(shown) == 10
    page.run("document.getElementById('only').focus()")
    page.key(" ", 32)
    page.until("document.getElementById('only').checked")
    assert "gone" in text(page, "#rows")
    assert "cam1" not in text(page, "#rows")
    assert board.books is not None
    board.books.streams["cam1"].state = "stalled"
    page.until("document.getElementById('rows').innerText.includes('cam1')")
    page.key(" ", 32)
    page.until(f"{shown} === 10")


def test_when_a_stream_is_tried_again_is_counted_down(page: Page, board: FakeBoard) -> None:
    assert board.books is not None
    gone = board.books.streams["gone"]
    before, gone.life.next_try_ns = gone.life.next_try_ns, now_ns() + 90_000_000_000
    try:
        said = "document.querySelectorAll('#rows .next')[1].textContent"
        page.until(f"/^Next try in (90|8.) s$/.test({said})")
        page.run(f"window.first = {said}")
        page.until(f"{said} !== window.first")
        assert page.run("document.querySelectorAll('#rows .next')[0].checkVisibility()") is False, "gate is live"
        gone.life.next_try_ns = None
        page.until(f"{said} === ''")
    finally:
        gone.life.next_try_ns = before


def test_how_long_a_stream_has_been_away(page: Page, board: FakeBoard) -> None:
    assert board.books is not None
    gone = board.books.streams["gone"]
    said = "[...document.querySelectorAll('#rows .since')].map(each => each.textContent)"
    before, gone.life.since_ns = gone.life.since_ns, now_ns() - 3 * 3600 * 1_000_000_000
    began, board.books.start_ns = board.books.start_ns, gone.life.since_ns
    try:
        page.until(f"{said}.join() === ',for 3 h'")  # gate is live
        page.run("[...document.querySelectorAll('#rows button')].at(-1).click()")
        page.until("document.getElementById('view-since').textContent === 'for 3 h'")
        page.run("document.getElementById('close').click()")
    finally:
        gone.life.since_ns, board.books.start_ns = before, began
    page.until(f"/^for \\d+ (s|min)$/.test({said}[1])")


def test_a_phone_that_is_turned(page: Page, chromium: Page) -> None:
    page.run("clearInterval(window.often)")
    cells = "[...document.querySelectorAll('#rows tr:last-child > *')].filter(each => each.checkVisibility()).length"
    for width, phone, shown in ((390, True, 10), (1280, False, 9)):  # the cause has its own place on a card
        page.look(width, 800, phone=phone)
        page.until(f"innerWidth === {width} && {cells} === {shown}", 1)


def test_a_daemon_without_streams_is_not_starting(page: Page) -> None:
    page.run("clearInterval(window.often); show({ streams: {}, sinks: {}, model: {}, uptime_s: 5 })")
    assert text(page, "#overall") == "no streams"
    assert text(page, "#empty") == "This daemon has no streams."
    page.run("show({ streams: {}, sinks: {}, model: {}, uptime_s: 0 })")
    assert text(page, "#overall") == "starting"


def test_a_stream_whose_every_frame_is_lost_is_not_well(page: Page, added: Callable[..., StreamLedger]) -> None:
    account = added("blind")
    account.life.fails("region: no room")
    page.until("document.getElementById('overall').textContent === '1 without results, 1 not live'")
    row = text(page, "#rows tr:last-child")
    assert "s: region: no room" in row
    page.run("document.querySelector('#rows tr:last-child button').click()")
    page.until("document.getElementById('view').open")
    assert text(page, "#no-picture").startswith("No picture: every frame of this stream is lost")
    assert page.run("document.getElementById('picture').hasAttribute('src')") is False
    page.run("document.getElementById('close').click()")


def test_a_sink_in_trouble_is_not_well(page: Page, board: FakeBoard) -> None:
    assert board.books is not None
    sink, gone = board.books.sinks["jsonl"], board.books.streams["gone"]
    sink.state, sink.error, gone.state = "degraded", "out/gate.jsonl: no space left on device", "paused"
    try:
        page.until("document.getElementById('overall').textContent === '1 sink in trouble'")
        assert "no space left on device" in text(page, "#sinks")
    finally:
        sink.state, sink.error, gone.state = "ok", None, "backoff"
    page.until("document.getElementById('overall').textContent === '1 not live'")


AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm install --no-save axe-core")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(page: Page, width: int, dark: bool) -> None:
    """Deque's rules, for WCAG 2 and good practice; those of contrast know this page's colours."""
    page.look(width, 844, phone=width == 390, dark=dark)
    for view in (False, True):
        if view:
            page.run("document.querySelector('#rows button').click()")
            page.until("document.getElementById('picture').naturalWidth > 0")
        page.run(AXE.read_text() + "; 0")
        found = page.run("axe.run().then(told => told.violations.map(each => [each.id, each.nodes.map(n => n.html)]))")
        assert found == []
    page.run("document.getElementById('close').click()")


def test_a_still_is_a_link(page: Page) -> None:
    page.run("document.querySelector('#rows button').click()")
    page.until("document.getElementById('still').getAttribute('href') === '/api/streams/gate/frame.jpg'")
    kind = page.run("fetch(document.getElementById('still').href).then(answer => answer.headers.get('content-type'))")
    assert kind == "image/jpeg"
    page.run("document.getElementById('close').click()")


def test_the_live_view_by_keyboard(page: Page, server: WebServer) -> None:
    assert not server.tap.wants("gate")
    for _ in range(10):
        page.key("Tab", 9)
        if page.run("document.activeElement.textContent") == "gate":
            break
    assert page.run("document.activeElement.matches(':focus-visible')") is True
    page.key("Enter", 13)
    page.until("document.getElementById('picture').naturalWidth === 640")
    assert page.run("document.activeElement.id") == "close"
    assert server.tap.wants("gate")
    assert "decode" in text(page, "#stages")
    assert "640 \N{MULTIPLICATION SIGN} 360 h264" in text(page, "#facts")
    page.key("Escape", 27)
    page.until("!document.getElementById('view').open")
    assert page.run("document.activeElement.textContent") == "gate", "the focus is back where it was"
    page.until("fetch('/live').then(() => true)")
    for _ in range(200):
        if not server.tap.wants("gate"):
            break
        page.run("fetch('/live').then(() => 0)")
    assert not server.tap.wants("gate"), "who has closed the view looks no longer"


def test_why_frames_were_late(page: Page, board: FakeBoard, added: Callable[..., StreamLedger]) -> None:
    account = added("slow")
    assert board.books is not None
    world = World("slow", budget_ms=80)
    account.times.watch(80_000_000, board.books.around)
    page.until(f"{ROWS} === 3")
    page.run("document.querySelector('#rows tr:last-child button').click()")
    page.until("document.getElementById('view').open")
    assert page.run("document.getElementById('late-part').hidden") is True, "nothing was late"
    for _ in range(30):
        account.finished(world.trace("slow"))
    account.finished(world.trace("slow", decode=1004))
    page.until("!document.getElementById('late-part').hidden")
    assert text(page, "#late-title") == "1 late frame, over the budget of 80 ms"
    assert "frame 30" in text(page, "#late")
    assert "decode +1.0 s" in text(page, "#late")
    page.run("document.getElementById('close').click()")


def test_who_made_a_stream_unsteady(page: Page, added: Callable[..., StreamLedger]) -> None:
    """Frames each 40 ms that are decoded in 1 and 17 ms by turns: a transit jitter of up to 16 ms, and no other part
    adds to it."""
    account, since_ns = added("unsteady"), now_ns() - 4_000_000_000
    for number in range(100):
        trace = new_trace()
        trace[PTS] = number * 40_000_000
        trace[Mark.READ] = since_ns + trace[PTS]
        trace[Mark.DECODED] = trace[Mark.READ] + (17_000_000 if number % 2 else 1_000_000)
        trace[Mark.FOLLOWED] = trace[Mark.DECODED] + 1_000_000
        trace[Mark.DONE] = trace[Mark.FOLLOWED] + 1_000_000
        account.published(trace)
        account.finished(trace)
    page.until(f"{ROWS} === 3")
    page.run("document.querySelector('#rows tr:last-child button').click()")
    page.until("document.querySelectorAll('#stages tr').length === 4")
    cells = (
        "[...document.querySelectorAll('#stages tr')].map(row => row.firstChild.innerText + row.lastChild.innerText)"
    )
    assert page.run(cells) == ["decode+16.0", "follow0", "sink0", "end to end+16.0"]
    page.run("document.getElementById('close').click()")


def test_pause_and_a_change_of_state_that_is_told(page: Page, board: FakeBoard) -> None:
    assert board.books is not None
    page.run("document.querySelector('#rows button').click()")
    page.until("document.getElementById('hold').textContent === 'Pause'")
    page.run("document.getElementById('hold').click()")
    hold = "document.getElementById('hold')"
    page.run("Promise.all([ask(), ask()])")  # what is told now is still as it was
    assert page.run(f"[{hold}.textContent, {hold}.disabled]") == ["Pausing \N{HORIZONTAL ELLIPSIS}", True]
    assert board.held[-1] == ("gate", True)
    board.books.streams["gate"].state = "paused"
    try:
        page.until(f"{hold}.textContent === 'Resume' && !{hold}.disabled")
        page.until("document.getElementById('news').textContent === 'gate is paused'")
        assert text(page, "#no-picture") == "No picture: this stream is paused."
        assert page.run("document.getElementById('picture').hasAttribute('src')") is False
        assert page.run("document.getElementById('news').getAttribute('aria-live')") == "polite"
    finally:
        board.books.streams["gate"].state = "live"


def test_a_pause_that_is_refused_says_so(page: Page) -> None:
    """Where it is looked at: the list, and the banner above it, are behind the live view."""
    page.run("document.querySelectorAll('#rows button')[1].click()")
    page.run("document.getElementById('hold').click()")
    page.until("document.getElementById('view-cause').textContent.startsWith('this stream has ended, or cannot be')")
    page.run("Promise.all([ask(), ask()])")
    assert text(page, "#view-cause").startswith("this stream has ended"), "not for the blink of an eye"
    assert page.run("[document.getElementById('hold').textContent, document.getElementById('hold').disabled]") == [
        "Pause",
        False,
    ]
    page.run("document.getElementById('close').click()")
    page.run("document.querySelectorAll('#rows button')[1].click()")
    assert "connection refused" in text(page, "#view-cause")
    page.run("0")
    page.events.clear()  # that it was refused was the point


def test_a_cause_is_text_and_nothing_else(patient_page: Page, board: FakeBoard) -> None:
    assert board.books is not None
    gone = board.books.streams["gone"]
    before, gone.error = gone.error, "<img src=x onerror=alert(1)><b>bold</b>"
    try:
        patient_page.until("document.querySelectorAll('#rows .state .cause')[1].innerText.includes('<b>bold</b>')")
        assert patient_page.run("document.querySelectorAll('#rows img, #rows b').length") == 0
    finally:
        gone.error = before


def test_the_daemon_goes_away(page: Page, chromium: Page) -> None:
    chromium.send("Network.enable")
    nowhere = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    chromium.send("Network.emulateNetworkConditions", offline=True, **nowhere)
    page.until("!document.getElementById('trouble').hidden")
    assert text(page, "#overall") == "no answer", "what was well is not called so any more"
    assert "grayscale" in page.run("getComputedStyle(document.getElementById('streams').parentNode).filter")
    chromium.send("Network.emulateNetworkConditions", offline=False, **nowhere)
    page.run("ask()")
    page.until("document.getElementById('trouble').hidden")
    assert text(page, "#overall") == "1 not live"
    chromium.send("Network.disable")
    page.run("0")
    chromium.events.clear()  # that it could not fetch was the point


@pytest.mark.parametrize("how", ["requestSubmit", "submit"], ids=["by script", "by form"])
def test_logging_in(chromium: Page, tmp_path: Path, how: str) -> None:
    with serving(FakeBoard(), token_file=token_file(tmp_path)) as server:
        chromium.go(server.url)
        chromium.until("location.pathname === '/login' && document.getElementById('token')")
        form, field = "document.querySelector('form')", "document.getElementById('token')"
        chromium.run(f"{field}.value = 'wrong'; {form}.{how}()")
        chromium.until("document.querySelector('[role=alert]')?.textContent.startsWith('That is not the token')")
        chromium.run(f"{field}.value = {TOKEN!r}; {form}.{how}()")
        chromium.until(f"location.pathname === '/' && {ROWS} === 2")
        chromium.until("!document.getElementById('logout').hidden")
        assert chromium.run("document.cookie") == "", "no script can read it"
        chromium.run("document.querySelector('#logout button').click()")
        chromium.until("location.pathname === '/login'")
        chromium.events.clear()
