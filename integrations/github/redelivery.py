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

from integrations.base import Recovered, Store
from integrations.errors import IntegrationError, NotReady
from integrations.github.client import Client

APP_HOOK = "/app/hook"
"""The path of a GitHub App's own webhook."""
KEPT = timedelta(days=3)
"""docs.github.com/webhooks, "Redelivering webhooks": only deliveries of the past 3 days."""
SETTLE = timedelta(minutes=2)
"""A younger delivery may be under way still: GitHub waits 10 s for an answer, and the event is published meanwhile."""
PATIENCE = (SETTLE, timedelta(minutes=10), timedelta(hours=1), timedelta(hours=4), timedelta(hours=12))
"""How long after its newest attempt a webhook that failed once, twice, ... is asked for by the clock: 17 hours in all,
of the three days that GitHub keeps it. What failed once more than that fails for a reason, and is left to people."""
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
    waiting   failed before, and asked for again later
    given_up  failed more often than PATIENCE has it
    error     why it ended early; empty: it did not
    """

    seen: int = 0
    asked: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Missed:
    """A webhook that did not reach us: its newest attempt, and how many there were."""

    newest: Tried
    attempts: int

    def is_due(self, now: datetime) -> bool:
        """Whether it has been left alone for long enough."""
        return self.newest.at <= now - PATIENCE[min(self.attempts, len(PATIENCE)) - 1]


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


async def redeliver(client: Client, hook: str, roll: Roll, since: datetime, *, patiently: bool = False) -> Redelivered:
    """Ask for what `hook` failed to deliver since then, at most three days ago. `hook`: its path below the API's.

    patiently  what failed before is left alone for a while, and given up in the end; a person's wish is asked at once

    Raises IntegrationError when the record can't be read. A refusal while asking ends it, see `Redelivered.error`.
    """
    now = datetime.now(UTC)
    rows = await client.deliveries(hook, max(since, now - KEPT))
    tried = [Tried.read(row) for row in rows]
    lost = await missed(tried, roll.lacks, now)
    given_up = [one for one in lost if patiently and one.attempts > len(PATIENCE)]
    waiting = [one for one in lost if patiently and one not in given_up and not one.is_due(now)]
    worth = [one for one in lost if one not in given_up and one not in waiting]
    asked: list[Missed] = []
    error = ""
    for one in worth[:MOST]:
        try:
            await client.deliver_again(hook, one.newest.id)
        except IntegrationError as refused:
            error = refused.detail
            break
        asked.append(one)
    seen = len({one.guid for one in tried})
    return Redelivered(seen, _names(asked), _names(worth[len(asked) :]), _names(waiting), _names(given_up), error)


def sum_up(reports: Iterable[Redelivered]) -> Recovered:
    """What came of all hooks together, in a sentence. Raises NotReady with it where a refusal ended one early."""
    reports = list(reports)
    asked, left, waiting, given_up = (
        sum(len(getattr(report, part)) for report in reports) for part in ("asked", "left", "waiting", "given_up")
    )
    said = f"{sum(report.seen for report in reports):,} webhooks on record, {asked:,} asked for again"
    more = {"left for the next look": left, "asked for again later": waiting, "given up": given_up}
    said += "".join(f", {count:,} {words}" for words, count in more.items() if count)
    errors = [report.error for report in reports if report.error]
    if errors:
        raise NotReady(f"{said}; broken off: {'; '.join(errors)}")
    return Recovered(asked, left, said)


def _names(webhooks: Iterable[Missed]) -> tuple[str, ...]:
    return tuple(one.newest.guid for one in webhooks)


def hook_path(hook: str) -> str:
    """`owner/repo/ID` and `organisation/ID` of the settings, as a path of the API."""
    owner, _, rest = hook.partition("/")
    repo, _, number = rest.rpartition("/")
    return f"/repos/{owner}/{repo}/hooks/{number}" if repo else f"/orgs/{owner}/hooks/{number}"
