"""The worker process: serves the integrations until it is told to stop.

SIGTERM or SIGINT: take no more, finish or hand back within the grace time, exit 0. A second one ends it at once; what
it held is taken over when its lease runs out. Beside the work it answers /livez, /readyz, /metrics, and
/metrics/{integration} for what an integration has counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from eventbus import EventBusError
from integrations.errors import NotReady
from registry.metrics import MEDIA_TYPE
from registry.registry import UnknownIntegration
from registry.settings import Settings
from service.http import serving
from service.journal import keeping_journal
from service.recovery import keep_recovering
from service.schedules import keep_schedules
from service.stopping import stop_on_signals
from service.wiring import Runtime, open_runtime

BACKLOG_SECONDS = 5.0
TURN_SECONDS = 1.0
STUCK_SECONDS = 15.0

_log = structlog.get_logger("service.worker")


async def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises what would keep a worker from ever working, such as Misconfigured."""
    async with (
        open_runtime(settings, serve=True) as runtime,
        keeping_journal(runtime.bus, settings),
        _answering(runtime),
    ):
        stop = asyncio.Event()
        stop_on_signals(stop)
        await _serve(runtime, stop)
    _log.info("stopped")


async def _serve(runtime: Runtime, stop: asyncio.Event) -> None:
    grace = timedelta(seconds=runtime.settings.worker.grace_seconds)
    starting = asyncio.create_task(_start(runtime), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    tasks = {starting, stopping}
    watching: set[asyncio.Task[None]] = set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if starting not in done:
            return
        await starting
        serving = asyncio.create_task(runtime.bus.run(grace=grace), name="serve")
        tasks.add(serving)
        watching.add(asyncio.create_task(_watch_backlog(runtime), name="backlog"))
        watching.add(asyncio.create_task(keep_schedules(runtime.bus, runtime.settings.schedules), name="schedules"))
        watching.add(asyncio.create_task(keep_recovering(runtime.bus, runtime.registry), name="recovery"))
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            _log.info("stopping", grace_s=grace.total_seconds())
        runtime.bus.stop()
        await serving
    finally:
        for task in tasks | watching:
            task.cancel()
        await asyncio.gather(*tasks, *watching, return_exceptions=True)


async def _start(runtime: Runtime) -> None:
    await runtime.bus.until_ready()
    await runtime.registry.start()
    names = [account.name for account in runtime.registry]
    _log.info("working", integrations=names, bus=runtime.bus.address, pid=os.getpid())


async def _watch_backlog(runtime: Runtime) -> None:
    while True:
        for group in await _groups(runtime):
            with contextlib.suppress(EventBusError):
                backlog = await runtime.bus.backlog(group)
                if backlog is not None:
                    runtime.metrics.backlog(group, backlog)
        await asyncio.sleep(BACKLOG_SECONDS)


async def _groups(runtime: Runtime) -> list[str]:
    try:
        return list(await runtime.bus.groups())
    except EventBusError:
        return []


# -- the small HTTP side ---------------------------------------------------------------------------------------------


class _Pulse:
    """Whether the event loop turns: a blocked one must not be called alive."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def beat(self) -> None:
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(TURN_SECONDS)

    @property
    def is_alive(self) -> bool:
        return time.monotonic() - self._last < STUCK_SECONDS


@asynccontextmanager
async def _answering(runtime: Runtime) -> AsyncIterator[None]:
    pulse = _Pulse()

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n" if pulse.is_alive else "stuck\n", 200 if pulse.is_alive else 503)

    async def readyz(_: Request) -> Response:
        faults = {account.name: account.fault for account in runtime.registry if account.fault is not None}
        try:
            await runtime.bus.check_server()
        except EventBusError as error:
            return JSONResponse({"ready": False, "event_bus": str(error)}, 503)
        # A worker with one integration that is not ready still works for the others.
        return JSONResponse({"ready": True, "not_ready": faults})

    async def metrics(_: Request) -> Response:
        return Response(runtime.metrics.exposition(), media_type=MEDIA_TYPE)

    async def measured(request: Request) -> Response:
        try:
            text = await runtime.registry.exposition(request.path_params["integration"])
        except UnknownIntegration as error:
            return PlainTextResponse(f"{error}\n", 404)
        except (NotReady, EventBusError) as error:
            return PlainTextResponse(f"{error}\n", 503)
        return Response(text, media_type=MEDIA_TYPE)

    routes = [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/metrics/{integration}", measured),
    ]
    settings = runtime.settings.worker
    async with serving(Starlette(routes=routes), settings.host, settings.port) as port:
        _log.info("answering", url=f"http://{settings.host}:{port}", paths=[route.path for route in routes])
        beating = asyncio.create_task(pulse.beat(), name="pulse")
        try:
            yield
        finally:
            beating.cancel()
