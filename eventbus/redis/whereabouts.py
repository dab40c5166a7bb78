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
    found = await connection.run("stand", [keys.log, keys.due(group)], [group, entry_id])
    if not found:
        return None
    place, owner, due = (part.decode() for part in found)
    if _order(entry_id) > _order(place):
        return Whereabouts("unread")
    if not owner:
        return Whereabouts("done")
    return Whereabouts(_PSEUDO.get(owner, "running"), int(float(due)) if due else None)


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, part = entry_id.partition("-")
    return int(ms), int(part or 0)
