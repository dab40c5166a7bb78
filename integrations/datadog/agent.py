"""An Agent's DogStatsD: datagrams over UDP or a Unix socket. It answers nothing, so nothing can be known for sure.

What can be known: over a Unix socket, and over UDP on this machine, whether anybody listens. The kernel then tells the
very socket that was sent on (udp(7): a connected socket gets the ICMP errors of what it sent), which is why every
delivery has a socket of its own.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from integrations.errors import IntegrationError, NotReady, OutcomeUnknown, Rejected, Unreachable
from integrations.exchange import record

PROBE = b"\n"
"""An empty line, which an Agent passes over: nothing is counted."""
PROBE_SECONDS = 0.05


class Agent:
    """Where DogStatsD listens: `udp://host:port` or `unix:///path`."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def send(self, datagrams: Sequence[bytes]) -> None:
        """Hand datagrams to the kernel. Raises Unreachable when nobody listens, which on another machine stays unseen;
        OutcomeUnknown when that comes out after the first of several."""
        began, answer = time.perf_counter(), "sent; DogStatsD answers nothing"
        try:
            with await self._connected() as connection:
                for number, datagram in enumerate(datagrams):
                    self._send_one(connection, datagram, is_first=number == 0)
        except IntegrationError as error:
            answer = error.detail
            raise
        finally:
            size = sum(map(len, datagrams))
            record(f"DogStatsD {self._address}, {size:,} bytes", answer, (time.perf_counter() - began) * 1000)

    async def probe(self) -> str:
        """What can be known without counting anything, in words. Raises Unreachable when nobody listens."""
        with await self._connected() as connection:
            self._send_one(connection, PROBE, is_first=True)
            if connection.family == socket.AF_UNIX:
                return "an Agent listens"
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await asyncio.get_running_loop().sock_recv(connection, 1)
            except OSError as error:
                if not isinstance(error, TimeoutError):
                    raise Unreachable(self._nobody(error)) from None
        return "nothing speaks against it; DogStatsD answers nothing"

    async def _connected(self) -> socket.socket:
        connection: socket.socket | None = None
        try:
            family, where = await self._where()
            connection = socket.socket(family, socket.SOCK_DGRAM)
            connection.setblocking(False)
            connection.connect(where)
        except OSError as error:
            if connection is not None:
                connection.close()
            raise Unreachable(self._nobody(error)) from None
        return connection

    async def _where(self) -> tuple[int, Any]:
        if self._address.startswith("unix://"):
            return socket.AF_UNIX, self._address.removeprefix("unix://")
        parts = urlsplit(self._address)
        host = parts.hostname or ""
        try:
            family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
        except ValueError:  # a name, which may have another address by now
            found = await asyncio.get_running_loop().getaddrinfo(host, parts.port, type=socket.SOCK_DGRAM)
            return found[0][0], found[0][4]
        return family, (host, parts.port)

    def _send_one(self, connection: socket.socket, datagram: bytes, *, is_first: bool) -> None:
        try:
            connection.send(datagram)
            # On this machine the ICMP error is there by now.
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))  # noqa: TRY301
        except BlockingIOError:
            raise self._cut_short(
                NotReady(f"{self._address}: the Agent is too slow, its buffer is full"), is_first
            ) from None
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise Rejected(f"{self._address} takes no datagram of {len(datagram):,} bytes") from None
            raise self._cut_short(Unreachable(self._nobody(error)), is_first) from None

    def _cut_short(self, error: IntegrationError, is_first: bool) -> IntegrationError:
        return error if is_first else OutcomeUnknown(f"{error.detail}; some of it was sent before")

    def _nobody(self, error: OSError) -> str:
        return f"{self._address}: {error.strerror or error}: is an Agent running, with DogStatsD on?"
