"""Webhooks that never reached us: finds them in GitHub's own record and asks for them again.

GitHub never repeats a delivery by itself and forgets it after three days (docs.github.com/webhooks, "Handling failed
webhook deliveries", "Redelivering webhooks"). One that failed is asked for again; and so is one that GitHub counts as
delivered and of which our `Roll` knows nothing: a proxy answered it, or Redis lost it. A repeat has the same GUID, so
the bus publishes nothing twice, whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.base import Store
from integrations.errors import IntegrationError
from integrations.github.client import Client

KEPT = timedelta(days=3)
"""docs.github.com/webhooks, "Redelivering webhooks": only deliveries of the past 3 days."""
SETTLE = timedelta(minutes=2)
"""A younger delivery may be under way still: GitHub waits 10 s for an answer, and the event is published meanwhile."""
MAX_ATTEMPTS = 6
"""Of one webhook, the first included: what fails so often fails for a reason."""
MOST = 100
"""How many are asked for in one go: "secondary rate limits" count 5 points for each and allow 900 a minute."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt at a webhook, as GitHub recorded it."""

    id: int
    guid: str
    at: datetime
    status: int
    event: str

    @classmethod
    def read(cls, row: dict[str, Any]) -> Tried:
        """From a row of the list."""
        at = datetime.fromisoformat(row["delivered_at"])
        return cls(int(row["id"]), str(row["guid"]), at, int(row["status_code"]), str(row["event"]))

    @property
    def arrived(self) -> bool:
        """Whether somebody took it; "OK" is 200 to 299."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Redelivered:
    """What a look at GitHub's record came to; the names are the webhooks' GUIDs.

    seen      how many webhooks the record holds for that time
    asked     asked for again
    left      missed too, for the next time: only so many are asked for in one go, or `error` came between
    given_up  failed MAX_ATTEMPTS times
    error     why it ended early; empty: it did not
    """

    seen: int = 0
    asked: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Missed:
    """A webhook that did not reach us: its newest attempt, and how many there were."""

    newest: Tried
    attempts: int


class Roll:
    """The webhooks that reached us, by GUID, for as long as GitHub could repeat them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun = False

    async def note(self, guid: str, at: float) -> None:
        """It reached us at this time, in Unix seconds."""
        if not self._begun and await self._store.get("roll") is None:
            await self._store.put("roll", at)
        self._begun = True
        await self._store.put(f"seen:{guid}", True, lifetime=KEPT + timedelta(hours=1))

    async def lacks(self, tried: Tried) -> bool:
        """Whether it would have been noted and was not. Before the roll began, nobody knows."""
        begun = await self._store.get("roll")
        if not isinstance(begun, int | float) or tried.at.timestamp() <= begun:
            return False
        return await self._store.get(f"seen:{tried.guid}") is None


async def missed(tried: Iterable[Tried], lacks: Callable[[Tried], Awaitable[bool]], now: datetime) -> list[Missed]:
    """The webhooks that did not reach us, oldest first. What was tried a moment ago is left alone."""
    webhooks: dict[str, list[Tried]] = {}
    for one in tried:
        webhooks.setdefault(one.guid, []).append(one)
    found = []
    for attempts in webhooks.values():
        newest = max(attempts, key=lambda one: one.at)
        if newest.at > now - SETTLE:
            continue
        taken = [one for one in attempts if one.arrived]
        if not taken or await lacks(taken[0]):
            found.append(Missed(newest, len(attempts)))
    return sorted(found, key=lambda one: one.newest.at)


async def redeliver(client: Client, hook: str, roll: Roll, since: datetime) -> Redelivered:
    """Ask for what `hook` failed to deliver since then, at most three days ago. `hook`: its path below the API's.

    Raises IntegrationError when the record can't be read. A refusal while asking ends it, see `Redelivered.error`.
    """
    now = datetime.now(UTC)
    rows = await client.deliveries(hook, max(since, now - KEPT))
    tried = [Tried.read(row) for row in rows]
    lost = await missed(tried, roll.lacks, now)
    worth = [one for one in lost if one.attempts < MAX_ATTEMPTS]
    asked: list[str] = []
    error = ""
    for one in worth[:MOST]:
        try:
            await client.deliver_again(hook, one.newest.id)
        except IntegrationError as refused:
            error = refused.detail
            break
        asked.append(one.newest.guid)
    left = tuple(one.newest.guid for one in worth[len(asked) :])
    given_up = tuple(one.newest.guid for one in lost if one.attempts >= MAX_ATTEMPTS)
    return Redelivered(len({one.guid for one in tried}), tuple(asked), left, given_up, error)


def hook_path(hook: str) -> str:
    """`owner/repo/ID` and `organisation/ID` of the settings, as a path of the API."""
    owner, _, rest = hook.partition("/")
    repo, _, number = rest.rpartition("/")
    return f"/repos/{owner}/{repo}/hooks/{number}" if repo else f"/orgs/{owner}/hooks/{number}"
