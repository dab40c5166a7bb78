"""A master, its replica and three Sentinels, for a fault run: the master can be killed, and comes back as the replica.

It has what `stage` and `nemesis` need of a `Server`: `url`, `admin`, `close`. Programs reach it without a network in
between, as the Sentinels name the addresses of the servers themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import redis.asyncio
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from eventbus.redis.embedded import find_server
from tests.servers import MASTER, Node, Watched, sentinels

PATIENCE_SECONDS = 60.0
OPTIONS = ("--maxmemory-policy", "noeviction", "--loglevel", "warning")


class Pair:
    """`open` it, then let masters die."""

    def __init__(self, watched: Watched, running: ExitStack) -> None:
        self.url = watched.url
        self._running = running
        self._master, self._replica, self._watch = watched.master, watched.replica, watched.sentinels
        self._sentinels = Sentinel([("127.0.0.1", one.port) for one in watched.sentinels], protocol=2)  # type: ignore[no-untyped-call]
        self.admin: redis.asyncio.Redis = self._sentinels.master_for(MASTER, socket_timeout=10, protocol=2)

    @classmethod
    async def open(cls, home: Path) -> Pair:
        """Start all of them."""
        running = ExitStack()
        watched = await asyncio.to_thread(running.enter_context, sentinels(find_server(), home, *OPTIONS))
        return cls(watched, running)

    async def fail_over(self) -> None:
        """kill -9 of the master; returns when the other one is master, and all Sentinels say so."""
        await asyncio.to_thread(self._master.kill)
        await self._until(lambda: self._replica.role == "master" and self._is_named(self._replica))
        self._master, self._replica = self._replica, self._master

    async def come_back(self, *, as_master: bool) -> None:
        """Start the one that was killed, and wait until one of them has all that the other has.

        `as_master`: it does not know what happened, and waits to be told by the Sentinels (sentinel.c,
        sentinelRefreshInstanceInfo: after 8 seconds). Else it knows its place, as its rewritten file would tell it.
        Which of them is master in the end is for the Sentinels to say.
        """
        one = self._replica
        knows = () if as_master else ("--replicaof", f"127.0.0.1 {self._master.port}")
        at = one.arguments.index("--replicaof") if "--replicaof" in one.arguments else len(one.arguments)
        one.arguments = [*one.arguments[:at], *one.arguments[at + 2 :], *knows]
        await asyncio.to_thread(one.start)
        await self._until(lambda: self._is_whole(self._master, one) or self._is_whole(one, self._master))
        if self._is_named(one):
            self._master, self._replica = one, self._master

    async def epoch(self) -> int:
        """A number that grows with every fail-over, whoever wanted it."""
        return int((await asyncio.to_thread(self._watch[0].ask, "SENTINEL MASTERS"))[MASTER]["config-epoch"])

    async def close(self) -> None:
        """End them all."""
        await self.admin.aclose()
        for sentinel in self._sentinels.sentinels:
            await sentinel.aclose()
        await asyncio.to_thread(self._running.close)

    def _is_whole(self, master: Node, replica: Node) -> bool:
        link = replica.ask("INFO", "replication").get("master_link_status")
        return (master.role, replica.role, link) == ("master", "slave", "up") and self._is_named(master)

    def _is_named(self, master: Node) -> bool:
        """Whether it is what all Sentinels take for the master."""
        named = [one.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER) for one in self._watch]
        return all(int(address[1]) == master.port for address in named)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await asyncio.to_thread(_holds, reached):  # noqa: ASYNC110  it is the servers' state
                await asyncio.sleep(0.05)


def _holds(reached: Callable[[], bool]) -> bool:
    with suppress(RedisError):
        return reached()
    return False
