"""Several worker processes on one log: how the drain grows with them, and how busy Redis is meanwhile.

Run as a program it is one such worker: it drains until it is told that all is done, and writes how much it did.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from benchmarks import load
from eventbus import Event, EventBus

GROUP = "scaling"


@dataclass(frozen=True, slots=True)
class Scaling:
    """`redis_share`: part of one core that Redis used while the workers drained."""

    workers: int
    per_second: float
    redis_share: float


async def scale(url: str, client: redis.asyncio.Redis, workers: int, events: int) -> Scaling:
    """Let this many processes drain this many events, which are published before they start."""
    namespace = f"workers-{workers}"
    async with EventBus.open(url, namespace=namespace) as bus:
        await bus.declare(GROUP, ("bench.measured",))
        processes = [await _start(url, namespace) for _ in range(workers)]
        for process in processes:
            await _line(process)
        for start in range(0, events, 10_000):
            await bus.publish_many(load.plain(min(10_000, events - start)))
        before, started = await _cpu(client), time.perf_counter()
        for process in processes:
            _tell(process, "go")
        while (backlog := await bus.backlog(GROUP)) is None or not backlog.is_empty:  # noqa: ASYNC110  it is Redis' state
            await asyncio.sleep(0.005)
        took, after = time.perf_counter() - started, await _cpu(client)
        for process in processes:
            _tell(process, "end")
        done = [int(await _line(process)) for process in processes]
        await asyncio.gather(*(process.wait() for process in processes))
        if sum(done) != events:
            raise RuntimeError(f"{sum(done)} of {events} events were handled")
    return Scaling(workers, events / took, (after - before) / took)


async def _start(url: str, namespace: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    arguments = ("-m", "benchmarks.workers", url, namespace)
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe)


def _tell(process: asyncio.subprocess.Process, word: str) -> None:
    if process.stdin is not None:
        process.stdin.write(f"{word}\n".encode())


async def _line(process: asyncio.subprocess.Process) -> str:
    if process.stdout is None:
        raise TypeError("started without a pipe")
    return (await process.stdout.readline()).decode().strip()


async def _cpu(client: redis.asyncio.Redis) -> float:
    info: dict[str, Any] = await client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def _work(url: str, namespace: str) -> None:
    done = 0

    async def handle(event: Event[Any]) -> None:
        nonlocal done
        done += 1

    async with EventBus.open(url, namespace=namespace) as bus:
        bus.on("bench.measured", group=GROUP)(handle)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        serving = asyncio.create_task(bus.run())
        await asyncio.to_thread(sys.stdin.readline)
        bus.stop()
        await serving
    print(done, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One worker, started by `scale`.")
    parser.add_argument("url")
    parser.add_argument("namespace")
    given = parser.parse_args()
    asyncio.run(_work(given.url, given.namespace))
