"""Everything that runs in one fault run: Redis, the network before it, the receiver, workers, publishers, a gateway.

Programs that end before their time, by a fault or by themselves, are started again at once, as a supervisor would.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from eventbus import EventBus
from eventbus.codec import decode
from eventbus.redis.confirm import Durability
from eventbus.redis.keys import ShardKeys
from tests.faults import publisher, worker
from tests.faults.checker import KEYED, PLAIN, SEARCHABLE, Effect, Final, Group
from tests.faults.clock import Clock
from tests.faults.history import is_up, read, rows
from tests.faults.network import Network, open_network
from tests.faults.pair import Pair
from tests.faults.server import Server
from tests.servers import free_port

LEASE = 2.0
"""Seconds; as in a real set-up longer than a permission of the ledger may be old."""

SWEEP_EVERY = 0.3
RETENTION = 5.0
GROUPS = {
    "mail": (["faults.>"], True, PLAIN),
    "pager": (["faults.alert"], False, PLAIN),
    "desk": (["faults.alert"], True, SEARCHABLE),
    "bank": (["faults.alert"], True, KEYED),
}
"""Name to patterns, whether it keeps order, what its effects are."""

WANTED = {
    name: Group(publisher.TOPICS if ">" in patterns[0] else patterns, ordered, effects)
    for name, (patterns, ordered, effects) in GROUPS.items()
}
STOP_SECONDS = 10.0
API_KEY = "the-key-of-a-fault-run"

SHARES = (0.45, 0.45, 0.1)
"""Of the events, by publisher: it publishes itself, it has a spool, it asks the gateway, which takes the most time."""

Topology = Literal["alone", "sentinel"]
"""A server behind a network that can be harmed, or a master and a replica behind Sentinels."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. `rate` is in events per second, over all publishers."""

    events: int = 20_000
    rate: float = 500.0
    workers: int = 3
    publishers: int = len(SHARES)
    keys: int = 200


class Program:
    """One program, kept running until it ends well or is no longer wanted."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.starts = 0
        self.environment: dict[str, str] = {}  # of its next life
        self.clock = Clock(folder / f"{name}.clock")
        clock = ("-m", "tests.faults.clock", str(folder / f"{name}.clock"))
        self._command = [sys.executable, *clock, module, *arguments]
        self._log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = True
        self.done: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start it, and again whenever it ends badly."""
        self.done = asyncio.create_task(self._keep(), name=self.name)

    @property
    def is_up(self) -> bool:
        """Whether it has come so far as to do its work. Killed before, it would never do any on a busy machine."""
        return is_up(self._log.with_suffix(".jsonl"), self.pid)

    @property
    def pid(self) -> int:
        """Its process id, or 0."""
        return self._process.pid if self._process is not None else 0

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _keep(self) -> None:
        with self._log.open("ab") as log:
            while self._wanted:
                self.starts += 1
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "EVENTBUS_FAILPOINT_LOG": str(self._log.parent / "places"), **self.environment},
                )
                code = await self._process.wait()
                if code == 0 and self.name.startswith("publisher"):
                    return

    async def end(self) -> None:
        """SIGTERM; SIGKILL when that does not help."""
        self._wanted = False
        if self.done is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        _, late = await asyncio.wait([self.done], timeout=STOP_SECONDS)
        if late:
            self.signal(signal.SIGKILL)
        await self.done


@dataclass
class Stage:
    """What runs."""

    folder: Path
    url: str
    server: Server | Pair
    network: Network | None
    workers: list[Program] = field(default_factory=list)
    publishers: list[Program] = field(default_factory=list)
    gateway: Program = field(init=False)

    @property
    def programs(self) -> list[Program]:
        """All of ours."""
        return [*self.workers, self.gateway, *self.publishers]

    @property
    def durability(self) -> Durability:
        """What has to confirm an event: where the master may be lost, its replica."""
        return "replica" if isinstance(self.server, Pair) else "memory"

    @property
    def is_published(self) -> bool:
        """Whether every publisher is through."""
        return all(one.done is not None and one.done.done() for one in self.publishers)

    def history(self) -> Iterator[dict[str, Any]]:
        """All lines of all programs."""
        for path in sorted(self.folder.glob("*.jsonl")):
            yield from read(path)

    def effects(self) -> list[Effect]:
        """What the receiver wrote down."""
        path = self.folder / "effects"
        return [Effect(*row) for row in rows(path)] if path.exists() else []

    def places(self) -> set[str]:
        """The failpoints that some program came by."""
        path = self.folder / "places"
        return set(path.read_text().split()) if path.exists() else set()

    @property
    def spooled_bytes(self) -> int:
        """What is in the spools of all programs."""
        return sum(file.stat().st_size for file in self.folder.glob("spool-*/**/*") if file.is_file())

    def sockets(self) -> Path:
        """Where the receiver listens."""
        return self.folder / "receiver.sock"


@asynccontextmanager
async def open_stage(folder: Path, seed: int, size: Size, topology: Topology = "alone") -> AsyncIterator[Stage]:
    """Start everything; at the end nothing is left running."""
    async with _open_redis(folder, topology) as stage, _open_receiver(stage):
        async with EventBus.open(stage.url) as bus:
            for group, (patterns, _, _) in GROUPS.items():
                await bus.declare(group, tuple(patterns))
        port = free_port()
        stage.gateway = _gateway(stage, port)
        stage.workers = [_worker(stage, n) for n in range(size.workers)]
        stage.publishers = [_publisher(stage, n, seed, size, port) for n in range(size.publishers)]
        for one in stage.programs:
            one.begin()
        try:
            yield stage
        finally:
            await asyncio.gather(*(one.end() for one in stage.programs))


