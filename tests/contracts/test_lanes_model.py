"""Workers that publish, take, lose replies, freeze and die at random, over the real scripts on both backends.

After every step what Redis holds is compared with what must be so whatever happened; at the end of a run everything
is drained and each event has to be done once or dead once, in the order of its key. A run is made by its seed:

    EVENTBUS_MODEL_RUNS   how many runs on each backend (default: 200 on redis, 30 on memory)
    EVENTBUS_MODEL_SEED   the first seed (default 1)

No run sleeps. A worker falls silent when its lease is moved into the past, and so is the time of a retry.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Letter, Retry, Shard, Taken

LEASE = timedelta(hours=1)
LATER_MS = 3_600_000
POISON = 3
RUNS = {"memory": 30, "redis": 200}

STEPS = {
    "publish": 10,
    "take": 26,
    "lost_take": 5,
    "settle": 22,
    "lost_settle": 4,
    "stale": 6,
    "retry": 8,
    "leave": 3,
    "bury": 2,
    "crash": 9,
    "freeze": 8,
    "thaw": 8,
    "sweep": 14,
    "recover": 2,
    "time_passes": 5,
    "trim": 5,
    "arrive": 10,
}


@dataclass
class Worker:
    """One consumer as it sees itself. `lost`: a reply of take did not arrive, so it has to recover first."""

    name: str
    holds: dict[str, Taken] = field(default_factory=dict)
    frozen: bool = False
    lost: bool = False


@dataclass(frozen=True)
class State:
    """All that Redis knows of the group."""

    owners: dict[str, tuple[str, int]]
    log: dict[str, str]
    ready: list[str]
    suspects: list[str]
    due: list[str]
    next: dict[str, str]
    tail: dict[str, str]
    attempts: dict[str, int]
    crashes: dict[str, int]

    def owned_by(self, consumer: str) -> dict[str, int]:
        return {entry_id: fence for entry_id, (owner, fence) in self.owners.items() if owner == consumer}


class Run:
    """One random history, and what has to be true of it."""

    def __init__(self, connection: Connection, namespace: str, seed: int, seen: Counter[str]) -> None:
        self.random = random.Random(seed)
        self.connection = connection
        self.shard = Shard(connection, ShardKeys(namespace))
        self.seen = seen
        self.workers: dict[str, Worker] = {}
        self.names = 0
        self.published: dict[str, tuple[int, str, bool]] = {}  # entry id: number, ordering key, wanted
        self.ghosts: list[tuple[str, Taken]] = []
        self.finished: list[str] = []
        self.dead: list[str] = []
        self.attempts: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.state = State({}, {}, [], [], [], {}, {}, {}, {})

    async def play(self) -> None:
        await self.shard.declare("g", ["vm.*"], from_now=False)
        await self.arrive()
        await self.arrive()
        steps: dict[str, Callable[[], Awaitable[None]]] = {name: getattr(self, name) for name in STEPS}
        for _ in range(self.random.randrange(30, 110)):
            name = self.random.choices(list(STEPS), list(STEPS.values()))[0]
            await steps[name]()
            await self.check(name)
        await self.drain()

    # -- steps ---------------------------------------------------------------------------------------------------------

    async def publish(self) -> None:
        letters: list[Letter] = []
        for _ in range(self.random.choice([1, 2, 3, 5, 13])):
            number = len(self.published) + len(letters) + 1
            topic = "task.done" if self.random.random() < 0.1 else "vm.created"
            key = self.random.choice([None, None, "a", "a", "b", "c"])
            letters.append(Letter(topic, key, str(number), str(number), "print", 60_000, str(number).encode()))
        for letter, stored in zip(letters, await self.shard.publish(letters), strict=True):
            assert (stored.status, str(stored.sequence)) == ("stored", letter.event_id)
            self.published[stored.entry_id] = (stored.sequence, letter.key or "", letter.topic == "vm.created")

    async def take(self) -> None:
        if worker := self.awake():
            await self.recover_if_lost(worker)
            for one in await self.take_for(worker):
                if one.entry_id in worker.holds:  # lost while frozen, and taken again
                    self.seen["taken again"] += 1
                    self.ghosts.append((worker.name, worker.holds[one.entry_id]))
                worker.holds[one.entry_id] = one

    async def lost_take(self) -> None:
        if worker := self.awake():
            await self.recover_if_lost(worker)
            self.ghosts += [(worker.name, one) for one in await self.take_for(worker)]
            worker.lost = True

    async def take_for(self, worker: Worker) -> list[Taken]:
        count = self.random.randrange(1, 9)
        ask = not any(one.suspect for one in worker.holds.values())
        batch = await self.shard.take("g", worker.name, count, lease=LEASE, suspects=ask, ordered=True)
        assert len(batch.taken) <= count
        assert sum(one.suspect for one in batch.taken) <= ask, "one suspect at most, and only for who asked"
        for one in batch.taken:
            number, key, wanted = self.published[one.entry_id]
            assert wanted
            assert (one.sequence, one.key, one.wire) == (number, key, str(number).encode())
            assert one.attempt == self.attempts[one.entry_id] + 1
            assert one.suspect == (self.crashes[one.entry_id] >= 2)
            self.seen["suspects"] += one.suspect
        return batch.taken

    async def recover_if_lost(self, worker: Worker) -> None:
        if worker.lost:
            known = [(one.entry_id, one.fence) for one in worker.holds.values()]
            self.seen["recovered"] += await self.shard.recover("g", worker.name, known)
            worker.lost = False

    async def recover(self) -> None:
        if worker := self.awake():
            worker.lost = True
            await self.recover_if_lost(worker)

    async def settle(self) -> None:
        if worker := self.awake(holding=True):
            await self.settle_for(worker, self.some(worker))

    async def lost_settle(self) -> None:
        """The reply is lost; what the worker sends again finds nothing of its own."""
        if worker := self.awake(holding=True):
            some = self.some(worker)
            await self.settle_for(worker, some)
            again = [(one.entry_id, one.fence, one.key) for one in some]
            assert not any(await self.shard.settle("g", worker.name, again))

    async def settle_for(self, worker: Worker, some: list[Taken]) -> None:
        ours = await self.shard.settle("g", worker.name, [(one.entry_id, one.fence, one.key) for one in some])
        assert ours == [self.owns(worker.name, one) for one in some]
        for one, mine in zip(some, ours, strict=True):
            self.drop(worker, one)
            if mine:
                self.finish(one.entry_id)
            else:
                self.seen["fenced"] += 1

    async def stale(self) -> None:
        """Somebody who lost a delivery, or was never told of it, comes back with it."""
        if not self.ghosts:
            return
        name, one = self.random.choice(self.ghosts)
        if self.owns(name, one):
            return  # a lost reply nobody has recovered yet
        self.seen["stale"] += 1
        done = [(one.entry_id, one.fence, one.key)]
        assert await self.shard.settle("g", name, done) == [False]
        for delay in (0, LATER_MS):
            assert await self.shard.retry("g", name, [Retry(one.entry_id, one.fence, delay, True)]) == [False]
        assert not await self.shard.bury("g", name, one, key=one.key, reason="rejected", error="", attempts=1)
        assert await self.read() == self.state, "a stale owner changes nothing"

    async def retry(self) -> None:
        if worker := self.awake(holding=True):
            again = []
            for one in self.some(worker):
                counts = self.random.random() < 0.7
                again.append(Retry(one.entry_id, one.fence, self.random.choice([0, LATER_MS]), counts))
                self.attempts[one.entry_id] += counts and self.owns(worker.name, one)
            await self.retry_for(worker, again)

    async def leave(self) -> None:
        """In good order: hand back, say good-bye."""
        if worker := self.awake():
            await self.recover_if_lost(worker)
            await self.retry_for(worker, [Retry(one.entry_id, one.fence, 0, False) for one in worker.holds.values()])
            await self.shard.beat(worker.name, timedelta())
            del self.workers[worker.name]

    async def retry_for(self, worker: Worker, again: list[Retry]) -> None:
        known = [worker.holds[one.entry_id] for one in again]
        assert await self.shard.retry("g", worker.name, again) == [self.owns(worker.name, one) for one in known]
        for one in known:
            self.drop(worker, one)

    async def bury(self) -> None:
        if worker := self.awake(holding=True):
            one = self.some(worker)[0]
            mine = self.owns(worker.name, one)
            call = self.shard.bury("g", worker.name, one, key=one.key, reason="rejected", error="", attempts=1)
            assert await call == mine
            self.drop(worker, one)
            if mine:
                self.dead.append(one.entry_id)
                self.finish(one.entry_id)

    async def crash(self) -> None:
        if self.workers:
            worker = self.workers.pop(self.random.choice(list(self.workers)))
            await self.silence(worker.name)
            self.ghosts += [(worker.name, one) for one in worker.holds.values()]

    async def freeze(self) -> None:
        if worker := self.awake():
            worker.frozen = True
            await self.silence(worker.name)

    async def thaw(self) -> None:
        if frozen := [worker for worker in self.workers.values() if worker.frozen]:
            worker = self.random.choice(frozen)
            worker.frozen = False
            await self.shard.beat(worker.name, LEASE)

    async def sweep(self) -> None:
        silent = await self.silent()
        expected: list[str] = []
        for entry_id, (owner, _) in self.state.owners.items():
            if owner in silent:
                self.crashes[entry_id] += 1
                if self.crashes[entry_id] >= POISON:
                    expected.append(entry_id)
        held = sum(owner in silent for owner, _ in self.state.owners.values())
        back, _, buried = await self.shard.sweep("g", poison_limit=POISON)
        assert sorted(one.entry_id for one in buried) == sorted(expected)
        assert back == held - len(expected)
        self.seen["poison"] += len(buried)
        for one in buried:
            self.dead.append(one.entry_id)
            self.finish(one.entry_id)

    async def time_passes(self) -> None:
        """For the retries that are due; the leases of who beats are long."""
        for entry_id in self.state.due:
            if self.random.random() < 0.7:
                await self.connection.do("ZADD", self.shard.keys.group("g")[8], 1, entry_id)

    async def trim(self) -> None:
        self.seen["trimmed"] += await self.shard.trim(timedelta())

    async def arrive(self) -> None:
        if len(self.workers) < 5:
            self.names += 1
            self.workers[f"w{self.names}"] = Worker(f"w{self.names}")

    # -- what the steps are made of ------------------------------------------------------------------------------------

    def awake(self, *, holding: bool = False) -> Worker | None:
        awake = [one for one in self.workers.values() if not one.frozen and (one.holds or not holding)]
        return self.random.choice(awake) if awake else None

    def some(self, worker: Worker) -> list[Taken]:
        return self.random.sample(list(worker.holds.values()), self.random.randint(1, len(worker.holds)))

    def owns(self, consumer: str, one: Taken) -> bool:
        return self.state.owners.get(one.entry_id) == (consumer, one.fence)

    def drop(self, worker: Worker, one: Taken) -> None:
        del worker.holds[one.entry_id]
        self.ghosts.append((worker.name, one))

    def finish(self, entry_id: str) -> None:
        self.finished.append(entry_id)
        del self.attempts[entry_id], self.crashes[entry_id]

    async def silence(self, consumer: str) -> None:
        await self.connection.do("ZADD", self.shard.keys.alive, 1, consumer)

    async def silent(self) -> set[str]:
        owners = {owner for owner, _ in self.state.owners.values() if not owner.startswith("~")}
        scores = {name: await self.connection.do("ZSCORE", self.shard.keys.alive, name) for name in owners}
        return {name for name, score in scores.items() if score is None or float(score) == 1}

    # -- what must be so -----------------------------------------------------------------------------------------------

    async def read(self) -> State:
        names = self.shard.keys.group("g")
        log, (tail, behind, ready, suspects, due, attempts, crashes) = names[0], names[4:11]
        pipe: Any = self.connection.client.pipeline(transaction=False)
        pipe.xpending_range(log, "g", "-", "+", 10_000)
        pipe.xrange(log)
        for name in (ready, suspects):
            pipe.lrange(name, 0, -1)
        pipe.zrange(due, 0, -1)
        for name in (behind, tail, attempts, crashes):
            pipe.hgetall(name)
        pending, entries, *reply = await pipe.execute()
        lists = [[one.decode() for one in found] for found in reply[:3]]
        lanes = [{name.decode(): value.decode() for name, value in table.items()} for table in reply[3:5]]
        counts = [{name.decode(): int(value) for name, value in table.items()} for table in reply[5:]]
        return State(
            owners={row["message_id"].decode(): (row["consumer"].decode(), row["times_delivered"]) for row in pending},
            log={entry_id.decode(): fields[b"k"].decode() for entry_id, fields in entries},
            ready=lists[0],
            suspects=lists[1],
            due=lists[2],
            next=lanes[0],
            tail=lanes[1],
            attempts=counts[0],
            crashes=counts[1],
        )

    async def check(self, step: str) -> None:
        now = self.state = await self.read()
        assert not now.owners.keys() - now.log.keys(), f"{step}: an unfinished entry was trimmed"
        assert not now.owners.keys() & set(self.finished), f"{step}: a finished entry is still pending"
        holders = Counter(now.log[one] for one, (owner, _) in now.owners.items() if owner != "~wait" and now.log[one])
        assert not holders or max(holders.values()) == 1, f"{step}: a key has two holders: {holders}"
        assert sorted(now.ready + now.suspects) == sorted(now.owned_by("~ready")), f"{step}: ready"
        assert sorted(now.due) == sorted(now.owned_by("~due")), f"{step}: due"
        assert sorted(now.next.values()) == sorted(now.owned_by("~wait")), f"{step}: waiting"
        assert all(now.owners.get(one) for one in now.next), f"{step}: behind something that is finished"
        last = {key: one for one in sorted(now.owners, key=number_of) if (key := now.log[one])}
        assert now.tail == last, f"{step}: the ends of the lanes"
        assert now.attempts == {one: n for one, n in self.attempts.items() if n}, f"{step}: attempts"
        assert now.crashes == {one: n for one, n in self.crashes.items() if n}, f"{step}: crashes"
        assert {one for one in now.owned_by("~ready") if self.crashes[one] >= 2} == set(now.suspects), (
            f"{step}: suspects"
        )
        for worker in self.workers.values():
            known = {one.entry_id: one.fence for one in worker.holds.values()}
            if not worker.lost:
                assert now.owned_by(worker.name).items() <= known.items(), f"{step}: owned by who does not know it"
        self.seen["waiting"] += len(now.next)

    async def drain(self) -> None:
        for worker in self.workers.values():
            await self.silence(worker.name)
        self.workers.clear()
        await self.sweep()
        await self.check("the last sweep")
        last = self.workers["last"] = Worker("last")
        while True:
            for entry_id in self.state.due:
                await self.connection.do("ZADD", self.shard.keys.group("g")[8], 1, entry_id)
            await self.take()
            await self.check("the last take")
            if last.holds:
                await self.settle_for(last, list(last.holds.values()))
                await self.check("the last settle")
                continue
            stands = await self.shard.backlog("g")
            assert stands is not None
            if stands.is_empty:
                break
            assert stands.unread or stands.due, f"nothing is given out, yet {stands} is left"
        await self.account()

    async def account(self) -> None:
        wanted = {entry_id for entry_id, (_, _, take_it) in self.published.items() if take_it}
        times = Counter(self.finished)
        assert times.keys() == wanted, f"lost {wanted - times.keys()}, unasked {times.keys() - wanted}"
        assert not times or max(times.values()) == 1, f"finished twice: {times.most_common(3)}"
        letters = await self.connection.do("XRANGE", self.shard.keys.dead("g"), "-", "+")
        rows = [
            row[1] if isinstance(row[1], dict) else dict(zip(row[1][::2], row[1][1::2], strict=True)) for row in letters
        ]
        assert [row[b"entry"].decode() for row in rows] == self.dead
        for key in "abc":
            lane = [self.published[one][0] for one in self.finished if self.published[one][1] == key]
            assert lane == sorted(lane), f"the order of {key}: {lane}"
        parts = self.shard.keys.group("g")[4:11]
        left = [name for name in parts if await self.connection.do("EXISTS", name)]
        assert not left, f"left behind: {left}"
        self.seen["events"] += len(self.published)


def number_of(entry_id: str) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition("-")
    return int(ms), int(sequence)


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    """Nodes of three entries, so that trimming has something to forget in a short log."""
    opened = await Connection.open(url)
    await opened.client.config_set("stream-node-max-entries", 3)
    yield opened
    await opened.client.config_set("stream-node-max-entries", 100)  # what Redis begins with
    await opened.close()


async def test_no_history_breaks_a_promise(connection: Connection, namespace: str) -> None:
    backend = "memory" if connection.address.scheme == "memory" else "redis"
    runs = int(os.environ.get("EVENTBUS_MODEL_RUNS", RUNS[backend]))
    first = int(os.environ.get("EVENTBUS_MODEL_SEED", "1"))
    seen: Counter[str] = Counter()
    for seed in range(first, first + runs):
        try:
            await Run(connection, f"{namespace}-{seed}", seed, seen).play()
        except Exception as error:
            error.add_note(f"to see it again: EVENTBUS_MODEL_SEED={seed} EVENTBUS_MODEL_RUNS=1, on {backend}")
            raise
    if runs >= RUNS["memory"]:  # a model in which little happens proves nothing
        rare = ("suspects", "poison", "recovered", "fenced", "stale", "taken again", "trimmed", "waiting")
        assert all(seen[what] for what in rare), seen
