"""Where one event stands with one group: unread, under way, waiting, or done with."""

from __future__ import annotations

from typing import Literal, NamedTuple

from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys

Stand = Literal["unread", "running", "waiting", "ready", "due", "done"]

_PSEUDO: dict[str, Stand] = {"~wait": "waiting", "~ready": "ready", "~due": "due"}
"""The owners that are no consumers; see docs/lifecycle.md."""


class Whereabouts(NamedTuple):
    """`due_ms`: with due, when its next attempt is (Unix time in ms, Redis' clock). done: settled, or a dead letter."""

    stand: Stand
    due_ms: int | None = None


async def whereabouts(connection: Connection, keys: ShardKeys, group: str, entry_id: str) -> Whereabouts | None:
    """The stand of an entry of the log; None when the group does not exist or has no place in the log."""
    rows = await connection.do("XINFO", "GROUPS", keys.log)
    facts = [row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
    place = {one[b"name"].decode(): one[b"last-delivered-id"].decode() for one in facts}.get(group)
    if place is None:
        return None
    if _order(entry_id) > _order(place):
        return Whereabouts("unread")
    pending = await connection.do("XPENDING", keys.log, group, entry_id, entry_id, 1)
    if not pending:
        return Whereabouts("done")
    stand = _PSEUDO.get(pending[0][1].decode(), "running")
    due = await connection.do("ZSCORE", keys.due(group), entry_id) if stand == "due" else None
    return Whereabouts(stand, None if due is None else int(float(due)))


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, part = entry_id.partition("-")
    return int(ms), int(part or 0)
