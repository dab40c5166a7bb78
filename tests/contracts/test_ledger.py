"""What the ledger promises, on both backends: who may act, and what is remembered for how long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from eventbus.errors import Unavailable
from eventbus.ledger import ABANDONED, MAX_RESULT_BYTES, Entry, Ledger, Permission
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Letter, Retry, Shard, Taken
from eventbus.subscription import Attempt

KEEP = timedelta(hours=1)
LEASE = timedelta(minutes=1)
FOREVER = -1
GONE = -2
"""What PTTL answers for a key without a lifetime, and for no key."""


class Desk:
    """A ledger, and a shard whose deliveries its entries belong to."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.connection = connection
        self.keys = ShardKeys(namespace)
        self.shard = Shard(connection, self.keys)
        self.ledger = Ledger(connection, self.keys, keep=KEEP)

    async def publish(self) -> None:
        await self.shard.declare("g", [">"], behind="0")
        await self.shard.publish([Letter("vm.created", "k", "id", "once", "print", 60_000, b"wire")])

    async def take(self, consumer: str) -> tuple[Taken, Attempt]:
        batch = await self.shard.take("g", consumer, 1, lease=LEASE, suspects=False, ordered=True)
        (one,) = batch.taken
        return one, Attempt("g", one.entry_id, consumer, one.fence, one.attempt, one.sequence)

    async def lose(self, consumer: str) -> None:
        """The consumer falls silent and its deliveries are ready for others."""
        await self.connection.do("ZADD", self.keys.alive, 1, consumer)
        assert (await self.shard.sweep("g", poison_limit=9))[0] == 1

    async def abandon(self, entry: Entry) -> None:
        """The intent is as old as an abandoned one."""
        at = int(await self.connection.do("HGET", entry.row, "at"))
        await self.connection.do("HSET", entry.row, "at", at - int(ABANDONED.total_seconds() * 1000))

    async def lifetime(self, entry: Entry) -> int:
        return int(await self.connection.do("PTTL", entry.row))


@pytest.fixture
async def desk(url: str, namespace: str) -> AsyncIterator[Desk]:
    connection = await Connection.open(url)
    yield Desk(connection, namespace)
    await connection.close()


@pytest.fixture(params=["alone", "of a delivery"])
async def attempt(request: pytest.FixtureRequest, desk: Desk) -> Attempt | None:
    """Each kind of action: with a key of its own, or belonging to a delivery."""
    if request.param == "alone":
        return None
    await desk.publish()
    return (await desk.take("a"))[1]


async def test_the_first_may_act_and_a_repeat_gets_its_result(desk: Desk, attempt: Attempt | None) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    assert (entry.permission, entry.result) == (Permission.GO, None)
    result: dict[str, Any] = {"url": "https://example.com/1", "n": [1, None, "ü"]}
    await desk.ledger.done(entry, result)
    again = await desk.ledger.intend("key", b"content", attempt)
    assert (again.permission, again.result) == (Permission.DONE, result)


async def test_one_key_for_another_content_is_a_conflict_in_any_state(desk: Desk, attempt: Attempt | None) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    for conclude in (None, desk.ledger.unknown(entry), desk.ledger.done(entry, {})):
        if conclude is not None:
            await conclude
        other = await desk.ledger.intend("key", b"other content", attempt)
        assert (other.permission, other.result) == (Permission.CONFLICT, None)
    assert (await desk.ledger.intend("key", b"content", attempt)).permission is Permission.DONE


@pytest.mark.parametrize("for_good", [False, True])
async def test_what_surely_did_not_happen_may_be_done_by_the_next(
    desk: Desk, attempt: Attempt | None, for_good: bool
) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    await desk.ledger.not_done(entry, "503", for_good=for_good)
    assert 0 < await desk.lifetime(entry) <= KEEP.total_seconds() * 1000
    assert (await desk.ledger.intend("key", b"other content", attempt)).permission is Permission.GO


async def test_a_failure_stays_in_its_row_for_who_asks(desk: Desk, attempt: Attempt | None) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    await desk.ledger.not_done(entry, "422 no such branch", for_good=True)
    state, result = await desk.connection.do("HMGET", entry.row, "state", "result")
    assert (state, json.loads(result)) == (b"failed", {"why": "422 no such branch"})


