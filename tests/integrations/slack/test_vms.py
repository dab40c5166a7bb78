from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.topics import VmCreated, VmFailed, VmStarted, VmStopped
from integrations.slack import vms
from integrations.testing.context import MemoryStore

START = datetime(2026, 1, 12, 10, 0, tzinfo=UTC)


def at(minute: int, payload: Payload) -> Event[Any]:
    return catalog.event(payload, time=START + timedelta(minutes=minute))


async def after(*events: Event[Any]) -> dict[str, vms.Row]:
    store = MemoryStore()
    for event in events:
        await vms.remember(store, event)
    return await vms.known(store)


async def test_a_machine_goes_through_its_states() -> None:
    created, started = at(0, VmCreated(vm_id="a", vm_name="one")), at(1, VmStarted(vm_id="a"))
    assert (await after(created))["a"]["state"] == "created"
    assert (await after(created, started))["a"] == {
        "name": "one",
        "state": "running",
        "since": "2026-01-12T10:01:00+00:00",
        "seq": int((START + timedelta(minutes=1)).timestamp() * 1_000_000),
    }
    assert (await after(created, started, at(2, VmStopped(vm_id="a"))))["a"]["state"] == "stopped"
    assert (await after(created, at(3, VmFailed(vm_id="a", error="x"))))["a"]["state"] == "failed"


async def test_an_older_event_after_a_newer_one_changes_nothing() -> None:
    newer, older = at(5, VmStopped(vm_id="a", vm_name="one")), at(1, VmStarted(vm_id="a", vm_name="old"))
    assert await after(newer, older) == await after(newer)


async def test_a_state_that_is_told_again_keeps_its_beginning() -> None:
    rows = await after(at(0, VmStarted(vm_id="a")), at(9, VmStarted(vm_id="a")))
    assert rows["a"]["since"] == "2026-01-12T10:00:00+00:00"


async def test_machines_do_not_mix_and_other_rows_of_the_store_are_none() -> None:
    store = MemoryStore()
    await store.put("other", "x")
    await vms.remember(store, at(0, VmCreated(vm_id="a")))
    await vms.remember(store, at(0, VmCreated(vm_id="b:c")))
    assert sorted(await vms.known(store)) == ["a", "b:c"]


async def test_an_event_of_a_custom_topic_counts_when_it_names_its_machine() -> None:
    assert (await after(catalog.event("vm.deleted", {"vm_id": "a"}, time=START)))["a"]["state"] == "deleted"
    assert await after(catalog.event("vm.audited", {"count": 3})) == {}


@given(st.permutations(range(4)))
async def test_in_whatever_order_events_come_the_newest_state_stays(order: list[int]) -> None:
    events = [
        at(0, VmCreated(vm_id="a")),
        at(1, VmStarted(vm_id="a")),
        at(2, VmFailed(vm_id="a", error="x")),
        at(3, VmStopped(vm_id="a")),
    ]
    assert (await after(*(events[n] for n in order)))["a"]["state"] == "stopped"
