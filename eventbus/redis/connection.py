"""One open address: commands, scripts, confirmed writes, and what happens after an error.

Addresses are `address`, clients `clients`, errors `faults`, confirmation `confirm`. After any error that another server
may mend, idle connections are dropped and what was known of the server is forgotten: the next command connects anew and
so finds the master of the day. Nothing is repeated here; who calls knows whether that is safe.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import redis.cluster
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import MovedError, NoScriptError, ResponseError

from eventbus.ending import cancellable
from eventbus.errors import EventBusError, Full, Misconfigured, OutcomeUnknown, Unavailable
from eventbus.redis import clients
from eventbus.redis.address import Address, parse
from eventbus.redis.confirm import Command, Confirm, Conversation, Witness, evalsha
from eventbus.redis.ear import listen
from eventbus.redis.embedded import EmbeddedRedis, open_embedded
from eventbus.redis.faults import REDIS_FAULTS, is_missing_group, translate, translated
from eventbus.redis.line import Heard, Line, pack
from eventbus.redis.scripts import Arg, AsyncClient, run, run_sync, script

REVIVAL_SECONDS = 2.0

_Wire = Any  # one of redis-py's connections, which it types only in part


class Connection:
    """An open address: the client, and what has to be let go of with it."""

    def __init__(self, address: Address, client: clients.AsyncRedis, server: EmbeddedRedis | None = None) -> None:
        self.address = address
        self.client = client
        self._server = server
        self._revival = asyncio.Lock()
        self._witness = Witness()
        self._lost = False  # a cluster's slots may have moved
        # fakeredis has no socket to share, and a cluster has many.
        self._line: AsyncClient = client
        if address.kind != "memory" and not isinstance(client, RedisCluster):
            self._line = Line(client.connection_pool.make_connection, seconds=clients.ANSWER_SECONDS)

    @classmethod
    async def open(cls, url: str) -> Connection:
        """Make a client; the first command connects. `embedded://` starts its server here."""
        address = parse(url)
        if address.kind != "embedded":
            return cls(address, clients.asynchronous(address))
        server = await asyncio.to_thread(open_embedded, address.directory)
        return cls(address, clients.asynchronous(address, server.socket_path), server)

    async def do(self, *command: Arg, near: str | None = None) -> Any:
        """One command. Raises our errors.

        `near` is a key: on a cluster, a command without a key of its own goes to the server that holds this one.
        """
        client: AsyncClient = self.client
        try:
            with cancellable():
                if near is not None and isinstance(self.client, RedisCluster):
                    node = await self._node(self.client, near)
                    return await client.execute_command(*command, target_nodes=node)
                return await client.execute_command(*command)
        except REDIS_FAULTS as error:
            raise await self._fault(error) from error

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """One script. Raises our errors."""
        what = script(name, shebang=self.address.has_shebang)
        try:
            with cancellable():
                return await run(self._line, what, keys, args)
        except REDIS_FAULTS as error:
            raise await self._fault(error) from error

    def pack(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> bytes:
        """One script, for `begin`; nothing where that can't work."""
        if not isinstance(self._line, Line):
            return b""
        return pack(("EVALSHA", script(name).sha, len(keys), *keys, *args))

    def begin(self, packed: bytes, heard: Heard) -> bool:
        """Send one script at once; False where no connection is open.

        `heard` gets its reply, or an error for `fail`.
        """
        return bool(packed) and isinstance(self._line, Line) and self._line.begin(packed, heard)

    async def fail(self, error: Exception) -> None:
        """Raise our error for one that `begin` told of. Returns where Redis only does not know the script yet."""
        if not isinstance(error, NoScriptError):
            raise await self._fault(error) from error

    async def run_confirmed(self, name: str, keys: Sequence[str], args: Sequence[Arg], confirm: Confirm) -> Any:
        """One script that always writes, and its confirmation.

        Returns its reply when the write is as safe as asked; raises OutcomeUnknown, naming what was not confirmed, and
        the errors of `run`. A script that wrote nothing would be confirmed at once, whatever came before it.
        """
        if confirm.level == "memory":
            return await self.run(name, keys, args)
        what = script(name, shebang=self.address.has_shebang)
        by_hash, by_text = evalsha(what.sha, what.text, keys, args)
        return await self._write(keys[0], by_hash, confirm, otherwise=by_text)

    async def do_confirmed(self, *command: Arg, confirm: Confirm) -> Any:
        """One command that writes the key it names first, and its confirmation. Raises as `run_confirmed`."""
        return await self._write(str(command[1]), command, confirm)

    async def _write(self, key: str, command: Command, confirm: Confirm, otherwise: Command | None = None) -> Any:
        can_confirm(self.address)
        talk = self._witness.write(command, confirm, otherwise=otherwise)
        seconds = confirm.timeout.total_seconds() + clients.ANSWER_SECONDS
        async with self.mending(), self._wire(key) as wire:
            return await _converse(wire, talk, seconds)

    async def listen(
        self, channel: str, *, began: Callable[[], None], heard: Callable[[bytes], None], silence: float
    ) -> None:
        """Listen on a channel until the connection ends, which raises our errors; see `ear.listen`."""
        async with self.mending():
            if isinstance(self._line, Line):
                connection = self.client.connection_pool.make_connection()  # type: ignore[union-attr]
                await listen(connection, channel, began=began, heard=heard, silence=silence)
            else:
                await self._listen_politely(channel, began, heard, silence)

    async def _listen_politely(
        self, channel: str, began: Callable[[], None], heard: Callable[[bytes], None], silence: float
    ) -> None:
        """Through redis-py's own Pub/Sub: for what has no socket to take over."""
        async with self.pubsub(channel) as pubsub:
            await pubsub.subscribe(channel)
            asked = False
            while True:
                # Without a time limit redis-py would apply its socket time-out and take silence for a broken line.
                message = await pubsub.get_message(timeout=silence)
                if message is None and asked:
                    raise ConnectionError(f"no answer to a PING within {silence:g} s")
                if asked := message is None:
                    await pubsub.ping()
                elif message["type"] == "subscribe":
                    began()
                elif message["type"] == "message":
                    heard(message["data"])

    @asynccontextmanager
    async def pubsub(self, channel: str) -> AsyncIterator[PubSub]:
        """A Pub/Sub connection for this channel. A cluster tells every node what was published on one of them."""
        if isinstance(self.client, RedisCluster):
            await self._node(self.client, channel)  # what subscribes does not look for the nodes itself
        async with self.client.pubsub() as pubsub:
            yield pubsub

    @asynccontextmanager
    async def mending(self) -> AsyncIterator[None]:
        """Raise our errors; after one of them the next command may have to look for its server anew."""
        try:
            with cancellable():
                yield
        except REDIS_FAULTS as error:
            raise await self._fault(error) from error
        except OutcomeUnknown:
            await self._forget()
            raise

    async def _fault(self, error: Exception) -> EventBusError:
        """Our error; where an embedded server does not answer, make sure that somebody keeps it running."""
        ours = translate(error, self.address)
        if isinstance(error, MovedError) and isinstance(self.client, RedisCluster):
            await self.client.nodes_manager.move_slot(error)  # it says where to; other nodes may not know yet
        elif _is_about_the_server(ours, error):
            await self._forget()
        if isinstance(ours, Unavailable) and self._server is not None and not self._revival.locked():
            async with self._revival:
                with suppress(EventBusError):  # the caller's own error says more
                    await asyncio.to_thread(self._server.ensure, REVIVAL_SECONDS)
        return ours

    async def _forget(self) -> None:
        """Drop idle connections, which lead to the same server; one in use is dropped by its own error."""
        self._witness.forget()
        self._lost = True
        if isinstance(self._line, Line):
            self._line.renew()
        if not isinstance(self.client, RedisCluster):
            with suppress(OSError):
                await self.client.connection_pool.disconnect(inuse_connections=False)

    async def _node(self, cluster: RedisCluster, key: str) -> ClusterNode:
        """The node that holds the key, found anew where the last command failed."""
        await cluster.initialize()
        if self._lost:
            await cluster.nodes_manager.initialize()
            self._lost = False
        return cluster.nodes_manager.get_node_from_slot(cluster.keyslot(key))

    @asynccontextmanager
    async def _wire(self, key: str) -> AsyncIterator[_Wire]:
        """A connection of our own for a while, to the server that holds the key."""
        if isinstance(self.client, RedisCluster):
            node = await self._node(self.client, key)
            wire: _Wire = node.acquire_connection()
            try:
                await node.disconnect_if_needed(wire)
                yield wire
            finally:
                node.release(wire)
            return
        pool: Any = self.client.connection_pool
        wire = await pool.get_connection()
        try:
            yield wire
        finally:
            await pool.release(wire)

    async def close(self) -> None:
        """Close the connections; let go of an embedded server."""
        if isinstance(self._line, Line):
            self._line.close()
        await clients.close(self.client)
        if self._server is not None:
            await asyncio.to_thread(self._server.close)