@asynccontextmanager
async def _open_redis(folder: Path, topology: Topology) -> AsyncIterator[Stage]:
    if topology == "sentinel":
        pair = await Pair.open(folder / "redis")
        try:
            yield Stage(folder, pair.url, pair, None)
        finally:
            await pair.close()
        return
    server = Server(folder / "redis")
    server.mount()
    try:
        await server.start()
        async with open_network(server.socket_path) as network:
            yield Stage(folder, f"redis://127.0.0.1:{network.port}/0", server, network)
    finally:
        await server.close()


@asynccontextmanager
async def _open_receiver(stage: Stage) -> AsyncIterator[None]:
    receiver = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.receiver", str(stage.sockets()), str(stage.folder / "effects")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert receiver.stdout is not None
    assert receiver.stdin is not None
    try:
        if await receiver.stdout.readline() != b"ready\n":
            raise RuntimeError("the receiver did not start")
        yield
    finally:
        receiver.stdin.close()
        await receiver.wait()


def _gateway(stage: Stage, port: int) -> Program:
    settings = stage.folder / "gateway.yaml"
    events = {"url": stage.url, "spool": str(stage.folder / "spool-gateway"), "durability": stage.durability}
    gateway = {"port": port, "api_keys": [API_KEY], "grace_seconds": 5}
    settings.write_text(yaml.safe_dump({"events": events, "gateway": gateway}))
    arguments = str(settings), str(stage.folder / "gateway.jsonl")
    return Program("gateway", "tests.faults.gateway", arguments, stage.folder)


def _worker(stage: Stage, number: int) -> Program:
    name = f"worker-{number}"
    settings = worker.Settings(
        url=stage.url,
        receiver=str(stage.sockets()),
        history=str(stage.folder / f"{name}.jsonl"),
        lease=LEASE,
        sweep_every=SWEEP_EVERY,
        retention=RETENTION,
        groups=GROUPS,
    )
    return Program(name, "tests.faults.worker", [settings.text()], stage.folder)


def _publisher(stage: Stage, number: int, seed: int, size: Size, port: int) -> Program:
    name = f"publisher-{number}"
    spools, asks_gateway = number == 1, number == 2
    settings = publisher.Settings(
        name=f"p{number}",
        url=f"http://127.0.0.1:{port}" if asks_gateway else stage.url,
        api_key=API_KEY if asks_gateway else "",
        spool=str(stage.folder / f"spool-{name}") if spools else "",
        durability=stage.durability,
        history=str(stage.folder / f"{name}.jsonl"),
        seed=seed,
        events=round(size.events * SHARES[number]),
        rate=size.rate * SHARES[number],
        keys=size.keys // size.publishers,
    )
    return Program(name, "tests.faults.publisher", [settings.text()], stage.folder)


async def finish(stage: Stage, seconds: float) -> Final:
    """Wait until nothing is left to do, at most so long; then what Redis holds."""
    await asyncio.sleep(publisher.LONGEST_DELAY)  # no group's backlog has a scheduled event before it is due
    async with EventBus.open(stage.url) as bus:
        left = await _drained(bus, seconds)
    if any(left.values()):
        await _dump(stage.server, stage.folder / "left")
    final, keys = Final(unfinished=left), ShardKeys()
    for group in GROUPS:
        final.dead[group] = [event async for event in _events(stage.server, keys.dead(group))]
    async for event in _events(stage.server, keys.log):
        final.log[event] = final.log.get(event, 0) + 1
    return final


async def _dump(server: Server | Pair, file: Path) -> None:
    """What the groups' keys hold, and who owns what is pending: for whoever looks for the reason."""
    admin, keys = server.admin, ShardKeys()
    readers = {b"hash": admin.hgetall, b"list": lambda key: admin.lrange(key, 0, -1), b"string": admin.get}
    with file.open("w") as out:
        for group in GROUPS:
            print(group, "pending", await admin.xpending_range(keys.log, group, "-", "+", 100), file=out)
            print(group, "consumers", await admin.xinfo_consumers(keys.log, group), file=out)
        async for key in admin.scan_iter(match=f"{keys.tag}:group:*"):
            kind = await admin.type(key)
            held = await readers[kind](key) if kind in readers else await admin.zcard(key) if kind == b"zset" else kind
            print(key.decode(), held, file=out)


async def _drained(bus: EventBus, seconds: float) -> dict[str, int]:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        backlogs = {group: await bus.backlog(group) for group in GROUPS}
        left = {name: 0 if one is not None and one.is_empty else _size(one) for name, one in backlogs.items()}
        if not any(left.values()) or asyncio.get_running_loop().time() > deadline:
            return left
        await asyncio.sleep(0.1)


def _size(backlog: Any) -> int:
    return 1 if backlog is None else max(1, int(backlog.running + backlog.waiting + backlog.due + backlog.ready))


async def _events(server: Server | Pair, key: str) -> AsyncIterator[str]:
    """The ids of the events in a stream of the bus."""
    after = b"-"
    while found := await server.admin.xrange(key, min=after, count=2000):
        for entry, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", found):
            yield decode(fields[b"t"].decode(), fields[b"e"]).id if b"e" in fields else f"entry {entry.decode()}"
            after = b"(" + entry
