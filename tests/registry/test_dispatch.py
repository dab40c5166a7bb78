"""Once in effect: what the ledger, the look-up and the adapter's errors make of one action."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from eventbus import Attempt, Backoff, Event, EventBus, Options, Refused, TryLater, catalog
from eventbus.gate import Breaker
from eventbus.redis.shard import Retry
from eventbus.topics import VmCreated
from integrations.base import (
    Budget,
    Delivery,
    DeliveryResult,
    Earlier,
    Health,
    Integration,
    Manifest,
    Notification,
    Outcome,
    Preview,
    What,
)
from integrations.errors import (
    AuthFailed,
    Disabled,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from registry.act import Act, Busy, KeyReused, Parked, Waiting
from registry.dispatch import Dispatcher
from registry.metrics import Metrics

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
NO_BREAK = Breaker(first=timedelta(milliseconds=1), longest=timedelta(milliseconds=1))


class NoSettings(BaseModel):
    """Nothing to set."""


class Service(Integration[NoSettings]):
    """A service with a list of effects. `plan` says how the next calls end; `find` looks into the list."""

    manifest = Manifest(name="service", title="A service", config=NoSettings, handles=(">",), effects="searchable")

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.plan: list[Exception | DeliveryResult | str] = []
        self.looked_up = 0
        self.look_up_fault: IntegrationError | None = None
        self.called = asyncio.Event()

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return await self.send_notification(Notification(message=event.id), delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        self.called.set()
        step = self.plan.pop(0) if self.plan else "made"
        if step == "made, answer lost":
            self.effects.append(delivery.key)
            raise OutcomeUnknown("the connection broke")
        if step == "hangs":
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        if isinstance(step, DeliveryResult):
            return step
        self.effects.append(delivery.key)
        return DeliveryResult.delivered(f"ref-{len(self.effects)}", url="https://service/1")

    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        self.looked_up += 1
        if self.look_up_fault is not None:
            raise self.look_up_fault
        return DeliveryResult.delivered("found") if delivery.key in self.effects else None

    async def health(self) -> Health:
        return Health("healthy")


@pytest.fixture
async def bus() -> AsyncIterator[EventBus]:
    """In memory: the ledger's own tests run on a server, too."""
    async with EventBus.open("memory://") as bus:
        yield bus


@pytest.fixture
def service() -> Service:
    """Nothing planned, no effects."""
    return Service()


@pytest.fixture
def dispatcher(bus: EventBus) -> Dispatcher:
    """On the bus' ledger."""
    return Dispatcher(bus, Metrics())


def ask(service: Service, message: str = "hello", key: str = "k", timeout: timedelta = MINUTE) -> Act:
    """A notification asked for by hand."""
    return Act("service", service, Notification(message=message), Delivery(key), timeout, breaker=NO_BREAK)


def bring(service: Service, event: Event[Any], attempt: Attempt) -> Act:
    """A delivery of the bus."""
    delivery = Delivery(f"service:default:{event.id}", attempt=attempt.number, thread=event.key or "")
    return Act("service", service, event, delivery, MINUTE, event, attempt=attempt, breaker=NO_BREAK)


async def once(dispatcher: Dispatcher, act: Act) -> DeliveryResult:
    """The act, as soon as the gate lets it through."""
    while True:
        try:
            return await dispatcher.once(act)
        except Waiting:
            await asyncio.sleep(0.01)


async def test_a_repeat_gets_the_first_result(dispatcher: Dispatcher, service: Service) -> None:
    """One effect; the reference and address are those of the first."""
    first = await dispatcher.once(ask(service))
    again = await dispatcher.once(ask(service))

    assert service.effects == ["k"]
    assert (first.outcome, again.outcome) == (Outcome.DELIVERED, Outcome.DUPLICATE)
    assert (again.reference, again.url) == (first.reference, first.url)


