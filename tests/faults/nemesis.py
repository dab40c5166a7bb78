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
from functools import partial
from itertools import product

from eventbus.failpoint import ACTIONS, PLACES
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import script
from tests.faults.checker import FAILS_OVER, FREEZES, KILLS_SPOOLERS, NO_REPLICA, Fault
from tests.faults.network import Network
from tests.faults.pair import Pair
from tests.faults.server import Server
from tests.faults.stage import LEASE, Program, Stage

Harm = Callable[[random.Random], Awaitable[int]]
"""Does one fault and heals it. Returns the pid it was done to, or the number of accepted events it lost, or 0."""

OF_PROGRAMS = ("kill worker", "terminate worker", FREEZES, "kill publisher", "kill gateway")
LOSABLE = ("publish", "take", "settle", "retry")
REST = (0.2, 1.2)
"""Seconds between two faults of a lane."""

NTH = (1, 2, 7)
ARMED_SECONDS = 3.0
DISK_BYTES = 8 << 30
CUT_BYTES = (1_000, 100_000)
JUMPS = (1, 60, 3_600, 2 * 86_400)
"""Seconds that a clock jumps at most, forward or back; events are remembered for a day."""

LATE = (0.05, 0.3)
IN_STEP = (1.0, 4.0)
"""Seconds in which replicas can confirm, between two fail-overs."""

