"""One connection for everybody: whatever happens to one caller or to the connection, nobody gets another's reply."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio.connection import Connection as Client
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from eventbus import OutcomeUnknown
from eventbus.redis.connection import Connection
from eventbus.redis.line import Line, pack
from tests.conftest import wait_until
from tests.proxy import Proxy

PROMPT = 5.0
SHORT = 0.3
LONE_SURROGATE = "no file \udcff.txt"
BIG = b"x" * (8 << 20)

Opening = Callable[..., Line]
Scripted = Callable[[bytes], Awaitable[str]]


@pytest.fixture
async def opening() -> AsyncIterator[Opening]:
    """Makes lines to an address, closed in the end."""
    lines: list[Line] = []

    def make(url: str, seconds: float = PROMPT, name: str | None = None) -> Line:
        host, port = url.removeprefix("redis://").removesuffix("/0").split(":")
        client = lambda: Client(host=host, port=int(port), protocol=2, driver_info=None, client_name=name)  # noqa: E731
        lines.append(Line(client, seconds=seconds))
        return lines[-1]

    yield make
    for line in lines:
        line.close()
    await asyncio.sleep(0)  # closed sockets are let go of in the loop's next turn


@pytest.fixture
def line(opening: Opening, proxy: Proxy) -> Line:
    return opening(proxy.url)


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    """Makes a server that answers whatever comes first on a connection with these bytes, and hangs up."""
    async with AsyncExitStack() as stack:

        async def make(answer: bytes) -> str:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1 << 16)
                writer.write(answer)
                await writer.drain()
                writer.close()

            server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
            return f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"

        yield make


async def echo(line: Line, number: int, size: int = 0) -> bool:
    said = b"%d " % number + b"." * size
    return bool(await line.execute_command("ECHO", said) == said)


async def test_a_thousand_callers_at_a_time_get_each_their_own_reply(line: Line) -> None:
    sizes = [random.randrange(2000) for _ in range(1000)]

    assert all(await asyncio.gather(*(echo(line, number, size) for number, size in enumerate(sizes))))


@pytest.mark.parametrize("what", [LONE_SURROGATE, object(), None])
async def test_what_can_not_be_sent_shifts_nobodys_reply(line: Line, what: Any) -> None:
    before = asyncio.create_task(echo(line, 1))
    await asyncio.sleep(0)
    with pytest.raises((UnicodeEncodeError, TypeError)):
        await line.execute_command("ECHO", what)
    async with asyncio.timeout(PROMPT):
        after = await asyncio.gather(*(echo(line, number) for number in range(2, 10)))

    assert [await before, *after] == [True] * 9


async def test_a_script_that_can_not_be_sent_harms_no_publish(redis_url: str) -> None:
    connection = await Connection.open(redis_url)
    try:
        with pytest.raises(UnicodeEncodeError):
            await connection.run("beat", ["alive"], [1000, LONE_SURROGATE])
        async with asyncio.timeout(PROMPT):
            assert await connection.run("beat", ["alive"], [1000, "one", "two"]) == 2
            assert await connection.run("beat", ["alive"], [0, "one"]) == 1
    finally:
        await connection.close()


async def test_a_caller_that_is_cancelled_leaves_the_others_their_replies(line: Line) -> None:
    assert await echo(line, 0)
    callers = [asyncio.create_task(echo(line, number, 100)) for number in range(300)]
    await asyncio.sleep(0)  # all have asked
    for caller in callers[::3]:
        caller.cancel()

    stay = [caller for number, caller in enumerate(callers) if number % 3]
    assert all(await asyncio.gather(*stay))
    assert all(caller.cancelled() for caller in callers[::3])
    assert await echo(line, 300)


async def test_an_error_is_its_callers_alone(line: Line) -> None:
    replies = await asyncio.gather(echo(line, 1), line.execute_command("NOSUCH"), echo(line, 2), return_exceptions=True)

    assert (replies[0], replies[2]) == (True, True)
    assert isinstance(replies[1], ResponseError)


async def test_replies_and_commands_of_any_size_go_through(line: Line) -> None:
    small = [echo(line, number) for number in range(10)]
    big = [line.execute_command("ECHO", BIG) for _ in range(4)]
    *numbered, first, second, third, fourth = await asyncio.gather(*small, *big)

    assert all(numbered)
    assert first == second == third == fourth == BIG


async def test_a_server_that_does_not_answer_is_left_and_found_again(opening: Opening, proxy: Proxy) -> None:
    line = opening(proxy.url, SHORT)
    assert await echo(line, 0)
    proxy.freeze()

    async with asyncio.timeout(PROMPT):
        ends = await asyncio.gather(*(echo(line, number) for number in range(10)), return_exceptions=True)
    assert [type(end) for end in ends] == [RedisTimeoutError] * 10

    proxy.thaw()  # the late answers arrive at nobody
    assert all(await asyncio.gather(*(echo(line, number) for number in range(10, 20))))


async def test_who_waits_to_write_is_told_too_when_nothing_gets_through(opening: Opening, proxy: Proxy) -> None:
    line = opening(proxy.url, SHORT)
    proxy.freeze()

    async with asyncio.timeout(PROMPT):
        sends = (line.execute_command("ECHO", BIG) for _ in range(8))
        ends = await asyncio.gather(*sends, return_exceptions=True)

    assert all(isinstance(end, RedisError) for end in ends)


async def test_after_a_loss_it_connects_anew(line: Line, proxy: Proxy) -> None:
    for number in range(5):
        assert await echo(line, number)
        proxy.reset()
        await wait_until(lambda: line._wire is None or line._wire.is_lost, "the loss is noticed")


async def test_closing_answers_who_waits(line: Line, proxy: Proxy) -> None:
    assert await echo(line, 0)
    proxy.freeze()
    waiting = [asyncio.create_task(echo(line, number)) for number in range(10)]
    await asyncio.sleep(0)
    line.close()

    async with asyncio.timeout(PROMPT):
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(end) for end in ends} == {"closed by this process"}
    with pytest.raises(RedisConnectionError, match="closed by this process"):
        await echo(line, 11)


async def test_closing_it_while_it_connects_leaves_no_connection_open(line: Line) -> None:
    asking = asyncio.create_task(echo(line, 0))
    await asyncio.sleep(0)
    line.close()

    with pytest.raises(RedisConnectionError):
        await asking


async def test_a_caller_that_is_cancelled_while_it_connects_leaves_no_connection_open(
    opening: Opening, proxy: Proxy
) -> None:
    for turns in range(30):  # at every moment of it
        line = opening(proxy.url, name="introduces-itself")
        asking = asyncio.create_task(echo(line, 0))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        line.close()

    await wait_until(lambda: not proxy.serving, "all have hung up", PROMPT)


async def test_a_renewed_line_still_answers_what_was_asked_before(line: Line, proxy: Proxy) -> None:
    assert await echo(line, 0)
    first = line._wire
    proxy.freeze()
    asked_before = [asyncio.create_task(echo(line, number)) for number in range(10)]
    await asyncio.sleep(0)
    line.renew()
    asked_after = asyncio.create_task(echo(line, 10))
    await asyncio.sleep(0)
    proxy.thaw()

    assert await asyncio.gather(*asked_before, asked_after, return_exceptions=True) == [True] * 11
    assert first is not None
    assert first.is_lost  # it left when it had nothing more to answer
    assert line._wire is not first


CLOSED, STRANGE = "Connection closed by server", "not the Redis protocol"


@pytest.mark.parametrize(
    ("answer", "failed", "said"),
    [
        (b"", 3, CLOSED),
        (b"$1000\r\nhalf of the rep", 3, CLOSED),
        (b"+1\r\n$1000\r\nhalf of the rep", 2, CLOSED),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 3, STRANGE),
        (b"\x00\xff\x00\xff" * 100, 3, STRANGE),
        (b"+1\r\n\x00\xff", 2, STRANGE),
        (b"+1\r\n+2\r\n+3\r\n+and one that nobody asked for\r\n", 0, STRANGE),
    ],
    ids=["nothing", "half a reply", "half the second", "HTTP", "garbage", "garbage behind a reply", "one too many"],
)
async def test_what_is_no_reply_ends_the_connection(
    opening: Opening, scripted: Scripted, answer: bytes, failed: int, said: str
) -> None:
    line = opening(await scripted(answer))

    async with asyncio.timeout(PROMPT):
        ends = await asyncio.gather(*(line.execute_command("PING") for _ in range(3)), return_exceptions=True)
        await wait_until(lambda: line._wire is not None and line._wire.is_lost, "the connection is given up")

    assert ends[: 3 - failed] == [b"1", b"2", b"3"][: 3 - failed]
    assert all(isinstance(end, RedisConnectionError) and said in str(end) for end in ends[3 - failed :])


@pytest.mark.parametrize("how", ["break", "silence", "close"])
async def test_the_bus_says_that_the_outcome_is_unknown(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("eventbus.redis.clients.ANSWER_SECONDS", SHORT if how == "silence" else PROMPT)
    connection = await Connection.open(proxy.url)
    try:
        await connection.run("beat", ["alive"], [0, "one"])
        proxy.freeze()
        calls = [asyncio.create_task(connection.run("beat", ["alive"], [0, "one"])) for _ in range(20)]
        await asyncio.sleep(0)
        if how == "break":
            proxy.reset()
        elif how == "close":
            await connection.close()
        async with asyncio.timeout(PROMPT):
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ends} == {OutcomeUnknown}
        if how != "close":
            proxy.thaw()
            assert await connection.run("beat", ["alive"], [0, "one"]) == 1
    finally:
        await connection.close()


async def test_what_is_begun_is_sent_in_the_same_step_and_before_what_is_asked_later(line: Line) -> None:
    heard: list[Any] = []
    assert not line.begin(pack(("ECHO", "nobody is there")), heard.append)
    await line.execute_command("PING")

    assert line.begin(pack(("RPUSH", "begun", "first")), heard.append)
    assert await line.execute_command("RPUSH", "begun", "second") == 2

    assert heard == [1]
    await line.execute_command("DEL", "begun")


async def test_what_is_begun_hears_of_its_error_and_of_the_loss(line: Line, proxy: Proxy) -> None:
    heard: list[Any] = []
    await line.execute_command("PING")
    assert line.begin(pack(("NO SUCH COMMAND",)), heard.append)
    await line.execute_command("PING")
    proxy.freeze()
    assert line.begin(pack(("PING",)), heard.append)
    proxy.reset()

    await wait_until(lambda: len(heard) == 2, "the loss is heard of")

    assert [type(one) for one in heard] == [ResponseError, RedisConnectionError]
    assert not line.begin(pack(("PING",)), heard.append)