async def test_the_same_key_for_another_content_is_refused(dispatcher: Dispatcher, service: Service) -> None:
    """A key stands for what it was first used for."""
    await dispatcher.once(ask(service))

    with pytest.raises(KeyReused):
        await dispatcher.once(ask(service, message="something else"))

    assert service.effects == ["k"]


async def test_an_effect_whose_answer_was_lost_is_found_and_not_made_again(
    dispatcher: Dispatcher, service: Service
) -> None:
    """The look-up stands between an unknown outcome and a second effect."""
    service.plan = ["made, answer lost"]

    with pytest.raises(OutcomeUnknown):
        await dispatcher.once(ask(service))
    again = await dispatcher.once(ask(service))

    assert service.effects == ["k"]
    assert (again.outcome, again.reference) == (Outcome.DUPLICATE, "found")


async def test_an_effect_that_does_not_exist_is_made(dispatcher: Dispatcher, service: Service) -> None:
    """Unknown, looked for, absent: then it is done."""
    service.plan = [OutcomeUnknown("the connection broke")]

    with pytest.raises(OutcomeUnknown):
        await dispatcher.once(ask(service))
    again = await dispatcher.once(ask(service))

    assert service.looked_up == 1
    assert again.outcome is Outcome.DELIVERED


@pytest.mark.parametrize(
    "fault", [Unreachable("refused"), RateLimited("slow down"), AuthFailed("expired"), NotReady("not yet")]
)
async def test_a_failed_look_up_is_not_absent(
    dispatcher: Dispatcher, service: Service, fault: IntegrationError
) -> None:
    """Nothing is sent while it can't be known; afterwards the effect is found."""
    service.plan = ["made, answer lost"]
    with pytest.raises(OutcomeUnknown):
        await dispatcher.once(ask(service))

    service.look_up_fault = fault
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await dispatcher.once(ask(service))
    service.look_up_fault = None
    again = await dispatcher.once(ask(service))

    assert service.effects == ["k"]
    assert again.outcome is Outcome.DUPLICATE


@pytest.mark.parametrize(
    "fault", [NotReady("x"), RateLimited("x"), Unreachable("x"), Rejected("x"), AuthFailed("x"), Misconfigured("x")]
)
async def test_what_surely_was_not_done_is_not_looked_for(
    dispatcher: Dispatcher, service: Service, fault: IntegrationError
) -> None:
    """The next attempt goes straight ahead."""
    service.plan = [fault]
    with pytest.raises(type(fault)):
        await dispatcher.once(ask(service))

    again = await once(dispatcher, ask(service))

    assert service.looked_up == 0
    assert again.outcome is Outcome.DELIVERED


@pytest.mark.parametrize("fault", [ServiceFault("502"), OutcomeUnknown("x"), ValueError("a bug")])
async def test_what_may_have_been_done_is_looked_for(
    dispatcher: Dispatcher, service: Service, fault: Exception
) -> None:
    """A 5xx, a broken connection and a fault of the adapter say nothing about the effect."""
    service.plan = [fault]
    with pytest.raises(type(fault)):
        await dispatcher.once(ask(service))

    await dispatcher.once(ask(service))

    assert service.looked_up == 1


async def test_a_call_that_takes_too_long_ends_at_the_timeout(dispatcher: Dispatcher, service: Service) -> None:
    """And its outcome is unknown."""
    service.plan = ["hangs"]

    with pytest.raises(TimeoutError):
        await dispatcher.once(ask(service, timeout=timedelta(milliseconds=50)))
    await dispatcher.once(ask(service))

    assert service.looked_up == 1


async def test_the_same_action_is_not_done_by_two_at_once(dispatcher: Dispatcher, service: Service) -> None:
    """The second is told that it is under way."""
    service.plan = ["hangs"]
    first = asyncio.create_task(dispatcher.once(ask(service)))
    await service.called.wait()

    with pytest.raises(Busy):
        await dispatcher.once(ask(service))

    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_skipped_event_leaves_no_row(bus: EventBus, dispatcher: Dispatcher, service: Service) -> None:
    """What asks nothing of an integration costs no memory, and may be asked again."""
    service.plan = [DeliveryResult.skipped("not for us")]

    result = await dispatcher.once(ask(service))

    assert result.outcome is Outcome.SKIPPED
    assert (await dispatcher.once(ask(service))).outcome is Outcome.DELIVERED


