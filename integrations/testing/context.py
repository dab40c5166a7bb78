"""What an adapter lives on, in memory: for tests and for trying an adapter out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog
from pydantic import JsonValue

from integrations.base import Context, Health, Integration
from integrations.http import Http


class MemoryStore:
    """A `Store` that lasts as long as the object."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[JsonValue, float]] = {}

    async def get(self, name: str) -> JsonValue:
        value, until = self._rows.get(name, (None, 0.0))
        return value if until > time.monotonic() else None

    async def put(self, name: str, value: JsonValue, *, lifetime: timedelta | None = None) -> None:
        until = float("inf") if lifetime is None else time.monotonic() + lifetime.total_seconds()
        self._rows[name] = (value, until)

    async def delete(self, name: str) -> None:
        self._rows.pop(name, None)

    async def items(self, prefix: str) -> dict[str, JsonValue]:
        now = time.monotonic()
        return {n: value for n, (value, until) in self._rows.items() if n.startswith(prefix) and until > now}


def make_context(
    adapter: type[Integration[Any]],
    settings: Mapping[str, Any],
    *,
    http: Http | None = None,
    components: Mapping[str, Health] | None = None,
) -> Context[Any]:
    """A context with these settings, validated as the registry would."""
    known = dict(components or {})

    async def how_everything_is() -> Mapping[str, Health]:
        return known

    name = adapter.manifest.name
    return Context(
        name=name,
        config=adapter.manifest.config.model_validate(dict(settings)),
        http=http or Http(timeout=timedelta(seconds=5)),
        store=MemoryStore(),
        log=structlog.get_logger().bind(integration=name),
        components=how_everything_is,
    )
