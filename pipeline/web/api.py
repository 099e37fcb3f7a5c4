# SPDX-License-Identifier: Apache-2.0
"""The routes of the API: they read the accounts, show pictures, and hold streams. None of them writes anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from pipeline.errors import StageError
from pipeline.ledger import ENDED, StreamLedger
from pipeline.timing import now_ns
from pipeline.web.answers import json_answer, refusal, undrawable, written
from pipeline.web.board import Board
from pipeline.web.describe import overview, stream
from pipeline.web.fresh import Fresh
from pipeline.web.history import History
from pipeline.web.live import LiveView, TooManyViewers
from pipeline.web.mjpeg import Mjpeg
from pipeline.web.negotiation import preferred
from pipeline.web.trouble import no_picture, none_came
from pipeline.web.upkeep import Upkeep

_PICTURE_S: Final = 5.0
_LONGEST_S: Final = 20.0
_FRESH_S: Final = 1.0
NO_OTHERS: Final[Mapping[str, Callable[[], bytes]]] = {}


class Api:
    """Handlers by route. Counts, states and ages are at most a second old for who asks for the first time, or three for
    who asks again and again; distributions may be two and a half seconds older. Pictures are new.

    Args:
        board, metrics, metrics_type, metrics_in, report, trace: as of :class:`pipeline.web.server.WebServer`.
        history: of the streams' rates.
        view: of the streams' pictures.
        token_needed: clients need the token; the page asks for it.
        executor: where answers are made; None: here.

    Attributes:
        upkeep: to be run beside.
    """

    def __init__(
        self,
        board: Board,
        history: History,
        view: LiveView,
        *,
        metrics: Callable[[], bytes],
        metrics_type: str,
        metrics_in: Mapping[str, Callable[[], bytes]] = NO_OTHERS,
        report: Callable[[], dict[str, Any] | None],
        trace: Callable[[], bytes | None] = lambda: None,
        token_needed: bool = False,
        executor: Executor | None = None,
    ) -> None:
        self._board = board
        self._history = history
        self._view = view
        forms = {metrics_type: metrics, **metrics_in}
        self._metrics = {kind: Fresh(make, executor, _FRESH_S) for kind, make in forms.items()}
        self._report = Fresh(lambda: None if (found := report()) is None else written(found), executor, _FRESH_S)
        self._trace = Fresh(trace, executor, _FRESH_S)
        self._executor = executor
        self._each: dict[str, Fresh[bytes | None]] = {}
        self._overview = Fresh(partial(self._all_streams, token_needed), executor, _FRESH_S)
        self.upkeep = Upkeep(board, executor, self._kept)

    async def live(self, request: Request) -> Response:
        """The process turns; says nothing more."""
        return _word(self._board.alive(), "live", "not live")

    async def ready(self, request: Request) -> Response:
        """The model is warm, and a stream is live or all have ended or are paused on purpose."""
        ledger = self._board.ledger
        accounts = {} if ledger is None else dict(ledger.streams)
        # An earlier life of a name (``name~1``) may have failed: the present one is what counts.
        states = [account.state for name, account in accounts.items() if name == account.name]
        accounted = all(state in ENDED | {"paused"} and state != "failed" for state in states)
        return _word(self._board.prepared() and ("live" in states or accounted), "ready", "not ready")

    async def metrics(self, request: Request) -> Response:
        """All metrics, in the form that the client would rather have."""
        self.upkeep.asked()
        kind = preferred(request.headers.get("accept"), list(self._metrics))
        return Response(await self._metrics[kind].get(), headers={"content-type": kind, "vary": "accept"})

    async def streams(self, request: Request) -> Response:
        """All streams, briefly."""
        self.upkeep.asked()
        return json_answer(await self._overview.get())

    async def stream(self, request: Request) -> Response:
        """One stream, with all distributions."""
        self.upkeep.asked()
        account = self._account(request)
        found = None if account is None else await self._figures_of(request.path_params["name"]).get()
        return self._stranger() if found is None else json_answer(found)

    async def report(self, request: Request) -> Response:
        """The report so far."""
        self.upkeep.asked()
        found = await self._report.get()
        return _not_ready() if found is None else json_answer(found)

    async def trace(self, request: Request) -> Response:
        """The journeys of the last seconds, for Perfetto."""
        found = await self._trace.get()
        if found is None:
            return _not_ready()
        headers = {"content-disposition": 'attachment; filename="pipeline-trace.json"'}
        return Response(found, 200, headers, media_type="application/json")

    async def still(self, request: Request) -> Response:
        """The next picture of a stream, in full size, boxes drawn."""
        account = self._account(request)
        if account is None:
            return self._stranger()
        dark = _dark(account)
        if dark is not None:
            return dark
        retry = {"retry-after": "5"}
        rate = self._history.rate(account.name)
        patience_s = min(max(_PICTURE_S, 2 / rate), _LONGEST_S) if rate else _PICTURE_S
        try:
            async with asyncio.timeout(patience_s), self._view.viewer(account.name) as viewer:
                jpeg = await viewer.next()
        except TimeoutError:
            return _dark(account) or refusal(503, "NoPicture", none_came(account, patience_s, now_ns()), retry)
        except TooManyViewers:
            return refusal(503, "TooManyViewers", "too many live views are open", retry)
        except StageError:
            return undrawable()
        return refusal(503, "Closing", "the server stops") if jpeg is None else Response(jpeg, media_type="image/jpeg")

    async def video(self, request: Request) -> ASGIApp:
        """A stream's pictures as they come."""
        account = self._account(request)
        if account is None:
            return self._stranger()
        return _dark(account) or Mjpeg(self._view, account.name, partial(_dark, account))

    async def pause(self, request: Request) -> Response:
        """Hold a stream."""
        return self._hold(request, True)

    async def resume(self, request: Request) -> Response:
        """Let it go on."""
        return self._hold(request, False)

    def _all_streams(self, token_needed: bool) -> bytes:
        board = self._board
        told = overview(board.ledger, board.facts(), board.waiting(), self._history, now_ns())
        config = {"is_current": board.reload_succeeded, "reloads": dict(board.reloads)}
        return written({"token_needed": token_needed, "config": config, **told})

    def _kept(self) -> list[Fresh[Any]]:
        """A trace of the last seconds is some megabytes: it is made for who asks for it."""
        return [self._overview, self._report, *self._metrics.values(), *self._each.values()]

    def _figures_of(self, name: str) -> Fresh[bytes | None]:
        """For names that the ledger has: there are as many at most, whatever clients ask for."""
        if name not in self._each:
            ledger = self._board.ledger
            known = {} if ledger is None else ledger.streams
            self._each = {each: fresh for each, fresh in self._each.items() if each in known}
            self._each[name] = Fresh(partial(self._figures, name), self._executor, _FRESH_S)
        return self._each[name]

    def _figures(self, name: str) -> bytes | None:
        ledger = self._board.ledger
        account = None if ledger is None else ledger.streams.get(name)
        if ledger is None or account is None:
            return None
        return written(stream(ledger, account, self._board.waiting(), self._history, now_ns()))

    def _hold(self, request: Request, paused: bool) -> Response:
        account = self._account(request)
        if account is None:
            return self._stranger()
        if account.state in ENDED and account.state != "failed":
            return refusal(409, "Ended", f"this stream is {account.state}")
        if not self._board.pause(account.name, paused):
            return refusal(409, "Ended", "this stream has ended, or cannot be paused")
        return json_answer(written({"stream": account.name, "paused": paused}), 202)

    def _stranger(self) -> Response:
        """A name that is not in the accounts. While the model is loaded none is, whatever the file says."""
        return _not_ready() if self._board.ledger is None else _unknown()

    def _account(self, request: Request) -> StreamLedger | None:
        ledger = self._board.ledger
        return None if ledger is None else ledger.streams.get(request.path_params["name"])


def _dark(account: StreamLedger) -> Response | None:
    """The answer where no picture is to be expected; None where one may come."""
    told = no_picture(account, now_ns())
    if told is None:
        return None
    why, again_s = told
    return refusal(503, "NoResults" if account.state == "live" else "NotLive", why, {"retry-after": str(again_s)})


def _word(good: bool, yes: str, no: str) -> Response:
    return Response(f"{yes if good else no}\n", 200 if good else 503, media_type="text/plain")


def _not_ready() -> Response:
    return refusal(503, "NotReady", "nothing runs yet: the model is being loaded", {"retry-after": "5"})


def _unknown() -> Response:
    return refusal(404, "NotFound", "there is no stream of this name")