async def test_a_worker_that_lost_the_delivery_may_not_act(
    bus: EventBus, dispatcher: Dispatcher, service: Service
) -> None:
    """The intent is fenced: no call leaves."""
    event = catalog.event(VmCreated(vm_id="1"))
    await bus.declare("service", ("vm.*",))
    await bus.publish(event)
    stale = Attempt("service", "1-1", "somebody", 1, 1, 1)

    with pytest.raises(TryLater) as told:
        await dispatcher.deliver(bring(service, event, stale))

    assert not told.value.counts
    assert service.effects == []


async def test_who_lost_the_delivery_while_looking_does_not_act_any_more(
    bus: EventBus, dispatcher: Dispatcher, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The permission was good when it was given; then the worker was frozen, and somebody took over."""
    monkeypatch.setattr("registry.dispatch.FRESH_SECONDS", 0.05)
    told: list[Exception] = []

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        async def give_away(what: object, delivery: Delivery) -> None:
            time.sleep(0.06)  # noqa: ASYNC251  frozen, with all that runs in this process
            await bus._shard.retry(
                "service", attempt.consumer, [Retry(attempt.entry_id, attempt.fence, 3_600_000, False)]
            )

        monkeypatch.setattr(service, "find", give_away)
        service.plan = [OutcomeUnknown("the connection broke")]
        for _ in range(2):
            try:
                await dispatcher.deliver(bring(service, event, attempt))
            except TryLater as error:
                told.append(error)
        bus.stop()

    await bus.subscribe("vm.*", handle, group="service")
    await bus.publish(catalog.event(VmCreated(vm_id="1")))
    await bus.run()
    assert [str(error) for error in told] == [
        "OutcomeUnknown: the connection broke",
        "NotReady: the delivery is no longer ours",
    ]
    assert service.effects == []


@pytest.mark.parametrize(
    ("fault", "verdict", "counts", "pause"),
    [
        (RateLimited("x", retry_after=MINUTE), TryLater, False, True),
        (AuthFailed("x"), TryLater, False, False),
        (NotReady("x", retry_after=MINUTE), TryLater, True, False),
        (Unreachable("x"), TryLater, True, False),
        (ServiceFault("x"), TryLater, True, False),
        (OutcomeUnknown("x"), TryLater, True, False),
        (RuntimeError("a bug"), TryLater, True, False),
        (Rejected("x"), Refused, None, None),
        (Misconfigured("x"), Refused, None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_each_error_has_its_verdict(
    bus: EventBus,
    dispatcher: Dispatcher,
    service: Service,
    fault: Exception,
    verdict: type[Exception],
    counts: bool | None,
    pause: bool | None,
) -> None:
    """What the bus does with a delivery is decided here, in one table."""
    service.plan = [fault]
    seen: list[Exception] = []
    done = asyncio.Event()

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        try:
            await dispatcher.deliver(bring(service, event, attempt))
        except (TryLater, Refused) as error:
            seen.append(error)
        done.set()

    await bus.subscribe("vm.*", handle, group="service")
    await bus.publish(VmCreated(vm_id="1"))
    running = asyncio.create_task(bus.run())
    async with asyncio.timeout(10):
        await done.wait()
    bus.stop()
    await running

    (error,) = seen
    assert isinstance(error, verdict)
    if isinstance(error, TryLater):
        assert (error.counts, error.pause) == (counts, pause)
        assert error.after == getattr(fault, "retry_after", None)


# -- what can't be known ---------------------------------------------------------------------------------------------


class Blind(Service):
    """A service that can't be asked what it has done."""

    manifest = Manifest(name="service", title="A service", config=NoSettings, handles=(">",))
    find = None  # type: ignore[assignment]  # so it is no Reconciles


@pytest.mark.parametrize("fault", [OutcomeUnknown("cut off"), "hangs"])
async def test_what_nobody_can_find_out_is_parked_and_not_sent_again(
    dispatcher: Dispatcher, fault: Exception | str
) -> None:
    """Neither by the attempt that was cut off nor by the next one."""
    service = Blind()
    service.plan = [fault]
    act = replace(ask(service, timeout=timedelta(milliseconds=50)), event=catalog.event(VmCreated(vm_id="1")))
    with pytest.raises(Parked):
        await dispatcher.once(act)
    with pytest.raises(Parked):
        await once(dispatcher, act)
    assert service.effects == []


async def test_parked_calls_open_the_breaker_like_others_that_got_no_answer(dispatcher: Dispatcher) -> None:
    service, breaker = Blind(), Breaker(row=2)
    service.plan = [OutcomeUnknown("cut off")] * 2
    event = catalog.event(VmCreated(vm_id="1"))
    for number in range(2):
        with pytest.raises(Parked):
            await dispatcher.once(replace(ask(service, key=str(number)), event=event, breaker=breaker))
    with pytest.raises(Waiting):
        await dispatcher.once(ask(service, key="3"))


async def test_a_parked_delivery_is_a_dead_letter_of_its_own_kind(bus: EventBus, dispatcher: Dispatcher) -> None:
    """`eventbus unknown` lists them by their reason."""
    service = Blind()
    service.plan = ["made, answer lost"]

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        await dispatcher.deliver(bring(service, event, attempt))

    await bus.subscribe("vm.*", handle, group="service")
    await bus.publish(VmCreated(vm_id="1"))
    await bus.run_until_idle()
    (letter,) = [letter async for letter in bus.dead.find()]
    assert (letter.reason, letter.attempts, len(service.effects)) == ("unknown", 1, 1)


async def test_who_would_rather_have_it_twice_than_never_may_say_so(dispatcher: Dispatcher) -> None:
    service = Blind()
    service.plan = ["made, answer lost"]
    act = replace(ask(service), event=catalog.event(VmCreated(vm_id="1")), resend=True)
    with pytest.raises(OutcomeUnknown):
        await dispatcher.once(act)
    assert (await once(dispatcher, act)).outcome is Outcome.DELIVERED
    assert len(service.effects) == 2


async def test_who_asks_by_hand_decides_by_asking_again(dispatcher: Dispatcher) -> None:
    service = Blind()
    service.plan = ["made, answer lost"]
    with pytest.raises(OutcomeUnknown):
        await dispatcher.once(ask(service))
    assert (await once(dispatcher, ask(service))).outcome is Outcome.DELIVERED


async def test_an_answer_of_500_is_no_doubt_for_a_service_that_cannot_be_asked(dispatcher: Dispatcher) -> None:
    service = Blind()
    service.plan = [ServiceFault("502")]
    with pytest.raises(ServiceFault):
        await dispatcher.once(ask(service))
    assert (await once(dispatcher, ask(service))).outcome is Outcome.DELIVERED


# -- threads -----------------------------------------------------------------------------------------------------------


class Threaded(Service):
    """Keeps what it was told of earlier things, and answers as it is planned."""

    def __init__(self, *results: DeliveryResult) -> None:
        super().__init__()
        self.results = list(results)
        self.earlier: list[Earlier | None] = []

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        self.earlier.append(delivery.earlier)
        return self.results.pop(0)


async def tell(dispatcher: Dispatcher, service: Service, *tasks: str) -> None:
    """Something about each of these tasks, one after the other."""
    for number, task in enumerate(tasks):
        delivery = Delivery(f"{task}:{number}", thread=f"task_id:{task}")
        await dispatcher.once(Act("service", service, Notification(message=task), delivery, MINUTE))


async def test_a_later_event_of_a_thread_is_told_what_was_made_before(dispatcher: Dispatcher) -> None:
    made = [DeliveryResult.delivered(str(n), url=f"https://x/{n}", state={"n": str(n)}) for n in range(3)]
    service = Threaded(*made)
    await tell(dispatcher, service, "a", "b", "a")
    assert service.earlier == [None, None, Earlier("0", "https://x/0", {"n": "0"})]


async def test_a_thread_that_ended_begins_anew(dispatcher: Dispatcher) -> None:
    opened, closed = DeliveryResult.delivered("open"), DeliveryResult.delivered("closed", ends=True)
    service = Threaded(opened, closed, opened)
    await tell(dispatcher, service, "a", "a", "a")
    assert service.earlier == [None, Earlier("open"), None]


# -- the gate ----------------------------------------------------------------------------------------------------------


class Busyish(Service):
    """A service that takes two calls in any 300 ms, and keeps when it was called."""

    manifest = Manifest(
        name="service",
        title="A service",
        config=NoSettings,
        handles=(">",),
        budgets=(Budget("calls", 2, timedelta(milliseconds=300)),),
    )

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        self.at.append(time.monotonic())
        return DeliveryResult.delivered()


async def test_calls_are_spaced_by_the_budget_over_all_dispatchers(bus: EventBus) -> None:
    """Each worker has its own; the gate is one."""
    service, workers = Busyish(), [Dispatcher(bus, Metrics()) for _ in range(2)]
    await asyncio.gather(*(workers[n % 2].once(ask(service, key=str(n))) for n in range(6)))
    spaces = [later - earlier for earlier, later in itertools.pairwise(sorted(service.at))]
    assert min(spaces) > 0.1, spaces
    assert sum(spaces) > 5 * 0.15 - 0.05


async def test_a_target_is_given_no_more_than_its_cap_though_its_service_has_no_limits(
    dispatcher: Dispatcher, service: Service
) -> None:
    """A quarter of it at once, the others spaced so that no minute has more. Other targets do not notice."""
    capped = replace(ask(service), cap=4, paced=False)
    await dispatcher.once(capped)
    with pytest.raises(Waiting, match="the budget effects per minute of service is used up") as held:
        await dispatcher.once(replace(capped, delivery=Delivery("second")))
    assert held.value.retry_after is not None
    assert MINUTE / 5 < held.value.retry_after <= MINUTE / 4
    await dispatcher.once(replace(capped, delivery=Delivery("third", target="other")))
    assert service.effects == ["k", "third"]


def test_a_cap_comes_on_top_of_the_services_budgets() -> None:
    limited = Busyish()
    act = replace(ask(limited), cap=6000)
    names = [cost.name for cost in act.costs()]
    assert names == [cost.name for cost in replace(act, cap=0).costs()] + ["effects per minute"]
    assert [(cost.name, cost.burst) for cost in replace(act, paced=False).costs()] == [("effects per minute", 1500)]


async def test_a_rate_limit_holds_every_dispatcher_back(bus: EventBus, service: Service) -> None:
    service.plan = [RateLimited("slow down", retry_after=MINUTE)]
    with pytest.raises(RateLimited):
        await Dispatcher(bus, Metrics()).once(ask(service))
    with pytest.raises(Waiting) as held:
        await Dispatcher(bus, Metrics()).once(ask(service, key="another"))
    assert held.value.pause
    assert held.value.retry_after is not None
    assert timedelta(seconds=59) < held.value.retry_after <= MINUTE


async def test_a_failing_service_is_left_alone_and_both_turns_are_told_once(
    bus: EventBus, dispatcher: Dispatcher, service: Service
) -> None:
    breaker = Breaker(row=3, first=timedelta(milliseconds=50))
    service.plan = [ServiceFault("503")] * 4
    async with bus.listen("integration.*") as events:
        for number in range(3):
            with pytest.raises(ServiceFault):
                await dispatcher.once(replace(ask(service, key=str(number)), breaker=breaker))
        with pytest.raises(Waiting):
            await dispatcher.once(ask(service, key="4"))
        with pytest.raises(ServiceFault):
            await once(dispatcher, replace(ask(service, key="5"), breaker=breaker))
        await once(dispatcher, replace(ask(service, key="6"), breaker=breaker))
        async with asyncio.timeout(10):
            seen = [await anext(events), await anext(events)]
    assert [(one.topic, one.data.integration) for one in seen] == [
        ("integration.degraded", "service"),
        ("integration.recovered", "service"),
    ]
    assert seen[0].data.detail == "ServiceFault: 503"


async def test_the_log_says_why_and_how_long_it_is_left_alone_and_who_waits_is_no_warning(
    dispatcher: Dispatcher, service: Service
) -> None:
    breaker = Breaker(first=MINUTE)
    service.plan = [AuthFailed("the token was revoked")]
    with capture_logs() as logs:
        for number in range(3):
            with pytest.raises(TryLater):
                await dispatcher.deliver(replace(ask(service, key=str(number)), breaker=breaker))
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("warning", "integration degraded"),
        ("warning", "not delivered"),
        ("info", "waits"),
        ("info", "waits"),
    ]
    assert (logs[0]["error"], logs[0]["for_s"]) == ("AuthFailed: the token was revoked", 60)