async def test_where_there_was_nothing_to_do_no_row_is_left(desk: Desk, attempt: Attempt | None) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    await desk.ledger.nothing(entry)
    assert await desk.lifetime(entry) == GONE


async def test_an_outcome_nobody_knows_has_to_be_found_out(desk: Desk, attempt: Attempt | None) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    await desk.ledger.unknown(entry)
    again = await desk.ledger.intend("key", b"content", attempt)
    assert (again.permission, again.result) == (Permission.UNKNOWN, None)
    await desk.ledger.done(again, {"found": True})
    assert (await desk.ledger.intend("key", b"content", attempt)).result == {"found": True}


async def test_a_fresh_intent_of_another_is_busy_and_an_old_one_is_unknown(desk: Desk) -> None:
    first = await desk.ledger.intend("key", b"content")
    assert (await desk.ledger.intend("key", b"content")).permission is Permission.BUSY
    await desk.abandon(first)
    second = await desk.ledger.intend("key", b"content")
    assert second.permission is Permission.UNKNOWN
    assert (await desk.ledger.intend("key", b"content")).permission is Permission.BUSY, "the second is at it now"


async def test_of_many_at_once_one_may_act(desk: Desk) -> None:
    entries = await asyncio.gather(*[desk.ledger.intend("key", b"content") for _ in range(10)])
    assert sorted(entry.permission for entry in entries) == ["busy"] * 9 + ["go"]


async def test_an_intent_of_a_lost_delivery_is_unknown_to_the_next_owner_at_once(desk: Desk) -> None:
    await desk.publish()
    _, lost = await desk.take("a")
    await desk.ledger.intend("key", b"content", lost)
    await desk.lose("a")
    _, mine = await desk.take("b")
    assert (await desk.ledger.intend("key", b"content", mine)).permission is Permission.UNKNOWN


@pytest.mark.parametrize("how", ["taken over", "swept", "taken again", "settled", "handed back"])
async def test_who_lost_the_delivery_gets_no_permission_and_leaves_no_trace(desk: Desk, how: str) -> None:
    await desk.publish()
    one, lost = await desk.take("a")
    if how == "settled":
        await desk.shard.settle("g", "a", [(one.entry_id, one.fence, one.key)])
    elif how == "handed back":
        await desk.shard.retry("g", "a", [Retry(one.entry_id, one.fence, 0, False)])
    else:
        await desk.lose("a")
    if how == "taken over":
        await desk.take("b")
    elif how == "taken again":
        await desk.take("a")
    refused = await desk.ledger.intend("key", b"content", lost)
    assert refused.permission is Permission.FENCED
    assert await desk.lifetime(refused) == GONE


async def test_a_lost_delivery_is_fenced_even_from_what_is_done(desk: Desk) -> None:
    await desk.publish()
    _, lost = await desk.take("a")
    await desk.ledger.done(await desk.ledger.intend("key", b"content", lost), {})
    await desk.lose("a")
    assert (await desk.ledger.intend("key", b"content", lost)).permission is Permission.FENCED


async def test_an_action_of_a_lost_group_is_not_permitted(desk: Desk) -> None:
    await desk.publish()
    _, mine = await desk.take("a")
    await desk.connection.do("XGROUP", "DESTROY", desk.keys.log, "g")
    with pytest.raises(Unavailable, match="NOGROUP"):
        await desk.ledger.intend("key", b"content", mine)


async def _two_owners(desk: Desk) -> tuple[Entry, Entry, Attempt]:
    await desk.publish()
    _, lost = await desk.take("a")
    loser = await desk.ledger.intend("key", b"content", lost)
    await desk.lose("a")
    _, mine = await desk.take("b")
    return loser, await desk.ledger.intend("key", b"content", mine), mine


async def test_a_late_done_of_a_loser_is_a_fact(desk: Desk) -> None:
    loser, winner, mine = await _two_owners(desk)
    await desk.ledger.done(loser, {"by": "loser"})
    for late in (desk.ledger.unknown, desk.ledger.not_done):
        await late(winner)
    await desk.ledger.done(winner, {"by": "winner"})
    found = await desk.ledger.intend("key", b"content", mine)
    assert (found.permission, found.result) == (Permission.DONE, {"by": "loser"})


