"""From an address to a client, and from Redis' errors to ours.

    memory://            fakeredis in this process; `memory://name` is shared by all who open that name here
    embedded://DIR       a real redis-server of our own, kept in DIR (see `embedded`)
    redis:// rediss://   a server; rediss is TLS with host name and certificate checked

redis-py's own retries are off: they would repeat a command without our knowing whether it is safe.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fakeredis
import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from eventbus.ending import cancellable
from eventbus.errors import EventBusError, Full, Misconfigured, OutcomeUnknown, Unavailable
from eventbus.redis.embedded import EmbeddedRedis, open_embedded
from eventbus.redis.line import Line
from eventbus.redis.scripts import Arg, AsyncClient, run, run_sync, script

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
REVIVAL_SECONDS = 2.0
MAX_CONNECTIONS = 64

_REDIS_FAULTS = (exceptions.RedisError, OSError, TimeoutError)
_SCHEMES = "memory:// embedded://DIR redis://HOST:PORT/DB rediss://HOST:PORT/DB"
# Redis' words for "not now": redis-py has a class for some and takes the word off the text of those.
_PASSING_CLASSES = (
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
)
_MISSING_GROUP = ("NOGROUP", "The XGROUP subcommand requires the key to exist")  # the second is fakeredis' word for it
_PASSING = ("BUSY", "NOREPLICAS", "UNBLOCKED", *_MISSING_GROUP)
_memory: dict[str, fakeredis.FakeServer] = {}


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is. `text` is safe to show: it has no password."""

    scheme: str
    url: str = field(repr=False)
    text: str

    @property
    def has_shebang(self) -> bool:
        """Whether scripts keep their `#!lua` line there."""
        return self.scheme != "memory"


def parse(url: str) -> Address:
    """Read an address. Raises Misconfigured with the forms that are understood."""
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("memory", "embedded", "redis", "rediss", "unix"):
        raise Misconfigured(f"{_without_password(url)!r} is not an address of the bus; use one of {_SCHEMES}")
    if scheme == "embedded" and not rest:
        raise Misconfigured("embedded:// needs a directory, such as embedded://./data")
    if scheme in ("redis", "rediss"):
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:  # its text may quote a password that stands where the port should
            raise Misconfigured(f"{_without_password(url)!r}: the port is a number up to 65535") from None
        if not re.fullmatch(r"/?\d*", parts.path):
            raise Misconfigured(f"{_without_password(url)!r}: the database is a number, such as /0")
    return Address(scheme, url, _without_password(url))


def _without_password(url: str) -> str:
    """The address as it may be shown: no user, no password, no options (they may hold one too)."""
    scheme, separator, rest = url.partition("://")
    if scheme in ("memory", "embedded"):
        return url[:200]
    place = rest.rpartition("@")[2].partition("?")[0]
    # A password with an @ or ? of its own can shift what is cut: what does not look like a place is not shown.
    shown = place if re.fullmatch(r"[A-Za-z0-9.:_/~\[\]-]*", place) else "***"
    return f"{scheme}{separator}{shown}"[:200]


def _options() -> dict[str, Any]:
    return {
        "protocol": 2,
        "decode_responses": False,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "socket_keepalive": True,
    }


def _memory_server(address: Address) -> fakeredis.FakeServer:
    name = address.url.removeprefix("memory://")
    return _memory.setdefault(name, fakeredis.FakeServer()) if name else fakeredis.FakeServer()


class Connection:
    """An open address: the client, and what has to be let go of with it."""

    def __init__(self, address: Address, client: redis.asyncio.Redis, server: EmbeddedRedis | None = None) -> None:
        self.address = address
        self.client = client
        self._server = server
        self._revival = asyncio.Lock()
        # fakeredis has no socket to share.
        self._line: AsyncClient = client
        if address.scheme != "memory":
            self._line = Line(client.connection_pool.make_connection, seconds=ANSWER_SECONDS)

    @classmethod
    async def open(cls, url: str) -> Connection:
        """Make a client; the first command connects. `embedded://` starts its server here."""
        address = parse(url)
        if address.scheme == "memory":
            return cls(address, fakeredis.FakeAsyncRedis(server=_memory_server(address), protocol=2))
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        common = {**_options(), "retry": retry, "retry_on_error": [], "max_connections": MAX_CONNECTIONS}
        if address.scheme == "embedded":
            server = await asyncio.to_thread(open_embedded, _directory(address))
            return cls(address, redis.asyncio.Redis(unix_socket_path=str(server.socket_path), **common), server)
        with _understood(address):
            client = redis.asyncio.Redis.from_url(address.url, **common)
            client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
        return cls(address, client)

    async def do(self, *command: Arg) -> Any:
        """One command. Raises our errors."""
        client: AsyncClient = self.client
        try:
            with cancellable():
                return await client.execute_command(*command)
        except _REDIS_FAULTS as error:
            raise await self._fault(error) from error

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """One script. Raises our errors."""
        what = script(name, shebang=self.address.has_shebang)
        try:
            return await run(self._line, what, keys, args)
        except _REDIS_FAULTS as error:
            raise await self._fault(error) from error

    async def _fault(self, error: Exception) -> EventBusError:
        """Our error; where an embedded server does not answer, make sure that somebody keeps it running."""
        ours = translate(error, self.address)
        if isinstance(ours, Unavailable) and self._server is not None and not self._revival.locked():
            async with self._revival:
                with suppress(EventBusError):  # the caller's own error says more
                    await asyncio.to_thread(self._server.ensure, REVIVAL_SECONDS)
        return ours

    async def close(self) -> None:
        """Close the connections; let go of an embedded server."""
        if isinstance(self._line, Line):
            self._line.close()
        await self.client.aclose()
        if self._server is not None:
            await asyncio.to_thread(self._server.close)


