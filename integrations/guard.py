"""Which addresses a request may go to, where others choose the URL: the public internet, and what the config excepts.

The check is made on what is connected to, not on what was looked up before: a name is resolved once, every one of its
addresses has to pass, and the connection goes to exactly those. A name that answers differently the next time gains
nothing (DNS rebinding). The name itself still goes into `Host` and into the TLS handshake, and the certificate has to
be its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

import httpcore

from integrations.errors import Misconfigured, Unreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Stream = httpcore.AsyncNetworkStream

STAGGER_SECONDS = 0.25
"""Between attempts to connect to the addresses of one name (RFC 8305, section 5, "Connection Attempt Delay")."""

_SPECIAL = {
    ipaddress.ip_network(network): why
    for network, why in {
        # IANA IPv4 Special-Purpose Address Registry, with multicast; the anycast blocks of AS112 and AMT serve nobody.
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by a provider's customers",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved for protocols",
        "192.0.2.0/24": "for documentation",
        "192.31.196.0/24": "reserved for protocols",
        "192.52.193.0/24": "reserved for protocols",
        "192.88.99.0/24": "a 6to4 relay",
        "192.168.0.0/16": "private",
        "192.175.48.0/24": "reserved for protocols",
        "198.18.0.0/15": "for benchmarks",
        "198.51.100.0/24": "for documentation",
        "203.0.113.0/24": "for documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
        # IANA IPv6 Special-Purpose Address Registry. What is outside global unicast is refused as a whole, see below.
        "::1/128": "loopback",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
        "ff00::/8": "multicast",
        "2001::/23": "reserved for protocols, Teredo among them",
        "2001:db8::/32": "for documentation",
        "2002::/16": "6to4",
        "2620:4f:8000::/48": "reserved for protocols",
        "3fff::/20": "for documentation",
    }.items()
}
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""IANA IPv6 Address Space: all that is handed out for use between networks."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052, section 2.1: an IPv4 address stands in the last 32 bits."""

METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, Oracle, DigitalOcean, OpenStack
            "169.254.170.2",  # AWS ECS
            "169.254.170.23",  # AWS EKS
            "168.63.129.16",  # Azure's host agent: a public address
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle classic
            "fd00:ec2::254",  # AWS
            "fd00:ec2::23",  # AWS EKS
            "fd20:ce::254",  # Google
        ),
    )
)
"""Where clouds hand out credentials, by the vendors' manuals. No name and no network excepts them, only the address."""

_SYSTEM_PORTS = 1024
"""RFC 6335, section 6. Below it only the ports of HTTP are connected to: no other service shall read what we send."""
_HTTP_PORTS = (80, 443)
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
"""The last label of a host that some resolvers read as an IPv4 address (WHATWG URL, "ends in a number checker")."""


class Guard:
    """What may be connected to: public addresses, and `allow`: networks (CIDR), addresses and host names."""

    def __init__(self, allow: Collection[str] = ()) -> None:
        read = [exception(one) for one in allow]
        self._names = {one for one in read if isinstance(one, str)}
        self._networks = [one for one in read if not isinstance(one, str)]

    def why_not_host(self, host: str, port: int) -> str | None:
        """What is wrong with a host as the URL has it, before anything is looked up; None when nothing is."""
        bare, address = _bare(host), _literal(host)
        if address is not None and self._excepts(address):
            return None
        if address is not None and (why_not := self.why_not(host, address)):
            return why_not
        if address is None and ("%" in host or _NUMBER.fullmatch(bare.rpartition(".")[2])):
            return f"{host} is an odd way to write an address: write it as 192.0.2.1 or [2001:db8::1]"
        if bare in self._names:
            return None
        if (bare == "localhost" or bare.endswith(".localhost")) and not self._networks:
            return f"{host} is this machine (RFC 6761, section 6.3){_EXCEPT.format(bare)}"
        if port < _SYSTEM_PORTS and port not in _HTTP_PORTS:
            return f"port {port} is not for HTTP: 80, 443 and those from {_SYSTEM_PORTS} are connected to"
        return None

    def why_not(self, host: str, address: Address) -> str | None:
        """What is wrong with an address of a host; None when nothing is."""
        if self._excepts(address):
            return None
        address = _meant(address)
        if address in METADATA:
            return f"{_named(host, address)} hands out the credentials of a cloud's machine"
        why = _why_special(address)
        if why is None or _bare(host) in self._names:
            return None
        return f"{_named(host, address)} is not public ({why}){_EXCEPT.format(address)}"

    def _excepts(self, address: Address) -> bool:
        """Whether the config excepts it: by a network, one of the metadata addresses only by itself."""
        address = _meant(address)
        within = [one for one in self._networks if one.version == address.version and address in one]
        return any(one.num_addresses == 1 for one in within) if address in METADATA else bool(within)


