"""`make bench`: measure, print the table, draw the picture. One process each side, one real redis-server with AOF
everysec, one machine.

Rounds alternate between the hand-written loop, the bus and the peers, so that a machine whose speed drifts does all of
them the same way; the median of the rounds is shown, and ratios are taken within a round. Nothing else should run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import redis.asyncio
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import by_hand, load, ours, plot
from benchmarks.peers.collect import collect
from benchmarks.workers import Scaling, scale
from eventbus import EventBus
from eventbus.codec import encode
from eventbus.redis.embedded import open_embedded

BATCHES = "publish, in batches"
CONCURRENT = "publish, 200 at once"
ONE_BY_ONE = "publish, one by one"
DRAIN = "drain"
ORDERED = "drain in order, 1,000 keys"
HOT = "drain in order, 10 keys"
GROUPS = "drain, ten groups"
P50 = "latency at 500/s, p50"
P99 = "latency at 500/s, p99"

LATENCY_EVENTS = 1000
PER_SECOND = 500


@dataclass
class Figures:
    """Every figure of every round: rates in events per second, latencies in milliseconds; by side, then by work."""

    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    scaling: list[Scaling] = field(default_factory=list)
    backlog: dict[str, float] = field(default_factory=dict)

    def note(self, side: str, work: str, value: float) -> None:
        """One measurement."""
        self.rounds.setdefault(side, {}).setdefault(work, []).append(value)

    def median(self, side: str, work: str) -> float:
        """Over the rounds."""
        return statistics.median(self.rounds[side][work])

    def ratio(self, one: tuple[str, str], other: tuple[str, str]) -> float:
        """Median of the ratios within each round."""
        pairs = zip(self.rounds[one[0]][one[1]], self.rounds[other[0]][other[1]], strict=True)
        return statistics.median(a / b for a, b in pairs)


async def measure(figures: Figures, url: str, client: redis.asyncio.Redis, events: int, number: int) -> None:
    """One round by hand and on the bus."""
    plain = list(load.plain(events))
    some = plain[: max(1, events // 10)]
    gc.collect()
    await client.delete(by_hand.STREAM)
    figures.note("by hand", BATCHES, await by_hand.publish(client, plain))
    figures.note("by hand", DRAIN, await by_hand.drain(client, events))
    figures.note("by hand", ONE_BY_ONE, await by_hand.publish_one_by_one(client, some))
    await client.delete(by_hand.STREAM)
    await _latencies(figures, "by hand", by_hand.latency(client, list(load.plain(LATENCY_EVENTS)), PER_SECOND))
    await client.delete(by_hand.STREAM)
    async with _bus(url, f"plain{number}") as bus:
        figures.note("bus", BATCHES, await ours.publish_many(bus, plain))
        figures.note("bus", DRAIN, await ours.drain(bus, "bench.measured", "one", events))
        figures.note("bus", GROUPS, await ours.drain_groups(bus, "bench.measured", 10, events))
    async with _bus(url, f"at-once{number}") as bus:
        figures.note("bus", CONCURRENT, await ours.publish_concurrently(bus, list(load.plain(events))))
        figures.note("bus", ONE_BY_ONE, await ours.publish_one_by_one(bus, list(load.plain(len(some)))))
    for work, keys in ((ORDERED, 1000), (HOT, 10)):
        async with _bus(url, f"ordered{number}-{keys}") as bus:
            await bus.publish_many(load.ordered(events, keys))
            figures.note("bus", work, await ours.drain(bus, "bench.ordered", "ordered", events))
    async with _bus(url, f"latency{number}") as bus:
        measured = ours.latency(bus, list(load.plain(LATENCY_EVENTS)), PER_SECOND, "latency")
        await _latencies(figures, "bus", measured)


async def _latencies(figures: Figures, side: str, measured: Awaitable[list[float]]) -> None:
    values = sorted(await measured)
    figures.note(side, P50, values[len(values) // 2])
    figures.note(side, P99, values[len(values) * 99 // 100])


def _bus(url: str, namespace: str) -> AbstractAsyncContextManager[EventBus]:
    return EventBus.open(url, namespace=f"bench-{namespace}")


async def backlog(figures: Figures, url: str, client: redis.asyncio.Redis, small: int, large: int) -> None:
    """Does it matter how much waits? Drain a small and a large log; peak memory of this process, bytes in Redis."""
    for name, count in (("small", small), ("large", large)):
        async with _bus(url, f"backlog-{name}") as bus:
            empty = (await client.info("memory"))["used_memory"]
            for start in range(0, count, 10_000):
                await bus.publish_many(load.plain(min(10_000, count - start)))
            figures.backlog[f"{name} bytes each"] = ((await client.info("memory"))["used_memory"] - empty) / count
            figures.backlog[f"{name} rss before"] = _peak()
            figures.backlog[f"{name} per second"] = await ours.drain(bus, "bench.measured", "g", count)
            figures.backlog[f"{name} rss after"] = _peak()
    figures.backlog |= {"small": small, "large": large}


def _peak() -> float:
    """MiB; never falls."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1024 * 1024 if sys.platform == "darwin" else 1024)