class SyncConnection:
    """`Connection` for code without an event loop."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self.address = parse(url)
        self._timeout = timeout
        self._server: EmbeddedRedis | None = None
        common = {
            **_options(),
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "socket_timeout": timeout / 2,  # one repeat fits into the caller's time
            "socket_connect_timeout": min(timeout / 2, CONNECT_SECONDS),
        }
        self.client: redis.Redis
        if self.address.scheme == "memory":
            self.client = fakeredis.FakeRedis(server=_memory_server(self.address), protocol=2)
        elif self.address.scheme == "embedded":
            self._server = open_embedded(_directory(self.address))
            self.client = redis.Redis(unix_socket_path=str(self._server.socket_path), **common)
        else:
            with _understood(self.address):
                self.client = redis.Redis.from_url(self.address.url, **common)
                self.client.connection_pool.connection_class(**self.client.connection_pool.connection_kwargs)

    def run(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """One script. Raises our errors."""
        what = script(name, shebang=self.address.has_shebang)
        try:
            with translated(self.address):
                return run_sync(self.client, what, keys, args)
        except Unavailable:
            if self._server is not None:
                with suppress(EventBusError):
                    self._server.ensure(self._timeout / 4)
            raise

    def close(self) -> None:
        """Close the connections; let go of an embedded server."""
        self.client.close()
        if self._server is not None:
            self._server.close()


def _directory(address: Address) -> Path:
    return Path(address.url.removeprefix("embedded://")).expanduser()


@contextmanager
def _understood(address: Address) -> Iterator[None]:
    """An option that redis-py does not know is refused when the address is opened. Its texts quote no value."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"{address.text}: {error}") from None


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn what redis-py raises into our errors; the text says where and what to try."""
    try:
        yield
    except _REDIS_FAULTS as error:
        raise translate(error, address) from error


def translate(error: BaseException, address: Address) -> EventBusError:
    """Our error for one of redis-py's. A connection that broke under way means: it may have been done."""
    where = address.text
    said = str(error)
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return Misconfigured(f"{where} refuses our credentials: {_first_line(said)}")
    if isinstance(error, exceptions.OutOfMemoryError) or said.startswith("OOM"):
        return Full(f"{where} has no memory left for new events: raise maxmemory or let workers catch up")
    if said.startswith("MISCONF"):
        return Full(f"{where} can't write to its disk: {_first_line(said)}")
    if "certificate verify failed" in said or "Hostname mismatch" in said:
        return Misconfigured(
            f"the certificate of {where} is not trusted, or is for another host name: "
            "name its authority with ?ssl_ca_certs=FILE, and the host as the certificate has it"
        )
    if said.startswith("Timeout connecting"):
        return Unavailable(f"can't reach Redis at {where}: no answer within {CONNECT_SECONDS:g} s. Is it running?")
    if isinstance(error, exceptions.ConnectionError) and said.startswith("Error") and "connecting to" in said:
        return Unavailable(f"can't reach Redis at {where}: {_reason(said)}. Is it running? Try: redis-cli ping")
    if isinstance(error, exceptions.MaxConnectionsError):
        return Unavailable(f"{where}: all {MAX_CONNECTIONS} connections of this process are in use")
    if isinstance(error, _PASSING_CLASSES) or said.startswith(_PASSING):
        return Unavailable(f"{where} answered: {_first_line(said)}")
    if isinstance(error, exceptions.ResponseError):
        return EventBusError(
            f"{where} refused a command of ours; is a key of the bus in other use? {_first_line(said)}"
        )
    return OutcomeUnknown(f"the connection to {where} broke: {_first_line(said) or type(error).__name__}")


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else ""


def _reason(said: str) -> str:
    """The last sentence of redis-py's text: the system's word, such as `Connection refused`."""
    return _first_line(said).rstrip(".").rpartition(". ")[2] or "no answer"


def is_missing_group(error: BaseException | None) -> bool:
    """True when Redis says that the group or its log is not there (somebody deleted it)."""
    return isinstance(error, exceptions.ResponseError) and any(words in str(error) for words in _MISSING_GROUP)
