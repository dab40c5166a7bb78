"""The fault table: what is promised at each level follows from how the server is set up, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eventbus.fault_table import Cell, FaultTable, Level, fault_table
from eventbus.redis.address import parse
from eventbus.redis.server import Replica, Server

SERVER = Server(
    parse("redis://localhost/0"),
    product="Redis 8.2.9",
    version=(8, 2, 9),
    aof=True,
    fsync="everysec",
    snapshots="",
    replicas=(),
    commands=frozenset({"WAITAOF"}),
    config={"min-replicas-to-write": "0", "min-replicas-max-lag": "10"},
)
REPLICA = Replica("10.0.0.2:6379", "online", 1)
WORKER, KILLED, POWER, FAILOVER, DISK = range(5)


def cell(table: FaultTable, fault: int, level: Level = "memory") -> Cell:
    return table.faults[fault].cells[level]


def test_a_killed_worker_loses_nothing_anywhere() -> None:
    for server in (SERVER, replace(SERVER, aof=False), Server(SERVER.address), Server(parse("memory://"))):
        assert all(one.holds for one in fault_table(server).faults[WORKER].cells.values())


@pytest.mark.parametrize(
    ("change", "killed", "power"),
    [
        ({"fsync": "always"}, True, True),
        ({"fsync": "everysec"}, True, False),
        ({"fsync": "no"}, True, False),
        ({"fsync": None}, True, None),
        ({"aof": False, "snapshots": "3600 1"}, False, False),
        ({"aof": False, "snapshots": ""}, False, False),
        ({"aof": False, "snapshots": None}, None, None),
        ({"aof": None, "fsync": None}, None, None),
    ],
)
def test_what_the_servers_own_answer_is_worth_depends_on_its_disk(
    change: dict[str, object], killed: bool | None, power: bool | None
) -> None:
    table = fault_table(replace(SERVER, **change))  # type: ignore[arg-type]
    assert (cell(table, KILLED).holds, cell(table, POWER).holds) == (killed, power)


def test_everysec_says_how_much_a_power_cut_takes() -> None:
    assert cell(fault_table(SERVER), POWER).text == "may lose the last 2 s"


def test_the_disk_that_answered_survives_kill_and_power_cut_but_not_its_own_loss() -> None:
    table = fault_table(SERVER)
    assert [cell(table, fault, "aof").holds for fault in (KILLED, POWER, DISK)] == [True, True, False]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"commands": frozenset()}, "needs WAITAOF"),
        ({"version": (7, 2, 4), "product": "Redis 7.2.4"}, "too early before Redis 7.4.3"),
        ({"version": (7, 4, 2), "product": "Redis 7.4.2"}, "too early before Redis 7.4.3"),
        ({"version": (7, 2, 4), "product": "Valkey 8.1.4"}, "not known whether WAITAOF waits"),
        ({"aof": False}, "no append-only file"),
        ({"aof": None}, "not known"),
        ({"commands": None}, "not known"),
    ],
)
def test_the_level_aof_is_offered_only_where_it_can_be_trusted(change: dict[str, object], reason: str) -> None:
    table = fault_table(replace(SERVER, **change))  # type: ignore[arg-type]
    assert reason in table.not_offered["aof"]
    assert all("aof" not in fault.cells for fault in table.faults)


def test_a_server_that_syncs_before_each_answer_needs_no_waitaof() -> None:
    table = fault_table(replace(SERVER, commands=frozenset(), fsync="always"))
    assert "aof" not in table.not_offered
    assert cell(table, POWER, "aof").holds


def test_a_failover_may_lose_what_was_not_confirmed_and_the_bound_is_the_servers() -> None:
    unbound = fault_table(replace(SERVER, replicas=(REPLICA,)))
    assert (cell(unbound, FAILOVER).holds, cell(unbound, FAILOVER, "aof").holds) == (False, False)
    assert cell(unbound, FAILOVER).text == "may lose all since it was last reached"
    bound = replace(SERVER, replicas=(REPLICA,), config={"min-replicas-to-write": "1", "min-replicas-max-lag": "2"})
    assert cell(fault_table(bound), FAILOVER).text == "may lose the last 2 s"


def test_a_replica_that_answered_keeps_the_event_if_it_takes_over() -> None:
    table = fault_table(replace(SERVER, replicas=(REPLICA,), aof=False))
    assert all(cell(table, fault, "replica").holds for fault in (KILLED, POWER, FAILOVER, DISK))
    assert "takes over" in cell(table, KILLED, "replica").text


def test_without_a_replica_that_level_is_not_offered_and_there_is_nothing_to_fail_over_to() -> None:
    table = fault_table(SERVER)
    assert table.not_offered == {"replica": "no replica"}
    assert cell(table, FAILOVER) == Cell(None, "there is no replica")
    assert cell(table, DISK) == Cell(False, "lost")


def test_where_replicas_are_not_told_nothing_is_promised() -> None:
    table = fault_table(replace(SERVER, replicas=None))
    assert "not known" in table.not_offered["replica"]
    assert (cell(table, FAILOVER).holds, cell(table, DISK).holds) == (None, None)


def test_a_spooled_event_is_no_safer_than_memory_once_redis_has_it() -> None:
    table = fault_table(SERVER)
    for fault in (KILLED, POWER, FAILOVER, DISK):
        assert cell(table, fault, "spool").holds is None
    assert cell(fault_table(replace(SERVER, fsync="always")), POWER, "spool").holds


def test_memory_outlives_no_process() -> None:
    table = fault_table(Server(parse("memory://")))
    assert [cell(table, fault).holds for fault in (KILLED, POWER, DISK)] == [False, False, False]
    assert table.not_offered.keys() == {"aof", "replica"}
