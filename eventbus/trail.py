"""The trail of an event: what integrations did about it, one line for each step, oldest first.

For people who ask what happened; nothing is decided by it. It is bounded in lines, in bytes and in time, and a line
that can't be written is lost, with a warning: an attempt never fails because nobody could write it down.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta

import structlog
from pydantic import JsonValue

from eventbus.errors import EventBusError
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys

MAX_LINES = 200
MAX_LINE_BYTES = 16 * 1024

_log = structlog.get_logger("eventbus")


class Trail:
    """The trails of all events."""

    def __init__(self, connection: Connection, keys: ShardKeys, *, keep: timedelta) -> None:
        self._connection = connection
        self._keys = keys
        self._keep_ms = int(keep / timedelta(milliseconds=1))

    async def note(self, event_id: str, line: Mapping[str, JsonValue]) -> None:
        """Add a line. One that is too long loses its `requests`."""
        text = json.dumps(line, separators=(",", ":"))
        if len(text) > MAX_LINE_BYTES:
            text = json.dumps({**line, "requests": []}, separators=(",", ":"))[:MAX_LINE_BYTES]
        try:
            await self._connection.run("note", [self._keys.trail(event_id)], [text, MAX_LINES, self._keep_ms])
        except EventBusError as error:
            _log.warning("not written to the trail", event_id=event_id, error=str(error))

    async def read(self, event_id: str) -> list[dict[str, JsonValue]]:
        """All lines. Raises our errors (`eventbus.errors`)."""
        lines = await self._connection.do("LRANGE", self._keys.trail(event_id), 0, -1)
        return [json.loads(line) for line in lines]
