"""From an address to redis-py's client: of one server, of the master behind Sentinels, or of a cluster.

redis-py's own retries are off everywhere: they would repeat a command without our knowing whether it is safe. A cluster
client still follows MOVED and ASK, with which a node says that it did nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fakeredis
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from eventbus.redis.address import Address
from eventbus.redis.faults import understood

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
SENTINEL_SECONDS = 1.0
"""Sentinels answer from memory; one that does not is passed over for the next."""

MAX_CONNECTIONS = 64

_memory: dict[str, fakeredis.FakeServer] = {}

_Node: Any = redis.cluster.ClusterNode  # untyped

AsyncRedis = redis.asyncio.Redis | redis.asyncio.cluster.RedisCluster
SyncRedis = redis.Redis | redis.cluster.RedisCluster


class _AsyncSentinel(redis.asyncio.sentinel.Sentinel):
    """Asks for the master one at a time.

    redis-py puts the Sentinel that answered in front by swapping two places of its list; two that swap at once leave
    one Sentinel there twice and another one not at all.
    """

    def __init__(self, sentinels: Sequence[tuple[str, int]], **options: Any) -> None:
        super().__init__(sentinels, **options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()

    async def discover_master(self, service_name: str) -> Any:
        async with self._asking:
            return await super().discover_master(service_name)


class _Sentinel(redis.sentinel.Sentinel):
    """`_AsyncSentinel` for threads."""

    def __init__(self, sentinels: Sequence[tuple[str, int]], **options: Any) -> None:
        super().__init__(sentinels, **options)  # type: ignore[no-untyped-call]
        self._asking = threading.Lock()

    def discover_master(self, service_name: str) -> Any:
        with self._asking:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]


def _options(address: Address, answer: float, connect: float) -> dict[str, Any]:
    tcp = {} if address.scheme == "unix" else {"socket_keepalive": True}
    return {
        **tcp,
        "protocol": 2,
        "decode_responses": False,
        "socket_connect_timeout": connect,
        "socket_timeout": answer,
        "retry_on_error": [],
    }


def _memory_server(address: Address) -> fakeredis.FakeServer:
    name = address.url.removeprefix("memory://")
    return _memory.setdefault(name, fakeredis.FakeServer()) if name else fakeredis.FakeServer()


def asynchronous(address: Address, socket: Path | None = None) -> AsyncRedis:
    """A client; its first command connects. `socket` is the embedded server's. Raises Misconfigured."""
    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
    common = {**_options(address, ANSWER_SECONDS, CONNECT_SECONDS), "retry": retry, "max_connections": MAX_CONNECTIONS}
    if address.kind == "memory":
        fake: redis.asyncio.Redis = fakeredis.FakeAsyncRedis(server=_memory_server(address), protocol=2)
        return fake
    if socket is not None:
        return redis.asyncio.Redis(unix_socket_path=str(socket), **common)
    with understood(address):
        if address.kind == "cluster":
            nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in address.hosts]
            return redis.asyncio.cluster.RedisCluster(startup_nodes=nodes, **{**common, **_checked(address)})
        if address.kind == "sentinel":
            options, own = _split(address)
            sentinel: Any = _AsyncSentinel(address.hosts, sentinel_kwargs={**own, "retry": retry})
            client: redis.asyncio.Redis = sentinel.master_for(address.master, **{**common, **options})
        else:
            client = redis.asyncio.Redis.from_url(address.url, **common)
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    return client


async def close(client: AsyncRedis) -> None:
    """Close its connections, those to Sentinels and to nodes that left too."""
    await client.aclose()
    if isinstance(client, redis.asyncio.cluster.RedisCluster):
        for nodes in ("nodes_cache", "startup_nodes"):  # aclose passes them over while it looks for the nodes again
            await client.nodes_manager.aclose(nodes)
    elif isinstance(client.connection_pool, redis.asyncio.sentinel.SentinelConnectionPool):
        await client.connection_pool.sentinel_manager.aclose()


def synchronous(address: Address, socket: Path | None, timeout: float) -> SyncRedis:
    """`asynchronous` for code without an event loop; `timeout` is what the caller has for one call.

    A cluster's client connects at once: it may raise redis-py's errors.
    """
    retry = Retry(NoBackoff(), 0)
    half = timeout / 2  # one repeat fits into the caller's time
    common = {**_options(address, half, min(half, CONNECT_SECONDS)), "retry": retry}
    if address.kind == "memory":
        fake: redis.Redis = fakeredis.FakeRedis(server=_memory_server(address), protocol=2)
        return fake
    if socket is not None:
        return redis.Redis(unix_socket_path=str(socket), **common)
    with understood(address):
        if address.kind == "cluster":
            nodes = [_Node(host, port) for host, port in address.hosts]
            return redis.cluster.RedisCluster(startup_nodes=nodes, **{**common, **_checked(address)})
        if address.kind == "sentinel":
            options, own = _split(address)
            sentinel: Any = _Sentinel(address.hosts, sentinel_kwargs={**own, "retry": retry})
            client: redis.Redis = sentinel.master_for(address.master, **{**common, **options})
        else:
            client = redis.Redis.from_url(address.url, **common)
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    return client


def check(address: Address) -> None:
    """Raise Misconfigured for an option that a cluster's nodes would not know; for the others their client does."""
    if address.kind == "cluster":
        with understood(address):
            _checked(address)


def _checked(address: Address) -> dict[str, Any]:
    """The options of a cluster's nodes. Its synchronous client drops unknown ones unseen, so a connection is asked."""
    options = address.options()
    if options.pop("db", 0):
        raise ValueError("a cluster has one database")
    names = {name: value for name, value in options.items() if name not in ("ssl", "max_connections")}
    (redis.SSLConnection if "ssl" in options else redis.Connection)(**names)
    return options


def _split(address: Address) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is for the master, and what is for its Sentinels: their own login, and the same TLS."""
    options = address.options()
    own: dict[str, Any] = {name: options[name] for name in options if name.startswith("ssl")}
    for name in ("username", "password"):
        if (value := options.pop(f"sentinel_{name}", None)) is not None:
            own[name] = value
    times = _options(address, SENTINEL_SECONDS, SENTINEL_SECONDS)
    return options, {**times, **own}
