"""Lost webhooks by the clock: workers have each integration that can ask its service for them do so, once a period.

There is no leader: whoever finds its turn at the integration's gate takes it, for all workers. While the service has
asked us to wait, or its breaker is open, nobody's turn comes. By hand it is `eventbus integrations recover`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from eventbus import EventBus, EventBusError
from eventbus.gate import Cost
from integrations.base import Recovers
from registry.account import Account
from registry.act import contained
from registry.judgement import describe
from registry.registry import Registry

LOOK_SECONDS = 15.0
NO_TIME = timedelta()
AT_FIRST = timedelta(days=30)
"""How far back a process looks the first time: everything may have been down. A service that keeps less says less."""
THEN = timedelta(days=1)
AGAIN = timedelta(minutes=1)
"""Between two looks while some are left over: what a service takes at once, it takes again a minute later."""

_log = structlog.get_logger("service.recovery")


async def keep_recovering(bus: EventBus, registry: Registry) -> None:
    """Look for lost webhooks of every account that can, for ever."""
    async with asyncio.TaskGroup() as accounts:
        for account in registry:
            accounts.create_task(_keep(bus, account), name=f"recovery {account.name}")


async def _keep(bus: EventBus, account: Account) -> None:
    name, adapter, back = account.name, account.adapter, AT_FIRST
    while True:
        # Asked each time: until it is ready, an adapter can't tell what its settings say.
        if (
            account.fault is None
            and isinstance(adapter, Recovers)
            and await is_our_turn(bus, name, adapter.recover_every)
        ):
            back = THEN if await _recover(account, adapter, back) else AT_FIRST
        await asyncio.sleep(LOOK_SECONDS)


async def is_our_turn(bus: EventBus, name: str, every: timedelta | None) -> bool:
    """Whether nobody has had it within the period. Taking it is one step: of many who ask, one is told so."""
    if every is None:
        return False
    try:
        turn = await bus.gate.enter(name, [Cost("recover", every, 1)], probe=NO_TIME, hold=NO_TIME)
    except EventBusError as error:
        _log.warning("looking for lost webhooks waits for Redis", integration=name, error=str(error))
        return False
    return turn.kind == "go"


async def _recover(account: Account, adapter: Recovers, back: timedelta) -> bool:
    """Ask until nothing is left over. False when that could not be done."""
    name = account.name
    while True:
        try:
            done = await contained(adapter.recover(datetime.now(UTC) - back, patiently=True), account.redact)
        except Exception as error:  # noqa: BLE001  an adapter may raise anything; it must not stop the others
            _log.warning("lost webhooks were not looked for", integration=name, fault=describe(error))
            return False
        (_log.info if done.asked else _log.debug)("looked for lost webhooks", integration=name, said=done.said)
        if not done.left:
            return True
        await asyncio.sleep(AGAIN.total_seconds())
