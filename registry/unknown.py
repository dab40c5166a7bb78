"""Deliveries of which nobody knows whether they were made: a person looks at the service and says which it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal

from eventbus import DeadLetter, EventBus
from eventbus.ledger import State

REASON = "unknown"
"""Of their dead letters."""

As = Literal["done", "resend"]


def delivery_key(integration: str, target: str, event_id: str, route: str = "") -> str:
    """The idempotency key of a delivery: one for each target, and for each route that asks something of it."""
    key = f"{integration}:{target}:{event_id}"
    return f"{key}:{route}" if route else key


async def resolve(
    bus: EventBus, letter: DeadLetter, how: As, *, routes: Iterable[str] = (), reference: str = "", url: str = ""
) -> bool:
    """Write into the ledger what a person found out, and let the delivery go on: what is done is not done again.

    `routes`: the names of all routes, as each may have made the call. Returns False when the letter, or the doubt, is
    gone: somebody else was faster.
    """
    unknown = [key for key in _keys(letter, routes) if await bus.ledger.state(key) is State.UNKNOWN]
    done = how == "done"
    said = {"outcome": "delivered", "reference": reference or None, "url": url or None, "detail": "said a person"}
    for key in unknown:
        await bus.ledger.overrule(key, done=done, result=said if done else {"why": "said a person"})
    if not unknown and letter.reason != REASON:
        return False
    if not await bus.dead.redrive(letter):
        return False
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    await bus.trail.note(letter.event_id, {"at": at, "account": letter.group, "outcome": f"resolved as {how}"})
    return True


def _keys(letter: DeadLetter, routes: Iterable[str]) -> Iterator[str]:
    integration, _, target = letter.group.partition(".")
    for route in ("", *routes):
        yield delivery_key(integration, target or "default", letter.event_id, route)
