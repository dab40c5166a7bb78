"""How the system is: computed, not constant, and cached for a moment so that asking can't hurt third parties.

/livez, /readyz and /api/v1/health are open to everybody, without details. /metrics is open to a caller on this machine
that did not come through a proxy; others need an API key.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Mapping

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from eventbus import EventBusError, Unavailable
from integrations.base import Health
from registry.metrics import MEDIA_TYPE
from service.gateway.answers import ComponentDetail, HealthReport, Ready
from service.gateway.auth import has_key, require_key
from service.wiring import Runtime

CACHE_SECONDS = 2.0
READY_SECONDS = 5.0
_OF_PROXIES = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class HealthRoutes:
    """/livez, /readyz, /metrics and /api/v1/health."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = asyncio.Lock()
        self._known: Mapping[str, Health] = {}
        self._asked_at = float("-inf")

    async def livez(self, _: Request) -> Response:
        """The event loop turns."""
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """What is accepted now can be made durable: Redis answers, or there is a spool for what it does not take.

        Why not is told on this machine and to a key.
        """
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._runtime.bus.check_server()
        except (TimeoutError, Unavailable) as error:
            why = str(error) or f"no answer within {READY_SECONDS:g} s"
            if self._runtime.bus.spools is not None:
                return _json(Ready(ready=True, spooling=True))
        except EventBusError as error:
            why = str(error)
        else:
            return _json(Ready(ready=True))
        is_open = _is_local(request) or self._has_key(request)
        return _json(Ready(ready=False, event_bus=why) if is_open else Ready(ready=False), 503)

    async def health(self, request: Request) -> Response:
        """Each component by name. 503 when the bus itself is unhealthy. Details are for holders of a key."""
        found = await self._components()
        states = {health.state for health in found.values()}
        is_down = found["event_bus"].state == "unhealthy"
        report = HealthReport(
            status="unhealthy" if is_down else "ok" if states == {"healthy"} else "degraded",
            components={name: health.state for name, health in found.items()},
        )
        if self._has_key(request):
            report.details = {
                name: ComponentDetail(detail=health.detail, latency_ms=health.latency_ms)
                for name, health in found.items()
            }
        return _json(report, 503 if is_down else 200)

    async def metrics(self, request: Request) -> Response:
        """The Prometheus text format."""
        if not _is_local(request):
            require_key(request, self._runtime.settings.gateway.api_keys)
        return Response(self._runtime.metrics.exposition(), media_type=MEDIA_TYPE)

    async def measured(self, request: Request) -> Response:
        """What an integration has counted, in the same format: the same here and at every worker."""
        if not _is_local(request):
            require_key(request, self._runtime.settings.gateway.api_keys)
        text = await self._runtime.registry.exposition(request.path_params["integration"])
        return Response(text, media_type=MEDIA_TYPE)

    def _has_key(self, request: Request) -> bool:
        return has_key(request, self._runtime.settings.gateway.api_keys)

    async def _components(self) -> Mapping[str, Health]:
        async with self._lock:
            if time.monotonic() - self._asked_at > CACHE_SECONDS:
                self._known = await self._runtime.registry.health()
                self._asked_at = time.monotonic()
            return self._known


def _json(answer: BaseModel, status: int = 200) -> Response:
    """Without what was not said."""
    return JSONResponse(answer.model_dump(mode="json", exclude_unset=True), status)


def _is_local(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in _OF_PROXIES):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
