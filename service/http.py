"""Serves an ASGI application beside other work, in the caller's event loop; signals stay with the program."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import uvicorn
from starlette.types import ASGIApp

from eventbus import Misconfigured


@asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int, *, grace: timedelta = timedelta(seconds=5)) -> AsyncIterator[int]:
    """Listen and yield the port (a free one when 0 is asked for). On leaving, running requests get `grace` to end.

    Raises Misconfigured when the port is taken.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="off",
        access_log=False,
        server_header=False,
        timeout_keep_alive=10,
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
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Misconfigured(f"can't listen on {host}:{port}: {error.strerror}. Choose another port") from None
    return listener
