"""One connection to Redis that all callers of a process share: commands go out as they come, replies return in order.

redis-py connects (address, TLS, password, database, Sentinel); from then on its socket is ours, because its commands
cost several times what Redis needs to answer them: a connection borrowed and returned, a task and two time-outs for
each. Nothing here is ever sent twice. A caller that is cancelled just no longer looks at its reply.

Only for commands that don't block: one that does would hold up everybody behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from eventbus.ending import cancellable

_MORE = object()  # hiredis' word for "the reply is not complete"

Heard = Callable[[Any], None]
"""Called with the reply to one command, or with the error instead of it, as soon as it is there. Must not raise."""


def pack(command: tuple[Any, ...]) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(command)
    return packed


class _Wire(asyncio.Protocol):
    """An established connection: what was asked on it and not yet answered."""

    def __init__(self, connection: AbstractConnection, seconds: float) -> None:
        self._writer = hand_over(connection)
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Heard, float]] = deque()
        self._parser = hiredis.Reader(replyError=BaseParser.parse_error, notEnoughData=_MORE)
        self._watch: asyncio.TimerHandle | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._is_leaving = False
        self.is_lost = False
        self._transport = self._writer.transport
        self._transport.set_protocol(self)
        if self._transport.is_closing():
            self._lose(RedisConnectionError("the connection closed while it was made"))

    async def ask(self, command: tuple[Any, ...]) -> Any:
        packed = pack(command)  # first of all: what can't be packed must not wait for an answer
        await self._flowing.wait()
        if self.is_lost:
            raise RedisConnectionError("Connection closed by server.")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._write(packed, partial(_resolve, answer))
        return await answer

    def begin(self, packed: bytes, heard: Heard) -> bool:
        if self.is_lost or not self._flowing.is_set():
            return False
        self._write(packed, heard)
        return True

    def _write(self, packed: bytes, heard: Heard) -> None:
        now = self._loop.time()
        self._waiting.append((heard, now))
        self._transport.write(packed)
        if self._watch is None:
            self._watch = self._loop.call_at(now + self._seconds, self._look)

    def _look(self) -> None:
        """A reply that takes too long ends the connection: what else is behind it would wait as long."""
        self._watch = None
        if not self._waiting:
            return
        due = self._waiting[0][1] + self._seconds
        if due <= self._loop.time():
            self._lose(RedisTimeoutError(f"no answer within {self._seconds:g} s"))
        else:
            self._watch = self._loop.call_at(due, self._look)

    def close(self) -> None:
        self._lose(RedisConnectionError("closed by this process"))

    def leave(self) -> None:
        """Close when everything that was asked is answered."""
        self._is_leaving = True
        if not self._waiting:
            self.close()

    def _lose(self, error: Exception) -> None:
        self.is_lost = True
        self._transport.abort()
        self._flowing.set()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._waiting:
            heard, _ = self._waiting.popleft()
            heard(error)

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while (reply := self._next()) is not _MORE:
            heard, _ = self._waiting.popleft()
            heard(reply)
        if self._is_leaving and not self._waiting:
            self.close()

    def _next(self) -> Any:
        """The next reply, if it is complete and somebody asked for it."""
        try:
            reply = self._parser.gets()
        except hiredis.ProtocolError as error:
            self._lose(RedisConnectionError(f"not the Redis protocol: {error}"))
            return _MORE
        if reply is not _MORE and not self._waiting:
            self._lose(RedisConnectionError("not the Redis protocol: a reply nobody asked for"))
            return _MORE
        return reply

    def eof_received(self) -> bool:
        return False  # close

    def connection_lost(self, error: Exception | None) -> None:
        if not self.is_lost:
            self._lose(RedisConnectionError(f"Connection closed by server. {error or ''}".strip()))

    def pause_writing(self) -> None:
        self._flowing.clear()

    def resume_writing(self) -> None:
        self._flowing.set()


def _resolve(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():  # its caller was cancelled
        return
    if isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)


class Line:
    """Connects when it is first used and again after every loss. Raises redis-py's errors."""

    def __init__(self, make: Callable[[], AbstractConnection], *, seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._wire: _Wire | None = None
        self._leaving: list[_Wire] = []
        self._opening = asyncio.Lock()
        self._closed = False

    async def execute_command(self, *command: Any) -> Any:
        """Send a command and wait for its reply; `seconds` at most."""
        wire = self._wire
        if wire is None or wire.is_lost:
            if self._closed:
                raise RedisConnectionError("closed by this process")
            wire = await self._open()
        return await wire.ask(command)

    def begin(self, packed: bytes, heard: Heard) -> bool:
        """Send what `pack` made, in this very step; False, and nothing is sent, when no connection is open.

        `heard` is called with the reply or with redis-py's error. For what is asked so often that a coroutine and a
        future for it are a large part of its cost.
        """
        return self._wire is not None and self._wire.begin(packed, heard)

    async def _open(self) -> _Wire:
        async with self._opening:
            if self._wire is not None and not self._wire.is_lost:
                return self._wire
            connection = self._make()
            await connect(connection)
            self._wire = _Wire(connection, self._seconds)
            if self._closed:  # meanwhile
                self._wire.close()
            return self._wire

    def renew(self) -> None:
        """Connect anew for what is asked from now on; what is under way still gets its reply."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._leaving = [one for one in (*self._leaving, wire) if not one.is_lost]
            wire.leave()

    def close(self) -> None:
        """Let go of it; who still waits for a reply gets a connection error."""
        self._closed = True
        for wire in (*self._leaving, self._wire):
            if wire is not None:
                wire.close()


async def connect(connection: AbstractConnection) -> None:
    """Connect, or leave nothing open behind."""
    try:
        with cancellable():
            await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


def hand_over(connection: AbstractConnection) -> asyncio.StreamWriter:
    """The socket of a connection of redis-py, which has no public way to give it away.

    Each side would close the socket, or complain, when it is forgotten: the connection gives it up, the writer has to
    be kept.
    """
    writer = connection._writer  # noqa: SLF001
    if writer is None:
        raise RedisConnectionError("the connection closed while it was made")
    connection._reader = connection._writer = None  # noqa: SLF001
    return writer
