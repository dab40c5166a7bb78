"""Serves an ASGI application beside other work, in the caller's event loop; signals stay with the program.

Connections are bounded in number, and a request's head in size and time: uvicorn by itself waits for it for ever. The
body's time and size are the application's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from eventbus import Misconfigured

HEAD_SECONDS = 5.0
IDLE_SECONDS = 10
MAX_HEAD_BYTES = 64 * 1024
MAX_CONNECTIONS = 500
"""Those above it get 503. With a handful of files for Redis and the services it stays below the usual limit of 1024."""


class _Impatient(H11Protocol):
    """uvicorn's protocol for HTTP/1.1, with a deadline for the head of each request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._deadline is None:  # a head that drips does not move its deadline
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _forget_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int, *, grace: timedelta = timedelta(seconds=5)) -> AsyncIterator[int]:
    """Listen and yield the port (a free one when 0 is asked for). On leaving, running requests get `grace` to end.

    Raises Misconfigured when the port is taken.
    """
    config = uvicorn.Config(
        app,
        http=_Impatient,
        ws="none",
        log_config=None,  # its lines go where all lines go
        log_level="warning",
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the address of a peer is what the socket says
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace.total_seconds())),
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    with _bound(host, port) as listener:
        task = asyncio.create_task(server.serve([listener]), name=f"http {port}")
        while not server.started and not task.done():  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
        if task.done():
            await task
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY where the protocol is named (base_events, _set_nodelay): without it, every answer on a
    # connection that is kept alive waits for the acknowledgement of the one before, which a client delays by 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Misconfigured(f"can't listen on {host}:{port}: {error.strerror}. Choose another port") from None
    return listener
