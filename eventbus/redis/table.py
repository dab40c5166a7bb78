"""A small durable table of JSON values: what an integration wants to remember.

Rows without a lifetime share one hash; a row with a lifetime is a key of its own, so that Redis forgets it in time.
"""

from __future__ import annotations

import json
from datetime import timedelta

from pydantic import JsonValue

from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys


class Table:
    """Rows by name. Every method raises our errors (`eventbus.errors`)."""

    def __init__(self, connection: Connection, keys: ShardKeys, name: str) -> None:
        self._connection = connection
        self._hash = keys.store(name)

    def _row(self, name: str) -> str:
        return f"{self._hash}:{name}"

    async def get(self, name: str) -> JsonValue:
        """The value, or None."""
        raw = await self._connection.do("HGET", self._hash, name)
        if raw is None:
            raw = await self._connection.do("GET", self._row(name))
        return None if raw is None else json.loads(raw)

    async def put(self, name: str, value: JsonValue, *, lifetime: timedelta | None = None) -> None:
        """Write a row. `items` does not list rows with a lifetime."""
        text = _written(value)
        if lifetime is None:
            await self._connection.do("HSET", self._hash, name, text)
        else:
            await self._connection.do("SET", self._row(name), text, "PX", int(lifetime.total_seconds() * 1000))
            await self._connection.do("HDEL", self._hash, name)  # where `get` looks first

    async def swap(self, name: str, old: JsonValue, new: JsonValue, *, lifetime: timedelta) -> bool:
        """Write a row with a lifetime, if it still holds `old` as `get` returned it; None stands for no row.

        Returns False, and changes nothing, when somebody else was faster.
        """
        texts = ["" if value is None else _written(value) for value in (old, new)]
        kept = int(lifetime.total_seconds() * 1000)
        return bool(await self._connection.run("swap", [self._row(name)], [*texts, kept]))

    async def delete(self, name: str) -> None:
        """Forget a row."""
        await self._connection.do("HDEL", self._hash, name)
        await self._connection.do("DEL", self._row(name))

    async def items(self, prefix: str) -> dict[str, JsonValue]:
        """The rows without a lifetime whose names begin with the prefix."""
        raw = await self._connection.do("HGETALL", self._hash)
        pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
        rows = {name.decode(): value for name, value in pairs}
        return {name: json.loads(rows[name]) for name in sorted(rows) if name.startswith(prefix)}


def _written(value: JsonValue) -> str:
    return json.dumps(value, separators=(",", ":"))
