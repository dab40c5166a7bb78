"""How the system is: computed, not constant, and cached for a moment so that asking can't hurt third parties."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from eventbus import EventBusError
from integrations.base import Health
from service.gateway.auth import has_key, require_key
from service.wiring import Runtime

CACHE_SECONDS = 2.0


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

    async def readyz(self, _: Request) -> Response:
        """Redis answers: what is accepted now can be made durable."""
        try:
            await self._runtime.bus.check_server()
        except EventBusError as error:
            return JSONResponse({"ready": False, "event_bus": str(error)}, 503)
        return JSONResponse({"ready": True})

    async def health(self, request: Request) -> Response:
        """Each component by name. 503 when the bus itself is unhealthy. Details are for holders of a key."""
        found = await self._components()
        states = {health.state for health in found.values()}
        down = found["event_bus"].state == "unhealthy"
        status = "unhealthy" if down else "ok" if states == {"healthy"} else "degraded"
        body: dict[str, object] = {
            "status": status,
            "components": {name: health.state for name, health in found.items()},
        }
        if has_key(request, self._runtime.settings.gateway.api_keys):
            body["details"] = {
                name: {"detail": health.detail, "latency_ms": health.latency_ms} for name, health in found.items()
            }
        return JSONResponse(body, 503 if down else 200)

    async def metrics(self, request: Request) -> Response:
        """The Prometheus text format. Open to this machine; others need a key."""
        if not _is_local(request):
            require_key(request, self._runtime.settings.gateway.api_keys)
        return Response(self._runtime.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _components(self) -> Mapping[str, Health]:
        async with self._lock:
            if time.monotonic() - self._asked_at > CACHE_SECONDS:
                self._known = await self._runtime.registry.health()
                self._asked_at = time.monotonic()
            return self._known


def _is_local(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