_EXCEPT = '; where it is meant, except it: `allow_private: ["{}"]`'


def exception(text: str) -> Network | str:
    """A network, or a host name in lower case. ValueError for what is neither."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        name = _bare(text)
    if not re.fullmatch(r"(?!-)[a-z0-9-]+(\.[a-z0-9-]+)*", name) or _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise ValueError(f"{text[:80]!r} is no network such as 10.0.0.0/8, no address and no host name") from None
    return name


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects for httpcore, to what a guard lets pass. `timeout` bounds the look-up and all attempts together.

    Raises Misconfigured for a host that can never pass, Unreachable for a name with a wrong address: that may change.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._tcp = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> Stream:
        """A connection to the first address that takes one."""
        why_not = self._guard.why_not_host(host, port)
        if why_not is not None:
            raise Misconfigured(f"not connected: {why_not}")

        async def connect(address: Address) -> Stream:
            return await self._tcp.connect_tcp(str(address), port, None, local_address, socket_options)

        try:
            async with asyncio.timeout(timeout):
                return await _first([lambda a=a: connect(a) for a in await self._checked(host, port)])  # type: ignore[misc]
        except TimeoutError:
            raise httpcore.ConnectTimeout from None

    async def _checked(self, host: str, port: int) -> list[Address]:
        """All addresses of a host, each of which may be connected to. One that may not spoils them all."""
        addresses = await _addresses(host, port)
        for address in addresses:
            why_not = self._guard.why_not(host, address)
            if why_not is not None:
                raise Unreachable(f"not connected: {why_not}")
        return addresses

    async def sleep(self, seconds: float) -> None:
        """httpcore waits through its backend."""
        await asyncio.sleep(seconds)


async def _addresses(host: str, port: int) -> list[Address]:
    """What a host resolves to, IPv6 and IPv4 by turns in the resolver's order (RFC 8305, section 4)."""
    literal = _literal(host)
    if literal is not None:
        return [literal]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError from error
    every = dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    by_turns = zip_longest(*([a for a in every if a.version == version] for version in (6, 4)))
    return [address for address in chain.from_iterable(by_turns) if address is not None]


async def _first(calls: Sequence[Callable[[], Coroutine[Any, Any, Stream]]]) -> Stream:
    """The first connection that is made; a call begins when the one before has failed, or takes STAGGER_SECONDS."""
    waiting = list(calls)
    running: set[asyncio.Task[Stream]] = set()
    error: BaseException = httpcore.ConnectError("no address")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(waiting.pop(0)()))
            after = STAGGER_SECONDS if waiting else None
            done, _ = await asyncio.wait(running, timeout=after, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                running.discard(task)
                if task.exception() is None:
                    running |= done - {task}
                    return task.result()
                error = task.exception() or error
    finally:
        await _drop(running)
    raise error


async def _drop(tasks: Collection[asyncio.Task[Stream]]) -> None:
    """Give up on connections that came too late, those too that were made in the same moment."""
    for task in tasks:
        task.cancel()
    for made in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(made, BaseException):
            await made.aclose()


def _literal(host: str) -> Address | None:
    """The address that a host is written as, in the one way that everybody reads alike."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None else address


def _bare(host: str) -> str:
    return host.lower().removesuffix(".")


def _meant(address: Address) -> Address:
    """Where packets go: the IPv4 address inside a mapped one (RFC 4291, section 2.5.5.2) or behind a NAT64."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _why_special(address: Address) -> str | None:
    for network, why in _SPECIAL.items():
        if address.version == network.version and address in network:
            return why
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return "no global unicast address"
    return None


def _named(host: str, address: Address) -> str:
    return host if _literal(host) == address else f"{host} has the address {address}, which"
