"""What an integration's table promises, on both backends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import JsonValue

from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.table import Table

HOUR = timedelta(hours=1)


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    opened = await Connection.open(url)
    yield opened
    await opened.close()


@pytest.fixture
def table(connection: Connection, namespace: str) -> Table:
    return Table(connection, ShardKeys(namespace), "github")


@pytest.mark.parametrize("lifetime", [None, HOUR])
@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", "ü", [1, [2]], {"a": {"b": None}}])
async def test_a_row_comes_back_as_it_was_put(table: Table, value: JsonValue, lifetime: timedelta | None) -> None:
    await table.put("row", value, lifetime=lifetime)
    assert await table.get("row") == value


async def test_a_row_never_put_is_none(table: Table) -> None:
    assert await table.get("row") is None
    await table.delete("row")
    assert await table.items("") == {}


@pytest.mark.parametrize("first", [None, HOUR])
@pytest.mark.parametrize("second", [None, HOUR])
async def test_the_last_put_wins_whatever_the_lifetimes(
    table: Table, first: timedelta | None, second: timedelta | None
) -> None:
    await table.put("row", 1, lifetime=first)
    await table.put("row", 2, lifetime=second)
    assert await table.get("row") == 2
    assert await table.items("") == ({"row": 2} if second is None else {})
    await table.delete("row")
    assert await table.get("row") is None


async def test_a_lifetime_is_kept_by_redis_and_begins_anew_with_each_put(table: Table, connection: Connection) -> None:
    await table.put("row", 1, lifetime=timedelta(minutes=1))
    await table.put("row", 2, lifetime=HOUR)
    assert 3_590_000 < await connection.do("PTTL", table._row("row")) <= 3_600_000


async def test_items_are_the_lasting_rows_of_a_prefix_in_order(table: Table) -> None:
    for name in ("b:2", "a:1", "b:1", "bb"):
        await table.put(name, name.upper())
    await table.put("b:3", 3, lifetime=HOUR)
    assert list((await table.items("b:")).items()) == [("b:1", "B:1"), ("b:2", "B:2")]
    await table.delete("b:1")
    assert await table.items("b:") == {"b:2": "B:2"}


async def test_tables_of_other_names_and_namespaces_are_others(connection: Connection, namespace: str) -> None:
    names = [(namespace, "github"), (namespace, "slack"), (f"{namespace}x", "github")]
    tables = [Table(connection, ShardKeys(space), name) for space, name in names]
    for n, table in enumerate(tables):
        await table.put("row", n)
        await table.put("other", n, lifetime=HOUR)
    assert [(await table.get("row"), await table.get("other")) for table in tables] == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("value", [True, 0, 1.5, "", "ü", [1, [2]], {"a": {"b": None}, "0": -0.0}])
async def test_a_row_is_swapped_only_for_who_knows_what_it_holds(table: Table, value: JsonValue) -> None:
    assert await table.swap("row", None, value, lifetime=HOUR)
    assert not await table.swap("row", None, "mine", lifetime=HOUR), "somebody was faster"
    assert not await table.swap("row", "other", "mine", lifetime=HOUR)
    assert await table.get("row") == value
    assert await table.swap("row", await table.get("row"), "mine", lifetime=HOUR)
    assert await table.get("row") == "mine"


async def test_a_row_is_swapped_for_none_but_once(table: Table) -> None:
    await table.put("row", {"n": 1}, lifetime=HOUR)
    assert await table.swap("row", {"n": 1}, None, lifetime=HOUR)
    assert await table.get("row") is None
    assert not await table.swap("row", {"n": 1}, None, lifetime=HOUR)


async def test_a_swapped_row_lives_as_long_as_it_was_given(table: Table, connection: Connection) -> None:
    await table.swap("row", None, 1, lifetime=HOUR)
    await table.swap("row", 1, 2, lifetime=timedelta(minutes=1))
    assert 50_000 < await connection.do("PTTL", table._row("row")) <= 60_000


async def test_of_many_who_add_to_one_row_none_is_lost(table: Table) -> None:
    async def add(number: int) -> None:
        while True:
            row = await table.get("row")
            numbers = row if isinstance(row, list) else []
            if await table.swap("row", row, [*numbers, number], lifetime=HOUR):
                return

    await asyncio.gather(*(add(number) for number in range(20)))
    found = await table.get("row")
    assert isinstance(found, list)
    assert sorted(map(str, found)) == sorted(map(str, range(20)))
