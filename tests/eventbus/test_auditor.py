"""What a process finds that remembers what it saw: roll-backs that came one after another, and looks at once."""

from __future__ import annotations

import asyncio

from eventbus import EventBus, catalog
from eventbus.auditor import Auditor
from eventbus.witness import Witness


async def roll_back(bus: EventBus, last: int) -> None:
    """As a Redis does that comes back without its newest events."""
    connection, keys = bus._connection, bus._shard.keys
    for entry in (await bus._history.between())[last:]:
        await connection.do("XDEL", keys.log, entry.entry_id)
    await connection.do("SET", keys.sequence, last)


async def test_a_second_roll_back_behind_one_that_was_accepted_is_told(bus: EventBus) -> None:
    await bus.publish_many(catalog.event("custom.x", {"n": n}) for n in range(10))
    await roll_back(bus, 4)
    (gap,) = await bus.audit()
    assert (gap.first, gap.last) == (5, 10)
    await bus.accept(gap)
    await bus.publish_many(catalog.event("custom.x", {"m": n}) for n in range(4))
    assert await bus.audit() == []
    await roll_back(bus, 6)
    (gap,) = await bus.audit()
    assert (gap.first, gap.last) == (7, 8), "numbers that were lost once can be lost again"


async def test_two_looks_at_once_disturb_each_other_not(bus: EventBus) -> None:
    witness = Witness()
    receipt = await bus.publish("custom.x")
    witness.saw(receipt.sequence, receipt.entry_id)
    witness.mark()
    auditor = Auditor(bus._history, witness)
    assert not any(await asyncio.gather(auditor.look([]), auditor.look([])))
