"""What a table promises about the numbers it keeps: on every server, in memory, and by the double of the test kit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.table import Table
from eventbus.tally import Change, Tallied
from integrations.base import Store
from integrations.testing.context import MemoryStore
from tests.conftest import wait_until
from tests.servers import BINARIES, Node

IDLE = timedelta(days=30)
NEW = Tallied(is_new=True)
KNOWN = Tallied(is_new=False)


@pytest.fixture(params=["double", "memory", *BINARIES])
async def store(request: pytest.FixtureRequest, namespace: str, started: Callable[[str], Node]) -> AsyncIterator[Store]:
    if request.param == "double":
        yield MemoryStore()
        return
    is_memory = request.param == "memory"
    url = f"memory://{namespace}" if is_memory else f"redis://127.0.0.1:{started(request.param).port}/0"
    connection = await Connection.open(url)
    yield Table(connection, ShardKeys(namespace), "prometheus")
    await connection.close()


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    opened = await Connection.open(url)
    yield opened
    await opened.close()


def add(row: str = "row", **parts: float) -> Change:
    return Change(row, parts or {"value": 1})


async def later(seconds: float) -> None:
    began = time.time()
    await wait_until(lambda: time.time() > began + seconds, "the clock goes on")


async def test_changes_are_added_and_rows_come_back(store: Store) -> None:
    assert (await store.tallied(), await store.tally_rows()) == ({}, 0)
    assert await store.tally("1", [add("a", sum=0.1, x=1), add("b", value=2)], idle=IDLE) == NEW
    assert await store.tally("2", [add("a", sum=0.2, y=1)], idle=IDLE) == NEW
    assert await store.tallied() == {"a": {"sum": 0.1 + 0.2, "x": 1, "y": 1}, "b": {"value": 2}}


async def test_a_key_counts_once_however_often_it_comes(store: Store) -> None:
    answers = await asyncio.gather(*(store.tally("key", [add()], idle=IDLE) for _ in range(20)))
    assert sorted(answer.is_new for answer in answers) == [False] * 19 + [True]
    assert await store.tally("key", [add("other")], idle=IDLE) == KNOWN
    assert await store.tallied() == {"row": {"value": 1}}


async def test_of_many_who_count_at_once_none_is_lost(store: Store) -> None:
    await asyncio.gather(*(store.tally(str(number), [add(value=1, sum=0.5)], idle=IDLE) for number in range(40)))
    assert await store.tallied() == {"row": {"value": 40, "sum": 20}}


@pytest.mark.parametrize("number", [2**53, 0.1, 1e-300, 1e22, 123456789.123456789, -4.0])
async def test_a_number_comes_back_to_its_last_digit(store: Store, number: float) -> None:
    await store.tally("1", [add(value=number)], idle=IDLE)
    await store.tally("2", [add("set", value=0), Change("set", {"value": number}, datetime.now(UTC))], idle=IDLE)
    found = await store.tallied()
    assert (found["row"]["value"], found["set"]["value"]) == (number, number)


async def test_a_row_may_have_any_name_and_its_parts_those_of_buckets(store: Store) -> None:
    name = '["x",["a\'b=;,\\"{\u00fc\u6f22"]]'
    await store.tally("1", [Change(name, {"+Inf": 1, "0.25": 2, "1e+22": 3})], idle=IDLE)
    assert await store.tallied() == {name: {"+Inf": 1, "0.25": 2, "1e+22": 3}}


# -- what is set -------------------------------------------------------------------------------------------------------


async def test_of_what_is_set_the_latest_stays_in_whatever_order_it_comes(store: Store) -> None:
    now = datetime.now(UTC)
    for key, ago, value in (("1", 20, 5), ("2", 10, 7), ("3", 10, 8), ("4", 15, 6)):
        change = Change("gauge", {"value": value}, now - timedelta(seconds=ago))
        assert await store.tally(key, [change], idle=IDLE) == NEW
    found = await store.tallied()
    assert found["gauge"]["value"] == 8, "of two of the same time the one that came last"


async def test_a_clock_that_is_ahead_keeps_nobody_out(store: Store) -> None:
    await store.tally("1", [Change("gauge", {"value": 5}, datetime.now(UTC) + timedelta(days=400))], idle=IDLE)
    await later(0.005)
    await store.tally("2", [Change("gauge", {"value": 6}, datetime.now(UTC))], idle=IDLE)
    assert (await store.tallied())["gauge"]["value"] == 6


# -- bounds ------------------------------------------------------------------------------------------------------------


async def test_without_room_new_rows_are_refused_and_known_ones_go_on(store: Store) -> None:
    await store.tally("1", [add("a"), add("b")], most=2, idle=IDLE)
    answer = await store.tally("2", [add("c"), add("a"), add("d")], most=2, idle=IDLE)
    assert answer == Tallied(is_new=True, refused=2)
    assert await store.tally("2", [add("c")], most=3, idle=IDLE) == KNOWN, "what was refused stays refused"
    assert await store.tallied() == {"a": {"value": 2}, "b": {"value": 1}, "": {"refused": 2}}
    assert await store.tally_rows() == 2, "what counts the refused is no row of anybody"
    await store.tally("3", [add("e")], most=2, idle=IDLE)
    assert (await store.tallied())[""] == {"refused": 3}


async def test_a_row_that_has_not_changed_for_long_makes_room(store: Store) -> None:
    idle = timedelta(milliseconds=20)
    for key, row in (("1", "a"), ("2", "b"), ("3", "a")):
        await store.tally(key, [add(row)], most=2, idle=idle)
        await later(0.005)
    await later(0.05)
    assert await store.tally("4", [add("c")], most=2, idle=idle) == NEW
    assert await store.tallied() == {"a": {"value": 2}, "c": {"value": 1}}, "b was idle for longest"
    assert await store.tally_rows() == 2


# -- in Redis ----------------------------------------------------------------------------------------------------------


async def test_a_key_is_remembered_for_its_time_and_then_forgotten(connection: Connection, namespace: str) -> None:
    keys = ShardKeys(namespace)
    table = Table(connection, keys, "prometheus", keep=timedelta(minutes=1))
    await table.tally("key", [add()], idle=IDLE)
    known = keys.tally("prometheus", "key")[2]
    assert 50_000 < await connection.do("PTTL", known) <= 60_000
    assert await connection.do("PTTL", keys.tally("prometheus")[0]) == -1, "the numbers are for good"


async def test_numbers_of_other_names_and_namespaces_are_others(connection: Connection, namespace: str) -> None:
    names = [(namespace, "prometheus"), (namespace, "other"), (f"{namespace}x", "prometheus")]
    tables = [Table(connection, ShardKeys(space), name) for space, name in names]
    for number, table in enumerate(tables):
        assert await table.tally("same", [add(value=number)], idle=IDLE) == NEW
        await table.put("once", "a row of its own", lifetime=timedelta(minutes=1))
    assert [(await table.tallied())["row"]["value"] for table in tables] == [0, 1, 2]


def test_all_keys_of_a_tally_are_in_one_slot() -> None:
    tags = {key[key.index("{") : key.index("}")] for key in ShardKeys("ns").tally("prometheus", "key")}
    assert tags == {"{ns:tally:prometheus"}