async def test_what_is_switched_off_is_told_once_for_each_occasion_and_waits(
    bus: EventBus, dispatcher: Dispatcher, service: Service
) -> None:
    service.plan = [Disabled("410", since=since) for since in (1.0, 1.0, 2.0)]
    async with bus.listen("integration.*") as events:
        for number in range(3):
            with pytest.raises(TryLater) as told:
                await dispatcher.deliver(ask(service, key=str(number)))
            assert (told.value.counts, told.value.pause) == (False, True)
        await bus.publish("integration.end", {})
        async with asyncio.timeout(10):
            seen = [(await anext(events)).topic for _ in range(3)]
    assert seen == ["integration.disabled", "integration.disabled", "integration.end"]


# -- what people see ---------------------------------------------------------------------------------------------------


class Previewing(Service):
    """One that says what it would send."""

    def preview(self, what: What, delivery: Delivery) -> list[Preview]:
        return [Preview("tell #ops", "POST https://service/messages", "{}")]


async def test_a_dry_run_calls_nobody_and_leaves_no_trace_in_the_ledger(bus: EventBus, dispatcher: Dispatcher) -> None:
    service = Previewing()
    shown = await dispatcher.once(replace(ask(service), dry_run=True))
    assert shown == DeliveryResult.skipped("dry run: tell #ops (POST https://service/messages)")
    assert not service.called.is_set()
    assert (await dispatcher.once(ask(service))).outcome is Outcome.DELIVERED


async def test_a_dry_run_of_an_adapter_that_shows_nothing_sends_nothing_either(
    dispatcher: Dispatcher, service: Service
) -> None:
    shown = await dispatcher.once(replace(ask(service), dry_run=True))
    assert shown == DeliveryResult.skipped("dry run: service can't show what it would send")
    assert not service.called.is_set()


async def test_every_attempt_leaves_a_line_in_the_trail_of_its_event(
    bus: EventBus, dispatcher: Dispatcher, service: Service
) -> None:
    service.plan = [NotReady("starting")]

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        await dispatcher.deliver(bring(service, event, attempt))

    options = Options(backoff=Backoff(timedelta(milliseconds=1), timedelta(milliseconds=1)))
    await bus.subscribe("vm.*", handle, group="service", options=options)
    receipt = await bus.publish(VmCreated(vm_id="1"))
    await bus.run_until_idle()
    first, second = await bus.trail.read(receipt.event_id)
    assert (first["attempt"], first["outcome"], first["error"]) == (1, "retry", "NotReady: starting")
    assert (second["attempt"], second["outcome"], second["url"]) == (2, "delivered", "https://service/1")