async def test_a_late_done_after_the_winner_found_nothing_done_is_a_fact_too(desk: Desk) -> None:
    loser, winner, mine = await _two_owners(desk)
    await desk.ledger.not_done(winner)
    await desk.ledger.done(loser, {"by": "loser"})
    found = await desk.ledger.intend("key", b"content", mine)
    assert (found.permission, found.result) == (Permission.DONE, {"by": "loser"})


async def test_a_late_done_is_no_fact_about_another_content(desk: Desk) -> None:
    loser, winner, mine = await _two_owners(desk)
    await desk.ledger.not_done(winner)
    other = await desk.ledger.intend("key", b"other content", mine)
    assert other.permission is Permission.GO
    await desk.ledger.done(loser, {"by": "loser"})
    await desk.ledger.done(other, {"by": "other"})
    assert (await desk.ledger.intend("key", b"other content", mine)).result == {"by": "other"}


async def test_a_late_doubt_of_a_loser_changes_nothing(desk: Desk) -> None:
    loser, winner, mine = await _two_owners(desk)
    before = await desk.connection.do("HGETALL", winner.row)
    await desk.ledger.unknown(loser)
    await desk.ledger.not_done(loser)
    assert await desk.connection.do("HGETALL", winner.row) == before
    await desk.ledger.done(winner, {"by": "winner"})
    assert (await desk.ledger.intend("key", b"content", mine)).result == {"by": "winner"}


async def test_done_rows_expire_and_open_ones_never_do(desk: Desk, attempt: Attempt | None) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    assert await desk.lifetime(entry) == FOREVER
    await desk.ledger.unknown(entry)
    assert await desk.lifetime(entry) == FOREVER
    entry = await desk.ledger.intend("key", b"content", attempt)
    assert await desk.lifetime(entry) == FOREVER
    await desk.ledger.done(entry, {})
    kept = int(KEEP.total_seconds() * 1000)
    assert kept - 10_000 < await desk.lifetime(entry) <= kept


async def test_an_open_row_that_once_had_a_lifetime_has_none(desk: Desk, attempt: Attempt | None) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    await desk.ledger.unknown(entry)
    await desk.connection.do("PEXPIRE", entry.row, 60_000)
    again = await desk.ledger.intend("key", b"content", attempt)
    assert await desk.lifetime(again) == FOREVER
    await desk.connection.do("PEXPIRE", entry.row, 60_000)
    await desk.ledger.unknown(again)
    assert await desk.lifetime(again) == FOREVER


async def test_a_repeated_write_of_the_same_result_is_the_same(desk: Desk, attempt: Attempt | None) -> None:
    entry = await desk.ledger.intend("key", b"content", attempt)
    await desk.ledger.done(entry, {"n": 1})
    await desk.ledger.done(entry, {"n": 1})
    assert (await desk.ledger.intend("key", b"content", attempt)).result == {"n": 1}


async def test_a_result_over_the_limit_is_refused_before_it_is_written(desk: Desk) -> None:
    entry = await desk.ledger.intend("key", b"content")
    frame = len(json.dumps({"t": ""}, separators=(",", ":")))
    with pytest.raises(ValueError, match=f"{MAX_RESULT_BYTES} bytes at most, this one {MAX_RESULT_BYTES + 1}"):
        await desk.ledger.done(entry, {"t": "x" * (MAX_RESULT_BYTES + 1 - frame)})
    assert (await desk.ledger.intend("key", b"content")).permission is Permission.BUSY
    largest = {"t": "x" * (MAX_RESULT_BYTES - frame)}
    await desk.ledger.done(entry, largest)
    assert (await desk.ledger.intend("key", b"content")).result == largest


async def test_keys_with_and_without_a_delivery_do_not_meet(desk: Desk) -> None:
    await desk.publish()
    _, mine = await desk.take("a")
    assert (await desk.ledger.intend("key", b"content", mine)).permission is Permission.GO
    assert (await desk.ledger.intend("key", b"other")).permission is Permission.GO
    assert (await desk.ledger.intend("key 2", b"other")).permission is Permission.GO
