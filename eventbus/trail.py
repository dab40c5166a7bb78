"""The trail of an event: what integrations did about it, one line for each step, oldest first.

For people who ask what happened; nothing is decided by it. It is bounded in lines, in bytes and in time, and a line
that can't be written is lost, with a warning: an attempt never fails because nobody could write it down. What repeats,
such as waiting for a service that is away, is one line with a count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import JsonValue

from eventbus.errors import EventBusError
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys

MAX_LINES = 200
MAX_LINE_BYTES = 16 * 1024
MAX_TEXT = 1_000

OF_EACH = ("latency_ms", "requests")
"""What differs between lines that say the same; of repeats the newest is kept."""

_log = structlog.get_logger("eventbus")


class Trail:
    """The trails of all events."""

    def __init__(self, connection: Connection, keys: ShardKeys, *, keep: timedelta) -> None:
        self._connection = connection
        self._keys = keys
        self._keep_ms = int(keep / timedelta(milliseconds=1))

    async def note(self, event_id: str, account: str, line: Mapping[str, JsonValue], *, route: str = "") -> None:
        """Add what an account did just now, by a route if there is one. A line that is too long loses its `requests`.

        One that says the same as the last line of this account and route is counted there: its `times` grow, and
        `until` is the time of the last.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        parts = [*_parts(account, route, line, at), str(MAX_LINES), str(self._keep_ms)]
        try:
            await self._connection.run("note", [self._keys.trail(event_id)], parts)
        except EventBusError as error:
            _log.warning("not written to the trail", event_id=event_id, error=str(error))

    async def read(self, event_id: str) -> list[dict[str, JsonValue]]:
        """All lines, each with `account`, `route`, `at` and `times`. Raises our errors (`eventbus.errors`)."""
        lines = await self._connection.do("LRANGE", self._keys.trail(event_id), 0, -1)
        return [json.loads(line) for line in lines]


def _parts(account: str, route: str, line: Mapping[str, JsonValue], at: str) -> tuple[str, str, str, str]:
    """A line as JSON in the parts that note.lua tells apart: whose, what, when, and the rest."""
    cut = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in line.items()}
    whose = _open({"account": account, "route": route})
    said = _more({name: value for name, value in cut.items() if name not in OF_EACH})
    rest = _more({name: cut[name] for name in OF_EACH if name in cut})
    if len(whose) + len(said) + len(rest) > MAX_LINE_BYTES:
        rest = ""
    return whose, said, at, rest + "}"


def _open(facts: Mapping[str, JsonValue]) -> str:
    """A JSON object without its end."""
    return json.dumps(facts, separators=(",", ":"))[:-1]


def _more(facts: Mapping[str, JsonValue]) -> str:
    """These facts as they stand behind others in an object."""
    return "," + _open(facts)[1:] if facts else ""
