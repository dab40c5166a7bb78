"""Publishing through outages: nothing lost, nothing doubled, nothing overtakes, and the caller is told the truth."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from eventbus import spooling as module
from eventbus.errors import Full, Misconfigured, OutcomeUnknown, Unavailable
from eventbus.redis.connection import Connection, SyncConnection
from eventbus.redis.embedded import EmbeddedRedis
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Letter, Shard, Stored, publish_call, stored
from eventbus.spool import Entry, Spool, entries_in
from eventbus.spooling import Outcome, Spooling, Spools, SyncSpooling, is_doubtful
from tests.conftest import wait_until
from tests.proxy import Proxy

PATIENCE = 0.3
HOUR_MS = 3_600_000
Publish = Callable[[Sequence[Letter]], Awaitable[list[Stored]]]


def letter(n: int, *, key: str | None = None, says: str = "x", remember_ms: int = HOUR_MS) -> Letter:
    return Letter("custom.n", None, f"id-{n}", key or f"key-{n}", says * 32, remember_ms, b'{"n":%d}' % n)


def letters(first: int, end: int) -> list[Letter]:
    return [letter(n) for n in range(first, end)]


def ids(first: int, end: int) -> list[str]:
    return [f"id-{n}" for n in range(first, end)]


def statuses(outcomes: Sequence[Outcome]) -> list[str]:
    return [one.status for one in outcomes]


class Log:
    """The log of one test in Redis, and a way there that may fail."""

    def __init__(self, direct: Connection, way: Connection, namespace: str) -> None:
        self.keys = ShardKeys(namespace)
        self._direct = direct
        self._shard = Shard(way, self.keys)
        self.batches: list[int] = []

    async def publish(self, many: Sequence[Letter]) -> list[Stored]:
        """With patience that ends, as a publisher's."""
        self.batches.append(len(many))
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._shard.publish(many)
        except TimeoutError as error:
            raise OutcomeUnknown("no confirmation") from error

    async def ids(self) -> list[str]:
        """What is in the log, in order."""
        rows = await self._direct.do("XRANGE", self.keys.log, "-", "+")
        return [f"id-{fields[b'e'].decode()[5:-1]}" for _, fields in rows]

    async def has(self, expected: list[str]) -> None:
        """Wait until this is in the log, and make sure that nothing else is."""

        async def length() -> bool:
            return int(await self._direct.do("XLEN", self.keys.log)) >= len(expected)

        await wait_until(length, f"{len(expected)} events in the log", 20)
        assert await self.ids() == expected


@pytest.fixture
async def log(proxy: Proxy, redis_url: str, namespace: str) -> AsyncIterator[Log]:
    direct, way = await Connection.open(redis_url), await Connection.open(proxy.url)
    made = Log(direct, way, namespace)
    await made.publish([letter(9999)])  # the script is known
    await direct.do("DEL", made.keys.log)
    made.batches.clear()
    yield made
    await way.close()
    await direct.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@asynccontextmanager
async def spooling(publish: Publish, root: Path, most_bytes: int = 1 << 28) -> AsyncIterator[Spooling]:
    opened = await Spooling.open(publish, root, most_bytes=most_bytes)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def spooled(log: Log, root: Path) -> AsyncIterator[Spooling]:
    async with spooling(log.publish, root) as opened:
        yield opened


def crashed(root: Path) -> Path:
    """What the disk would hold if its owners had died now: a copy that nobody has locked."""
    return Path(shutil.copytree(root, root.with_name("after")))


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*"))


