# SPDX-License-Identifier: Apache-2.0
"""How far a run is: in a terminal a bar per stream that is open and a line of all, elsewhere that line now and then."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Column, Table
from rich.text import Text

from pipeline.figures import count, duration, rate
from pipeline.ledger import ENDED, Ledger, StreamLedger
from pipeline.timing import now_ns

EVERY_STREAM = 12
"""Up to so many streams have a bar each; of more only those that are open now, no more than this many."""

PLAIN_EVERY_S = 30.0
"""Pause between two lines where there is no terminal."""

_REFRESH_PER_S = 5
_STYLES = {"finished": "green", "failed": "red", "truncated": "yellow", "stopped": "yellow"}


def progress(
    ledger: Callable[[], Ledger | None], streams: int, *, limit: int | None, quiet: bool, loading: str
) -> AbstractContextManager[object]:
    """Show how the run is getting on while the block lasts; without a terminal on stderr by a line every half minute.

    Args:
        ledger: the accounts, or None while the model is being loaded.
        streams: how many there will be.
        limit: frames per stream at most.
        quiet: show nothing.
        loading: what to say before the run has begun.
    """
    console = Console(stderr=True, highlight=False)
    if quiet:
        return nullcontext()
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        return _plain(ledger, streams, limit)
    spinner = Spinner("dots", Text(loading, style="dim"))

    def render() -> RenderableType:
        accounts = ledger()
        if accounts is None or not accounts.start_ns:
            return spinner
        return display(accounts, streams, limit, now_ns(), max(console.height - 3, 1))

    return Live(
        get_renderable=render, console=console, refresh_per_second=_REFRESH_PER_S, transient=True, redirect_stdout=False
    )


@contextmanager
def _plain(ledger: Callable[[], Ledger | None], streams: int, limit: int | None) -> Iterator[None]:
    """The line of all, again and again, from a thread of its own: an inline run leaves no other one free."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(PLAIN_EVERY_S):
            accounts = ledger()
            if accounts is not None and accounts.start_ns:
                line = overall(accounts, list(accounts.streams.values()), streams, limit, now_ns())
                with suppress(OSError, ValueError):  # nobody may be listening any more
                    print(f"pipeline: {line}", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def display(ledger: Ledger, streams: int, limit: int | None, at_ns: int, rows: int) -> RenderableType:
    """The picture at one moment, at most ``rows`` bars high."""
    accounts = list(ledger.streams.values())
    most = min(rows, EVERY_STREAM)
    shown: Sequence[StreamLedger] = accounts
    if streams > most:
        shown = [account for account in accounts if account.opened_ns and account.state not in ENDED][:most]
    table = Table.grid(
        Column(no_wrap=True, overflow="ellipsis", min_width=8, max_width=24),
        Column(ratio=1, min_width=6),
        Column(justify="right", no_wrap=True),
        Column(justify="right", no_wrap=True, min_width=9),
        Column(no_wrap=True),
        padding=(0, 2, 0, 0),
        expand=True,
    )
    for account in shown:
        done = account.decoded - account.in_flight
        total = _total(account, limit)
        span_s = ((account.last_result_ns or account.opened_ns) - account.opened_ns) / 1e9
        table.add_row(
            account.name,
            _bar(done, total, account.state),
            f"{done:,}/{total:,}" if total else f"{done:,}",
            f"{rate(account.processed / span_s)} fps" if span_s > 0 else "",
            Text(_word(account), style=_STYLES.get(account.state, "dim")),
        )
    line = Text(overall(ledger, accounts, streams, limit, at_ns), style="bold", no_wrap=True, overflow="ellipsis")
    return Group(table, line)


def overall(ledger: Ledger, accounts: Sequence[StreamLedger], streams: int, limit: int | None, at_ns: int) -> str:
    """All streams in one line: ``1/3 streams, 100 frames, 50.0 fps, 2.00 s, about 4.00 s left``."""
    elapsed_s = (at_ns - ledger.begun_ns) / 1e9
    frames = sum(account.processed for account in accounts)
    done = sum(account.decoded - account.in_flight for account in accounts)
    ended = sum(account.state in ENDED for account in accounts)
    lost = sum(account.dropped.total() for account in accounts)
    failed = sum(account.state == "failed" for account in accounts)
    parts = [f"{ended}/{streams} streams"] if streams > 1 else []
    parts += [f"{failed} failed"] if failed else []
    parts += [count(frames, "frame"), f"{rate(frames / elapsed_s)} fps" if elapsed_s > 0 else "", duration(elapsed_s)]
    if lost:
        parts.append(f"{lost:,} dropped")
    expected = _expected(accounts, streams, limit)
    if expected is not None and 0 < done < expected:
        parts.append(f"about {duration((expected - done) / done * elapsed_s)} left")
    return ", ".join(part for part in parts if part)


def _expected(accounts: Sequence[StreamLedger], streams: int, limit: int | None) -> float | None:
    """How many frames all streams will have: those that wait are taken to be as long as the others are on average. None
    where that cannot be told."""
    totals = {account.name: _total(account, limit) for account in accounts}
    if any(totals[account.name] is None for account in accounts if account.opened_ns):
        return None
    known = [total for total in totals.values() if total is not None]
    lengths = [total for total in known if total]
    if not lengths:
        return None
    return sum(lengths) + (streams - len(known)) * sum(lengths) / len(lengths)


def _total(account: StreamLedger, limit: int | None) -> int | None:
    """How many frames this stream will have, as far as it is known."""
    if account.state in ENDED:
        return account.decoded
    declared = account.info.frames
    if limit is None:
        return declared
    return min(limit, declared) if declared else limit


def _bar(done: int, total: int | None, state: str) -> ProgressBar:
    if state in ENDED:
        style = _STYLES.get(state, "green")
        return ProgressBar(total=1, completed=1, complete_style=style, finished_style=style)
    return ProgressBar(total=total or None, completed=min(done, total or done), pulse=not total)


def _word(account: StreamLedger) -> str:
    if account.state == "live":
        return ""
    return account.state if account.state in ENDED or account.opened_ns else "waiting"
