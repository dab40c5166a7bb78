"""`make bench`: measure, print the table. One process each side, one real redis-server with AOF everysec, one machine.

Rounds alternate between the hand-written loop and the bus, so that a machine whose speed drifts does both alike the
same way; the median of the rounds is shown, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import redis.asyncio
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import by_hand, load, ours
from eventbus import EventBus
from eventbus.codec import encode
from eventbus.redis.embedded import open_embedded


async def measure(events: int, rounds: int, progress: Progress) -> dict[str, dict[str, list[float]]]:
    """Every figure of every round, by name and side."""
    found: dict[str, dict[str, list[float]]] = {}

    def note(name: str, side: str, value: float) -> None:
        found.setdefault(name, {}).setdefault(side, []).append(value)

    task = progress.add_task("rounds", total=rounds * 8)
    with tempfile.TemporaryDirectory() as folder, open_embedded(Path(folder)) as server:
        url = f"unix://{server.socket_path}"
        client = redis.asyncio.Redis.from_url(url, protocol=2)
        for number in range(rounds):
            await client.flushall()
            plain = list(load.plain(events))
            some = plain[: max(1, events // 10)]
            gc.collect()
            note("publish, in batches", "hand", await by_hand.publish(client, plain))
            note("drain", "hand", await by_hand.drain(client, events))
            note("publish, one by one", "hand", await by_hand.publish_one_by_one(client, some))
            await client.delete(by_hand.STREAM)
            for value in await by_hand.latency(client, list(load.plain(1000)), 500):
                note("latency at 500/s", "hand", value)
            progress.advance(task)
            async with EventBus.open(f"embedded://{folder}") as bus:
                note("publish, in batches", "bus", await ours.publish_many(bus, plain))
                progress.advance(task)
                note("drain", "bus", await ours.drain(bus, "bench.measured", f"plain{number}", events))
                progress.advance(task)
                rest = list(load.plain(events))
                note("publish, 200 at once", "bus", await ours.publish_concurrently(bus, rest))
                progress.advance(task)
                note("publish, one by one", "bus", await ours.publish_one_by_one(bus, list(load.plain(len(some)))))
                progress.advance(task)
                for keys in (1000, 10):
                    await client.flushall()
                    await bus.publish_many(load.ordered(events, keys))
                    name = f"drain in order, {keys} keys"
                    note(name, "bus", await ours.drain(bus, "bench.ordered", f"ordered{keys}", events))
                    progress.advance(task)
                await client.flushall()
                for value in await ours.latency(bus, list(load.plain(1000)), 500, "latency"):
                    note("latency at 500/s", "bus", value)
                progress.advance(task)
        await client.aclose()
    return found


async def memory(events: int) -> tuple[float, float, float]:
    """Peak memory (MiB) of this process before and after draining many events, and bytes an event takes in Redis."""
    with tempfile.TemporaryDirectory() as folder, open_embedded(Path(folder)) as server:
        client = redis.asyncio.Redis.from_url(f"unix://{server.socket_path}", protocol=2)
        async with EventBus.open(f"embedded://{folder}") as bus:
            empty = (await client.info("memory"))["used_memory"]
            for start in range(0, events, 10_000):
                await bus.publish_many(load.plain(min(10_000, events - start)))
            used = ((await client.info("memory"))["used_memory"] - empty) / events
            await ours.drain(bus, "bench.nothing", "warm", 0)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            await ours.drain(bus, "bench.measured", "memory", events)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        await client.aclose()
    return before, after, used


def show(found: dict[str, dict[str, list[float]]]) -> Table:
    """Medians and the ratio bus / hand."""
    table = Table("work", "by hand", "the bus", "ratio", title="Higher is better, but for latency")
    for name, sides in found.items():
        if name.startswith("latency"):
            for label, share in (("p50", 0.5), ("p99", 0.99)):
                hand, bus = (_quantile(sides[side], share) for side in ("hand", "bus"))
                table.add_row(f"{name}, {label}", f"{hand:.2f} ms", f"{bus:.2f} ms", f"{bus / hand:.2f}")
            continue
        base = sides.get("hand") or found[_base(name)]["hand"]
        ratio = statistics.median(b / h for b, h in zip(sides["bus"], base, strict=True))
        table.add_row(
            name, f"{statistics.median(base):,.0f}/s", f"{statistics.median(sides['bus']):,.0f}/s", f"{ratio:.2f}"
        )
    return table


def _base(name: str) -> str:
    return "drain" if name.startswith("drain") else "publish, in batches"


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Measure the bus beside a hand-written redis-py loop.")
    parser.add_argument("--events", type=int, default=20_000, help="events per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median is shown")
    parser.add_argument("--memory-events", type=int, default=100_000, help="events drained for the memory figures")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    given = parser.parse_args()
    console = Console()
    size = len(encode(next(load.plain(1))))
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.machine()}, "
        f"{given.events:,} events of {size} bytes, {given.rounds} rounds"
    )
    started = time.perf_counter()
    before, after, each = asyncio.run(memory(given.memory_events))
    with Progress(console=console, transient=True) as progress:
        found = asyncio.run(measure(given.events, given.rounds, progress))
    console.print(show(found))
    console.print(
        f"draining {given.memory_events:,} events: peak memory of the process {before:.0f} MiB before, "
        f"{after:.0f} MiB after; {each:.0f} bytes an event in Redis, its idempotency key included"
    )
    console.print(f"[dim]took {time.perf_counter() - started:.0f} s[/dim]")
    if given.json:
        given.json.write_text(json.dumps({"figures": found, "rss_mib": [before, after], "bytes_each": each}))


if __name__ == "__main__":
    main()
