"""Where this process connects to while a test looks on, and which of its sockets are still open afterwards.

It stands at Python's own sockets, below every HTTP library, so no client can go around it by accident. What does not
belong to the settings is refused before a packet leaves the machine.
"""

from __future__ import annotations

import socket
import weakref
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest


class Network:
    """`contacted` holds the hosts of the settings that were connected to, `strangers` every other."""

    def __init__(self, settings: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self._known = set(_hosts(settings))
        self._sockets: list[weakref.ref[socket.socket]] = []
        self.contacted: set[str] = set()
        self.strangers: set[str] = set()
        connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

        def watched_connect(own: socket.socket, address: Any) -> None:
            self._check(own, address)
            connect(own, address)

        def watched_connect_ex(own: socket.socket, address: Any) -> int:
            self._check(own, address)
            return connect_ex(own, address)

        def watched_look_up(host: Any, *more: Any, **named: Any) -> Any:
            self._note(str(host))
            return look_up(host, *more, **named)

        monkeypatch.setattr(socket.socket, "connect", watched_connect)
        monkeypatch.setattr(socket.socket, "connect_ex", watched_connect_ex)
        monkeypatch.setattr(socket, "getaddrinfo", watched_look_up)

    @property
    def open_sockets(self) -> list[socket.socket]:
        """Those that connected and were not closed."""
        alive = (one() for one in self._sockets)
        return [one for one in alive if one is not None and one.fileno() != -1]

    def _check(self, own: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):  # else a socket of this machine's file system
            self._note(str(address[0]))
            self._sockets.append(weakref.ref(own))

    def _note(self, host: str) -> None:
        if host not in self._known:
            self.strangers.add(host)
            raise ConnectionRefusedError(f"{host} is none of the hosts in the settings")
        self.contacted.add(host)


def _hosts(value: object) -> Iterator[str]:
    """Every text in the settings that may name a host: an address, or the host alone."""
    if isinstance(value, str):
        yield value
        try:
            yield from filter(None, [urlsplit(value).hostname])
        except ValueError:  # a text that only looks like an address
            return
    elif isinstance(value, Mapping):
        yield from _hosts(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _hosts(one)
