"""deploy/acl/eventbus.acl on real servers: each user can do its work through the real bus, and nothing beside it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from eventbus import Event, EventBus, Options, Refused
from eventbus.errors import EventBusError, Misconfigured
from eventbus.journal import Said
from eventbus.redis import server, survey
from eventbus.redis.connection import Connection
from eventbus.redis.history import History
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Shard
from eventbus.tally import Change
from registry.noise.mute import Silence
from registry.noise.store import NoiseStore
from registry.routes.model import Routing
from registry.unknown import Doubts, delivery_key
from tests.conftest import wait_until
from tests.deploy.servers import running
from tests.servers import BINARIES

ACL = Path(__file__).parents[2] / "deploy" / "acl" / "eventbus.acl"
PASSWORD = "of-a-test"
KEYS = ShardKeys()
LOG = KEYS.log

RUNS = {
    "publisher": {"publish", "schedule", "unschedule"},
    "gateway": {"publish", "schedule", "unschedule", "intend", "conclude", "backlog", "gate", "passed"} | {"journal"},
    "worker": {
        *("publish", "schedule", "declare", "take", "settle", "retry", "bury", "sweep", "recover", "backlog", "beat"),
        *("unschedule", "promote", "trim", "check", "intend", "ours", "conclude"),
        *("gate", "passed", "note", "mend", "close", "swap", "tally", "overrule", "redrive", "journal"),
    },
    "dashboard": {"backlog", "check", "lanes", "stand"},
    "admin": {"publish", "schedule", "unschedule", "declare", "backlog", "check", "trim", "redrive", "replay", "retire"}
    | {"lanes", "stand", "overrule", "note"},
}
"""Which user runs which script. A new script belongs to somebody."""


def rendered() -> str:
    names = {match: sha256(PASSWORD.encode()).hexdigest() for match in re.findall(r"\$\{(\w+)\}", ACL.read_text())}
    return Template(ACL.read_text()).substitute(names)


@pytest.fixture(scope="module", params=sorted(BINARIES))
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    home = tmp_path_factory.mktemp("acl")
    (home / "users.acl").write_text(rendered())
    options = ("--aclfile", str(home / "users.acl"), "--appendonly", "yes", "--enable-debug-command", "yes")
    with running(BINARIES[request.param], home, *options) as opened:
        yield opened


@asynccontextmanager
async def connected(port: int, user: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(address(port, user))
    try:
        yield connection
    finally:
        await connection.close()


def address(port: int, user: str) -> str:
    return f"redis://{user}:{PASSWORD}@127.0.0.1:{port}/0"


@pytest.fixture(autouse=True)
async def _empty(request: pytest.FixtureRequest) -> None:
    if "port" in request.fixturenames:
        async with connected(request.getfixturevalue("port"), "operator") as operator:
            await operator.do("FLUSHALL")


# -- what each may ---------------------------------------------------------------------------------------------------


async def test_the_publisher_publishes_repeats_and_schedules(port: int) -> None:
    async with EventBus.open(address(port, "publisher")) as bus:
        await bus.check_server()
        first = await bus.publish("vm.created", {"vm_id": "1"}, idempotency_key="one")
        again = await bus.publish("vm.created", {"vm_id": "1"}, idempotency_key="one")
        assert (first.status, again.status) == ("stored", "duplicate")
        later = await bus.publish("vm.deleted", {"vm_id": "1"}, delay=timedelta(hours=1), idempotency_key="two")
        assert later.status == "scheduled"
        assert await History(bus._connection, KEYS).unschedule("two")


async def test_the_worker_serves_retries_buries_sweeps_promotes_trims_and_audits(port: int) -> None:
    tries: list[int] = []

    async def handle(event: Event[Any], attempt: Any) -> None:
        tries.append(attempt.number)
        if event.topic == "vm.failed":
            raise RuntimeError("never works")
        entry = await bus.ledger.intend(f"{event.id}:act", b"x", attempt)
        await bus.ledger.done(entry, {"reference": "1"})

    async with EventBus.open(address(port, "worker"), sweep_every=timedelta(seconds=0.1)) as bus:
        await bus.check_server()
        options = Options(max_attempts=2)
        await bus.subscribe(("vm.*",), handle, group="g", options=options)
        for number in range(20):
            await bus.publish("vm.created", {"vm_id": str(number % 3)})
        await bus.publish("vm.created", {"vm_id": "later"}, delay=timedelta(milliseconds=1))
        await bus.publish("vm.failed", {"vm_id": "1", "error": "no"})
        shard = Shard(bus._connection, KEYS)
        await bus.run_until_idle()
        await wait_until(lambda: promoted(shard, bus), "the scheduled event is appended")
        await bus.run_until_idle()
        assert len(tries) >= 23

        table = bus.table("noise")
        assert await table.swap("group:x", None, 1, lifetime=timedelta(minutes=1))
        assert await table.swap("group:x", 1, None, lifetime=timedelta(minutes=1))
        for row in ("first", "second"):  # the second makes the first one go
            await table.tally(row, [Change(row, {"value": 1}), Change("x", {"value": 1})], most=1, idle=timedelta())
        assert list(await table.tallied()) != []
        assert await table.tally_rows() == 1
        await shard.sweep("g", poison_limit=3)
        await shard.beat(["gone"], timedelta())
        await shard.recover("g", "nobody", [])
        assert await History(bus._connection, KEYS).trim(timedelta(), keep=0) >= 0
        assert await bus.audit() == []
        backlog = await bus.backlog("g")
        assert backlog is not None
        assert (backlog.left, backlog.dead) == (0, 1)


async def promoted(shard: Shard, bus: EventBus) -> bool:
    await shard.promote()
    return int(await bus._connection.do("ZCARD", KEYS.later)) == 0


async def test_the_worker_takes_over_from_a_dead_one_under_its_own_rights(port: int) -> None:
    async with connected(port, "worker") as connection:
        shard = Shard(connection, KEYS)
        await shard.declare("g", ["vm.*"], behind="0")
        async with EventBus.open(address(port, "publisher")) as bus:
            await bus.publish("vm.created", {"vm_id": "1"})
        taken = await shard.take("g", "dead", 1, lease=timedelta(milliseconds=1), suspects=True, ordered=True)
        assert len(taken.taken) == 1
        await wait_until(lambda: swept(shard), "the sweep takes it back")


async def swept(shard: Shard) -> bool:
    return (await shard.sweep("g", poison_limit=3))[0] == 1


async def test_the_worker_keeps_trails_and_lets_people_resolve_calls_in_doubt(port: int) -> None:
    tries: list[str] = []

    async def handle(event: Event[Any]) -> None:
        if not tries:
            tries.append(event.id)
            await bus.ledger.unknown(await bus.ledger.intend(delivery_key("doubts", "default", event.id), b"x"))
            raise Refused("cut off", kind="unknown")

    async with EventBus.open(address(port, "worker")) as bus:
        await bus.subscribe(("team.*",), handle, group="doubts")
        event_id = (await bus.publish("team.asked")).event_id
        await bus.run_until_idle()
        for _ in range(2):
            await bus.trail.note(event_id, "doubts", {"outcome": "waits"})
        doubts = Doubts(bus, ())
        ((doubt,), _) = await doubts.newest(9)
        assert await doubts.resolve(doubt.id, event_id, "resend", "ada") is not None
        assert await doubts.resolve(doubt.id, event_id, "done", "bob") is not None
        assert [line["times"] for line in await bus.trail.read(event_id)] == [2, 1]
        await bus.run_until_idle()
        assert await doubts.newest(9) == ([], 0)


async def test_the_gateway_publishes_keeps_a_ledger_tables_and_log_lines_and_looks_around(port: int) -> None:
    async with EventBus.open(address(port, "gateway")) as bus:
        await bus.check_server()
        async with bus.listen("vm.*") as events:
            await bus.publish("vm.created", {"vm_id": "1"})
            assert (await anext(aiter(events))).topic == "vm.created"
        entry = await bus.ledger.intend("asked-for", b"x")
        await bus.ledger.done(entry, {"reference": "1"})
        table = bus.table("slack")
        await table.put("a", 1)
        await table.put("b", 2, lifetime=timedelta(minutes=1))
        assert (await table.get("a"), await table.get("b"), await table.items("")) == (1, 2, {"a": 1})
        await table.delete("a")
        assert await bus.backlog("unknown") is None
        await bus.journal.append([Said(b"of the gateway", is_warning=True)], keep=10)
    async with EventBus.open(address(port, "worker")) as bus:
        await bus.journal.append([Said(b"of the worker", is_warning=True)], keep=10)
    async with EventBus.open(address(port, "dashboard")) as bus:
        found = await bus.journal.before(None, warnings=True, most=10)
        assert [kept.line for kept in found] == [b"of the worker", b"of the gateway"]


async def test_the_dashboard_sees_everything_and_listens(port: int) -> None:
    async with EventBus.open(address(port, "worker")) as bus:
        await bus.declare("g", ("vm.*",))
        await bus.publish("vm.created", {"vm_id": "1"})
    async with EventBus.open(address(port, "dashboard")) as bus:
        await bus.check_server()
        backlog = await bus.backlog("g")
        assert backlog is not None
        assert backlog.left == 1
        assert list(await bus.groups()) == ["g"]
        assert await bus.audit() == []
        assert len(await History(bus._connection, KEYS).between()) == 1
        seen = await survey.look(bus._connection, KEYS)
        assert seen is not None
        assert (seen.length, seen.foreign) == (1, 0)
        async with bus.listen("vm.*") as events:
            async with EventBus.open(address(port, "publisher")) as publisher:
                await publisher.publish("vm.deleted", {"vm_id": "1"})
            assert (await anext(aiter(events))).topic == "vm.deleted"


async def test_the_admin_redrives_replays_drops_retires_and_reads_the_configuration(port: int) -> None:
    async def fails(event: Event[Any]) -> None:
        raise RuntimeError("never works")

    async with EventBus.open(address(port, "worker")) as bus:
        await bus.subscribe(("vm.*",), fails, group="g", options=Options(max_attempts=1))
        await bus.publish("vm.created", {"vm_id": "1"})
        await bus.publish("vm.created", {"vm_id": "2"})
        await bus.run_until_idle()
    async with EventBus.open(address(port, "admin")) as bus:
        store, now = NoiseStore(bus, Routing()), datetime.now(UTC)
        quiet = {"id": "s1", "when": "true", "starts": now, "ends": now + timedelta(hours=1)}
        await store.put(Silence.model_validate(quiet))
        assert await store.expire("s1") is not None
    async with connected(port, "admin") as admin:
        history = History(admin, KEYS)
        first, second = [letter.dead_id async for letter in history.dead("g")]
        assert await history.redrive("g", first) is not None
        assert await history.drop("g", second)
        await history.replay("g", ["vm.*"], "token", 0, "-", "+")
        assert (await history.retire("g", 1_000))[0] is True

        facts = await server.read(admin)
        assert (facts.user, facts.may, facts.fsync, facts.keys) == ("admin", (), "everysec", facts.keys)


# -- what none may ---------------------------------------------------------------------------------------------------

NOBODY = [
    *(("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "SET", "appendonly", "no"), ("DEBUG", "SLEEP", "0")),
    *(("SHUTDOWN", "NOSAVE"), ("ACL", "SETUSER", "worker", "+@all"), ("REPLICAOF", "NO", "ONE"), ("CLIENT", "LIST")),
    *(("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH"), ("SWAPDB", "0", "1"), ("MIGRATE", "h", "1", "k", "0", "1")),
    *(("SET", "another-program", "1"), ("GET", "another-program"), ("DEL", LOG), ("SET", LOG, "1")),
    *(("RENAME", LOG, "{eventbus:x"), ("RESTORE", LOG, "0", "x"), ("XGROUP", "SETID", LOG, "g", "$")),
    *(("XSETID", LOG, "9-9"), ("PUBLISH", "another-channel", "x"), ("HSET", "{eventbus2:main:0}:groups", "g", ">")),
]
ONE = {
    "publisher": [
        *(("XTRIM", LOG, "MAXLEN", "0"), ("XDEL", LOG, "1-1"), ("XREADGROUP", "GROUP", "g", "c", "STREAMS", LOG, ">")),
        *(("XRANGE", LOG, "-", "+"), ("HGETALL", "{eventbus:store:slack}"), ("HSET", KEYS.groups, "g", ">")),
        *(("SET", KEYS.sequence, "1"), ("SUBSCRIBE", KEYS.bell), ("CONFIG", "GET", "*"), ("DEL", KEYS.sequence)),
    ],
    "gateway": [
        *(("XTRIM", LOG, "MAXLEN", "0"), ("XACK", LOG, "g", "1-1"), ("HSET", KEYS.groups, "g", ">")),
        *(("XREADGROUP", "GROUP", "g", "c", "STREAMS", LOG, ">"), ("DEL", KEYS.groups), ("CONFIG", "GET", "*")),
        *(("HSET", KEYS.counts("g"), "done", "0"), ("DEL", KEYS.dead("g"))),
    ],
    "worker": [
        *(("XGROUP", "DESTROY", LOG, "g"), ("XDEL", LOG, "1-1"), ("DEL", KEYS.groups), ("CONFIG", "GET", "*")),
        *(("DEL", KEYS.sequence), ("SCAN", "0")),
    ],
    "dashboard": [
        *(("XADD", LOG, "*", "a", "b"), ("HSET", KEYS.groups, "g", ">"), ("PUBLISH", KEYS.bell, "x")),
        *(("XACK", LOG, "g", "1-1"), ("XDEL", KEYS.dead("g"), "1-1"), ("CONFIG", "GET", "*"), ("INCR", KEYS.sequence)),
        *(("EVAL", "return redis.call('SET', KEYS[1], '1')", "1", KEYS.sequence), ("DEL", KEYS.dead("g"))),
    ],
    "admin": [("XREADGROUP", "GROUP", "g", "c", "STREAMS", LOG, ">"), ("XACK", LOG, "g", "1-1")],
}


@pytest.mark.parametrize("user", RUNS)
async def test_nobody_does_what_its_work_does_not_need(port: int, user: str) -> None:
    async with connected(port, user) as connection:
        for command in [*NOBODY, *ONE[user]]:
            with pytest.raises(EventBusError) as refused:
                await connection.do(*command)
            assert is_refused(refused.value), (user, command, refused.value)


def is_refused(error: EventBusError) -> bool:
    """A script hands the refusal of its command on as an error of its own, in words that changed after 7.0."""
    words = ("ACL failure in script", "The user executing the script can't run this command")
    return isinstance(error.__cause__, NoPermissionError) or any(text in str(error) for text in words)


async def test_without_a_user_nobody_gets_in(port: int) -> None:
    for url in (f"redis://127.0.0.1:{port}/0", f"redis://worker:wrong@127.0.0.1:{port}/0"):
        async with EventBus.open(url) as bus:
            with pytest.raises(Misconfigured, match="refuses our credentials"):
                await bus.check_server()


def test_a_file_whose_passwords_were_not_filled_in_keeps_redis_from_starting(tmp_path: Path) -> None:
    for version, binary in BINARIES.items():
        command = [str(binary), "--port", "0", "--unixsocket", "x", "--dir", str(tmp_path), "--aclfile", str(ACL)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert done.returncode != 0, version
        assert "Aborting Redis startup because of ACL errors" in done.stdout, version


# -- it can't go stale -----------------------------------------------------------------------------------------------


def scripts() -> dict[str, str]:
    found = (files("eventbus.redis") / "lua").iterdir()
    return {Path(str(file)).stem: file.read_text() for file in found if str(file).endswith(".lua")}


def called(text: str) -> set[str]:
    """The commands of a script in the words of an ACL rule; XCLAIM is called with a list of arguments."""
    commands = set()
    for name, sub in re.findall(r"redis\.p?call\(\s*'([A-Z]+)'(?:,\s*'([A-Z]+)')?", text):
        commands.add(f"{name}|{sub}".lower() if name in ("XGROUP", "XINFO") else name.lower())
    commands |= {name.lower() for name in re.findall(r"local call = \{'([A-Z]+)'", text)}
    commands |= {name.lower() for name in re.findall(r"(?:first_of|ms_of)\('([A-Z]+)'", text)}
    known = text.count("redis.call(unpack(call))") + text.count("redis.call(command, ")
    dynamic = len(re.findall(r"redis\.p?call\((?!')", text)) - known
    assert dynamic == 0, "a command that this test can't see: name it in the call"
    return commands


def granted(user: str) -> set[str]:
    (line,) = [line for line in ACL.read_text().splitlines() if line.startswith(f"user {user} ")]
    return set(re.findall(r"\+([a-z|]+)", line))


def test_every_script_belongs_to_a_user_who_may_send_all_its_commands() -> None:
    preludes = {"common", "numbers", "once"}
    found = scripts()
    assert found.keys() - preludes == set().union(*RUNS.values())
    for user, names in RUNS.items():
        for name in names:
            missing = called(found[name]) - granted(user)
            assert not missing, f"{user} runs {name}.lua and may not send {missing}"
    for name in preludes:
        missing = called(found[name]) - granted("worker")
        assert not missing, f"the worker runs {name}.lua and may not send {missing}"
