"""The journal: the newest log lines of all programs, in bounded Redis streams.

There are two: all lines, and warnings once more, so that what goes well can't push out what went wrong. Bytes in, bytes
out: what a line says and who may ask for it is the programs' business (`service/journal.py`, `service/log_lines.py`).
Its order is that in which lines arrived, by the server's clock; a line that has to make room is gone. Nothing is
decided by it, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg

START = "0-0"


class Said(NamedTuple):
    """A line, and whether it is a warning or worse."""

    line: bytes
    is_warning: bool = False


class Kept(NamedTuple):
    """A line and its place in the journal."""

    place: str
    line: bytes


class Journal:
    """The journal of a namespace. Every method raises our errors (`eventbus.errors`)."""

    def __init__(self, connection: Connection, keys: ShardKeys) -> None:
        self._connection = connection
        self._keys = [keys.journal, keys.warnings]

    async def append(self, said: Sequence[Said], *, keep: int) -> None:
        """Add lines, in their order; of all there are then, the newest `keep` stay, and as many warnings."""
        parts: list[Arg] = [keep]
        for one in said:
            parts += (int(one.is_warning), one.line)
        await self._connection.run("journal", self._keys, parts)

    async def before(
        self, place: str | None, *, warnings: bool = False, since: datetime | None = None, most: int
    ) -> list[Kept]:
        """Up to `most` lines before this place, or the newest; the newest first.

        `warnings`: of these alone; places are the same. `since`: arrived then or later.
        """
        end = "+" if place is None else f"({place}"
        start = "-" if since is None else str(max(0, int(since.timestamp() * 1000)))
        return _kept(await self._connection.do("XREVRANGE", self._keys[warnings], end, start, "COUNT", most))

    async def after(self, place: str, *, warnings: bool = False, most: int) -> list[Kept]:
        """Up to `most` lines after this place, the oldest first."""
        return _kept(await self._connection.do("XRANGE", self._keys[warnings], f"({place}", "+", "COUNT", most))


def _kept(rows: list[tuple[bytes, dict[bytes, bytes] | list[bytes]]] | None) -> list[Kept]:
    """What redis-py returns: the fields of an entry are a dict with RESP2 and a list with RESP3."""
    return [Kept(place.decode(), _line(fields)) for place, fields in rows or ()]


def _line(fields: dict[bytes, bytes] | list[bytes]) -> bytes:
    return next(iter(fields.values()), b"") if isinstance(fields, dict) else fields[1]
