"""What a server tells of itself, and the set-ups that the bus refuses to start on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventbus.errors import Misconfigured, Unavailable
from eventbus.redis.address import parse
from eventbus.redis.connection import Connection
from eventbus.redis.embedded import EmbeddedRedis
from eventbus.redis.keys import ShardKeys
from eventbus.redis.server import OVERRIDES, Server, check, described, has_login, is_local, read, unsafe
from eventbus.redis.survey import look
from tests.conftest import wait_until
from tests.deploy.servers import running
from tests.servers import BINARIES, free_port

GOOD = {"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory": 0, "maxmemory_policy": "noeviction"}


def told(url: str = "redis://localhost/0", **info: Any) -> Server:
    return described(parse(url), GOOD | info)


def overrides(found: Server) -> list[str | None]:
    return [one.override for one in unsafe(found)]


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_good_server_on_this_machine_is_not_refused() -> None:
    assert unsafe(told()) == []


@pytest.mark.parametrize("version", ["5.0.14", "6.0.20", "6.2.19"])
def test_a_server_too_old_for_the_scripts_is_refused_and_nothing_overrides_it(version: str) -> None:
    (found,) = unsafe(told(redis_version=version))
    assert (found.override, version in found.what) == (None, True)


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.2.3", "10.1.0", "255.255.255"])
def test_every_version_from_7_0_on_is_taken(version: str) -> None:
    assert unsafe(told(redis_version=version)) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"])
def test_a_server_that_may_delete_accepted_events_is_refused(policy: str) -> None:
    assert overrides(told(maxmemory=1_000_000, maxmemory_policy=policy)) == ["eviction"]
    assert overrides(told(maxmemory=0, maxmemory_policy=policy)) == []


def test_a_server_that_writes_nothing_to_disk_is_refused() -> None:
    off = told(aof_enabled=0)
    assert overrides(replace(off, snapshots="")) == ["no-persistence"]
    assert overrides(replace(off, snapshots="3600 1")) == []
    assert overrides(replace(told(), snapshots="")) == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis.example.com:6379/0", ["no-auth", "plaintext"]),
        ("redis://10.0.0.5/0", ["no-auth", "plaintext"]),
        ("redis://[2001:db8::1]:6379/0", ["no-auth", "plaintext"]),
        ("redis://user:secret@redis.example.com/0", ["plaintext"]),
        ("redis://redis.example.com/0?password=secret", ["plaintext"]),
        ("rediss://redis.example.com/0", ["no-auth"]),
        ("rediss://redis.example.com/0?ssl_certfile=me.crt", []),
        ("rediss://:secret@redis.example.com/0", []),
        ("redis://localhost.example.com/0", ["no-auth", "plaintext"]),
        ("redis://127.0.0.1@redis.example.com/0", ["no-auth", "plaintext"]),
        ("redis://localhost:6379/0", []),
        ("redis://LOCALHOST/0", []),
        ("redis://127.8.8.8:6379/0", []),
        ("redis://[::1]/0", []),
        ("redis:///0", []),
        ("unix:///run/redis.sock", []),
        ("embedded://./data", []),
    ],
)
def test_a_way_that_leaves_this_machine_needs_a_login_and_encryption(url: str, expected: list[str]) -> None:
    assert overrides(told(url)) == expected


def test_what_is_not_known_is_never_a_reason_to_refuse() -> None:
    assert unsafe(described(parse("redis://localhost/0"), {})) == []
    assert unsafe(described(parse("redis://localhost/0"), {"redis_version": "unheard of", "aof_enabled": 0})) == []


def test_every_override_names_a_refusal_that_there_is() -> None:
    worst = told("redis://10.0.0.5/0", aof_enabled=0, maxmemory=1, maxmemory_policy="allkeys-lru")
    assert sorted(overrides(replace(worst, snapshots="")), key=str) == sorted(OVERRIDES)


def test_a_relative_is_known_by_its_own_name_and_judged_by_what_it_is_compatible_with() -> None:
    found = told(valkey_version="8.1.4", redis_version="7.2.4", server_mode="standalone")
    assert (found.product, found.version, unsafe(found)) == ("Valkey 8.1.4", (7, 2, 4), [])


def test_replicas_are_read_with_what_they_lag_behind() -> None:
    rows: dict[str, Any] = {
        "connected_slaves": 2,
        "slave0": {"ip": "10.0.0.2", "port": 6379, "state": "online", "offset": 9, "lag": 1},
        "slave1": {"ip": "10.0.0.3", "port": 6379, "state": "wait_bgsave", "offset": 0, "lag": -1},
    }
    replicas = told(**rows).replicas
    assert replicas is not None
    assert [(one.place, one.state, one.lag_seconds) for one in replicas] == [
        ("10.0.0.2:6379", "online", 1),
        ("10.0.0.3:6379", "wait_bgsave", None),
    ]


def test_a_login_is_a_password_or_a_client_certificate_but_not_a_name() -> None:
    assert not has_login(parse("redis://user@h/0"))
    assert not has_login(parse("redis://user:@h/0"))
    assert has_login(parse("redis://:secret@h/0"))


def test_an_address_of_several_servers_is_local_only_when_each_is() -> None:
    assert is_local(parse("redis+sentinel://localhost:1,127.0.0.1:2/main/0"))
    assert not is_local(parse("redis+sentinel://localhost:1,10.0.0.5:2/main/0"))
    assert overrides(told("rediss+cluster://:secret@a.example.com,b.example.com")) == []
    assert overrides(told("redis+cluster://a.example.com:1,b.example.com:2")) == ["no-auth", "plaintext"]


# -- on real servers -------------------------------------------------------------------------------------------------


@pytest.fixture(params=sorted(BINARIES))
def binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]


@pytest.fixture
def bare(binary: Path, tmp_path: Path) -> Iterator[int]:
    """A server without persistence."""
    with running(binary, tmp_path) as port:
        yield port


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_real_server_that_keeps_nothing_is_refused_until_it_does_or_somebody_accepts_it(bare: int) -> None:
    async with connected(f"redis://127.0.0.1:{bare}/0") as connection:
        with pytest.raises(Misconfigured, match="CONFIG SET appendonly yes") as refusal:
            await check(connection)
        assert "accept_unsafe: [no-persistence]" in str(refusal.value)
        await check(connection, accept=("no-persistence",))
        with pytest.raises(Misconfigured):
            await check(connection, accept=("eviction",))
        await connection.do("CONFIG SET", "save", "3600 1")
        await check(connection)
        await connection.do("CONFIG SET", "save", "", "appendonly", "yes")
        await check(connection)


async def test_every_reason_is_named_at_once(bare: int) -> None:
    async with connected(f"redis://127.0.0.1:{bare}/0") as connection:
        await connection.do("CONFIG SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(Misconfigured, match=r"(?s)allkeys-lru.*append-only"):
            await check(connection)
        await check(connection, accept=OVERRIDES)


async def test_where_config_is_forbidden_it_is_not_known_and_not_refused(bare: int) -> None:
    """As on managed Redis: no append-only file, and no telling whether there are snapshots."""
    async with connected(f"redis://127.0.0.1:{bare}/0") as connection:
        await connection.do("ACL SETUSER", "default", "-config")
        await check(connection)
        found = await read(connection)
    assert (found.aof, found.snapshots, found.config, found.fsync) == (False, None, None, None)


async def test_a_user_who_may_ask_nothing_is_told_nothing_and_not_refused(bare: int) -> None:
    async with connected(f"redis://127.0.0.1:{bare}/0") as admin:
        await admin.do("ACL SETUSER", "mute", "on", ">secret", "-@all", "+ping", "+select")
    async with connected(f"redis://mute:secret@127.0.0.1:{bare}/0") as connection:
        await check(connection)
        found = await read(connection)
    assert found == Server(found.address, latency_ms=found.latency_ms)


async def test_everything_is_read_from_a_server_that_tells(own_redis: EmbeddedRedis, own_admin: Connection) -> None:
    await own_admin.do("SET", "x", "1")
    found = await read(own_admin)
    assert found.product is not None
    assert found.product.startswith("Redis ")
    assert (found.mode, found.role, found.aof, found.fsync, found.snapshots) == (
        "standalone",
        "master",
        True,
        "everysec",
        "",
    )
    assert (found.aof_written, found.eviction, found.memory_limit, found.replicas) == (True, "noeviction", 0, ())
    assert (found.user, found.keys) == ("default", 1)
    assert found.may == ("FLUSHALL", "FLUSHDB", "KEYS", "CONFIG SET", "DEBUG", "SHUTDOWN", "ACL SETUSER")
    assert found.clock_ahead is not None
    assert abs(found.clock_ahead) < 1
    assert int(await own_admin.do("DBSIZE")) == 1, "asking what a user may do must do nothing"


async def test_newer_commands_are_found_by_asking_for_them(tmp_path: Path) -> None:
    with_it: dict[str, bool] = {}
    for version, path in BINARIES.items():
        home = tmp_path / version
        home.mkdir()
        with running(path, home) as port:
            async with connected(f"redis://127.0.0.1:{port}/0") as connection:
                found = await read(connection)
        assert found.commands is not None
        with_it[version] = "WAITAOF" in found.commands
        if found.product is not None and found.product.startswith("Redis "):
            assert with_it[version] == ((found.version or ()) >= (7, 2))
    assert with_it


async def test_of_a_cluster_the_node_that_holds_the_key_is_asked(binary: Path, tmp_path: Path) -> None:
    keys = ShardKeys()
    with running(binary, tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as port:
        async with connected(f"redis://127.0.0.1:{port}/0") as node:
            await node.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await wait_until(lambda: is_up(node), "the cluster is up")
        async with connected(f"redis+cluster://127.0.0.1:{port}") as connection:
            found = await read(connection, near=keys.log)
            assert (found.mode, found.aof, found.user, found.snapshots) == ("cluster", False, "default", "")
            assert await look(connection, keys) is not None
            with pytest.raises(Misconfigured, match="CONFIG SET appendonly yes"):
                await check(connection, near=keys.log)


async def is_up(node: Connection) -> bool:
    return "cluster_state:ok" in str(await node.do("CLUSTER", "INFO"))


async def test_a_wrong_password_is_said_and_not_taken_for_a_server_that_does_not_tell(bare: int) -> None:
    async with connected(f"redis://127.0.0.1:{bare}/0") as admin:
        await admin.do("CONFIG SET", "requirepass", "secret")
    for url in (f"redis://127.0.0.1:{bare}/0", f"redis://:hunter2@127.0.0.1:{bare}/0"):
        async with connected(url) as connection:
            for ask in (check(connection), read(connection)):
                with pytest.raises(Misconfigured, match="refuses our credentials") as refusal:
                    await ask
                assert "hunter2" not in str(refusal.value)


async def test_a_server_that_is_away_is_not_misconfigured(binary: Path, tmp_path: Path) -> None:
    with running(binary, tmp_path) as port:
        pass
    async with connected(f"redis://127.0.0.1:{port}/0") as connection:
        with pytest.raises(Unavailable):
            await check(connection)
        with pytest.raises(Unavailable):
            await read(connection)


async def test_memory_has_nothing_to_be_checked() -> None:
    async with connected("memory://") as connection:
        await check(connection)
        assert await read(connection) == Server(connection.address)
