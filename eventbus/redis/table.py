"""A small durable table: JSON values that an integration wants to remember, and numbers that it counts.

Rows without a lifetime share one hash; a row with a lifetime is a key of its own, so that Redis forgets it in time. The
numbers stand apart from both: see `eventbus.tally`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import JsonValue

from eventbus.ledger import KEEP
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg
from eventbus.tally import MAX_ROWS, Change, Tallied, Tally


class Table:
    """Rows by name. Every method raises our errors (`eventbus.errors`).

    keep  how long the key of a tally is remembered
    """

    def __init__(self, connection: Connection, keys: ShardKeys, name: str, *, keep: timedelta = KEEP) -> None:
        self._connection = connection
        self._hash = keys.store(name)
        self._keys = keys
        self._name = name
        self._keep_ms = int(keep.total_seconds() * 1000)

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

    async def tally(self, key: str, changes: Sequence[Change], *, most: int = MAX_ROWS, idle: timedelta) -> Tallied:
        """Make all the changes in one step, once per key, however often it is asked for.

        Beyond `most` rows a new one takes the place of the row that has not changed for longest, if that is longer than
        `idle`; else its change is refused, the others are made. The key is remembered as long as the ledger keeps what
        was done, which is longer than a delivery is tried.
        """
        args: list[Arg] = [self._keep_ms, min(most, MAX_ROWS), int(idle.total_seconds() * 1000)]
        for change in changes:
            at = "" if change.at is None else int(change.at.timestamp() * 1000)
            args += [change.row, at, ";".join(f"{name}={number!r}" for name, number in change.parts.items())]
        is_new, refused = await self._connection.run("tally", self._keys.tally(self._name, key), args)
        return Tallied(bool(is_new), refused)

    async def tallied(self) -> Tally:
        """Every row. The row of the empty name holds, as `refused`, how many changes found no room."""
        raw = await self._connection.do("HGETALL", self._keys.tally(self._name)[0])
        return await asyncio.to_thread(_tally, raw)  # of many rows it takes a second, in which others shall go on

    async def tally_rows(self) -> int:
        """How many rows changes have made: all of `tallied` but that of the empty name."""
        return int(await self._connection.do("ZCARD", self._keys.tally(self._name)[1]))


def _tally(raw: Any) -> Tally:
    """What HGETALL answers."""
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    return {row.decode(): _parts(text.decode()) for row, text in pairs}


def _parts(text: str) -> Mapping[str, float]:
    """What tally.lua writes."""
    return {name: float(number) for name, _, number in (part.partition("=") for part in text.split(";"))}


def _written(value: JsonValue) -> str:
    return json.dumps(value, separators=(",", ":"))
