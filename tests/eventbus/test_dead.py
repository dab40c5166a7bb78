"""Dead letters for whoever looks after the bus: found, read, sent again, dropped. On both backends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import (
    DeadLetter,
    Event,
    EventBus,
    InvalidEvent,
    Misconfigured,
    OutcomeUnknown,
    Refused,
    UnknownGroup,
    UnknownVersion,
)
from eventbus.dead import edited
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import script
from eventbus.topics import VmCreated
from tests.proxy import Proxy


class Handler:
    """Refuses what it is told to refuse, and keeps the rest."""

    def __init__(self) -> None:
        self.refuses = True
        self.done: list[Event[Any]] = []

    async def __call__(self, event: Event[Any]) -> None:
        if self.refuses:
            raise Refused(f"no such region: {event.key}")
        self.done.append(event)


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Connection]:
    """For what the bus never does."""
    connection = await Connection.open(url)
    yield connection
    await connection.close()


async def letters(bus: EventBus, **filters: Any) -> list[DeadLetter]:
    return [letter async for letter in bus.dead.find(**filters)]


async def one_dead(bus: EventBus, handler: Handler, group: str = "builder", **data: Any) -> DeadLetter:
    """Publish a vm.created that the group refuses."""
    await bus.subscribe("vm.*", handler, group=group)
    await bus.publish(VmCreated(vm_id="vm-1", **data), source="/test")
    await bus.run_until_idle()
    (letter,) = await letters(bus)
    return letter


async def buried(
    admin: Connection, namespace: str, *, group: str = "g", dead_id: str = "*", reason: str = "invalid", **event: str
) -> str:
    """A dead letter as it is stored, made by hand; returns its id."""
    fields = {"entry": "7-0", "reason": reason, "error": "no", "attempts": "1", **event}
    flat = [part for pair in fields.items() for part in pair]
    dead = await admin.do("XADD", ShardKeys(namespace).dead(group), dead_id, *flat)
    return f"{group}/{dead.decode()}"


# -- find --------------------------------------------------------------------------------------------------------------


async def test_a_dead_letter_says_what_was_given_up_when_and_why(bus: EventBus, handler: Handler) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    letter = await one_dead(bus, handler)
    assert letter.id.startswith("builder/")
    facts = (letter.group, letter.topic, letter.key, letter.reason, letter.error, letter.attempts)
    assert facts == ("builder", "vm.created", "vm_id:vm-1", "rejected", "no such region: vm_id:vm-1", 1)
    assert letter.event.data == VmCreated(vm_id="vm-1")
    assert (letter.event.id, letter.event.source) == (letter.event_id, "/test")
    assert before < letter.time < datetime.now(UTC) + timedelta(seconds=1)
    assert await bus.dead.get(letter.id) == letter


async def test_they_come_oldest_first_over_all_groups(bus: EventBus, admin: Connection, namespace: str) -> None:
    for group in ("a", "b", "c"):
        await bus.declare(group, (">",))
    made = [
        await buried(admin, namespace, group=group, dead_id=dead_id)
        for group, dead_id in [("b", "5-0"), ("a", "7-0"), ("b", "7-1"), ("a", "9-0"), ("b", "10-0")]
    ]
    assert [letter.id for letter in await letters(bus)] == made


async def test_each_filter_narrows_and_all_hold_at_once(bus: EventBus, admin: Connection, namespace: str) -> None:
    for group in ("a", "b"):
        await bus.declare(group, (">",))
    first = await buried(admin, namespace, group="a", dead_id="1000-0", t="vm.created", k="vm_id:1", e='{"id": "x"}')
    other = await buried(
        admin, namespace, group="b", dead_id="2000-0", t="task.failed", reason="poison", e='{"R": "ß"}'
    )
    for filters, found in (
        ({"groups": ["a"]}, [first]),
        ({"groups": ["a", "b"]}, [first, other]),
        ({"topics": ["vm.*", "custom.>"]}, [first]),
        ({"reasons": ["poison", "exhausted"]}, [other]),
        ({"since": datetime.fromtimestamp(2, UTC)}, [other]),
        ({"until": datetime.fromtimestamp(2, UTC)}, [first]),
        ({"text": "VM_ID:1"}, [first]),
        ({"text": "ss"}, [other]),
        ({"text": "NO"}, [first, other]),
        ({"groups": ["a"], "reasons": ["poison"]}, []),
        ({"text": "absent"}, []),
    ):
        assert [letter.id for letter in await letters(bus, **filters)] == found, filters


async def test_a_bad_pattern_is_refused_and_finds_nothing(bus: EventBus) -> None:
    with pytest.raises(Misconfigured, match="is not a topic pattern"):
        await letters(bus, topics=["Vm.*"])


async def test_what_can_not_be_read_is_found_all_the_same(bus: EventBus, admin: Connection, namespace: str) -> None:
    await bus.declare("g", (">",))
    for event, error in (
        ({}, "deleted from the log"),
        ({"t": "vm.created", "k": "", "s": "3", "e": "not json"}, "not an event"),
        ({"t": "vm.created", "k": "", "s": "3", "e": '{"id": 7, "data": {}}'}, "data.vm_id: field required"),
    ):
        letter = await bus.dead.get(await buried(admin, namespace, **event))
        assert letter is not None
        assert letter.event_id == "7-0", "its place in the log, for lack of an id"
        with pytest.raises(InvalidEvent, match=error):
            _ = letter.event
    assert len(await letters(bus)) == 3


async def test_those_of_a_retired_group_are_found_and_marked_until_they_are_dropped(
    bus: EventBus, handler: Handler
) -> None:
    letter = await one_dead(bus, handler)
    assert not letter.retired
    await bus.retire("builder", 0)
    old = replace(letter, retired=True)
    assert await letters(bus) == await letters(bus, groups=["builder"]) == [old]
    assert await bus.dead.get(letter.id) == old
    await bus.declare("builder", ("vm.*",))
    assert await letters(bus) == [letter]
    await bus.retire("builder", 10)
    assert await bus.dead.drop(letter)
    assert await letters(bus) == []


async def test_the_name_of_a_retired_group_goes_with_its_last_letter(
    bus: EventBus, handler: Handler, admin: Connection, namespace: str
) -> None:
    first = await one_dead(bus, handler)
    await bus.publish("vm.created", {"vm_id": "2"})
    await bus.run_until_idle()
    _, second = await letters(bus)
    await bus.retire("builder", 0)
    retired = ShardKeys(namespace).retired
    assert await bus.dead.drop(first)
    assert await admin.do("HKEYS", retired) == [b"builder"]
    assert await bus.dead.drop(second)
    assert await admin.do("EXISTS", retired) == 0


@pytest.mark.parametrize("letter_id", ["", "g", "g/", "g/1", "g/1-x", "g/1-1/2", "g/99999999999999999999-0", "g/5-5"])
async def test_an_id_that_is_none_is_nobodys(bus: EventBus, letter_id: str) -> None:
    assert await bus.dead.get(letter_id) is None
    assert await bus.dead.redrive(letter_id) is False
    assert await bus.dead.drop(letter_id) is False


# -- drop --------------------------------------------------------------------------------------------------------------


async def test_a_dropped_one_is_gone_and_is_dropped_once(bus: EventBus, handler: Handler) -> None:
    letter = await one_dead(bus, handler)
    assert await bus.dead.drop(letter)
    assert not await bus.dead.drop(letter.id)
    assert await letters(bus) == []
    assert await bus.audit() == []


# -- redrive -----------------------------------------------------------------------------------------------------------


async def test_a_redriven_one_is_the_same_event_for_its_group_alone(bus: EventBus, handler: Handler) -> None:
    others: list[Event[Any]] = []
    await bus.subscribe("vm.*", others.append, group="other")
    letter = await one_dead(bus, handler)
    handler.refuses = False
    assert await bus.dead.redrive(letter)
    await bus.run_until_idle()
    assert handler.done == [letter.event]
    assert len(others) == 1
    assert await letters(bus) == []
    assert await bus.audit() == []


async def test_it_is_redriven_once(bus: EventBus, handler: Handler) -> None:
    letter = await one_dead(bus, handler)
    handler.refuses = False
    assert [await bus.dead.redrive(letter.id), await bus.dead.redrive(letter.id)] == [True, False]
    await bus.run_until_idle()
    assert len(handler.done) == 1


@pytest.mark.parametrize("url", ["redis"], indirect=True)
async def test_when_the_answer_is_lost_asking_again_sends_nothing_twice(
    bus: EventBus, handler: Handler, proxy: Proxy, namespace: str
) -> None:
    letter = await one_dead(bus, handler)
    async with EventBus.open(proxy.url, namespace=namespace) as far:
        await bus.dead.redrive(letter)  # so that Redis knows the script
        await bus.run_until_idle()
        (again,) = await letters(bus)
        proxy.lose_reply(script("redrive").sha.encode())
        with pytest.raises(OutcomeUnknown):
            await far.dead.redrive(again)
        assert await far.dead.redrive(again) is False
    handler.refuses = False
    await bus.run_until_idle()
    assert len(handler.done) == 1


async def test_one_that_fails_again_is_dead_again_under_a_new_id(bus: EventBus, handler: Handler) -> None:
    letter = await one_dead(bus, handler)
    await bus.dead.redrive(letter)
    await bus.run_until_idle()
    (again,) = await letters(bus)
    assert again.id != letter.id
    assert again.event == letter.event


async def test_it_comes_last_of_its_key(bus: EventBus, handler: Handler) -> None:
    letter = await one_dead(bus, handler, vcpus=1)
    await bus.publish(VmCreated(vm_id="vm-1", vcpus=2))
    handler.refuses = False
    await bus.dead.redrive(letter)
    await bus.run_until_idle()
    assert [event.data.vcpus for event in handler.done] == [2, 1]


async def test_an_edit_changes_the_payload_and_nothing_else(bus: EventBus, handler: Handler) -> None:
    letter = await one_dead(bus, handler, vcpus=1)
    handler.refuses = False
    assert await bus.dead.redrive(letter, {"vm_id": "vm-2", "vcpus": 8})
    await bus.run_until_idle()
    (event,) = handler.done
    assert event.data == VmCreated(vm_id="vm-2", vcpus=8)
    assert event.model_dump(exclude={"data"}) == letter.event.model_dump(exclude={"data"}), "id, keys, time, source"
    assert event.key == "vm_id:vm-1", "its lane stays"


async def test_an_edit_that_does_not_fit_the_topic_is_refused_and_changes_nothing(
    bus: EventBus, handler: Handler
) -> None:
    letter = await one_dead(bus, handler)
    with pytest.raises(InvalidEvent, match="vm_id: field required; vcpus: input should be greater"):
        await bus.dead.redrive(letter, {"vcpus": 0})
    assert await letters(bus) == [letter]


async def test_an_edit_mends_an_event_that_did_not_fit(
    bus: EventBus, handler: Handler, admin: Connection, namespace: str
) -> None:
    handler.refuses = False
    await bus.subscribe("vm.*", handler, group="g")
    wire = '{"id":"old","idempotency_key":"k","topic":"vm.created","data":{"vm_id":"1","vcpus":0}}'
    letter_id = await buried(admin, namespace, t="vm.created", k="vm_id:1", s="3", e=wire)
    await bus.dead.redrive(letter_id, {"vm_id": "1", "vcpus": 1})
    await bus.run_until_idle()
    (event,) = handler.done
    assert (event.id, event.idempotency_key, event.key, event.data.vcpus) == ("old", "k", "vm_id:1", 1)


async def test_an_edit_needs_an_event_to_put_it_into(bus: EventBus, admin: Connection, namespace: str) -> None:
    await bus.declare("g", (">",))
    for wire in ("not json", "[]", "7"):
        with pytest.raises(InvalidEvent, match="nothing is left to put the new data into"):
            await bus.dead.redrive(await buried(admin, namespace, t="vm.created", k="", s="3", e=wire), {"vm_id": "1"})


async def test_an_edit_does_not_turn_back_the_version_of_an_event(
    bus: EventBus, admin: Connection, namespace: str
) -> None:
    await bus.declare("g", (">",))
    newer = await buried(admin, namespace, t="vm.created", k="", s="3", e='{"id":"n","version":9,"data":{}}')
    with pytest.raises(UnknownVersion, match="payload version 9; this program knows 1: upgrade it"):
        await bus.dead.redrive(newer, {"vm_id": "1"})
    unknown = await bus.dead.get(
        await buried(admin, namespace, t="team.lunch", k="", s="3", e='{"id":"n","version":9,"data":{}}')
    )
    assert unknown is not None
    assert b'"version":9' in edited(unknown, {"any": "object"}), "a class that only the workers have may be of it"


async def test_without_its_event_there_is_nothing_to_send(bus: EventBus, admin: Connection, namespace: str) -> None:
    await bus.declare("g", (">",))
    letter_id = await buried(admin, namespace)
    with pytest.raises(InvalidEvent, match="was deleted from the log: there is nothing to send; drop it"):
        await bus.dead.redrive(letter_id)
    assert await bus.dead.drop(letter_id)


async def test_nothing_is_sent_to_a_group_that_is_not_there_to_get_it(bus: EventBus, handler: Handler) -> None:
    letter = await one_dead(bus, handler)
    await bus.retire("builder", 0)
    with pytest.raises(UnknownGroup, match="group builder is retired: declare it"):
        await bus.dead.redrive(letter)
    assert await letters(bus, groups=["builder"]) == [replace(letter, retired=True)]
