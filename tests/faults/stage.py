"""Everything that runs in one fault run: Redis, the network before it, the receiver, workers and publishers.

Programs that end before their time, by a fault or by themselves, are started again at once, as a supervisor would.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from eventbus import EventBus
from eventbus.codec import decode
from eventbus.redis.keys import ShardKeys
from tests.faults import publisher, worker
from tests.faults.checker import Effect, Final, Group
from tests.faults.history import is_up, read, rows
from tests.faults.network import Network, open_network
from tests.faults.server import Server

LEASE = 1.0
SWEEP_EVERY = 0.3
RETENTION = 5.0
GROUPS = {
    "mail": (["faults.>"], True, False),
    "pager": (["faults.alert"], False, False),
    "desk": (["faults.alert"], True, True),
}
"""Name to patterns, whether it keeps order, whether it goes through the ledger and a look-up."""

WANTED = {
    name: Group(publisher.TOPICS if ">" in patterns[0] else patterns, ordered, once)
    for name, (patterns, ordered, once) in GROUPS.items()
}
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. `rate` is in events per second, over all publishers."""

    events: int = 20_000
    rate: float = 500.0
    workers: int = 3
    publishers: int = 2
    keys: int = 200


class Program:
    """One program, kept running until it ends well or is no longer wanted."""

    def __init__(self, name: str, module: str, settings: str, log: Path) -> None:
        self.name = name
        self.starts = 0
        self.environment: dict[str, str] = {}  # of its next life
        self._command = [sys.executable, "-m", module, settings]
        self._log = log
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
    server: Server
    network: Network
    workers: list[Program] = field(default_factory=list)
    publishers: list[Program] = field(default_factory=list)

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

    def sockets(self) -> Path:
        """Where the receiver listens."""
        return self.folder / "receiver.sock"


@asynccontextmanager
async def open_stage(folder: Path, seed: int, size: Size) -> AsyncIterator[Stage]:
    """Start everything; at the end nothing is left running."""
    server = Server(folder / "redis")
    server.mount()
    programs: list[Program] = []
    receiver = None
    try:
        await server.start()
        async with open_network(server.socket_path) as network:
            stage = Stage(folder, f"redis://127.0.0.1:{network.port}/0", server, network)
            receiver = await _start_receiver(stage)
            async with EventBus.open(stage.url) as bus:
                for group, (patterns, _, _) in GROUPS.items():
                    await bus.declare(group, tuple(patterns))
            stage.workers = [_worker(stage, n) for n in range(size.workers)]
            stage.publishers = [_publisher(stage, n, seed, size) for n in range(size.publishers)]
            programs = [*stage.workers, *stage.publishers]
            for one in programs:
                one.begin()
            try:
                yield stage
            finally:
                await asyncio.gather(*(one.end() for one in programs))
    finally:
        if receiver is not None and receiver.stdin is not None:
            receiver.stdin.close()
            await receiver.wait()
        await server.close()


async def _start_receiver(stage: Stage) -> asyncio.subprocess.Process:
    receiver = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.receiver", str(stage.sockets()), str(stage.folder / "effects")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert receiver.stdout is not None
    if await receiver.stdout.readline() != b"ready\n":
        raise RuntimeError("the receiver did not start")
    return receiver


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
    return Program(name, "tests.faults.worker", settings.text(), stage.folder / f"{name}.log")


def _publisher(stage: Stage, number: int, seed: int, size: Size) -> Program:
    name = f"publisher-{number}"
    settings = publisher.Settings(
        name=f"p{number}",
        url=stage.url,
        history=str(stage.folder / f"{name}.jsonl"),
        seed=seed,
        events=size.events // size.publishers,
        rate=size.rate / size.publishers,
        keys=size.keys // size.publishers,
    )
    return Program(name, "tests.faults.publisher", settings.text(), stage.folder / f"{name}.log")


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


async def _dump(server: Server, file: Path) -> None:
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


async def _events(server: Server, key: str) -> AsyncIterator[str]:
    """The ids of the events in a stream of the bus."""
    after = b"-"
    while found := await server.admin.xrange(key, min=after, count=2000):
        for entry, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", found):
            yield decode(fields[b"t"].decode(), fields[b"e"]).id if b"e" in fields else f"entry {entry.decode()}"
            after = b"(" + entry
