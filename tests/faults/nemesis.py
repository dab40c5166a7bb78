"""Does harm, on a schedule that follows from a seed, and writes down what and when.

Lanes run side by side: one harms programs, one arms their failpoints, one harms Redis and the network before it. Each
lane deals its faults from a shuffled deck, so that every kind has its turn before any comes again.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import product

from eventbus.failpoint import ACTIONS, PLACES
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import script
from tests.faults.checker import Fault
from tests.faults.stage import LEASE, Program, Stage

Harm = Callable[[random.Random], Awaitable[int]]
"""Does one fault and heals it. Returns the pid it was done to, or the number of accepted events it lost, or 0."""

OF_PROGRAMS = ("kill worker", "terminate worker", "stop worker", "kill publisher")
LOSABLE = ("publish", "take", "settle", "retry")
REST = (0.2, 1.2)
"""Seconds between two faults of a lane."""

NTH = (1, 2, 7)
ARMED_SECONDS = 3.0
DISK_BYTES = 8 << 30
CUT_BYTES = (1_000, 100_000)
POWER_CUT = "cut power"
"""Loses accepted events, so it is done only where it is asked for."""


class Nemesis:
    """Run it beside the programs; `faults` is what it did. `only` names the kinds to deal; all but a power cut else."""

    def __init__(self, stage: Stage, seed: int, only: Collection[str] = ()) -> None:
        self.faults: list[Fault] = []
        self._stage = stage
        self._seed = seed
        self._only = only
        self._ending = asyncio.Event()
        self._failpoints = self._deck()

    async def run(self) -> None:
        """Do harm until `stop`; everything is healed when this returns."""
        lanes: list[dict[str, Harm]] = [self._on_programs(), {"failpoint": self._failpoint}, self._on_redis()]
        await asyncio.gather(*(self._lane(number, self._chosen(lane)) for number, lane in enumerate(lanes)))

    def stop(self) -> None:
        """No new fault from now on."""
        self._ending.set()

    def _chosen(self, lane: Mapping[str, Harm]) -> dict[str, Harm]:
        return {
            kind: harm for kind, harm in lane.items() if kind in self._only or (not self._only and kind != POWER_CUT)
        }

    async def _lane(self, number: int, harms: dict[str, Harm]) -> None:
        chance = random.Random(f"{self._seed} {number}")
        while harms:
            for kind in chance.sample(sorted(harms), len(harms)):
                with suppress(TimeoutError):
                    async with asyncio.timeout(chance.uniform(*REST)):
                        await self._ending.wait()
                if self._ending.is_set():
                    return
                start = time.monotonic()
                said = await harms[kind](chance)
                pid, lost = (0, said) if kind == POWER_CUT else (said, 0)
                if pid or kind not in OF_PROGRAMS:  # else there was nobody to do it to
                    self._note(Fault(kind, pid, start, time.monotonic(), lost))

    def _note(self, fault: Fault) -> None:
        self.faults.append(fault)
        with (self._stage.folder / "faults").open("a") as file:
            file.write(f"{json.dumps(asdict(fault))}\n")

    # -- programs --------------------------------------------------------------------------------------------------

    def _on_programs(self) -> dict[str, Harm]:
        workers, publishers = self._stage.workers, self._stage.publishers
        return {
            "kill worker": lambda chance: self._signal(chance, workers, signal.SIGKILL),
            "terminate worker": lambda chance: self._signal(chance, workers, signal.SIGTERM),
            "stop worker": self._stop_worker,
            "kill publisher": lambda chance: self._signal(chance, publishers, signal.SIGKILL),
        }

    async def _signal(self, chance: random.Random, programs: Sequence[Program], number: signal.Signals) -> int:
        victim = chance.choice(programs)
        if not victim.is_up:
            return 0
        victim.signal(number)
        return victim.pid

    async def _stop_worker(self, chance: random.Random) -> int:
        victim = chance.choice(self._stage.workers)
        if not victim.is_up:
            return 0
        pid = victim.pid
        victim.signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(0.3, 3.0) * LEASE)
        victim.signal(signal.SIGCONT)
        return pid

    def _deck(self) -> Iterator[tuple[str, int, str]]:
        """Every place, how often it is passed first, and every action: all of them, again and again."""
        chance = random.Random(f"{self._seed} failpoints")
        every = list(product(PLACES, NTH, ACTIONS))
        while True:
            yield from chance.sample(every, len(every))

    async def _failpoint(self, chance: random.Random) -> int:
        """Kill a program; in its next life it meets a failpoint. One that stopped itself is let go on."""
        place, nth, action = next(self._failpoints)
        programs = self._stage.publishers if place.startswith("publish.") else self._stage.workers
        victim = programs[-1]
        victim.environment = {"EVENTBUS_FAILPOINTS": f"{place}:{nth}:{action}"}
        victim.signal(signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(ARMED_SECONDS):
                await self._ending.wait()
        victim.environment = {}
        victim.signal(signal.SIGCONT)
        return 0

    # -- Redis -----------------------------------------------------------------------------------------------------

    def _on_redis(self) -> dict[str, Harm]:
        network = self._stage.network
        harms: dict[str, Harm] = {
            "kill redis": self._kill_redis,
            "stop redis": self._stop_redis,
            "drop clients": self._drop_clients,
            "forget scripts": self._forget_scripts,
            "squeeze memory": self._squeeze_memory,
            "reset network": self._reset_network,
            "swallow requests": lambda chance: self._swallow(network.up, chance),
            "swallow answers": lambda chance: self._swallow(network.down, chance),
            POWER_CUT: self._cut_power,
        }
        harms |= {f"lose answer of {name}": self._losing(name) for name in LOSABLE}
        if self._stage.server.is_mounted:
            harms["fill disk"] = self._fill_disk
        return harms

    async def _kill_redis(self, chance: random.Random) -> int:
        await self._stage.server.kill()
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        await self._stage.server.start()
        return 0

    async def _cut_power(self, chance: random.Random) -> int:
        server, sequence = self._stage.server, ShardKeys().sequence
        before = int(await server.admin.get(sequence) or 0)
        await server.kill()
        server.cut(chance.randint(*CUT_BYTES))
        await server.start()
        lost = max(0, before - int(await server.admin.get(sequence) or 0))
        await server.rewrite()
        return lost

    async def _stop_redis(self, chance: random.Random) -> int:
        self._stage.server.signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(0.1, 2.0))
        self._stage.server.signal(signal.SIGCONT)
        return 0

    async def _drop_clients(self, chance: random.Random) -> int:
        await self._stage.server.admin.client_kill_filter(_type="normal", skipme=True)
        return 0

    async def _forget_scripts(self, chance: random.Random) -> int:
        await self._stage.server.admin.script_flush()
        return 0

    async def _squeeze_memory(self, chance: random.Random) -> int:
        """Less than what is in use: nothing new is stored, what is under way goes on."""
        admin = self._stage.server.admin
        used = int((await admin.info("memory"))["used_memory"])
        await admin.config_set("maxmemory", used - 1)
        await asyncio.sleep(chance.uniform(0.2, 1.5))
        await admin.config_set("maxmemory", 0)
        return 0

    async def _fill_disk(self, chance: random.Random) -> int:
        """With `appendfsync always` Redis would end (aof.c, flushAppendOnlyFile): everysec for as long as it lasts."""
        server = self._stage.server
        await server.stop_rewriting()
        await server.admin.config_set("appendfsync", "everysec")
        server.resize(server.used() + (1 << 16))
        await asyncio.sleep(chance.uniform(1.0, 2.0))
        server.resize(DISK_BYTES)
        await server.until_it_writes()
        await server.admin.config_set("appendfsync", "always")
        await server.admin.config_set("auto-aof-rewrite-percentage", 100)
        return 0

    # -- the network -----------------------------------------------------------------------------------------------

    def _losing(self, name: str) -> Harm:
        async def lose(chance: random.Random) -> int:
            self._stage.network.lose_answer(script(name).sha.encode(), chance.randint(1, 5))
            await asyncio.sleep(0.3)
            self._stage.network.lose_no_more()
            return 0

        return lose

    async def _reset_network(self, chance: random.Random) -> int:
        self._stage.network.reset()
        return 0

    async def _swallow(self, way: asyncio.Event, chance: random.Random) -> int:
        """What was held back arrives late, or never."""
        way.clear()
        await asyncio.sleep(chance.uniform(0.2, 2.0) * LEASE)
        if chance.random() < 0.5:
            self._stage.network.reset()
        way.set()
        return 0
