"""Deliveries of which nobody knows whether they were made: a person looks at the service and says which it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import get_args

from eventbus import DeadLetter, EventBus
from eventbus.ledger import State
from integrations.base import WHOLE
from integrations.doubts import As, Doubt, Resolved

REASON = "unknown"
"""Of their dead letters."""

SOMEBODY = "a person"

_SAID = "resolved as "


def delivery_key(integration: str, target: str, event_id: str, route: str = "") -> str:
    """The idempotency key of a delivery: one for each target, and for each route that asks something of it."""
    key = f"{integration}:{target}:{event_id}"
    return f"{key}:{route}" if route else key


async def resolve(
    bus: EventBus,
    letter: DeadLetter,
    how: As,
    *,
    routes: Iterable[str] = (),
    reference: str = "",
    url: str = "",
    by: str = SOMEBODY,
) -> bool:
    """Write into the ledger what a person found out, and let the delivery go on: what is done is not done again.

    `routes`: the names of all routes, as each may have made the call. Returns False when the letter, or the doubt, is
    gone: somebody else was faster.
    """
    states = {key: await bus.ledger.state(key) for key in _keys(letter, routes)}
    unknown = [key for key, state in states.items() if state is State.UNKNOWN]
    done = how == "done"
    if done and not unknown and State.DONE not in states.values():
        return False  # its row is not found, as after a route was renamed: redriven, it would be done again
    said = {"outcome": "delivered", "reference": reference or None, "url": url or None, "detail": f"said {by}"}
    for key in unknown:
        await bus.ledger.overrule(key, done=done, result=said if done else {"why": f"said {by}"})
    if not unknown and letter.reason != REASON:
        return False
    if not await bus.dead.redrive(letter):
        return False
    await bus.trail.note(letter.event_id, letter.group, {"outcome": _SAID + how, "detail": f"said {by}", "by": by})
    return True


class Doubts:
    """Calls in doubt, for adapters: `integrations.doubts.Doubts`."""

    def __init__(self, bus: EventBus, routes: Iterable[str]) -> None:
        self._bus = bus
        self._routes = tuple(routes)

    async def newest(self, most: int) -> tuple[Sequence[Doubt], int]:
        """The newest ones, the newest last, and how many there are in all."""
        count, kept = 0, deque[DeadLetter](maxlen=most)
        async for letter in self._bus.dead.find(reasons=[REASON]):
            count += 1
            kept.append(letter)
        return [Doubt(one.id, one.group, one.topic, one.event_id, one.error, one.time) for one in kept], count

    async def resolve(self, doubt_id: str, event_id: str, how: As, by: str) -> Resolved | None:
        """Say what became of one. Returns what holds: this, or what somebody said before; None where nobody knows."""
        letter = await self._bus.dead.get(doubt_id)
        if letter is not None and await resolve(self._bus, letter, how, routes=self._routes, by=by):
            return Resolved(how, by, datetime.now(UTC))
        return await self._said_before(event_id, doubt_id.partition("/")[0])

    async def _said_before(self, event_id: str, group: str) -> Resolved | None:
        for line in reversed(await self._bus.trail.read(event_id)):
            for how in get_args(As):
                if line.get("account") == group and line.get("outcome") == _SAID + how:
                    return Resolved(how, str(line.get("by", SOMEBODY)), datetime.fromisoformat(str(line["at"])))
        return None


def _keys(letter: DeadLetter, routes: Iterable[str]) -> Iterator[str]:
    integration, _, target = letter.group.partition(".")
    for route in ("", *routes):
        yield delivery_key(integration, target or WHOLE, letter.event_id, route)
