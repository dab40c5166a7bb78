"""A look at the log, its groups and who serves them, on a real server."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventbus import EventBus
from eventbus.redis.connection import Connection
from eventbus.redis.embedded import EmbeddedRedis
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Retry, Shard
from eventbus.redis.survey import Group, Survey, look

KEYS = ShardKeys()
LEASE = timedelta(seconds=30)


@pytest.fixture
async def shard(own_redis: EmbeddedRedis, own_admin: Connection) -> Shard:
    async with EventBus.open(own_admin.address.url) as bus:
        await bus.declare("g", (">",))
        for number in range(3):
            await bus.publish("vm.created", {"vm_id": str(number)})
    return Shard(own_admin, KEYS)


async def looked(connection: Connection) -> Survey:
    found = await look(connection, KEYS)
    assert found is not None
    return found


async def only(connection: Connection) -> Group:
    (group,) = (await looked(connection)).groups
    return group


async def test_an_empty_redis_has_no_log_and_no_groups(own_admin: Connection) -> None:
    found = await looked(own_admin)
    assert (found.length, found.groups, found.looked_at, found.foreign) == (0, (), 0, 0)


async def test_a_declared_group_without_workers_is_not_served_and_its_backlog_is_seen(
    shard: Shard, own_admin: Connection
) -> None:
    found = await looked(own_admin)
    assert (found.length, found.foreign, found.example) == (3, 0, None)
    assert found.log_bytes
    (group,) = found.groups
    assert (group.is_declared, group.has_place, group.is_served, group.ghosts) == (True, True, False, ())
    assert group.backlog is not None
    assert group.backlog.left == 3


async def test_who_beats_serves_and_who_stopped_with_work_in_hand_is_a_ghost(
    shard: Shard, own_admin: Connection
) -> None:
    await shard.take("g", "alive", 1, lease=LEASE, suspects=True, ordered=True)
    await shard.take("g", "dead", 1, lease=LEASE, suspects=True, ordered=True)
    group = await only(own_admin)
    assert (group.is_served, group.ghosts) == (True, ())

    await shard.beat(["dead"], timedelta())
    group = await only(own_admin)
    assert group.is_served
    assert [(ghost.name, ghost.holds) for ghost in group.ghosts] == [("dead", 1)]

    await shard.beat(["alive"], timedelta())
    assert not (await only(own_admin)).is_served


async def test_what_waits_in_a_lane_or_for_its_time_is_held_by_no_ghost(shard: Shard, own_admin: Connection) -> None:
    batch = await shard.take("g", "alive", 3, lease=LEASE, suspects=True, ordered=True)
    await shard.retry("g", "alive", [Retry(one.entry_id, one.fence, 60_000, True) for one in batch.taken])
    await shard.beat(["alive"], timedelta())
    assert (await only(own_admin)).ghosts == ()


async def test_a_group_that_was_never_declared_is_found(shard: Shard, own_admin: Connection) -> None:
    await own_admin.do("XGROUP CREATE", KEYS.log, "orphan", "0")
    groups = {group.name: group for group in (await looked(own_admin)).groups}
    assert (groups["orphan"].is_declared, groups["orphan"].has_place) == (False, True)
    assert groups["orphan"].backlog is not None
    assert groups["orphan"].backlog.left == 3


async def test_a_declared_group_whose_place_was_deleted_is_found(shard: Shard, own_admin: Connection) -> None:
    await own_admin.do("XGROUP DESTROY", KEYS.log, "g")
    group = await only(own_admin)
    assert (group.is_declared, group.has_place, group.backlog) == (True, False, None)


async def test_keys_of_others_are_counted_and_one_is_shown(shard: Shard, own_admin: Connection) -> None:
    for number in range(5):
        await own_admin.do("SET", f"session:{number}", "x")
    found = await looked(own_admin)
    assert found.foreign == 5
    assert found.example is not None
    assert found.example.startswith("session:")


async def test_a_user_who_may_not_look_is_told_so(shard: Shard, own_admin: Connection) -> None:
    await own_admin.do("ACL SETUSER", "default", "-xinfo")
    assert await look(own_admin, KEYS) is None


async def test_a_user_who_may_not_run_scripts_sees_groups_without_their_backlog(
    shard: Shard, own_admin: Connection
) -> None:
    await own_admin.do("ACL SETUSER", "default", "-evalsha", "-eval", "-memory", "-scan")
    found = await looked(own_admin)
    assert (found.log_bytes, found.foreign) == (None, None)
    assert [(group.name, group.backlog) for group in found.groups] == [("g", None)]


async def test_a_delivery_that_waits_for_nobody_is_seen(shard: Shard, own_admin: Connection) -> None:
    batch = await shard.take("g", "alive", 3, lease=LEASE, suspects=True, ordered=True)
    assert (await only(own_admin)).lanes == (0, 0, 0, 0)
    await own_admin.do("XCLAIM", KEYS.log, "g", "~wait", 0, batch.taken[0].entry_id)
    assert (await only(own_admin)).lanes == (1, 0, 0, 0)