SPOOLS_AFTER = 5.0
"""Seconds in which a program surely notices that Redis is away, and spools."""

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
        self._lanes = self._deal()

    async def run(self) -> None:
        """Do harm until `stop`; everything is healed when this returns."""
        await asyncio.gather(*(self._lane(number, lane) for number, lane in enumerate(self._lanes)))

    def stop(self) -> None:
        """No new fault from now on."""
        self._ending.set()

    @property
    def kinds(self) -> set[str]:
        """Of the faults it deals."""
        return {kind for lane in self._lanes for kind in lane}

    def _deal(self) -> list[dict[str, Harm]]:
        """The lanes."""
        lanes: list[dict[str, Harm]] = [self._on_programs(), {"failpoint": self._failpoint}]
        if isinstance(self._stage.server, Pair):
            lanes.append({FAILS_OVER: partial(self._fail_over, self._stage.server)})
        elif self._stage.network is not None:
            lanes.append(self._on_redis(self._stage.server, self._stage.network))
        return [self._chosen(lane) for lane in lanes]

    def _chosen(self, lane: Mapping[str, Harm]) -> dict[str, Harm]:
        return {
            kind: harm for kind, harm in lane.items() if kind in self._only or (not self._only and kind != POWER_CUT)
        }

    async def _lane(self, number: int, harms: dict[str, Harm]) -> None:
        chance = random.Random(f"{self._seed} {number}")
        while harms:
            for kind in chance.sample(sorted(harms), len(harms)):
                if await self._is_over_after(chance.uniform(*REST)):
                    return
                start = time.monotonic()
                said = await harms[kind](chance)
                pid, lost = (0, said) if kind == POWER_CUT else (said, 0)
                if pid or kind not in OF_PROGRAMS:  # else there was nobody to do it to
                    self._note(Fault(kind, pid, start, time.monotonic(), lost))
                if isinstance(self._stage.server, Pair) and kind == FAILS_OVER:  # no fault any more: all goes on
                    await self._come_back(self._stage.server, chance)

    async def _is_over_after(self, seconds: float) -> bool:
        """Wait so long, or until `stop`; whether that was asked for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        return self._ending.is_set()

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
            FREEZES: self._stop_worker,
            "kill publisher": lambda chance: self._signal(chance, publishers, signal.SIGKILL),
            "kill gateway": lambda chance: self._signal(chance, [self._stage.gateway], signal.SIGKILL),
            "jump clocks": self._jump_clocks,
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

    async def _jump_clocks(self, chance: random.Random) -> int:
        """Each program's clock another way, and back."""
        for one in self._stage.programs:
            most = chance.choice(JUMPS)
            one.clock.offset = chance.uniform(-most, most)
        await asyncio.sleep(chance.uniform(0.3, 2.0))
        for one in self._stage.programs:
            one.clock.offset = 0.0
        return 0

    def _deck(self) -> Iterator[tuple[str, int, str]]:
        """Every place, how often it is passed first, and every action: all of them, again and again."""
        chance = random.Random(f"{self._seed} failpoints")
        every = list(product(PLACES, NTH, ACTIONS))
        while True:
            yield from chance.sample(every, len(every))

    async def _failpoint(self, chance: random.Random) -> int:
        """Kill a program; in its next life it meets a failpoint. One that stopped itself is let go on."""
        place, nth, action = next(self._failpoints)
        who_publishes = [self._stage.gateway, *self._stage.publishers[:2]]  # the third one asks the gateway
        victim = chance.choice(who_publishes) if place.startswith("publish.") else self._stage.workers[-1]
        victim.environment = {"EVENTBUS_FAILPOINTS": f"{place}:{nth}:{action}"}
        victim.signal(signal.SIGKILL)
        await self._is_over_after(ARMED_SECONDS)
        victim.environment = {}
        victim.signal(signal.SIGCONT)
        return 0

    # -- Redis -----------------------------------------------------------------------------------------------------

    async def _fail_over(self, pair: Pair, chance: random.Random) -> int:
        """It ends with a master that has no replica; the other one comes back behind it (see `_lane`)."""
        await pair.fail_over()
        return 0

    async def _come_back(self, pair: Pair, chance: random.Random) -> None:
        """On a busy machine the Sentinels may take a living master for dead, and put the stale one in its place: what
        was done meanwhile is forgotten. That is a fail-over too."""
        start, before = time.monotonic(), await pair.epoch()
        await pair.come_back(as_master=chance.random() < 0.5)
        self._note(Fault(NO_REPLICA, 0, start, time.monotonic()))
        await self._is_over_after(chance.uniform(*IN_STEP))
        if await pair.epoch() != before:
            self._note(Fault(FAILS_OVER, 0, start, time.monotonic()))

    def _on_redis(self, server: Server, network: Network) -> dict[str, Harm]:
        harms: dict[str, Harm] = {
            "kill redis": partial(self._kill_redis, server),
            KILLS_SPOOLERS: partial(self._kill_who_spools, server),
            "stop redis": partial(self._stop_redis, server),
            "drop clients": partial(self._drop_clients, server),
            "forget scripts": partial(self._forget_scripts, server),
            "squeeze memory": partial(self._squeeze_memory, server),
            "reset network": partial(self._reset, network),
            "delay network": partial(self._delay, network),
            "drip network": partial(self._drip, network),
            "swallow requests": partial(self._swallow, network, network.up),
            "swallow answers": partial(self._swallow, network, network.down),
            POWER_CUT: partial(self._cut_power, server),
        }
        harms |= {f"lose answer of {name}": partial(self._lose_answer, network, name) for name in LOSABLE}
        if server.is_mounted:
            harms["fill disk"] = partial(self._fill_disk, server)
        return harms

    async def _kill_redis(self, server: Server, chance: random.Random) -> int:
        await server.kill()
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        await server.start()
        return 0

    async def _kill_who_spools(self, server: Server, chance: random.Random) -> int:
        """Redis is away until something is spooled; then whoever spooled it is killed, and Redis comes back."""
        before = self._stage.spooled_bytes
        await server.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(SPOOLS_AFTER):
                while self._stage.spooled_bytes <= before:  # noqa: ASYNC110  other processes write it
                    await asyncio.sleep(0.02)
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        for one in (self._stage.gateway, self._stage.publishers[1]):
            one.signal(signal.SIGKILL)
        await server.start()
        return 0

    async def _cut_power(self, server: Server, chance: random.Random) -> int:
        sequence = ShardKeys().sequence
        before = int(await server.admin.get(sequence) or 0)
        await server.kill()
        server.cut(chance.randint(*CUT_BYTES))
        await server.start()
        lost = max(0, before - int(await server.admin.get(sequence) or 0))
        await server.rewrite()
        return lost

    async def _stop_redis(self, server: Server, chance: random.Random) -> int:
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(0.1, 2.0))
        server.signal(signal.SIGCONT)
        return 0

    async def _drop_clients(self, server: Server, chance: random.Random) -> int:
        await server.admin.client_kill_filter(_type="normal", skipme=True)
        return 0

    async def _forget_scripts(self, server: Server, chance: random.Random) -> int:
        await server.admin.script_flush()
        return 0

    async def _squeeze_memory(self, server: Server, chance: random.Random) -> int:
        """Less than what is in use: nothing new is stored, what is under way goes on."""
        used = int((await server.admin.info("memory"))["used_memory"])
        await server.admin.config_set("maxmemory", used - 1)
        await asyncio.sleep(chance.uniform(0.2, 1.5))
        await server.admin.config_set("maxmemory", 0)
        return 0

    async def _fill_disk(self, server: Server, chance: random.Random) -> int:
        """With `appendfsync always` Redis would end (aof.c, flushAppendOnlyFile): everysec for as long as it lasts.

        A disk that filled up under load left Redis 7.0.15 a file that it wrote on and would not load at the next start
        ("Bad file format"), also without a rewrite at the same time; the cause was not isolated. So it writes a new one
        before anything else happens to it.
        """
        await server.stop_rewriting()
        await server.admin.config_set("appendfsync", "everysec")
        server.resize(server.used() + (1 << 16))
        await asyncio.sleep(chance.uniform(1.0, 2.0))
        server.resize(DISK_BYTES)
        await server.until_it_writes()
        await server.admin.config_set("appendfsync", "always")
        await server.rewrite()
        await server.admin.config_set("auto-aof-rewrite-percentage", 100)
        return 0

    # -- the network -----------------------------------------------------------------------------------------------

    async def _lose_answer(self, network: Network, name: str, chance: random.Random) -> int:
        network.lose_answer(script(name).sha.encode(), chance.randint(1, 5))
        await asyncio.sleep(0.3)
        network.lose_no_more()
        return 0

    async def _reset(self, network: Network, chance: random.Random) -> int:
        network.reset()
        return 0

    async def _delay(self, network: Network, chance: random.Random) -> int:
        network.late = LATE
        await asyncio.sleep(chance.uniform(0.5, 2.0))
        network.late = (0.0, 0.0)
        return 0

    async def _drip(self, network: Network, chance: random.Random) -> int:
        network.drips = True
        await asyncio.sleep(chance.uniform(0.5, 2.0))
        network.drips = False
        return 0

    async def _swallow(self, network: Network, way: asyncio.Event, chance: random.Random) -> int:
        """What was held back arrives late, or never."""
        way.clear()
        await asyncio.sleep(chance.uniform(0.2, 2.0) * LEASE)
        if chance.random() < 0.5:
            network.reset()
        way.set()
        return 0
