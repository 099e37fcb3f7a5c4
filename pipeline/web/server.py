# SPDX-License-Identifier: Apache-2.0
"""The server in a thread of its own: it is bound before anything starts, and its end is waited for only shortly."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import uvicorn

from pipeline.config.credentials import read_token
from pipeline.config.outputs import ServerConfig
from pipeline.errors import ConfigError, ServerError
from pipeline.frame import Picture, Result
from pipeline.threads import go_first, show_name
from pipeline.timing import now_ns
from pipeline.web.access import Access
from pipeline.web.api import NO_OTHERS, Api
from pipeline.web.app import application
from pipeline.web.board import Board
from pipeline.web.door import Door
from pipeline.web.history import STEP_S, History
from pipeline.web.hosts import Hosts
from pipeline.web.limits import Limits, bounded
from pipeline.web.live import LiveView
from pipeline.web.safety import refuse_unsafe, tls_context, warn_of_token

log = logging.getLogger("pipeline")

_STOP_S: Final = 2.0
_HANDSHAKE_S: Final = 5.0


class WebServer:
    """Serves one board from :meth:`start` to :meth:`close`.

    Attributes:
        url: where it is, with the port that it really has.
        tap: what the flow shows results to.
    """

    def __init__(
        self,
        config: ServerConfig,
        board: Board,
        *,
        metrics: Callable[[], bytes],
        metrics_type: str,
        metrics_in: Mapping[str, Callable[[], bytes]] = NO_OTHERS,
        report: Callable[[], dict[str, Any] | None],
        trace: Callable[[], bytes | None] = lambda: None,
        insecure: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """Bind, but answer nobody yet.

        Raises ConfigError: no token, no TLS, or no right to the port; ServerError: the address cannot be had now.

        Args:
            config: the section ``server``.
            board: what is served.
            metrics: makes the text of ``/metrics``, of the type ``metrics_type``.
            metrics_in: makes it for clients that would rather have another type, by that.
            report: makes the report so far, or None before there is one.
            trace: makes a trace of the last seconds, JSON for Perfetto, or None likewise.
            insecure: others may reach it without TLS.
            limits: what clients may take.
        """
        limits = limits or Limits()
        token = read_token(config)
        refuse_unsafe(config, token, insecure)
        warn_of_token(config, token)
        context = tls_context(config)
        self._board = board
        self._history = History()
        # One thread makes answers and pictures: whoever looks on takes at most this much from the pipeline.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="web:answer", initializer=_begin)
        self.tap = LiveView(_draw, self._executor)
        self._api = api = Api(
            board,
            self._history,
            self.tap,
            metrics=metrics,
            metrics_type=metrics_type,
            metrics_in=metrics_in,
            report=report,
            trace=trace,
            token_needed=token is not None,
            executor=self._executor,
        )
        hosts = Hosts(loopback_only=config.is_loopback, names=(*config.hosts, *_own_names(config)))
        settings = uvicorn.Config(
            application(api, Access(token), hosts, secure=context is not None),
            http=bounded(limits),
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=128,
            h11_max_incomplete_event_size=limits.head_bytes,
            timeout_graceful_shutdown=1,
            ssl_context_factory=None if context is None else lambda config, default: context,
        )
        settings.load()
        self._server = uvicorn.Server(settings)
        self._socket = _bound(config, limits)
        host, port = self._socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if context is not None else 'http'}://{shown}:{port}/"
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        # What clients get wrong is no fault of ours; one line each would be theirs to fill the log with.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._thread.start()
        log.info("serving %s", self.url)

    def close(self) -> None:
        """Stop answering; waits shortly for answers under way. May be called twice, and without a start."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._socket.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        _begin()
        try:
            with asyncio.Runner(loop_factory=_Loop) as runner:
                runner.run(self._serve())
        except Exception as error:  # noqa: BLE001 - the pipeline goes on without it
            log.error("the HTTP server ended: %s: %s", type(error).__name__, error)

    async def _serve(self) -> None:
        sampler = asyncio.ensure_future(self._sample())
        closer = asyncio.ensure_future(self._close_view())
        upkeep = asyncio.ensure_future(self._api.upkeep.run())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            for task in (sampler, closer, upkeep):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _sample(self) -> None:
        while True:
            ledger = self._board.ledger
            if ledger is not None:
                self._history.sample(ledger, now_ns())
            await asyncio.sleep(STEP_S)

    async def _close_view(self) -> None:
        """Live views have no end of their own: uvicorn would wait for them."""
        while not self._server.should_exit:
            await asyncio.sleep(0.2)
        self.tap.close()


def _begin() -> None:
    """Of each thread: answers want little of a core, and somebody waits for them beside a detector that takes all."""
    show_name()
    go_first()


class _Loop(asyncio.SelectorEventLoop):
    """A loop that gives clients little time for the TLS handshake: until then nobody looks at them."""

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", _HANDSHAKE_S)
        return await super().create_server(*args, **options)


def _bound(config: ServerConfig, limits: Limits) -> Door:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = Door(family, kind, protocol)
        listening.most, listening.most_each = limits.connections, limits.connections_each
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)  # so that a second one is refused here, not later in its thread
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        text = f"server.listen: cannot listen on {config.listen}: {reason}"
        if isinstance(error, PermissionError):  # a port below 1024: it will not be had later either
            raise ConfigError(text) from None
        raise ServerError(text) from None
    return listening


def _own_names(config: ServerConfig) -> tuple[str, ...]:
    return (config.host,) if config.is_loopback else (config.host, socket.gethostname())


def _draw(result: Result, picture: Picture, most: int | None) -> bytes:
    from pipeline.web.drawn import drawn  # OpenCV, once somebody looks

    return drawn(result, picture, most)
