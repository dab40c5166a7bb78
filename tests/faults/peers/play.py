"""One framework through the workload: its programs, a Redis and networks to harm, faults in an order that a seed gives.

Each framework gets the same events and the same deck of faults. Publishers and workers have a network each, so that a
lost answer to a publish is never a worker's. A program that ends is started again at once, as a supervisor would, with
all its processes: they are one worker. Faults end before publishing does, so the last events meet a healed system.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.checker import Effect, Fault
from tests.faults.history import is_up, read, rows
from tests.faults.network import Network, open_network
from tests.faults.peers import work
from tests.faults.peers.count import Numbers, count, is_done
from tests.faults.peers.frameworks import Framework
from tests.faults.server import Server

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("kill worker", "terminate worker", "kill redis", "reset network", "lose answer of publish")
REST = (0.8, 2.0)
"""Seconds between two faults."""

UP_SECONDS = 60.0
GRACE_SECONDS = 15.0
"""Between SIGTERM and SIGKILL."""

HOLD_SECONDS = 10.0
"""Until some handler of a worker surely holds an event: one in 25 events is held."""

AWAY = (0.2, 1.5)
"""Seconds without Redis."""

ANSWER_SECONDS = 30.0
CALM = 0.15
"""The part of the events that is sent when no fault comes any more."""

BOUND_SECONDS = 60.0
"""From the end of publishing until what has no effect counts as lost: twelve times `work.PRESUMED_DEAD`."""

SETTLE_SECONDS = 2.0 * work.PRESUMED_DEAD
"""How long a run goes on when all is done, for what comes a second time."""

PUBLISH_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; `events` and `rate`, in events per second, are over all publishers."""

    events: int = 10_000
    rate: float = 100.0
    faults: int = 35
    workers: int = 3
    publishers: int = 2
    keys: int = 50


class Program:
    """One program, kept running until it ends well or is no longer wanted."""

    def __init__(self, command: list[str], given: work.Settings) -> None:
        self.given = given
        self.starts = 0
        self.pid = 0
        self.done: asyncio.Task[None] | None = None
        self._command = command
        self._wanted = True
        given.history.touch()

    def begin(self) -> None:
        """Start it, and again whenever it ends badly."""
        self.done = asyncio.create_task(self._keep(), name=self.given.name)

    async def _keep(self) -> None:
        environment = {**os.environ, "PYTHONPATH": "", work.VARIABLE: self.given.text()}
        with self.given.history.with_suffix(".log").open("ab") as log:
            while self._wanted:
                self.starts += 1
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                self.pid = process.pid
                code = await process.wait()
                self.kill()  # the rest of it
                if code == 0 and not self._is_worker:
                    return
                await asyncio.sleep(0.1)

    @property
    def _is_worker(self) -> bool:
        return not self.given.events

    def kill(self) -> None:
        """kill -9, all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM to the process that was started."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def is_up(self) -> bool:
        """Whether this life of it got as far as to work."""
        return is_up(self.given.history, self.pid)

    def holds(self) -> bool:
        """Whether a handler holds an event at this moment: that was the last that happened."""
        last = _last_line(self.given.history)
        return last.get("op") == "hold" and time.monotonic() - last["t"] < work.SLOW_SECONDS / 2

    async def end(self) -> None:
        """Stop keeping it, and kill it."""
        self._wanted = False
        self.kill()
        if self.done is not None:
            await self.done


def _last_line(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1000))
        lines = file.read().splitlines()
    with suppress(ValueError, IndexError):
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    return {}


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs."""

    framework: Framework
    folder: Path
    server: Server
    to_workers: Network
    to_publishers: Network
    workers: list[Program]
    publishers: list[Program]

    def history(self) -> Iterator[dict[str, Any]]:
        """Of all programs."""
        for program in (*self.publishers, *self.workers):
            yield from read(program.given.history)

    def effects(self) -> list[Effect]:
        """What the receiver saw."""
        return [Effect(*row) for row in rows(self.folder / "effects")]

    def accepted(self) -> int:
        """Events that were accepted so far."""
        return sum(line["phase"] == "ok" for one in self.publishers for line in read(one.given.history))

    @property
    def is_published(self) -> bool:
        """Whether the publishers came to their end."""
        return all(one.done is not None and one.done.done() for one in self.publishers)


