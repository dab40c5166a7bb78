"""A connection that listens on one channel of Pub/Sub. As in `line`, redis-py connects and the socket is ours: its own
listening makes a task and a time-out for every message, and the doorbell rings with every event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from eventbus.redis.line import connect, hand_over, pack

_MORE = object()


async def listen(
    connection: AbstractConnection,
    channel: str,
    *,
    began: Callable[[], None],
    heard: Callable[[bytes], None],
    silence: float,
) -> None:
    """Connect and listen until the connection ends, which raises one of redis-py's errors.

    `began` is called when Redis has confirmed. After `silence` seconds without a word Redis is asked for one, and after
    as long again given up.
    """
    await connect(connection)
    await _Ear(connection, began, heard).listen(channel, silence)


class _Ear(asyncio.Protocol):
    """An established connection that listens on one channel."""

    def __init__(
        self, connection: AbstractConnection, began: Callable[[], None], heard: Callable[[bytes], None]
    ) -> None:
        self._writer = hand_over(connection)
        self._heard = heard
        self._began = began
        self._parser = hiredis.Reader(replyError=BaseParser.parse_error, notEnoughData=_MORE)
        self._spoke = True
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writer.transport.set_protocol(self)

    async def listen(self, channel: str, silence: float) -> None:
        """Until the connection ends, which raises. After `silence` seconds without a word it is asked for one."""
        self._writer.transport.write(pack(("SUBSCRIBE", channel)))
        asked = False
        try:
            while not self._end.done():
                await asyncio.wait([self._end], timeout=silence)
                if not self._spoke and asked:
                    raise RedisTimeoutError(f"no answer to a PING within {silence:g} s")
                if asked := not self._spoke:
                    self._writer.transport.write(pack(("PING",)))
                self._spoke = False
            self._end.result()
        finally:
            self._end.cancel()
            self._writer.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._spoke = True
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not _MORE:
                if isinstance(reply, Exception):
                    self._lose(reply)
                elif reply[0] == b"message":
                    self._heard(reply[2])
                elif reply[0] == b"subscribe":
                    self._began()
        except Exception as error:  # noqa: BLE001  whoever waits in `listen` has to know
            self._lose(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(RedisConnectionError(f"Connection closed by server. {error or ''}".strip()))

    def _lose(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_exception(error)