# -- what is aimed at --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """`value` against `goal`; lower is better where `at_most`."""

    work: str
    against: str
    value: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal


def goals(figures: Figures, found: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[Goal]:
    """Every goal that this run can tell about."""

    def bus(work: str) -> tuple[str, str]:
        return "bus", work

    yield Goal(DRAIN, "the loop by hand", figures.ratio(bus(DRAIN), ("by hand", DRAIN)), 0.6)
    yield Goal(ORDERED, "the bus without order", figures.ratio(bus(ORDERED), bus(DRAIN)), 0.55)
    for work in (BATCHES, CONCURRENT):
        yield Goal(work, "pipelined XADD", figures.ratio(bus(work), ("by hand", BATCHES)), 0.9)
    yield Goal(P50, "the loop by hand", figures.ratio(bus(P50), ("by hand", P50)), 1.5, at_most=True)
    yield Goal(GROUPS, "one group", figures.ratio(bus(GROUPS), bus(DRAIN)), 0.8)
    if figures.backlog:
        large, small = figures.backlog["large per second"], figures.backlog["small per second"]
        yield Goal("drain of a large backlog", "of a small one", large / small, 0.9)
    best = {work: _best(found, work) for work in (DRAIN, BATCHES, CONCURRENT, P99)}
    for work, factor in ((DRAIN, 12.0), (BATCHES, 3.0), (CONCURRENT, 3.0)):
        if (peer := best[work]) is not None:
            yield Goal(work, f"best peer, {peer[0]}", figures.median("bus", work) / peer[1], factor)
    if ONE_BY_ONE in found.get("faststream", {}):
        faststream = statistics.median(found["faststream"][ONE_BY_ONE])
        yield Goal(ONE_BY_ONE, "FastStream", figures.median("bus", ONE_BY_ONE) / faststream, 1.0)
    if (peer := best[P99]) is not None:
        yield Goal(P99, f"best peer, {peer[0]}", figures.median("bus", P99) / peer[1], 1.0, at_most=True)


def _best(found: Mapping[str, Mapping[str, Sequence[float]]], work: str) -> tuple[str, float] | None:
    """The best peer at this work. Peers have one way to publish many: their own batch call, else 200 at once."""
    figures = {name: statistics.median(works[work]) for name, works in found.items() if works.get(work)}
    if not figures:
        return None
    name = (min if work.startswith("latency") else max)(figures, key=figures.__getitem__)
    return name, figures[name]


# -- what is shown -----------------------------------------------------------------------------------------------------


def show_works(figures: Figures, found: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    """Medians, a column each side."""
    sides = {**figures.rounds, **found}
    works = list(dict.fromkeys(work for one in sides.values() for work in one))
    table = Table("work", *sides, title="Medians. Higher is better, but for latency")
    for work in works:
        unit, digits = ("ms", ",.2f") if work.startswith("latency") else ("/s", ",.0f")
        cells = [one.get(work) for one in sides.values()]
        table.add_row(work, *("-" if not cell else f"{statistics.median(cell):{digits}} {unit}" for cell in cells))
    return table


def show_goals(aims: Sequence[Goal]) -> Table:
    """Each goal, and whether it is met."""
    table = Table("work", "against", "ratio", "goal", "", title="Goals")
    for one in aims:
        sign = "at most" if one.at_most else "at least"
        mark = "[green]✓ met[/green]" if one.met else "[red]✗ missed[/red]"
        table.add_row(one.work, one.against, f"{one.value:.2f}", f"{sign} {one.goal:g}", mark)
    return table


def show_scaling(scaling: Sequence[Scaling]) -> Table:
    """Worker processes on one log."""
    table = Table("workers", "drained", "Redis' share of its core", title="Scaling")
    for one in scaling:
        table.add_row(str(one.workers), f"{one.per_second:,.0f}/s", f"{one.redis_share:.0%}")
    return table


def _backlog_line(found: Mapping[str, float]) -> str:
    return (
        f"{found['large']:,.0f} events waiting: drained at {found['large per second']:,.0f}/s; {found['small']:,.0f}: "
        f"at {found['small per second']:,.0f}/s. Peak memory: {found['large rss before']:.0f} MiB before, "
        f"{found['large rss after']:.0f} MiB after. {found['large bytes each']:.0f} bytes an event in Redis, "
        "its idempotency key included"
    )


@contextmanager
def _server() -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory() as folder, open_embedded(Path(folder)) as server:
        yield f"embedded://{folder}", server.socket_path


async def _all(given: argparse.Namespace, progress: Progress) -> Figures:
    figures = Figures()
    task = progress.add_task("rounds, backlog, workers", total=given.rounds + 4)
    with _server() as (url, socket_path):
        client = redis.asyncio.Redis.from_url(f"unix://{socket_path}", protocol=2)
        for number in range(given.rounds):
            await measure(figures, url, client, given.events, number)
            progress.advance(task)
        if given.backlog:
            await backlog(figures, url, client, min(10_000, given.backlog), given.backlog)
        progress.advance(task)
        for workers in (1, 2, 4):
            figures.scaling.append(await scale(url, client, workers, 5 * given.events))
            progress.advance(task)
        await client.aclose()
    return figures


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Measure the bus beside a hand-written redis-py loop, and its peers.")
    parser.add_argument("--events", type=int, default=20_000, help="events per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median is shown")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="events of the large backlog; 0: leave it out")
    parser.add_argument("--peer-events", type=int, default=5_000, help="events per measurement of a peer")
    parser.add_argument("--no-peers", action="store_true", help="leave out the other frameworks")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--plot", type=Path, default=Path("benchmarks/results.svg"), help="where the picture goes")
    given = parser.parse_args()
    console = Console()
    size = len(encode(next(load.plain(1))))
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.machine()}, "
        f"{given.events:,} events of {size} bytes, {given.rounds} rounds"
    )
    started = time.perf_counter()
    found: dict[str, dict[str, list[float]]] = {}
    with Progress(console=console, transient=True) as progress:
        figures = asyncio.run(_all(given, progress))
        if not given.no_peers:
            with _server() as (_, socket_path):
                found = collect(socket_path, given.peer_events, given.rounds, progress)
    aims = list(goals(figures, found))
    console.print(show_works(figures, found), show_goals(aims), show_scaling(figures.scaling))
    if figures.backlog:
        console.print(_backlog_line(figures.backlog))
    sides = {**figures.rounds, **found}
    works = dict.fromkeys(work for one in sides.values() for work in one)
    medians = {w: {side: statistics.median(one[w]) for side, one in sides.items() if one.get(w)} for w in works}
    plot.draw(medians, given.plot)
    console.print(f"[dim]took {time.perf_counter() - started:.0f} s; picture: {given.plot}[/dim]")
    if given.json:
        scaling = [asdict(one) for one in figures.scaling]
        given.json.write_text(
            json.dumps({"rounds": figures.rounds, "peers": found, "backlog": figures.backlog, "scaling": scaling})
        )


if __name__ == "__main__":
    main()
