# SPDX-License-Identifier: Apache-2.0
"""``pipeline top``: the streams of a running daemon, as a table that renews itself."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.program.parser import Parser, one_of, positive
from pipeline.cli.terminal.printing import print_json
from pipeline.errors import ServerError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.cli.live.client import Address, DaemonClient
    from pipeline.cli.live.table import Order

EXAMPLES = """\
  pipeline top                                     the daemon on this machine, port 8080
  pipeline top streams.yaml                        the one that serves as this file says, its token included
  pipeline top https://cameras.example.org:8080 --token-file token
  pipeline top --json | jq '.streams | map_values(.state)'
"""

NO_TERMINAL = 200
"""Columns where the table goes into a file or a pipe."""
SORTED_BY = ("name", "state", "rate", "age", "p99", "dropped")


def configure(parser: Parser) -> None:
    """Add the options of this command."""
    parser.usage = "pipeline top [URL | STREAMS.yaml] [options]"
    parser.add_argument("daemon", nargs="?", metavar="URL", help="where it serves, or its streams.yaml")
    parser.add_argument("--token-file", metavar="FILE", help="file whose only line is the daemon's token")
    parser.add_argument("--every", type=positive, default=2.0, metavar="S", help="seconds between looks (default 2)")
    parser.add_argument("--once", action="store_true", help="print the table once, as without a terminal")
    parser.add_argument(
        "--sort", type=one_of(*SORTED_BY), default="name", metavar="BY", help=f"one of {', '.join(SORTED_BY)}"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="do not verify the certificate; send the token without TLS"
    )
    parser.epilog = (
        "keys: q ends it, s sorts by the next column. Figures are those of the dashboard.\n\n"
        "exit codes: 0 looked; 1 nobody answered; 2 no daemon, no token, or not the right one"
    )


def run(options: argparse.Namespace) -> int:
    """Look until somebody has seen enough."""
    from pipeline.cli.live.client import DaemonClient

    client = DaemonClient(_address(options))
    try:
        answer = client.streams()
        if options.json:
            print_json(answer)
            return 0
        return _show(client, answer, options)
    finally:
        client.close()


def _show(client: DaemonClient, answer: dict[str, Any], options: argparse.Namespace) -> int:
    from rich.console import Console

    from pipeline.cli.live.table import ORDERS, table

    terminal = sys.stdout.isatty()
    console = Console(highlight=False, emoji=False, width=None if terminal else NO_TERMINAL)
    chosen = SORTED_BY.index(options.sort)
    if options.once or not terminal or console.is_dumb_terminal:
        console.print(table(answer, ORDERS[chosen], width=console.width))
        return 0
    _watch(console, client, answer, options.every, chosen)
    return 0


def _watch(console: Console, client: DaemonClient, answer: dict[str, Any], every_s: float, chosen: int) -> None:
    from rich.live import Live

    from pipeline.cli.live.table import ORDERS, table
    from pipeline.cli.terminal.keys import Keys
    from pipeline.timing import now_ns

    trouble = ""
    answered_ns = now_ns()
    with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        next_ns = now_ns() + int(every_s * 1e9)
        while True:
            order: Order = ORDERS[chosen]
            foot = f"q: quit, s: sort by the next column (now: {order.word})"
            shown = table(answer, order, width=console.width, rows=console.height, trouble=trouble, foot=foot)
            live.update(shown, refresh=True)
            key = keys.wait((next_ns - now_ns()) / 1e9)
            if key in ("q", "Q", "\x04"):
                return
            if key in ("s", "S", "\t"):
                chosen = (chosen + 1) % len(ORDERS)
            if now_ns() < next_ns:
                continue
            next_ns = now_ns() + int(every_s * 1e9)
            try:
                answer, trouble, answered_ns = client.streams(), "", now_ns()
            except ServerError as error:  # it may be restarted: what it said last stays, and is called old
                trouble = f"this is {(now_ns() - answered_ns) / 1e9:.0f} s old: {error}"


def _address(options: argparse.Namespace) -> Address:
    """Whom to ask; raises UsageError where the token would travel for everybody to read."""
    from pipeline.cli.live.client import LOCAL

    address = _named(options, options.daemon or LOCAL)
    if address.token is not None and not (address.tls or options.insecure or address.is_here):
        raise UsageError(f"{address}: without TLS anybody on the way could read the token; https://, or --insecure")
    return address


def _named(options: argparse.Namespace, given: str) -> Address:
    from pipeline.cli.live.client import Address

    if given.endswith((".yaml", ".yml")) or Path(given).is_file():
        if options.token_file is not None:
            raise UsageError("--token-file goes with a URL; a streams.yaml names its own")
        return Address.of_config(Path(given), insecure=options.insecure)
    token = None
    if options.token_file is not None:
        from pipeline.config.credentials import CredentialError, read_secret

        try:
            token = read_secret(options.token_file)
        except CredentialError as error:
            raise UsageError(f"--token-file: {error}") from None
    return Address.of_url(given, token, insecure=options.insecure)
