"""An Agent's DogStatsD on a real UDP port or Unix socket: every datagram is read by the published grammar.

An Agent drops what it can't read and says so in its own log only. Here `faults` tells of each, by the rule of
docs.datadoghq.com/developers/dogstatsd/datagram_shell that was broken. What has come in is read when somebody looks.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from starlette.routing import BaseRoute

from integrations.datadog.fake import NAME, TAG
from integrations.testing.fake import FakeService, Recorded

ROOM_UDP, ROOM_UNIX = 1432, 8192
"""Bytes of a datagram: high_throughput, "Use DogStatsD over UDS" and the limits of Datadog's own clients."""
METRIC = re.compile(r"(?P<name>[^:|]*):(?P<value>[^|]*)\|(?P<type>[a-z]+)(?P<rest>(?:\|.*)?)")
EVENT = re.compile(rb"_e\{(\d+),(\d+)\}:")


class FakeAgent(FakeService):
    """`lines` is what it counted; `faults` what it could not read. `path`: of a Unix socket instead of a UDP port."""

    def __init__(self, *, port: int = 0, path: Path | None = None) -> None:
        self._seen: list[Recorded] = []
        self._in: socket.socket | None = None
        self.path = path
        self.lines: list[str] = []
        self.faults: list[str] = []
        super().__init__(port=port)

    def routes(self) -> Sequence[BaseRoute]:
        """None: it speaks no HTTP."""
        return ()

    def settings(self) -> dict[str, Any]:
        """An account that points here."""
        return {"agent": f"unix://{self.path}" if self.path else f"udp://127.0.0.1:{self._port}"}

    def effects(self) -> list[str]:
        """Every line that it counted."""
        self._read()
        assert not self.faults, self.faults
        return list(self.lines)

    @property
    def requests(self) -> list[Recorded]:
        """Every datagram; a probe is none."""
        self._read()
        return self._seen

    @requests.setter
    def requests(self, value: list[Recorded]) -> None:
        self._seen = value

    def go_down(self, status: int = 503) -> None:
        """Nobody listens any more; a status there is none."""
        self._close()

    def come_back(self) -> None:
        """Somebody does again."""
        super().come_back()
        if self._in is None:
            self._open()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._socket.close()

    def _open(self) -> None:
        family = socket.AF_UNIX if self.path else socket.AF_INET
        self._in = socket.socket(family, socket.SOCK_DGRAM)
        self._in.bind(str(self.path) if self.path else ("127.0.0.1", self._port))
        self._in.setblocking(False)

    def _close(self) -> None:
        self._read()
        if self._in is not None:
            self._in.close()
            self._in = None
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        """Take what has arrived."""
        with contextlib.suppress(BlockingIOError):
            while self._in is not None:
                self._take(self._in.recv(65_535))

    def _take(self, datagram: bytes) -> None:
        if not datagram.strip(b"\n"):
            return  # "an empty line": the Agent's parser skips it
        self._seen.append(Recorded("DogStatsD", "", {}, datagram, time.time(), None))
        room = ROOM_UNIX if self.path else ROOM_UDP
        if len(datagram) > room:
            self.faults.append(f"a datagram of {len(datagram):,} bytes")
        for line in datagram.split(b"\n"):
            faults = list(check(line))
            self.faults += faults
            if not faults:
                self.lines.append(line.decode())


def check(line: bytes) -> Iterator[str]:
    """What is wrong with a line."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        yield "The raw datagrams are encoded in UTF-8"
        return
    yield from _check_event(line) if text.startswith("_e{") else _check_metric(text)


def _check_metric(text: str) -> Iterator[str]:
    """`<METRIC_NAME>:<VALUE>|<TYPE>|@<SAMPLE_RATE>|#<TAG_KEY_1>:<TAG_VALUE_1>,<TAG_2>`"""
    found = METRIC.fullmatch(text)
    if found is None:
        yield f"no metric: {text!r}"
        return
    if not NAME.fullmatch(found["name"]):
        yield f"metric name {found['name']!r}"
    if found["type"] not in ("c", "g", "ms", "h", "d"):
        yield f"type {found['type']!r}"
    try:
        if not all(math.isfinite(float(value)) for value in found["value"].split(":")):
            yield f"value {found['value']!r}"
    except ValueError:
        yield f"value {found['value']!r}"
    for field in found["rest"].split("|")[1:]:
        if not field.startswith(("#", "@")):
            yield f"field {field!r}"
    yield from _check_tags(found["rest"])


def _check_event(line: bytes) -> Iterator[str]:
    """`_e{<TITLE_UTF8_LENGTH>,<TEXT_UTF8_LENGTH>}:<TITLE>|<TEXT>|d:...`: "The length (in bytes) of the UTF-8-encoded"
    title and text."""
    head = EVENT.match(line)
    if head is None:
        yield f"no event: {line!r}"
        return
    title, text = int(head[1]), int(head[2])
    rest = line[head.end() :]
    tail = rest[title + 1 + text :]
    if rest[title : title + 1] != b"|" or (tail and not tail.startswith(b"|")) or len(rest) < title + 1 + text:
        yield f"the lengths of the event do not fit: {line!r}"
        return
    if not title:
        yield "an event without a title"
    for field in tail.decode().split("|")[1:]:
        if not field.startswith(("d:", "h:", "k:", "p:", "s:", "t:", "#")):
            yield f"field {field!r}"
        if field.startswith("t:") and field not in ("t:error", "t:warning", "t:info", "t:success"):
            yield f"alert type {field!r}"
        if field.startswith("d:") and not field[2:].isdecimal():
            yield f"time {field!r}"
    yield from _check_tags(tail.decode())


def _check_tags(rest: str) -> Iterator[str]:
    for field in rest.split("|"):
        if field.startswith("#"):
            yield from (f"tag {tag!r}" for tag in field[1:].split(",") if not TAG.fullmatch(tag))