class Switch:
    """A Redis that takes all, or fails as it is told. Keeps what it took."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.calls = 0
        self._first: dict[str, None] = {}

    @property
    def log(self) -> list[str]:
        return list(self._first)

    async def publish(self, many: Sequence[Letter]) -> list[Stored]:
        await asyncio.sleep(0)
        return self.take(many)

    def take(self, many: Sequence[Letter]) -> list[Stored]:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        fresh = [one.event_id not in self._first for one in many]
        self._first.update(dict.fromkeys(one.event_id for one in many))
        return [
            Stored("stored" if new else "duplicate", "1-1", 1, one.event_id)
            for one, new in zip(many, fresh, strict=True)
        ]


async def empty(spools: Spools) -> None:
    await wait_until(lambda: spools.is_empty, "the spool is empty", 20)


# -- outages -----------------------------------------------------------------------------------------------------------


async def test_while_redis_answers_the_disk_is_not_used(log: Log, spooled: Spooling, root: Path) -> None:
    before = files(root)

    assert statuses(await spooled.publish(letters(0, 3))) == ["stored"] * 3
    assert files(root) == before


async def test_what_is_published_in_an_outage_is_sent_after_it(log: Log, spooled: Spooling, proxy: Proxy) -> None:
    proxy.freeze()
    outcomes = [await spooled.publish([letter(n)]) for n in range(5)]
    spools = spooled.spools

    assert [one.status for (one,) in outcomes] == ["spooled"] * 5
    assert [one.event_id for (one,) in outcomes] == ids(0, 5)
    assert [spools.count, spools.spooled, spools.drained] == [5, 5, 0]
    assert spools.bytes > 0
    assert spools.oldest is not None

    proxy.thaw()
    await log.has(ids(0, 5))
    await empty(spools)
    assert [spools.count, spools.drained, spools.bytes, spools.oldest] == [0, 5, 0, None]
    assert statuses(await spooled.publish(letters(5, 6))) == ["stored"]


async def test_only_the_first_waits_for_the_outage_to_be_noticed(spooled: Spooling, proxy: Proxy) -> None:
    proxy.freeze()
    await spooled.publish(letters(0, 1))

    async with asyncio.timeout(PATIENCE):
        for n in range(1, 10):
            await spooled.publish([letter(n)])


async def test_an_event_whose_answer_is_lost_is_stored_once(log: Log, spooled: Spooling, proxy: Proxy) -> None:
    proxy.lose_reply(b"EVALSHA")

    assert statuses(await spooled.publish(letters(0, 1))) == ["spooled"]
    await empty(spooled.spools)
    assert statuses(await spooled.publish(letters(1, 2))) == ["stored"]
    assert await log.ids() == ids(0, 2)


async def test_the_order_of_asking_survives_outages(log: Log, spooled: Spooling, proxy: Proxy) -> None:
    """Concurrent calls, while the network breaks, freezes and loses answers again and again."""
    numbers = random.Random(3)
    calls = []
    for n in range(300):
        calls.append(asyncio.create_task(spooled.publish([letter(n)])))
        if n == 5:
            await calls[-1]
        if n % 30 == 10:
            trouble: list[Callable[[], None]] = [proxy.reset, proxy.freeze, lambda: proxy.lose_reply(b"EVALSHA")]
            numbers.choice(trouble)()
        if n % 30 == 25:
            await calls[-10]
            proxy.thaw()
    proxy.thaw()
    outcomes = await asyncio.gather(*calls)

    await log.has(ids(0, 300))
    assert {one.status for (one,) in outcomes} >= {"stored", "spooled"}  # both ways were taken


async def test_a_direct_publish_does_not_overtake_one_on_its_way_to_the_disk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis comes back while the first letter is being synced: the spool still looks empty."""
    redis, reached, may_go_on = Switch(), threading.Event(), threading.Event()
    real = os.fsync

    def fsync(file: int) -> None:
        reached.set()
        assert may_go_on.wait(10)
        real(file)

    async with spooling(redis.publish, root) as spooled:
        monkeypatch.setattr(os, "fsync", fsync)
        redis.failure = Unavailable("away")
        first = asyncio.create_task(spooled.publish(letters(0, 1)))
        assert await asyncio.to_thread(reached.wait, 10)
        redis.failure = None
        second = asyncio.create_task(spooled.publish(letters(1, 2)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert redis.log == []
        may_go_on.set()

        await asyncio.gather(first, second)
        await empty(spooled.spools)
        await spooled.publish(letters(2, 3))
    assert redis.log == ids(0, 3)


async def test_publishers_at_full_speed_do_not_keep_the_spool_from_its_end(root: Path) -> None:
    """Else a spool would fill to its limit although Redis is back."""
    redis = Switch()
    async with spooling(redis.publish, root) as spooled:
        redis.failure = Unavailable("away")
        for n in range(0, 4000, 200):
            await spooled.publish(letters(n, n + 200))
        redis.failure = None

        n = 4000
        async with asyncio.timeout(20):
            while statuses(await spooled.publish(letters(n, n + 200)))[0] != "stored":
                n += 200
        assert redis.log == ids(0, n + 200)


async def test_a_redis_without_memory_is_spooled_for_until_there_is_some(
    own_redis: EmbeddedRedis, own_admin: Connection, root: Path
) -> None:
    url = f"embedded://{own_redis.home}"
    way = await Connection.open(url)
    log = Log(own_admin, way, "full")
    async with spooling(log.publish, root) as spooled:
        assert statuses(await spooled.publish(letters(0, 1))) == ["stored"]
        await own_admin.do("CONFIG", "SET", "maxmemory", "1")
        assert statuses(await spooled.publish(letters(1, 4))) == ["spooled"] * 3
        await own_admin.do("CONFIG", "SET", "maxmemory", "0")

        await log.has(ids(0, 4))
    await way.close()


async def test_a_redis_that_is_killed_and_comes_back_gets_all_in_order(
    own_redis: EmbeddedRedis, root: Path, namespace: str
) -> None:
    url = f"embedded://{own_redis.home}"
    way, direct = await Connection.open(url), await Connection.open(url)
    log = Log(direct, way, namespace)
    await direct.do("CONFIG", "SET", "appendfsync", "always")
    async with spooling(log.publish, root) as spooled:
        for n in range(10):
            if n == 5:
                os.kill((await direct.do("INFO", "server"))["process_id"], signal.SIGKILL)
            await spooled.publish([letter(n)])
        await asyncio.to_thread(own_redis.ensure)
        await empty(spooled.spools)

        assert await log.ids() == ids(0, 10)
    await way.close()
    await direct.close()


# -- what is not spooled -----------------------------------------------------------------------------------------------


async def test_a_conflict_is_the_callers_and_not_spooled(log: Log, spooled: Spooling) -> None:
    await spooled.publish([letter(0, key="same", says="a")])

    assert statuses(await spooled.publish([letter(1, key="same", says="b"), letter(2)])) == ["conflict", "stored"]
    assert spooled.spools.spooled == 0


async def test_what_no_waiting_mends_is_not_spooled(root: Path) -> None:
    redis = Switch()
    redis.failure = Misconfigured("wrong password")
    async with spooling(redis.publish, root) as spooled:
        with pytest.raises(Misconfigured):
            await spooled.publish(letters(0, 1))
        assert spooled.spools.is_empty


async def test_a_spooled_conflict_is_set_aside_and_stops_nobody(log: Log, spooled: Spooling, proxy: Proxy) -> None:
    await spooled.publish([letter(0, key="same", says="a")])
    proxy.freeze()
    clash = letter(2, key="same", says="b")
    await spooled.publish([letter(1), clash, letter(3)])
    with capture_logs() as logs:
        proxy.thaw()
        await log.has(["id-0", "id-1", "id-3"])
        await empty(spooled.spools)

    (told,) = [one for one in logs if one["log_level"] == "error"]
    assert (told["event_id"], told["idempotency_key"], told["first"]) == ("id-2", "same", "id-0")
    assert [entry.letter for entry in entries_in(Path(told["file"]))] == [clash]
    assert (spooled.spools.conflicts, spooled.spools.drained) == (1, 2)


async def test_what_was_said_first_stays_and_a_spooled_repeat_in_other_words_is_sent_for_good(
    log: Log, spooled: Spooling, proxy: Proxy, root: Path
) -> None:
    await spooled.publish([letter(0, key="same", says="a")])
    proxy.freeze()
    repeats = [letter(n, key="same", says=says)._replace(first_wins=True) for n, says in ((1, "b"), (2, "c"))]
    assert statuses(await spooled.publish(repeats)) == ["spooled", "spooled"]
    with capture_logs() as logs:
        proxy.thaw()
        await empty(spooled.spools)

    assert await log.ids() == ["id-0"]
    assert [one for one in logs if one["log_level"] == "error"] == []
    assert (spooled.spools.conflicts, spooled.spools.drained) == (0, 2)
    assert not any(file.suffix == ".conflicts" for file in files(root))


async def test_when_both_are_full_the_caller_is_told(root: Path) -> None:
    redis = Switch()
    redis.failure = Unavailable("Redis is away")
    async with spooling(redis.publish, root, most_bytes=2000) as spooled:
        with pytest.raises(Full, match=r"Redis is away; and the spool .* 2,000 is the limit"):
            await spooled.publish(letters(0, 100))
        assert statuses(await spooled.publish(letters(0, 1))) == ["spooled"]
        with pytest.raises(Full, match="events wait for Redis; and the spool"):
            await spooled.publish(letters(1, 100))

        redis.failure = None
        await empty(spooled.spools)
    assert redis.log == ids(0, 1)


async def test_an_unknown_outcome_that_can_not_be_spooled_stays_unknown(root: Path) -> None:
    redis = Switch()
    redis.failure = OutcomeUnknown("the connection broke")
    async with spooling(redis.publish, root, most_bytes=1) as spooled:
        with pytest.raises(OutcomeUnknown, match="the connection broke; and the spool"):
            await spooled.publish(letters(0, 1))


# -- processes ---------------------------------------------------------------------------------------------------------

DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from eventbus.errors import Unavailable
from eventbus.redis.shard import Letter
from eventbus.spooling import Spooling

async def away(letters):
    raise Unavailable("away")

async def main():
    spooling = await Spooling.open(away, Path(sys.argv[1]))
    for n in range(5):
        await spooling.publish([Letter("custom.n", None, f"id-{n}", f"key-{n}", "x" * 32, 1000, b'{"n":%d}' % n)])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_a_killed_process_left_is_sent_first_by_the_next(log: Log, root: Path) -> None:
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", DIES, str(root)], capture_output=True)
    assert done.returncode == -9, done.stderr

    async with spooling(log.publish, root) as spooled:
        await spooled.publish(letters(5, 6))
        await log.has(ids(0, 6))
        await empty(spooled.spools)
    assert files(root) == []


async def test_what_several_dead_processes_left_is_sent_before_anything_new(log: Log, root: Path) -> None:
    dead = [Spool.open(root) for _ in range(3)]
    for n, spool in enumerate(dead):
        spool.append(letters(n, n + 1))
    for spool in dead:
        spool.close()

    async with spooling(log.publish, root) as spooled:
        await spooled.publish(letters(3, 4))
        await empty(spooled.spools)
        sent = await log.ids()
    assert (sorted(sent[:3]), sent[3:]) == (ids(0, 3), ids(3, 4))


async def test_a_crash_between_sending_and_noting_it_doubles_nothing(log: Log, root: Path) -> None:
    """The disk as it was when Redis had the batch and the spool did not know yet."""

    async def sent(many: Sequence[Letter]) -> list[Stored]:
        if not log.batches:
            log.batches.append(0)
            raise Unavailable("away")
        answer = await log.publish(many)
        if not root.with_name("after").exists():
            crashed(root)
        return answer

    async with spooling(sent, root) as spooled:
        await spooled.publish(letters(0, 500))
        await empty(spooled.spools)

    async with spooling(log.publish, root.with_name("after")) as after:
        await empty(after.spools)
        assert after.spools.drained == 500
    assert await log.ids() == ids(0, 500)


async def test_a_spool_whose_owner_ends_later_is_taken_over_too(
    log: Log, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling restart during an outage: the new process is there before the old one is gone."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    old = Spool.open(root)
    old.append(letters(0, 3))
    async with spooling(log.publish, root) as spooled:
        assert statuses(await spooled.publish(letters(3, 4))) == ["stored"]
        old.close()
        await log.has(["id-3", "id-0", "id-1", "id-2"])
        await empty(spooled.spools)


async def test_empty_spools_of_dead_processes_are_removed(root: Path) -> None:
    live = Spool.open(root)
    for name in ("a" * 32, "b" * 32):
        (root / name).mkdir(mode=0o700)

    async with spooling(Switch().publish, root):
        assert len([path for path in files(root) if path.is_dir()]) == 2  # the live one's, and ours
    live.close()
    assert files(root) == []


async def test_what_is_not_sent_at_the_end_stays_on_the_disk(root: Path) -> None:
    redis = Switch()
    redis.failure = Unavailable("away")
    async with spooling(redis.publish, root) as spooled:
        await spooled.publish(letters(0, 3))
    redis.failure = None

    async with spooling(redis.publish, root) as again:
        await empty(again.spools)
    assert redis.log == ids(0, 3)


async def test_closing_does_not_wait_for_a_redis_that_hangs(root: Path) -> None:
    hangs = asyncio.Event()

    async def publish(many: Sequence[Letter]) -> list[Stored]:
        if not hangs.is_set():
            hangs.set()
            raise Unavailable("away")
        await asyncio.sleep(3600)
        return []

    async with asyncio.timeout(5), spooling(publish, root) as spooled:
        await spooled.publish(letters(0, 1))


async def test_a_cancelled_publish_leaves_a_sound_spool(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while it is written: the next one waits for the disk, and the order is that of asking."""
    redis, reached, may_go_on = Switch(), threading.Event(), threading.Event()
    real = os.fsync

    def fsync(file: int) -> None:
        reached.set()
        assert may_go_on.wait(10)
        real(file)

    async with spooling(redis.publish, root) as spooled:
        monkeypatch.setattr(os, "fsync", fsync)
        redis.failure = Unavailable("away")
        first = asyncio.create_task(spooled.publish(letters(0, 1)))
        assert await asyncio.to_thread(reached.wait, 10)
        redis.failure = None
        first.cancel()
        second = asyncio.create_task(spooled.publish(letters(1, 2)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not first.done()
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        await empty(spooled.spools)
    assert redis.log == ids(0, 2)


async def test_the_drain_survives_what_nobody_expected(root: Path) -> None:
    redis = Switch()
    redis.failure = Unavailable("away")
    async with spooling(redis.publish, root) as spooled:
        await spooled.publish(letters(0, 1))
        redis.failure = RuntimeError("a bug")
        calls = redis.calls
        await wait_until(lambda: redis.calls > calls, "it was tried")
        redis.failure = None
        await empty(spooled.spools)
    assert redis.log == ids(0, 1)


# -- age ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unsure", "tried_ms", "doubtful"),
    [
        (False, None, False),  # never sent before: safe at any age
        (True, None, True),
        (False, 1_000, True),
        (False, 9_500, False),
        (True, 9_500, True),
    ],
)
def test_doubtful_is_what_may_have_been_stored_too_long_ago(unsure: bool, tried_ms: int | None, doubtful: bool) -> None:
    entry = Entry(letter(0, remember_ms=5_000), 1_000, unsure, 0)

    assert is_doubtful(entry, tried_ms, 10_000) is doubtful
    assert not is_doubtful(entry, tried_ms, 5_999)


@pytest.mark.parametrize(
    ("first", "later", "told"),
    [
        (OutcomeUnknown("no answer"), Unavailable("away"), [["id-0"]]),
        (Unavailable("away"), OutcomeUnknown("no answer"), [["id-0"]]),
        (Unavailable("away"), Unavailable("away"), []),
    ],
)
async def test_an_event_that_may_be_doubled_is_sent_and_told(
    root: Path, first: Unavailable, later: Unavailable, told: list[list[str]]
) -> None:
    """The outcome of an attempt at it is unknown, and what Redis remembered of it is gone."""
    redis = Switch()
    async with spooling(redis.publish, root) as spooled:
        redis.failure = first
        await spooled.publish([letter(0, remember_ms=1), letter(1)])
        redis.failure = later
        calls = redis.calls
        await wait_until(lambda: redis.calls > calls + 1, "it was tried again, and is old")
        with capture_logs() as logs:
            redis.failure = None
            await empty(spooled.spools)

    assert redis.log == ids(0, 2)
    assert [one["event_ids"] for one in logs if "twice" in one["event"]] == told
    assert spooled.spools.doubtful == len(told)


# -- without an event loop ---------------------------------------------------------------------------------------------


@contextmanager
def sync_spooling(redis: Switch, root: Path) -> Iterator[SyncSpooling]:
    opened = SyncSpooling(redis.take, root)
    try:
        yield opened
    finally:
        opened.close()


def publish_until_stored(script: SyncSpooling, n: int) -> int:
    """Publish letters from number n on until one is stored at once; the number behind it."""
    deadline = time.monotonic() + 20
    while statuses(script.publish([letter(n)])) != ["stored"]:
        assert time.monotonic() < deadline, "what was spooled is not sent"
        n += 1
    return n + 1


def test_a_script_spools_and_a_later_publish_sends_it_first(root: Path) -> None:
    redis = Switch()
    with sync_spooling(redis, root) as script:
        redis.failure = Unavailable("away")
        assert [statuses(script.publish([letter(n)])) for n in range(5)] == [["spooled"]] * 5
        assert script.spools.count == 5
        redis.failure = None

        assert redis.log == []
        assert publish_until_stored(script, 5) == len(redis.log)
    assert redis.log == ids(0, len(redis.log))
    assert list(root.iterdir()) == []


def test_a_script_asks_an_absent_redis_now_and_then_only(root: Path) -> None:
    """Each call would else take the whole time-out."""
    redis = Switch()
    with sync_spooling(redis, root) as script:
        redis.failure = Unavailable("away")
        script._not_before = float("inf")
        script.publish(letters(0, 1))
        script._not_before = float("inf")
        for n in range(1, 4):
            script.publish([letter(n)])

    assert redis.calls == 1


def test_the_next_script_sends_what_the_last_one_left(root: Path) -> None:
    redis = Switch()
    with sync_spooling(redis, root) as script:
        redis.failure = Unavailable("away")
        script.publish(letters(0, 300))
    redis.failure = None

    with sync_spooling(redis, root) as script:
        assert statuses(script.publish(letters(300, 301))) == ["stored"]
    assert redis.log == ids(0, 301)


def test_the_threads_of_a_script_keep_their_own_order(root: Path) -> None:
    redis, guard, numbers = Switch(), threading.Lock(), random.Random(5)

    def take(many: Sequence[Letter]) -> list[Stored]:
        with guard:
            redis.failure = Unavailable("away") if numbers.random() < 0.1 else None
            return redis.take(many)

    script = SyncSpooling(take, root)

    def publish(first: int) -> None:
        for n in range(first, first + 100):
            script.publish([letter(n)])

    threads = [threading.Thread(target=publish, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publish_until_stored(script, 9000)
    script.close()

    for first in (0, 1000, 2000, 3000):
        mine = set(ids(first, first + 100))
        assert [one for one in redis.log if one in mine] == ids(first, first + 100)


async def test_a_script_reaches_a_real_redis_after_its_outage(log: Log, proxy: Proxy, root: Path) -> None:
    connection = SyncConnection(proxy.url, timeout=PATIENCE)

    def publish(many: Sequence[Letter]) -> list[Stored]:
        keys, args = publish_call(log.keys, many)
        return list(map(stored, many, connection.run("publish", keys, args)))

    def work() -> int:
        proxy.freeze()
        script.publish(letters(0, 3))
        proxy.thaw()
        return publish_until_stored(script, 3)

    script = SyncSpooling(publish, root)
    end = await asyncio.to_thread(work)
    assert await log.ids() == ids(0, end)
    script.close()
    connection.close()
