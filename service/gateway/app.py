"""The application: its routes, and the program around it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eventbus import Unavailable
from eventbus.ending import end
from registry.settings import Settings
from service.gateway import problems
from service.gateway.api import Api
from service.gateway.edge import Edge
from service.gateway.health import HealthRoutes
from service.gateway.webhooks import Webhooks
from service.http import serving
from service.stopping import stop_on_signals
from service.wiring import Runtime, open_runtime

_log = structlog.get_logger("service.gateway")


def build_app(runtime: Runtime) -> Starlette:
    """All routes. Who may call is decided in the route that runs, never from the path as it was sent."""
    webhooks, api, health = Webhooks(runtime), Api(runtime), HealthRoutes(runtime)
    routes = [
        Route("/", _index),
        Route("/livez", health.livez),
        Route("/readyz", health.readyz),
        Route("/metrics", health.metrics),
        Route("/api/v1/health", health.health),
        Route("/api/v1/webhooks/{integration}", webhooks.receive, methods=["POST"]),
        Route("/api/v1/events", api.publish, methods=["POST"]),
        Route("/api/v1/integrations/github/pr", api.create, methods=["POST"]),
        Route("/api/v1/integrations/{name}/notifications", api.notify, methods=["POST"]),
        Route("/api/v1/integrations/{name}/artifacts/{type}", api.create, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Edge, allowed_hosts=runtime.settings.gateway.allowed_hosts)],
        exception_handlers={HTTPException: problems.answer},
    )
    app.router.redirect_slashes = False  # it would redirect to whatever Host the caller named
    return app


async def _index(request: Request) -> Response:
    """What is here, for whoever opens the address in a browser."""
    return JSONResponse(
        {
            "name": "eventbus gateway",
            "health": "/api/v1/health",
            "metrics": "/metrics",
            "events": "POST /api/v1/events",
            "webhooks": "POST /api/v1/webhooks/{integration}",
            "notifications": "POST /api/v1/integrations/{name}/notifications",
            "artifacts": "POST /api/v1/integrations/{name}/artifacts/{type}",
        }
    )


async def run_gateway(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. While Redis is away requests are spooled, or get 503 where there is no spool."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    grace = timedelta(seconds=settings.gateway.grace_seconds)
    async with open_runtime(settings, serve=False) as runtime:
        await runtime.registry.start()
        host = settings.gateway.host
        async with serving(build_app(runtime), host, settings.gateway.port, grace=grace) as port:
            names = [account.name for account in runtime.registry]
            _log.info("answering", url=f"http://{host}:{port}", bus=runtime.bus.address, integrations=names)
            checking = asyncio.create_task(_check(runtime, stop), name="check of Redis")
            await stop.wait()
            await end([checking])
            if not checking.cancelled():
                checking.result()
            _log.info("stopping", grace_s=grace.total_seconds())
    _log.info("stopped")


async def _check(runtime: Runtime, stop: asyncio.Event) -> None:
    """Refuse a Redis that can't keep what is promised. One that is away, or whose replicas are, is waited for."""
    try:
        try:
            await runtime.bus.check_server()
            await runtime.bus.check_durability()
        except Unavailable as error:
            what = "get 503" if runtime.bus.spools is None else "are spooled"
            _log.warning(f"webhooks and events {what} until Redis is back", error=str(error))
            await runtime.bus.until_ready()
    except Exception:
        stop.set()
        raise
