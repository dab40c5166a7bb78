"""The application: routes, middleware, and the program around it."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from datetime import timedelta

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventbus import Unavailable
from eventbus.event import new_id
from registry.settings import Settings
from service.gateway import problems
from service.gateway.api import Api
from service.gateway.health import HealthRoutes
from service.gateway.webhooks import Webhooks
from service.http import serving
from service.wiring import Runtime, open_runtime

_log = structlog.get_logger("service.gateway")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def build_app(runtime: Runtime) -> ASGIApp:
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
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(_Edge),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(runtime.settings.gateway.allowed_hosts)),
        ],
        exception_handlers=dict.fromkeys((Exception, *problems.EXPECTED), problems.handle),
    )


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


class _Edge:
    """Around every request: an id, security headers, one log line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Request(scope).headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
        started, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({**SECURITY_HEADERS, "X-Request-Id": request_id})
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, sending)
            finally:
                route = scope.get("route")
                _log.info(
                    "request",
                    method=scope["method"],
                    route=getattr(route, "path", "-"),
                    status=status,
                    ms=round((time.perf_counter() - started) * 1000, 1),
                )


async def run_gateway(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. A Redis that is away is said once; requests get 503 until it is back."""
    grace = timedelta(seconds=settings.gateway.grace_seconds)
    async with open_runtime(settings, serve=False) as runtime:
        await runtime.registry.start()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        host = settings.gateway.host
        async with serving(build_app(runtime), host, settings.gateway.port, grace=grace) as port:
            names = [account.name for account in runtime.registry]
            _log.info("answering", url=f"http://{host}:{port}", bus=runtime.bus.address, integrations=names)
            await _say_if_redis_is_away(runtime)
            await stop.wait()
            _log.info("stopping", grace_s=grace.total_seconds())
    _log.info("stopped")


async def _say_if_redis_is_away(runtime: Runtime) -> None:
    try:
        await runtime.bus.check_server()
    except Unavailable as error:
        _log.warning("webhooks and events get 503 until Redis is back", error=str(error))
