"""Addresses: which are understood, what they mean, and that none of them shows a password."""

from __future__ import annotations

import re

import pytest

from eventbus import Misconfigured
from eventbus.redis.address import parse

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("memory://", "memory://"),
        ("memory://tests", "memory://tests"),
        ("embedded://./data", "embedded://./data"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        (f"redis://:{SECRET}@localhost/1", "redis://localhost/1"),
        (f"rediss://ada:{SECRET}@redis.example:6380/0", "rediss://redis.example:6380/0"),
        (f"redis://ada:{SECRET}@[::1]:6379/0", "redis://[::1]:6379/0"),
        (f"redis://localhost/0?password={SECRET}", "redis://localhost/0"),
        (f"unix://:{SECRET}@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        (f"redis://ada:p@ss{SECRET}@localhost/0", "redis://localhost/0"),
        (f"redis+sentinel://ada:{SECRET}@a:1,[::1]:2,c/main/3", "redis+sentinel://a:1,[::1]:2,c/main/3"),
        (f"rediss+sentinel://a/main?sentinel_password={SECRET}", "rediss+sentinel://a/main"),
        (f"redis+cluster://ada:{SECRET}@a:1,b:2", "redis+cluster://a:1,b:2"),
        (f"redis+cluster://ada:{SECRET},@a:1,b:2", "redis+cluster://a:1,b:2"),
        (f"redis+cluster://ada:{SECRET}/@a:1", "redis+cluster://a:1"),
        (f"redis://ada:{SECRET}?@localhost/0", None),
        (f"redis://ada:{SECRET}/@localhost/0", None),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, text: str | None) -> None:
    try:
        shown = parse(url).text
    except Misconfigured as error:
        assert text is None
        shown = str(error)
    else:
        assert shown == text
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "is not an address of the bus; use one of memory://"),
        ("localhost:6379", "is not an address of the bus"),
        ("amqp://localhost", "is not an address of the bus"),
        (f"http://ada:{SECRET}@localhost", "is not an address of the bus"),
        (f"{SECRET}", "is not an address of the bus"),
        ("embedded://", "needs a directory"),
        (f"redis://:{SECRET}@localhost:port/0", "the port is a number"),
        (f"redis://:{SECRET}@localhost:99999/0", "the port is a number up to 65535"),
        (f"redis://:{SECRET}@localhost/main", "the database is a number, such as /0"),
        (f"redis+sentinel://:{SECRET}@localhost:26379", "followed by the master's name"),
        (f"redis+sentinel://:{SECRET}@localhost:26379/main/zero", "followed by the master's name"),
        (f"redis+sentinel://:{SECRET}@/main", "the hosts are HOST:PORT,HOST:PORT"),
        (f"redis+sentinel://:{SECRET}@a:26379,b:port/main", "the hosts are HOST:PORT,HOST:PORT"),
        (f"redis+cluster://:{SECRET}@a:99999", "the hosts are HOST:PORT,HOST:PORT"),
        (f"redis+cluster://:{SECRET}@a:6379,", "the hosts are HOST:PORT,HOST:PORT"),
        (f"redis+cluster://:{SECRET}@a:6379/1", "a cluster has one database"),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_to_write(url: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(says)) as caught:
        parse(url)

    if "@" in url:
        assert SECRET not in str(caught.value)


def test_sentinels_and_their_master_are_read() -> None:
    address = parse("rediss+sentinel://ada:p%40ss@one:1,[::1]:2,three/main-1/4?sentinel_password=own&socket_timeout=2")

    assert address.kind == "sentinel"
    assert address.hosts == (("one", 1), ("::1", 2), ("three", 26379))
    assert (address.master, address.database) == ("main-1", 4)
    assert address.options() == {
        "username": "ada",
        "password": "p@ss",
        "db": 4,
        "ssl": True,
        "sentinel_password": "own",
        "socket_timeout": 2.0,
    }


def test_the_nodes_of_a_cluster_are_read() -> None:
    address = parse("redis+cluster://:secret@one,two:7001/0")

    assert address.kind == "cluster"
    assert address.hosts == (("one", 6379), ("two", 7001))
    assert address.options() == {"password": "secret", "db": 0}