@asynccontextmanager
async def open_stage(framework: Framework, folder: Path, seed: int, size: Size) -> AsyncIterator[Stage]:
    """Start everything; the publishers begin when every worker is up."""
    python = str(await asyncio.to_thread(framework.python))
    (folder / "failed").mkdir(parents=True)
    server = Server(folder / "redis")
    server.mount()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        await server.start()
        to_workers = await stack.enter_async_context(open_network(server.socket_path))
        to_publishers = await stack.enter_async_context(open_network(server.socket_path))
        await stack.enter_async_context(_receiver(folder))

        def program(name: str, arguments: tuple[str, ...], network: Network, events: int) -> Program:
            url = f"redis://127.0.0.1:{network.port}/0"
            rate = size.rate / size.publishers
            given = work.Settings(name, url, str(folder / "receiver"), str(folder), seed, events, rate, size.keys)
            made = Program([python, *(one.format(name=name) for one in arguments)], given)
            stack.push_async_callback(made.end)
            made.begin()
            return made

        workers = [program(f"w{number}", framework.worker, to_workers, 0) for number in range(size.workers)]
        await _until(lambda: all(one.is_up() for one in workers), UP_SECONDS, "the workers are up")
        share = size.events // size.publishers
        publishers = [
            program(f"p{number}", framework.publisher, to_publishers, share) for number in range(size.publishers)
        ]
        yield Stage(framework, folder, server, to_workers, to_publishers, workers, publishers)


@asynccontextmanager
async def _receiver(folder: Path) -> AsyncIterator[None]:
    command = ("-m", "tests.faults.receiver", str(folder / "receiver"), str(folder / "effects"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield
    finally:
        process.stdin.close()
        await process.wait()


class Faults:
    """Does harm in the order of the deck; `done` is what it did."""

    def __init__(self, stage: Stage, seed: int, size: Size) -> None:
        self.done: list[Fault] = []
        self._stage = stage
        self._chance = random.Random(f"{seed} faults")
        self._size = size
        self._harms: dict[str, Callable[[], Awaitable[tuple[int, float]]]] = dict(
            zip(KINDS, (self._kill, self._terminate, self._kill_redis, self._reset, self._lose_answer), strict=True)
        )

    async def run(self) -> None:
        """Harm until the deck is empty, or it is time for calm."""
        deck: list[str] = []
        while len(deck) < self._size.faults:
            deck += self._chance.sample(KINDS, len(KINDS))
        for kind in deck[: self._size.faults]:
            await asyncio.sleep(self._chance.uniform(*REST))
            if self._stage.accepted() > (1 - CALM) * self._size.events:
                return
            pid, start = await self._harms[kind]()
            self.done.append(Fault(kind, pid, start, time.monotonic()))

    async def _worker(self) -> Program:
        worker = self._chance.choice(self._stage.workers)
        await _until(worker.is_up, UP_SECONDS, f"{worker.given.name} is up")
        return worker

    async def _kill(self) -> tuple[int, float]:
        worker = await self._worker()
        with suppress(TimeoutError):  # then it has no work now, and dies all the same
            await _until(worker.holds, HOLD_SECONDS, "a handler is in the middle")
        start, pid = time.monotonic(), worker.pid
        worker.kill()
        return pid, start

    async def _terminate(self) -> tuple[int, float]:
        worker = await self._worker()
        start, pid = time.monotonic(), worker.pid
        worker.terminate()
        try:
            await _until(lambda: worker.pid != pid, GRACE_SECONDS, "it ended")
        except TimeoutError:
            worker.kill()
        return pid, start

    async def _kill_redis(self) -> tuple[int, float]:
        start = time.monotonic()
        await self._stage.server.kill()
        await asyncio.sleep(self._chance.uniform(*AWAY))
        await self._stage.server.start()
        return 0, start

    async def _reset(self) -> tuple[int, float]:
        start = time.monotonic()
        self._stage.to_workers.reset()
        self._stage.to_publishers.reset()
        return 0, start

    async def _lose_answer(self) -> tuple[int, float]:
        network = self._stage.to_publishers
        start, before = time.monotonic(), network.lost
        network.lose_answer(self._stage.framework.publishes, self._chance.randint(1, 5))
        await _until(lambda: network.lost > before, ANSWER_SECONDS, "an answer is lost")
        return 0, start


async def _until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Played:
    """One framework's run. `settled`: seconds from the end of publishing to the last first effect, None when some never
    came; `started`: how often workers were started; `answers_lost`: to publishes."""

    numbers: Numbers
    seconds: float
    settled: float | None
    started: int
    answers_lost: int


async def play(framework: Framework, folder: Path, seed: int, size: Size) -> Played:
    """Run one framework. Raises TimeoutError when its workers do not start or its publishers do not end."""
    began = time.monotonic()
    async with open_stage(framework, folder, seed, size) as stage:
        faults = Faults(stage, seed, size)
        await faults.run()
        await _until(lambda: stage.is_published, PUBLISH_SECONDS, "the publishers came to their end")
        published = time.monotonic()
        settled = None
        while settled is None and time.monotonic() - published < BOUND_SECONDS:
            if is_done(list(stage.history()), stage.effects()):
                settled = time.monotonic() - published
            await asyncio.sleep(0.5)
        await asyncio.sleep(SETTLE_SECONDS)
        numbers = count(list(stage.history()), stage.effects(), faults.done)
        started = sum(one.starts for one in stage.workers)
    return Played(numbers, time.monotonic() - began, settled, started, stage.to_publishers.lost)
