"""Promises that a fault run is too short, or too forgiving, to see broken."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventbus import EventBus, Options, OutcomeUnknown
from eventbus.redis.connection import Connection
from tests.proxy import Proxy


async def test_a_command_whose_answer_is_lost_is_not_sent_again(proxy: Proxy, namespace: str) -> None:
    """redis-py repeats commands by default (redis-py 6, Retry); whether that is safe only the caller knows."""
    connection = await Connection.open(proxy.url)
    proxy.lose_reply(b"INCR")
    with pytest.raises(OutcomeUnknown):
        await connection.do("INCR", f"{namespace}:count")
    assert await connection.do("GET", f"{namespace}:count") == b"1"
    await connection.close()


async def test_the_ledger_remembers_for_longer_than_a_delivery_can_be_retried(redis_url: str, namespace: str) -> None:
    options = Options()
    retried_for = options.max_attempts * options.backoff.most
    async with EventBus.open(redis_url, namespace=namespace) as bus:
        entry = await bus.ledger.intend("key", b"content")
        await bus.ledger.done(entry, {})
        connection = await Connection.open(redis_url)
        left = timedelta(milliseconds=await connection.do("PTTL", entry.row))
        await connection.close()
    assert left > retried_for
