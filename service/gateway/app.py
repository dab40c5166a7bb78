"""The application: its routes, and the program around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

import structlog
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventbus import Unavailable
from eventbus.ending import end
from registry.settings import Settings
from service.gateway import operations, problems
from service.gateway.about import About
from service.gateway.api import Api
from service.gateway.auth import require_key
from service.gateway.edge import Edge
from service.gateway.health import HealthRoutes
from service.gateway.log_lines import LogRoutes
from service.gateway.operations import Operation
from service.gateway.webhooks import Webhooks
from service.http import serving
from service.journal import keeping_journal
from service.stopping import stop_on_signals
from service.wiring import Runtime, open_runtime

Handler = Callable[[Request], Awaitable[Response]]

_log = structlog.get_logger("service.gateway")


def build_app(runtime: Runtime) -> Starlette:
    """All routes, those of `operations`. Who may call is decided in the one that runs, never from the path as sent."""
    about, webhooks, api, health = About(runtime), Webhooks(runtime), Api(runtime), HealthRoutes(runtime)
    handlers: Mapping[Operation, Handler] = {
        operations.INDEX: about.index,
        operations.LIVEZ: health.livez,
        operations.READYZ: health.readyz,
        operations.METRICS: health.metrics,
        operations.MEASURED: health.measured,
        operations.HEALTH: health.health,
        operations.OPENAPI: about.openapi,
        operations.INTEGRATIONS: about.integrations,
        operations.INTEGRATION: about.integration,
        operations.WEBHOOK: webhooks.receive,
        operations.PUBLISH: api.publish,
        operations.NOTIFY: api.notify,
        operations.CREATE: api.create,
        operations.PULL_REQUEST: api.create,
        operations.QUERY_LOGS: LogRoutes(runtime).query,
    }
    gateway = runtime.settings.gateway
    app = Starlette(
        routes=[_route(operation, handlers[operation], gateway.api_keys) for operation in operations.OPERATIONS],
        middleware=[Middleware(Edge, allowed_hosts=gateway.allowed_hosts)],
        exception_handlers={HTTPException: problems.answer},
    )
    app.router.redirect_slashes = False  # it would redirect to whatever Host the caller named
    return app


def _route(operation: Operation, handler: Handler, keys: Sequence[SecretStr]) -> Route:
    """The key is asked for before the handler looks at anything."""

    async def for_holders_of_a_key(request: Request) -> Response:
        require_key(request, keys)
        return await handler(request)

    needs_key = operation.access == "key"
    return Route(operation.path, for_holders_of_a_key if needs_key else handler, methods=[operation.method])


async def run_gateway(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. While Redis is away requests are spooled, or get 503 where there is no spool."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    grace = timedelta(seconds=settings.gateway.grace_seconds)
    async with open_runtime(settings, serve=False) as runtime, keeping_journal(runtime.bus, settings):
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
