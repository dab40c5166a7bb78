"""Findings from facts: what is said, how bad it is, and what to do. Facts come from no server here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eventbus.doctor import PATCHED, Finding, diagnose, size, span
from eventbus.redis.address import parse
from eventbus.redis.history import Lanes
from eventbus.redis.server import Replica, Server
from eventbus.redis.shard import Backlog
from eventbus.redis.survey import Group, Reader, Survey

SERVER = Server(
    parse("redis://:secret@localhost:6379/0"),
    product="Redis 8.4.6",
    version=(8, 4, 6),
    mode="standalone",
    role="master",
    aof=True,
    fsync="everysec",
    snapshots="",
    aof_written=True,
    snapshot_written=True,
    eviction="noeviction",
    memory_limit=1_000_000_000,
    memory_used=10_000_000,
    replicas=(),
    config={"no-appendfsync-on-rewrite": "no", "min-replicas-to-write": "0", "min-replicas-max-lag": "10"},
    user="worker",
    may=(),
    commands=frozenset({"WAITAOF"}),
    keys=7,
    clock_ahead=0.001,
    latency_ms=0.4,
)
IDLE = Backlog(unread=0, running=0, waiting=0, due=0, ready=0, dead=0, paused_ms=0, oldest_ms=0)
BEHIND = IDLE._replace(unread=12, oldest_ms=3 * 3600_000)
ALIVE, DEAD = Reader("host:1:ab", True, 1), Reader("host:2:cd", False, 4)
SERVED = Group("slack", True, True, IDLE, (ALIVE,))
SURVEY = Survey("{eventbus:main:0}:log", 120, 34_000, (SERVED,), 7, 0, None)


def found(server: Server = SERVER, survey: Survey | None = SURVEY, accept: tuple[str, ...] = ()) -> list[Finding]:
    return diagnose(server, survey, accept=accept).findings


def wrong(server: Server = SERVER, survey: Survey | None = SURVEY, accept: tuple[str, ...] = ()) -> list[Finding]:
    """What is neither well nor the free disk, which is never known."""
    findings = found(server, survey, accept)
    return [one for one in findings if one.level != "ok" and not one.what.startswith("free space")]


def grouped(*groups: Group) -> Survey:
    return replace(SURVEY, groups=groups)


def test_a_good_server_with_a_served_group_has_nothing_wrong() -> None:
    assert wrong() == []
    assert not diagnose(SERVER, SURVEY).is_bad


def test_free_disk_is_said_to_be_out_of_sight_with_the_command_that_shows_it() -> None:
    (disk,) = [one for one in found() if one.level == "unknown"]
    assert disk.what == "free space can't be seen from here"
    assert "df -h" in disk.fix


@pytest.mark.parametrize(
    ("change", "level", "about", "what", "fix"),
    [
        ({"version": (6, 2, 0), "product": "Redis 6.2.0"}, "bad", "unsafe", "too old", "Upgrade"),
        ({"eviction": "allkeys-lru"}, "bad", "unsafe", "allkeys-lru", "CONFIG SET maxmemory-policy noeviction"),
        ({"aof": False}, "bad", "unsafe", "neither", "CONFIG SET appendonly yes"),
        ({"address": parse("rediss://example.com/0")}, "bad", "unsafe", "takes anybody", "eventbus.acl"),
        ({"address": parse("redis://:pw@example.com/0")}, "bad", "unsafe", "not encrypted", "rediss://"),
        ({"aof_written": False}, "bad", "disk", "can't be written", "df -h"),
        ({"snapshot_written": False}, "bad", "disk", "snapshot failed", "df -h"),
        ({"role": "slave"}, "bad", "replicas", "is a replica", "INFO replication"),
        ({"aof": False, "snapshots": "3600 1"}, "warn", "disk", "snapshots: 3600 1", "CONFIG SET appendonly yes"),
        ({"fsync": "no"}, "warn", "disk", "appendfsync is no", "CONFIG SET appendfsync everysec"),
        ({"config": {"no-appendfsync-on-rewrite": "yes"}}, "warn", "disk", "is yes", "on-rewrite no"),
        ({"memory_limit": 0}, "warn", "memory", "no limit", "CONFIG SET maxmemory"),
        ({"memory_used": 900_000_000}, "warn", "memory", "900 MB of 1.0 GB", "Raise maxmemory"),
        ({"may": ("FLUSHALL", "KEYS")}, "warn", "rights", "may FLUSHALL, KEYS", "eventbus.acl"),
        ({"clock_ahead": 3600.0}, "warn", "clock", "60 min ahead of", "timedatectl"),
        ({"clock_ahead": -90.0}, "warn", "clock", "90 s behind", "timedatectl"),
        ({"version": (8, 2, 3), "product": "Redis 8.2.3"}, "warn", "security", "CVE-2026-81934", "Upgrade"),
        ({"version": (7, 0, 15), "product": "Redis 7.0.15"}, "unknown", "security", "no fixes", "changelog"),
        ({"product": None, "version": None}, "unknown", "server", "version", "INFO"),
        ({"aof": None}, "unknown", "disk", "whether it writes to disk", "INFO persistence"),
        ({"fsync": None}, "unknown", "disk", "how often it is synced", "CONFIG GET appendfsync"),
        ({"aof": False, "snapshots": None}, "unknown", "disk", "snapshots: not known", "appendonly yes"),
        ({"memory_used": None}, "unknown", "memory", "how much", "INFO"),
        ({"replicas": None}, "unknown", "replicas", "how many", "INFO replication"),
        ({"user": None, "may": None}, "unknown", "rights", "this user", "ACL LIST"),
        ({"user": "default", "may": None}, "unknown", "rights", "user default", "ACL LIST"),
        ({"clock_ahead": None}, "unknown", "clock", "not told", "TIME"),
    ],
)
def test_what_is_wrong_with_a_server_is_said_once_with_what_to_do(
    change: dict[str, object], level: str, about: str, what: str, fix: str
) -> None:
    (one,) = wrong(replace(SERVER, **change))  # type: ignore[arg-type]
    assert (one.level, one.about) == (level, about)
    assert what in one.what
    assert fix in one.fix


def test_only_what_is_bad_makes_the_whole_bad() -> None:
    assert diagnose(replace(SERVER, aof=False), SURVEY).is_bad
    assert not diagnose(replace(SERVER, aof=False, snapshots="3600 1"), SURVEY).is_bad
    assert not diagnose(Server(SERVER.address), None).is_bad


def test_an_accepted_override_warns_and_still_says_what_it_means() -> None:
    (one,) = wrong(replace(SERVER, eviction="allkeys-lru"), accept=("eviction",))
    assert (one.level, one.what) == ("warn", "maxmemory-policy is allkeys-lru (accepted: eviction)")
    assert one.fix


def test_the_version_that_is_too_old_can_be_accepted_by_nobody() -> None:
    old = replace(SERVER, version=(6, 2, 0), product="Redis 6.2.0")
    assert diagnose(old, SURVEY, accept=("eviction", "no-persistence", "no-auth", "plaintext", "")).is_bad


def test_replicas_that_lag_or_sync_are_named_and_a_bound_is_asked_for() -> None:
    replicas = (Replica("a:1", "online", 1), Replica("b:1", "online", 60), Replica("c:1", "wait_bgsave", None))
    behind, bound = wrong(replace(SERVER, replicas=replicas))
    assert behind.what == "not up to date: b:1, c:1"
    assert "min-replicas-to-write 1" in bound.fix
    assert wrong(replace(SERVER, replicas=replicas[:1], config={"min-replicas-to-write": "1"})) == []


@pytest.mark.parametrize("line", sorted(PATCHED))
def test_the_patch_that_mends_a_line_is_not_warned_of_and_the_one_before_is(line: tuple[int, int]) -> None:
    def at(patch: int) -> list[Finding]:
        version = (*line, patch)
        return wrong(replace(SERVER, version=version, product=f"Redis {'.'.join(map(str, version))}"))

    patch = PATCHED[line][0]
    assert at(patch) == []
    assert [one.about for one in at(patch - 1)] == ["security"]


def test_a_line_newer_than_the_table_and_a_relative_are_not_judged_by_it() -> None:
    assert wrong(replace(SERVER, version=(9, 0, 0), product="Redis 9.0.0")) == []
    assert wrong(replace(SERVER, version=(7, 2, 4), product="Valkey 8.1.0")) == []


def test_memory_is_told_from_a_server_in_one_line() -> None:
    (one,) = found(Server(parse("memory://")), None)
    assert (one.level, one.about) == ("warn", "server")


def test_an_embedded_server_is_its_directorys_own_and_needs_no_users_and_no_limit() -> None:
    everything = ("FLUSHALL", "SHUTDOWN")
    assert wrong(replace(SERVER, address=parse("embedded://./data"), may=everything, memory_limit=0)) == []


# -- groups ----------------------------------------------------------------------------------------------------------


def test_a_group_nobody_serves_names_what_waits_and_why_that_matters() -> None:
    (one,) = wrong(survey=grouped(Group("slack", True, True, BEHIND, ())))
    assert (one.level, one.about) == ("warn", "groups")
    assert one.what == "slack has no live consumer: 12 waiting, the oldest for 3 h"
    assert "can't be trimmed" in one.why


def test_a_group_nobody_serves_that_has_nothing_to_do_is_well() -> None:
    assert wrong(survey=grouped(Group("slack", True, True, IDLE, ()))) == []


def test_dead_consumers_are_named_with_what_they_hold() -> None:
    held = BEHIND._replace(unread=0, running=4)
    (served,) = wrong(survey=grouped(Group("slack", True, True, held, (ALIVE, DEAD))))
    assert served.what == "slack: held by dead consumers: host:2:cd (4)"
    (alone,) = wrong(survey=grouped(Group("slack", True, True, held, (DEAD,))))
    assert alone.what.endswith("held by the dead host:2:cd (4)")


def test_an_orphan_is_shown_with_the_command_that_ends_it_quoted_for_a_shell() -> None:
    (one,) = wrong(survey=grouped(Group("it's; rm -rf", False, True, BEHIND, ())))
    assert "never declared" in one.what
    assert one.fix.endswith("""XGROUP DESTROY '{eventbus:main:0}:log' 'it'"'"'s; rm -rf'""")


def test_a_declared_group_without_a_place_is_bad() -> None:
    (one,) = wrong(survey=grouped(Group("slack", True, False, None, ())))
    assert (one.level, one.about) == ("bad", "groups")
    assert "Start a worker that serves slack" in one.fix


def test_dead_letters_are_counted() -> None:
    (one,) = wrong(survey=grouped(Group("slack", True, True, IDLE._replace(dead=1), (ALIVE,))))
    assert one.what == "slack has 1 dead letter"


def test_keys_of_others_are_a_warning_with_an_example() -> None:
    (one,) = wrong(survey=replace(SURVEY, looked_at=20_000, foreign=1_500, example="session:1"))
    assert one.level == "warn"
    assert one.what == "1,500 of 20,000 keys looked at are not ours, such as session:1"


def test_where_this_user_may_not_look_nothing_is_claimed() -> None:
    (log,) = wrong(survey=None)
    assert (log.level, log.about) == ("unknown", "log")
    (keys,) = wrong(survey=replace(SURVEY, looked_at=None, foreign=None))
    assert (keys.level, keys.about) == ("unknown", "keys")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (123_456, "123 kB"), (2 * 10**15, "2000 TB")]
)
def test_bytes_are_shown_with_a_unit(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")]
)
def test_spans_are_shown_in_one_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("lanes", "what"),
    [
        (Lanes(2, 0, 0, 0), "2 wait in a lane behind nobody"),
        (Lanes(0, 1, 0, 0), "1 are the tails of lanes and not pending"),
        (Lanes(0, 0, 3, 0), "3 are ready and not listed, or listed and not ready"),
        (Lanes(0, 0, 0, 4), "4 wait for a time that is not set, or have one and do not wait"),
        (Lanes(2, 0, 0, 4), "nobody; 4 wait for a time"),
    ],
)
def test_deliveries_that_hang_are_named_with_who_mends_them(lanes: Lanes, what: str) -> None:
    (one,) = wrong(survey=grouped(replace(SERVED, lanes=lanes)))
    assert (one.level, one.about) == ("warn", "groups")
    assert what in one.what
    assert "next sweep" in one.fix
    assert "BGREWRITEAOF" in one.fix


def test_lanes_that_are_whole_are_not_spoken_of() -> None:
    assert wrong(survey=grouped(replace(SERVED, lanes=Lanes(0, 0, 0, 0)))) == []
