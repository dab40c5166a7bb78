"""Redis' errors as a real client on a real socket meets them, turned into ours."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from redis import exceptions

from eventbus import EventBus, EventBusError, Full, Misconfigured, OutcomeUnknown, SyncPublisher, Unavailable
from eventbus.redis.address import parse
from eventbus.redis.connection import Connection
from eventbus.redis.faults import translate

SECRET = "hunter2"

Answering = Callable[[bytes], Awaitable[str]]


@pytest.fixture
async def answering() -> AsyncIterator[Answering]:
    """Makes a server that says hello as Redis does and answers every other command with one line of RESP."""
    async with AsyncExitStack() as stack:

        async def make(line: bytes) -> str:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while request := await reader.read(65536):
                    if not line:
                        break  # hang up
                    for _ in range(len(re.findall(rb"\*\d+\r\n", request))):
                        writer.write(b"+OK\r\n" if b"SETINFO" in request else line + b"\r\n")
                writer.close()

            server = await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
            return f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"

        yield make


async def error_at(url: str) -> EventBusError:
    connection = await Connection.open(url)
    try:
        with pytest.raises(EventBusError) as caught:
            await connection.do("SET", "a", "b")
    finally:
        await connection.close()
    return caught.value


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        (b"-LOADING Redis is loading the dataset in memory", Unavailable, "loading the dataset"),
        (b"-READONLY You can't write against a read only replica.", Unavailable, "read only replica"),
        (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL.", Unavailable, "BUSY Redis is busy"),
        (b"-UNBLOCKED force unblock from blocking operation", Unavailable, "UNBLOCKED"),
        (b"-NOGROUP No such key 'log' or consumer group 'slack'", Unavailable, "NOGROUP"),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot", Unavailable, "rehashing"),
        (b"-CLUSTERDOWN The cluster is down", Unavailable, "cluster is down"),
        (b"-MASTERDOWN Link with MASTER is down", Unavailable, "Link with MASTER is down"),
        (b"-NOREPLICAS Not enough good replicas to write.", Unavailable, "NOREPLICAS"),
        (b"-MOVED 1 127.0.0.1:1", Unavailable, "answered: 1 127.0.0.1:1"),
        (b"-ASK 1 127.0.0.1:1", Unavailable, "answered: 1 127.0.0.1:1"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.", Full, "has no memory left for new events"),
        (b"-MISCONF Errors writing to the AOF file: No space left on device", Full, "No space left on device"),
        (b"-NOAUTH Authentication required.", Misconfigured, "refuses our credentials: Authentication required"),
        (b"-WRONGPASS invalid username-password pair", Misconfigured, "refuses our credentials"),
        (b"-NOPERM this user has no permissions to run the 'set' command", Misconfigured, "refuses our credentials"),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value", EventBusError, "in other use?"),
        (b"", OutcomeUnknown, "the connection to"),
    ],
    ids=lambda value: value.split()[0].decode() if isinstance(value, bytes) and value else None,
)
async def test_each_error_of_redis_becomes_one_of_ours(
    answering: Answering, line: bytes, kind: type[EventBusError], says: str
) -> None:
    url = await answering(line)

    error = await error_at(url)

    assert type(error) is kind
    assert says in str(error)
    assert url in str(error)


async def test_nothing_at_the_address_says_so_and_what_to_try() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{reserved.getsockname()[1]}/0"

        error = await error_at(url)

    assert type(error) is Unavailable  # surely not done: it never left
    assert f"can't reach Redis at {url}" in str(error)
    assert "redis-cli ping" in str(error)


async def test_a_name_nobody_knows_is_surely_not_done() -> None:
    assert type(await error_at("redis://no-such-host.invalid:6379/0")) is Unavailable


def test_a_connection_that_was_never_made_is_surely_not_done() -> None:
    error = translate(exceptions.TimeoutError("Timeout connecting to server"), parse("redis://localhost/0"))

    assert type(error) is Unavailable


@pytest.mark.parametrize(
    "cause", [exceptions.TimeoutError("Timeout reading from localhost"), ConnectionResetError(), TimeoutError()]
)
def test_a_connection_that_broke_under_way_leaves_the_outcome_open(cause: BaseException) -> None:
    assert type(translate(cause, parse("redis://localhost/0"))) is OutcomeUnknown


async def test_no_password_is_in_any_text_on_the_way(
    answering: Answering, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    url = (await answering(b"-WRONGPASS invalid username-password pair")).replace("redis://", f"redis://ada:{SECRET}@")

    async with EventBus.open(url) as bus:
        with pytest.raises(Misconfigured) as caught:
            await bus.publish("custom.x")
        shown = [bus.address, str(caught.value), repr(caught.value), repr(bus)]
    with SyncPublisher(url) as script, pytest.raises(Misconfigured) as told:
        await asyncio.to_thread(script.publish, "custom.x")
    shown += [str(told.value), caplog.text, *capfd.readouterr()]

    assert SECRET not in "".join(shown)
    assert SECRET not in repr(parse(url))
