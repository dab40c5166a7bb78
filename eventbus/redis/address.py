"""Addresses of Redis: what they look like, and how they are shown.

    memory://            fakeredis in this process; `memory://name` is shared by all who open that name here
    embedded://DIR       a real redis-server of our own, kept in DIR (see `embedded`)
    redis://HOST:PORT/DB                          a server
    redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB  the master that these Sentinels call NAME, whoever it is by now
    redis+cluster://HOST:PORT,HOST:PORT           a cluster; any of its nodes will do

rediss is TLS with host name and certificate checked: to the Sentinels too, and to every node. `user:password@` before
the hosts is for Redis itself; Sentinels with a password of their own take `?sentinel_password=`, `?sentinel_username=`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from redis.connection import parse_url

from eventbus.errors import Misconfigured

SENTINEL_PORT = 26379
REDIS_PORT = 6379

_SCHEMES = (
    "memory:// embedded://DIR redis://HOST:PORT/DB rediss://HOST:PORT/DB "
    "redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB redis+cluster://HOST:PORT,HOST:PORT"
)
_KINDS: dict[str, Literal["memory", "embedded", "server", "sentinel", "cluster"]] = {
    "memory": "memory",
    "embedded": "embedded",
    "redis": "server",
    "rediss": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is. `text` is safe to show: it has no password. `hosts`: Sentinels, or nodes of a cluster."""

    scheme: str
    url: str = field(repr=False)
    text: str
    hosts: tuple[tuple[str, int], ...] = ()
    master: str = ""
    database: int = 0

    @property
    def kind(self) -> Literal["memory", "embedded", "server", "sentinel", "cluster"]:
        """What stands behind the address."""
        return _KINDS[self.scheme]

    @property
    def has_shebang(self) -> bool:
        """Whether scripts keep their `#!lua` line there."""
        return self.scheme != "memory"

    @property
    def directory(self) -> Path:
        """Where an embedded server lives."""
        return Path(self.url.removeprefix("embedded://")).expanduser()

    def options(self) -> dict[str, Any]:
        """What the address says besides its hosts, in redis-py's words. Raises ValueError as redis-py does."""
        place, _, query = self.url.partition("://")[2].partition("?")
        login, at, _ = place.rpartition("@")
        understand: Any = parse_url  # untyped
        found: dict[str, Any] = understand(f"redis://{login}{at}host/{self.database}?{query}")
        found = {name: value for name, value in found.items() if name not in ("host", "port")}
        return {**found, "ssl": True} if self.scheme.startswith("rediss") else found


def parse(url: str) -> Address:
    """Read an address. Raises Misconfigured with the forms that are understood."""
    scheme, found, rest = url.partition("://")
    if not found or scheme not in _KINDS:
        raise Misconfigured(f"{_without_password(url)!r} is not an address of the bus; use one of {_SCHEMES}")
    if scheme == "embedded" and not rest:
        raise Misconfigured("embedded:// needs a directory, such as embedded://./data")
    if scheme in ("redis", "rediss"):
        _check_server(url)
    if _KINDS[scheme] in ("sentinel", "cluster"):
        return _with_hosts(scheme, url)
    return Address(scheme, url, _without_password(url))


def _check_server(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may quote a password that stands where the port should
        raise Misconfigured(f"{_without_password(url)!r}: the port is a number up to 65535") from None
    if not re.fullmatch(r"/?\d*", parts.path):
        raise Misconfigured(f"{_without_password(url)!r}: the database is a number, such as /0")


def _with_hosts(scheme: str, url: str) -> Address:
    text = _without_password(url)
    place = url.partition("://")[2].partition("?")[0].rpartition("@")[2]
    names, _, path = place.partition("/")
    port = SENTINEL_PORT if _KINDS[scheme] == "sentinel" else REDIS_PORT
    hosts = []
    for name in names.split(","):
        match = _HOST.fullmatch(name)
        if match is None or int(match[2] or 0) > 65535:
            raise Misconfigured(f"{text!r}: the hosts are HOST:PORT,HOST:PORT; a password is percent-encoded")
        hosts.append((match[1].strip("[]"), int(match[2] or port)))
    master, _, database = path.partition("/")
    if _KINDS[scheme] == "cluster":
        if path not in ("", "0"):
            raise Misconfigured(f"{text!r}: a cluster has one database, so nothing follows the hosts")
        return Address(scheme, url, text, tuple(hosts))
    if not re.fullmatch(r"[A-Za-z0-9._-]+", master) or not re.fullmatch(r"\d*", database):
        raise Misconfigured(f"{text!r}: the hosts are followed by the master's name and a database, such as /main/0")
    return Address(scheme, url, text, tuple(hosts), master, int(database or 0))


def _without_password(url: str) -> str:
    """The address as it may be shown: no user, no password, no options (they may hold one too)."""
    scheme, separator, rest = url.partition("://")
    if scheme in ("memory", "embedded"):
        return url[:200]
    place = rest.rpartition("@")[2].partition("?")[0]
    # A password with an @ or ? of its own can shift what is cut: what does not look like a place is not shown.
    shown = place if re.fullmatch(r"[A-Za-z0-9.:,_/~\[\]-]*", place) else "***"
    return f"{scheme}{separator}{shown}"[:200]
