"""Failing: what a handler raises says what happens next. Retries wait in Redis, not in the process."""

from __future__ import annotations

from datetime import timedelta

from eventbus import Attempt, Backoff, Event, EventBus, Options, TryLater
from eventbus.topics import VmCreated

SOON = Options(backoff=Backoff(base=timedelta(milliseconds=10)))


async def test_a_failed_attempt_is_made_again(bus: EventBus) -> None:
    numbers: list[int] = []

    @bus.on("vm.created", group="builder", options=SOON)
    async def handle(event: Event, attempt: Attempt) -> None:
        numbers.append(attempt.number)
        if attempt.number < 3:
            raise ConnectionError("the host is away")

    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    assert numbers == [1, 2, 3]


async def test_a_handler_says_when_it_wants_to_be_asked_again(bus: EventBus) -> None:
    numbers: list[int] = []

    @bus.on("vm.created", group="builder", options=SOON)
    async def handle(event: Event, attempt: Attempt) -> None:
        numbers.append(attempt.number)
        if len(numbers) == 1:
            raise TryLater("the image is not there yet", after=timedelta(milliseconds=50))

    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    assert numbers == [1, 2]


async def test_an_attempt_may_not_count(bus: EventBus) -> None:
    numbers: list[int] = []

    @bus.on("vm.created", group="builder", options=SOON)
    async def handle(event: Event, attempt: Attempt) -> None:
        numbers.append(attempt.number)
        if len(numbers) < 3:
            raise TryLater("a deploy is under way", after=timedelta(milliseconds=10), counts=False)

    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    assert numbers == [1, 1, 1]


async def test_the_events_behind_a_retry_wait_for_it(bus: EventBus) -> None:
    seen: list[tuple[int | None, int]] = []

    @bus.on("vm.created", group="builder", options=SOON)
    async def handle(event: Event[VmCreated], attempt: Attempt) -> None:
        seen.append((event.data.vcpus, attempt.number))
        if seen == [(1, 1)]:
            raise ConnectionError("the host is away")

    await bus.publish_many(VmCreated(vm_id="vm-1", vcpus=n) for n in (1, 2))
    await bus.run_until_idle()

    assert seen == [(1, 1), (1, 2), (2, 1)]
