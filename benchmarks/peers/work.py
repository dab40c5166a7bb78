"""The work every peer is given, and the clock: imported by the peers' programs, in their environments.

A program makes a `Peer` of its framework and calls `main`, which prints one JSON line: work to figure, rates in events
per second and latency in milliseconds. A drain ends when the last handler has been called: what the framework does with
that event afterwards is not waited for. Peers run on asyncio's own event
loop, as the bus does. Refuses to report when an event was handled twice or came to the handler as anything but
`Measured`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

AT_ONCE = 200
DATABASE = 1
"""Peers keep to a database of their own, which is emptied between two pieces of work."""

PER_SECOND = 500
MEASURED_LATENCIES = 1000
LONGEST = 600.0
"""Seconds a program may take."""

NOTE = "what a typical event says beside its ids, in two or three short words" + " and a remark to fill it up" * 5


class Measured(BaseModel):
    """The fields of `benchmarks.load.Measured`; as JSON about 300 bytes, which our events have with their envelope."""

    number: int
    name: str
    note: str
    sent: float = 0.0


def make(number: int) -> Measured:
    """Event `number` of a piece of work, sent now."""
    return Measured(number=number, name=f"machine-{number % 100}", note=NOTE, sent=time.perf_counter())


class Tally:
    """What the handler has seen of the events that are expected. Safe to call from several threads."""

    def __init__(self) -> None:
        self._finish: Callable[[], object] = lambda: None
        self.expect(0)

    def expect(self, count: int) -> None:
        """Start again: the events 0 to count - 1, each once."""
        self._expected = count
        self._missing = set(range(count))
        self._wrong = ""
        self.ages: list[float] = []

    def handle(self, event: object) -> None:
        """The whole handler of every peer."""
        if isinstance(event, Measured):
            self.ages.append(time.perf_counter() - event.sent)
            self._missing.discard(event.number)
        else:
            self._wrong = type(event).__name__
        if self._wrong or not self._missing:
            self._finish()

    async def all_handled(self) -> None:
        """Return when every expected event has been handled, each once and validated; else raise."""
        finished = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._finish = lambda: loop.call_soon_threadsafe(finished.set)
        if self._missing:
            await finished.wait()
        if self._wrong:
            raise TypeError(f"a handler was given {self._wrong}, not a validated Measured")
        if len(self.ages) != self._expected:
            raise RuntimeError(f"{self._expected} events were handled {len(self.ages)} times")


@dataclass(frozen=True, slots=True)
class Peer:
    """How one framework publishes, and how it serves the handler, which calls `tally.handle`."""

    tally: Tally
    publish: Callable[[Measured], Awaitable[object]]
    serving: Callable[[], AbstractAsyncContextManager[object]]
    """While it is open, one worker runs in this process."""

    publish_batch: Callable[[Sequence[Measured]], Awaitable[object]] | None = None
    """The framework's own call for many events, where it has one."""

    serving_batches: Callable[[], AbstractAsyncContextManager[object]] | None = None
    """The same worker with a handler that takes a list of events, where the framework has such handlers."""


async def one_by_one(peer: Peer, count: int) -> float:
    """One awaited publish after another."""
    started = time.perf_counter()
    for number in range(count):
        await peer.publish(make(number))
    return count / (time.perf_counter() - started)


async def at_once(peer: Peer, count: int) -> float:
    """200 tasks, each awaiting one publish after another."""
    numbers = iter(range(count))

    async def one() -> None:
        for number in numbers:
            await peer.publish(make(number))

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - started)


async def in_batches(publish_batch: Callable[[Sequence[Measured]], Awaitable[object]], count: int) -> float:
    """200 events a call."""
    started = time.perf_counter()
    for start in range(0, count, AT_ONCE):
        await publish_batch([make(number) for number in range(start, min(count, start + AT_ONCE))])
    return count / (time.perf_counter() - started)


async def drain(tally: Tally, serving: Callable[[], AbstractAsyncContextManager[object]], count: int) -> float:
    """Handle the events that wait, from the start of serving."""
    tally.expect(count)
    started = time.perf_counter()
    async with serving():
        await tally.all_handled()
        return count / (time.perf_counter() - started)


async def latencies(peer: Peer) -> tuple[float, float]:
    """p50 and p99 from before publish until the handler is called, at a steady rate, the worker being warm."""
    async with peer.serving():
        peer.tally.expect(1)
        await peer.publish(make(0))
        await peer.tally.all_handled()
        peer.tally.expect(MEASURED_LATENCIES)
        started = time.perf_counter()
        for number in range(MEASURED_LATENCIES):
            await asyncio.sleep(max(0.0, started + number / PER_SECOND - time.perf_counter()))
            await peer.publish(make(number))
        await peer.tally.all_handled()
    ages = sorted(1000 * age for age in peer.tally.ages)
    return ages[len(ages) // 2], ages[len(ages) * 99 // 100]


async def measure(peer: Peer, redis: Path, count: int) -> dict[str, float]:
    """Every figure this peer has, by the names `benchmarks.run` uses."""
    found: dict[str, float] = {}
    found["publish, one by one"] = await one_by_one(peer, max(1, count // 10))
    if peer.publish_batch is not None:
        empty(redis)
        found["publish, in batches"] = await in_batches(peer.publish_batch, count)
    if peer.serving_batches is not None:
        found["drain, handler of batches"] = await drain(peer.tally, peer.serving_batches, count)
    empty(redis)
    found["publish, 200 at once"] = await at_once(peer, count)
    found["drain"] = await drain(peer.tally, peer.serving, count)
    empty(redis)
    found["latency at 500/s, p50"], found["latency at 500/s, p99"] = await latencies(peer)
    return found


def empty(redis: Path) -> None:
    """Empty the peers' database, by a connection outside of what is measured."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LONGEST)
        connection.connect(str(redis))
        connection.sendall(b"SELECT %d\r\nFLUSHDB SYNC\r\n" % DATABASE)
        answer = b""
        while answer.count(b"\r\n") < 2:
            answer += connection.recv(1000) or b"closed\r\n\r\n"
    if answer != b"+OK\r\n+OK\r\n":
        raise RuntimeError(f"Redis did not empty database {DATABASE}: {answer!r}")


def main(open_peer: Callable[[Path], AbstractAsyncContextManager[Peer]]) -> None:
    """Run a peer's program: `--redis SOCKET --events N`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", type=Path, required=True)
    parser.add_argument("--events", type=int, required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)

    async def run() -> dict[str, float]:
        async with asyncio.timeout(LONGEST), open_peer(given.redis) as peer:
            return await measure(peer, given.redis, given.events)

    empty(given.redis)
    print(json.dumps(asyncio.run(run())))


@contextlib.asynccontextmanager
async def running(worker: Coroutine[object, object, object]) -> AsyncIterator[None]:
    """A worker as a task that is cancelled in the end. Raises what it died of."""
    task = asyncio.create_task(worker)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