async def _converse(wire: _Wire, talk: Conversation, seconds: float) -> Any:
    """Hold a conversation. Whatever ends it early ends the connection: answers may be on their way."""
    replies: list[Any] | None = None
    try:
        while True:
            batch = talk.send(replies) if replies is not None else next(talk)
            await wire.send_packed_command(wire.pack_commands(batch), check_health=False)
            replies = [await _reply(wire, seconds) for _ in batch]
    except StopIteration as end:
        return end.value
    except BaseException:
        await wire.disconnect(nowait=True)
        raise


async def _reply(wire: _Wire, seconds: float) -> Any:
    try:
        return await wire.read_response(timeout=seconds)
    except ResponseError as error:
        return error


class SyncConnection:
    """`Connection` for code without an event loop. `timeout` is what the caller has for one call, in seconds."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self.address = parse(url)
        self._timeout = timeout
        self._server = open_embedded(self.address.directory) if self.address.kind == "embedded" else None
        self._witness = Witness()
        self._lost = False
        self._making = threading.Lock()
        clients.check(self.address)
        # A cluster's client connects when it is made; here as everywhere the first command does.
        self._client = None if self.address.kind == "cluster" else self._make()

    def _make(self) -> clients.SyncRedis:
        return clients.synchronous(self.address, self._server.socket_path if self._server else None, self._timeout)

    @property
    def client(self) -> clients.SyncRedis:
        """redis-py's client. For a cluster that is not there, raises redis-py's errors."""
        with self._making:
            if self._client is None:
                self._client = self._make()
            return self._client

    def run(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """One script. Raises our errors."""
        what = script(name, shebang=self.address.has_shebang)
        with self._mending():
            return run_sync(self.client, what, keys, args)

    def run_confirmed(self, name: str, keys: Sequence[str], args: Sequence[Arg], confirm: Confirm) -> Any:
        """`Connection.run_confirmed`. It may take `confirm.timeout` longer than another call."""
        if confirm.level == "memory":
            return self.run(name, keys, args)
        can_confirm(self.address)
        what = script(name, shebang=self.address.has_shebang)
        by_hash, by_text = evalsha(what.sha, what.text, keys, args)
        talk = self._witness.write(by_hash, confirm, otherwise=by_text)
        with self._mending(), self._wire(keys[0]) as wire:
            return _converse_sync(wire, talk, confirm.timeout.total_seconds() + self._timeout / 2)

    @contextmanager
    def _mending(self) -> Iterator[None]:
        try:
            with translated(self.address):
                yield
        except Unavailable as error:
            cause = error.__cause__
            if isinstance(cause, MovedError) and isinstance(self._client, redis.cluster.RedisCluster):
                self._client.nodes_manager.move_slot(cause)
            elif _is_about_the_server(error, cause):
                self._forget()
            if self._server is not None:
                with suppress(EventBusError):
                    self._server.ensure(self._timeout / 4)
            raise

    def _forget(self) -> None:
        self._witness.forget()
        self._lost = True
        if self._client is not None and not isinstance(self._client, redis.cluster.RedisCluster):
            with suppress(OSError):
                self._client.connection_pool.disconnect(inuse_connections=False)

    @contextmanager
    def _wire(self, key: str) -> Iterator[_Wire]:
        client = self.client
        if isinstance(client, redis.cluster.RedisCluster):
            if self._lost:
                client.nodes_manager.initialize()
                self._lost = False
            cluster: Any = client
            client = cluster.get_redis_connection(cluster.nodes_manager.get_node_from_slot(cluster.keyslot(key)))
        wire = client.connection_pool.get_connection()
        try:
            yield wire
        finally:
            client.connection_pool.release(wire)

    def close(self) -> None:
        """Close the connections; let go of an embedded server."""
        if self._client is not None:
            self._client.close()
        if self._server is not None:
            self._server.close()


def _converse_sync(wire: _Wire, talk: Conversation, seconds: float) -> Any:
    """`_converse` for code without an event loop."""
    replies: list[Any] | None = None
    try:
        while True:
            batch = talk.send(replies) if replies is not None else next(talk)
            wire.send_packed_command(wire.pack_commands(batch), check_health=False)
            replies = [_reply_sync(wire, seconds) for _ in batch]
    except StopIteration as end:
        return end.value
    except BaseException:
        wire.disconnect()
        raise


def _reply_sync(wire: _Wire, seconds: float) -> Any:
    try:
        return wire.read_response(timeout=seconds)
    except ResponseError as error:
        return error


def can_confirm(address: Address) -> None:
    """Raise Misconfigured where nothing is kept."""
    if address.kind == "memory":
        raise Misconfigured(f"{address.text} keeps nothing: durability aof or replica needs a real Redis")


def _is_about_the_server(error: EventBusError, cause: BaseException | None) -> bool:
    """Whether another server, or another connection, might do better: not where this one is full or lacks a group."""
    return isinstance(error, Unavailable) and not isinstance(error, Full) and not is_missing_group(cause)
