"""What keeps an integration from working: its settings, its service, its place on the bus. Changes nothing.

The questions to the service are the adapter's (`Examined`); here are those that every integration is asked alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

from eventbus import EventBus, EventBusError
from eventbus.gate import Turn
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Backlog
from eventbus.redis.survey import look
from integrations.base import HEALTH_SECONDS, Budget, Examined, Finding, Health
from integrations.errors import IntegrationError
from registry.account import Account
from registry.act import contained
from registry.judgement import describe
from registry.unknown import REASON as IN_DOUBT
from service.wiring import Runtime

EXAMINE_SECONDS = 60.0
BEHIND = timedelta(minutes=5)
"""An older unfinished event is worth a word."""
MOST_LETTERS = 1000
"""More dead letters are not counted."""

_NO_TIME = timedelta()


async def examine(runtime: Runtime, name: str) -> list[Finding]:
    """All findings about an integration. `runtime.registry` was started. Raises UnknownIntegration."""
    account = runtime.registry.get(name)
    found = list(_settings(account))
    if account.fault is None:
        found += _without_echo(await _service(account), await _closely(account))
    try:
        found += [one async for one in _on_the_bus(runtime, account)]
    except EventBusError as error:
        found.append(Finding("bus", "fail", str(error), "eventbus doctor"))
    return found


async def workers(address: str) -> dict[str, int] | None:
    """How many workers serve each group; None where that can't be known, as for a bus in memory."""
    if address.startswith("memory:"):
        return None
    connection = await Connection.open(address)
    try:
        survey = await look(connection, ShardKeys())
    finally:
        await connection.close()
    if survey is None:
        return None
    return {group.name: sum(one.is_alive for one in group.readers) for group in survey.groups}


# -- what it is told ---------------------------------------------------------------------------------------------------


def _settings(account: Account) -> Iterator[Finding]:
    if account.fault is not None:
        yield Finding("settings", "fail", account.fault, "correct the settings; eventbus config check FILE")
        return
    yield Finding("settings", "ok", "valid, and the adapter is ready")
    if account.dry_run:
        yield Finding("dry_run", "warn", "it says what it would do, and does nothing", "remove dry_run")
    budgets = account.adapter.manifest.budgets
    if budgets and not account.paced:
        fix = "remove `paced: false` unless the service is your own"
        yield Finding("budgets", "warn", "calls are not spaced by the service's limits", fix)
    elif budgets:
        yield Finding("budgets", "ok", "; ".join(map(_budget, budgets)))


def _budget(budget: Budget) -> str:
    place = "" if budget.each == "account" else " for each place"
    return f"{budget.name}: {budget.count:,} in {budget.per.total_seconds():g} s{place}"


# -- its service -------------------------------------------------------------------------------------------------------


async def _service(account: Account) -> Finding:
    try:
        async with asyncio.timeout(HEALTH_SECONDS + 1):
            health = await contained(account.adapter.health(), account.redact)
    except Exception as error:  # noqa: BLE001  an adapter may raise anything
        health = Health("unhealthy", describe(error))
    said, fix = health.detail or health.state, "see the findings below, and the service's status page"
    if health.state == "healthy":
        return Finding("service", "ok", said)
    return Finding("service", "warn" if health.state == "degraded" else "fail", said, fix)


def _without_echo(service: Finding, closer: list[Finding]) -> list[Finding]:
    """All of them, but not the service's health where the adapter itself says the same, with a better level and fix."""
    return closer if any(one.what == service.what for one in closer) else [service, *closer]


async def _closely(account: Account) -> list[Finding]:
    if not isinstance(account.adapter, Examined):
        return []
    try:
        async with asyncio.timeout(EXAMINE_SECONDS):
            return list(await contained(account.adapter.examine(), account.redact))
    except (IntegrationError, EventBusError, TimeoutError) as error:
        return [Finding("examination", "fail", describe(error), "ask again; eventbus doctor looks at Redis")]
    except Exception as error:  # noqa: BLE001  the same
        return [Finding("examination", "fail", describe(error), "tell the maker of the adapter")]


# -- its place on the bus ----------------------------------------------------------------------------------------------


async def _on_the_bus(runtime: Runtime, account: Account) -> AsyncIterator[Finding]:
    bus, routing = runtime.bus, runtime.settings.routing
    serving = await workers(runtime.settings.events.url.get_secret_value())
    for group, _ in account.targets(routing):
        turn = await bus.gate.enter(group, (), probe=_NO_TIME)  # books nothing, and no probe
        yield _breaker(group, turn)
        yield _progress(group, await bus.backlog(group), None if serving is None else serving.get(group, 0))
        async for finding in _letters(bus, group):
            yield finding


def _breaker(group: str, turn: Turn) -> Finding:
    about, wait = f"breaker of {group}", f"{turn.after.total_seconds():.0f} s"
    if turn.kind == "open":
        fix = "mend what the service or its credentials lack; its one probe closes it"
        return Finding(about, "fail", f"open: it keeps failing and is left alone, for {wait} more", fix)
    if turn.kind == "probe":
        return Finding(
            about, "warn", "left alone so far: the next call tries whether it works again", "see what the others say"
        )
    if turn.kind == "floor":
        return Finding(about, "warn", f"the service asked us to wait, for {wait} more", "nothing: it goes on by itself")
    return Finding(about, "ok", "closed")


def _progress(group: str, backlog: Backlog | None, serving: int | None) -> Finding:
    about = f"events of {group}"
    if backlog is None:
        return Finding(about, "warn", "no worker has ever served it", "start one: eventbus worker")
    behind = timedelta(milliseconds=backlog.oldest_ms)
    what = f"{backlog.left:,} not finished" + (f", the oldest for {behind.total_seconds():.0f} s" if behind else "")
    if serving == 0:
        return Finding(about, "fail", f"no worker serves it; {what}", "start one: eventbus worker")
    if behind > BEHIND:
        return Finding(about, "warn", what, "eventbus groups list; eventbus explain EVENT_ID says why one waits")
    return Finding(about, "ok", what)


async def _letters(bus: EventBus, group: str) -> AsyncIterator[Finding]:
    """Calls in doubt wait for a person, and so does what was given up."""
    unknown = dead = 0
    async for letter in bus.dead.find(groups=[group]):
        unknown, dead = unknown + (letter.reason == IN_DOUBT), dead + (letter.reason != IN_DOUBT)
        if unknown + dead >= MOST_LETTERS:
            break
    if unknown:
        what = f"{unknown:,} calls of which nobody knows whether they were made"
        yield Finding(f"doubts of {group}", "warn", what, "eventbus unknown list")
    if dead:
        fix = f"eventbus dead list --group {group}"
        yield Finding(f"dead letters of {group}", "warn", f"{dead:,} deliveries were given up", fix)
    if not unknown and not dead:
        yield Finding(f"dead letters of {group}", "ok", "none, and no call in doubt")
