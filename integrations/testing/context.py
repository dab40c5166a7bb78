"""What an adapter lives on, in memory: for tests and for trying an adapter out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog
from pydantic import JsonValue

from eventbus.tally import MAX_ROWS, Change, Tallied, Tally
from integrations.base import Context, Health, Integration
from integrations.http import Http


class MemoryStore:
    """A `Store` that lasts as long as the object."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[JsonValue, float]] = {}
        self._numbers: dict[str, dict[str, float]] = {}
        self._changed: dict[str, float] = {}  # row to when, the longest ago first
        self._counted: set[str] = set()

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

    async def tally(self, key: str, changes: Sequence[Change], *, most: int = MAX_ROWS, idle: timedelta) -> Tallied:
        if key in self._counted:
            return Tallied(is_new=False)
        self._counted.add(key)
        refused = sum(not self._change(change, min(most, MAX_ROWS), idle.total_seconds()) for change in changes)
        if refused:
            rest = self._numbers.setdefault("", {"refused": 0})
            rest["refused"] += refused
        return Tallied(is_new=True, refused=refused)

    async def tallied(self) -> Tally:
        return {row: dict(parts) for row, parts in self._numbers.items()}

    async def tally_rows(self) -> int:
        return len(self._changed)

    def _change(self, change: Change, most: int, idle: float) -> bool:
        """What tally.lua does."""
        if change.row not in self._numbers and len(self._changed) >= most:
            oldest, at = next(iter(self._changed.items()), ("", float("inf")))
            if at > time.time() - idle:
                return False
            del self._changed[oldest], self._numbers[oldest]
        row = self._numbers.setdefault(change.row, {})
        if change.at is None:
            row.update({name: row.get(name, 0) + number for name, number in change.parts.items()})
        elif (at := min(change.at.timestamp(), time.time()) * 1000) >= row.get("at", 0):
            row.update(change.parts, at=at)
        self._changed.pop(change.row, None)
        self._changed[change.row] = time.time()
        return True


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
