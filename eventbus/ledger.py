"""The ledger: what was done for which key, so that a repeat does nothing.

Before an action leaves, its intent is written; after it, its result. An intent without a result means that nobody
knows how the action ended: the caller must find out before it acts again. Writes that belong to a delivery are fenced
by it: a worker that lost the delivery gets no permission to act.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from eventbus.errors import OutcomeUnknown
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg
from eventbus.subscription import Attempt

KEEP = timedelta(days=30)
ABANDONED = timedelta(minutes=2)
MAX_RESULT_BYTES = 4096
MAX_WHY = 500


class Permission(StrEnum):
    """May the action be done?"""

    GO = "go"  # nobody did it
    DONE = "done"  # done before: here is the result
    UNKNOWN = "unknown"  # meant to be done before, outcome not noted: find out first
    CONFLICT = "conflict"  # the key stands for another content
    BUSY = "busy"  # somebody is at it right now
    FENCED = "fenced"  # the delivery is no longer ours


class State(StrEnum):
    """How an action stands."""

    INTENT = "intent"  # under way, or cut off
    DONE = "done"
    RETRY = "retry"  # surely not done, to be tried again
    FAILED = "failed"  # refused for good
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """One action's row as it was found. `conclude` it when the permission was GO or UNKNOWN."""

    permission: Permission
    result: dict[str, Any] | None
    row: str
    who: str
    fingerprint: str


class Ledger:
    """The rows of actions, in Redis."""

    def __init__(self, connection: Connection, keys: ShardKeys, *, keep: timedelta = KEEP) -> None:
        self._connection = connection
        self._keys = keys
        self.keep = keep
        self._keep_ms = int(keep.total_seconds() * 1000)

    async def intend(self, key: str, content: bytes, attempt: Attempt | None = None) -> Entry:
        """Ask for permission and note the intent, in one step. `content` is what the key stands for."""
        who = secrets.token_hex(8)
        row = self._keys.done_alone(key) if attempt is None else self._keys.done(key)
        fingerprint = hashlib.blake2b(content, digest_size=16).hexdigest()
        fence: tuple[str | int, ...] = ("", "", "", "")
        if attempt is not None:
            fence = (attempt.group, attempt.entry_id, attempt.consumer, attempt.fence)
        # An action with a key of its own lives outside the shard; its script must not name a key of another slot.
        names = [row, row if attempt is None else self._keys.log]
        reply = await self._connection.run(
            "intend", names, [fingerprint, who, int(ABANDONED.total_seconds() * 1000), *fence]
        )
        found = reply[1] if len(reply) > 1 else None
        return Entry(Permission(reply[0].decode()), json.loads(found) if found else None, row, who, fingerprint)

    async def is_ours(self, attempt: Attempt) -> bool:
        """Whether the delivery still belongs to this attempt."""
        fence: list[Arg] = [attempt.group, attempt.entry_id, attempt.consumer, attempt.fence]
        return bool(await self._connection.run("ours", [self._keys.log], fence))

    async def done(self, entry: Entry, result: dict[str, Any]) -> None:
        """The action happened, with this result."""
        text = _json(result)
        if len(text) > MAX_RESULT_BYTES:
            raise ValueError(f"a ledger result has {MAX_RESULT_BYTES} bytes at most, this one {len(text)}")
        await self._conclude(entry, "done", text)

    async def not_done(self, entry: Entry, why: str = "", *, for_good: bool = False) -> None:
        """The action surely did not happen; the next one may go ahead. `for_good`: the service refused it."""
        await self._conclude(entry, "failed" if for_good else "retry", _json({"why": why[:MAX_WHY]}))

    async def nothing(self, entry: Entry) -> None:
        """There was nothing to do; no row is left."""
        await self._conclude(entry, "open", "")

    async def unknown(self, entry: Entry) -> None:
        """Nobody can say whether the action happened."""
        await self._conclude(entry, "unknown", "")

    async def state(self, key: str) -> State | None:
        """How the action of an event stands, None when nobody tried it."""
        state = await self._connection.do("HGET", self._keys.done(key), "state")
        return None if state is None else State(state.decode())

    async def overrule(self, key: str, *, done: bool, result: dict[str, Any]) -> bool:
        """A person found out what nobody knew: it was `done`, or it was not and may be done again.

        False when the outcome of this action of an event is not unknown.
        """
        state = "done" if done else "retry"
        args: list[Arg] = [state, _json(result), self._keep_ms]
        return bool(await self._connection.run("overrule", [self._keys.done(key)], args))

    async def _conclude(self, entry: Entry, state: str, result: str) -> None:
        for last in (False, True):  # one lost reply is bridged; the write is the same however often it is made
            try:
                await self._connection.run(
                    "conclude", [entry.row], [entry.who, state, result, self._keep_ms, entry.fingerprint]
                )
            except OutcomeUnknown:
                if last:
                    raise
            else:
                return


def _json(result: dict[str, Any]) -> str:
    return json.dumps(result, separators=(",", ":"))
