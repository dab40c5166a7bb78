"""What is remembered of endpoints, by several processes in one table."""

from __future__ import annotations

import asyncio

import pytest

from integrations.testing.context import MemoryStore
from integrations.webhook.book import ATTEMPTS, Book, Tried
from integrations.webhook.standing import Failing, Off, Standing


def tried(at: float) -> Tried:
    return Tried(at, "vm.created", "event-1", "msg_1", 1, "delivered", 204, 12.5, "", None)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_an_endpoint_that_nobody_tried_is_on(store: MemoryStore) -> None:
    assert await Book(store).standing("billing") == Standing()
    assert await Book(store).attempts("billing") == []


async def test_what_one_process_writes_another_reads(store: MemoryStore) -> None:
    one, other = Book(store), Book(store)
    await one.failed("billing", 10)
    assert await other.failed("billing", 20) == Failing(10, 20, 2)
    await one.note("billing", tried(10))
    await other.note("billing", tried(20))
    assert await Book(store).attempts("billing") == [tried(10), tried(20)]
    assert (await one.standing("billing")).failing == Failing(10, 20, 2)
    await other.succeeded("billing")
    assert await one.standing("billing") == Standing()


async def test_endpoints_are_apart_even_where_one_name_begins_like_another(store: MemoryStore) -> None:
    book = Book(store)
    await book.failed("bill", 10)
    await book.switch_off("bill", Off(10, "why"))
    await book.note("bill", tried(10))
    assert await book.standing("billing") == Standing()
    assert await book.attempts("billing") == []
    assert len(await book.attempts("bill")) == 1


async def test_it_is_switched_off_once_and_the_first_reason_stays(store: MemoryStore) -> None:
    book = Book(store)
    found = await asyncio.gather(*(book.switch_off("billing", Off(at, f"reason {at}")) for at in range(10)))
    assert len(set(found)) == 1
    assert (await Book(store).standing("billing")).off == found[0]


async def test_a_failure_does_not_switch_on_what_somebody_switched_off(store: MemoryStore) -> None:
    await Book(store).switch_off("billing", Off(10, "by hand"))
    await Book(store).failed("billing", 20)
    await Book(store).succeeded("billing")
    assert (await Book(store).standing("billing")).off == Off(10, "by hand")


async def test_switched_on_it_starts_with_a_clean_sheet(store: MemoryStore) -> None:
    book = Book(store)
    await book.failed("billing", 10)
    await book.switch_off("billing", Off(10, "why"))
    assert await book.switch_on("billing") is True
    assert await book.standing("billing") == Standing()
    assert await book.switch_on("billing") is False


async def test_the_last_attempts_are_kept_and_no_more_rows_than_that(store: MemoryStore) -> None:
    book = Book(store)
    for at in range(3 * ATTEMPTS):
        await book.note("billing", tried(at))
    assert [one.at for one in await book.attempts("billing")] == list(range(2 * ATTEMPTS, 3 * ATTEMPTS))
    assert len(await store.items("tried:")) == ATTEMPTS


async def test_two_processes_lose_none_of_the_last_attempts(store: MemoryStore) -> None:
    books = [Book(store), Book(store)]
    for at in range(3 * ATTEMPTS):
        await books[at % 2].note("billing", tried(at))
    assert [one.at for one in await books[0].attempts("billing")] == list(range(2 * ATTEMPTS, 3 * ATTEMPTS))


async def test_what_ended_processes_left_behind_is_deleted_by_the_next(store: MemoryStore) -> None:
    for process in range(10):
        book = Book(store)
        for at in range(ATTEMPTS):
            await book.note("billing", tried(process * ATTEMPTS + at))
    assert len(await store.items("tried:")) <= 2 * ATTEMPTS


async def test_a_row_that_another_version_wrote_is_no_row(store: MemoryStore) -> None:
    await store.put("off:billing", {"from": "the future"})
    await store.put("failing:billing", 3)
    await store.put("tried:billing:x:0", {"at": "soon"})
    assert await Book(store).standing("billing") == Standing()
    assert await Book(store).attempts("billing") == []
