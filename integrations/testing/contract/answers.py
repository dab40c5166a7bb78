"""Rules 6, 7 and 8: what the service answers, and when, is understood and acted upon."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from eventbus import Event
from eventbus.topics import IntegrationDegraded
from integrations.base import Outcome
from integrations.errors import AuthFailed, OutcomeUnknown, RateLimited, Rejected, ServiceFault
from integrations.testing.contract.bench import Bench
from integrations.testing.fake import FakeService
from integrations.testing.rig import Rig, Worker, at_work, until
from integrations.testing.rules import rule

SAID = "quota_of_blue_widgets_is_used_up"
"""What the service says when it refuses. It must reach the person who reads the dead letter."""
REFUSAL = json.dumps({"message": SAID, "error": SAID, "errors": [SAID], "ok": False})

TIMEOUT = timedelta(seconds=1)
"""Of a call that gets no answer."""
GRACE = timedelta(seconds=5)
"""How much later it may end: a busy machine is not a failure."""


class AnswerRules(Bench):
    """First by the adapter alone, then by the dispatcher that acts on what the adapter says."""

    @rule(6)
    async def test_a_rate_limit_is_passed_on_with_its_time(self, rig: Rig) -> None:
        rig.service.fail(429, headers={"Retry-After": "7"})
        result = await rig.outcome(self.event)
        limited = isinstance(result, RateLimited) or getattr(result, "outcome", None) is Outcome.RETRY
        assert limited, f"429 became {result!r}"
        assert result.retry_after == timedelta(seconds=7), f"Retry-After: 7 became {result.retry_after}"

    @rule(6)
    async def test_after_a_rate_limit_nothing_is_sent_until_the_time_it_named(self, worker: Worker) -> None:
        worker.service.fail(429, headers={"Retry-After": "1"})
        await worker.bring(self.event)
        refused, *later = worker.service.requests
        assert later, f"429 with Retry-After: 1, and nothing was sent again: {await worker.trail(self.event)}"
        waited = later[0].at - refused.at
        assert waited >= 1, f"Retry-After: 1, and the next request came after {waited:.2f} s"
        assert len(worker.service.effects()) == 1, f"and then: {worker.service.effects()}"

    @rule(7)
    @pytest.mark.parametrize("status", [500, 502])
    async def test_a_fault_of_the_service_is_worth_another_attempt(self, rig: Rig, status: int) -> None:
        rig.service.fail(status)
        result = await rig.outcome(self.event)
        assert isinstance(result, ServiceFault | OutcomeUnknown), f"{status} became {result!r}"
        assert rig.service.effects() == [], "the service failed before it did anything"
        assert len(rig.service.requests) == 1, "only the dispatcher tries again; the adapter did"

    @rule(7)
    async def test_after_a_fault_of_the_service_the_event_arrives(self, worker: Worker) -> None:
        worker.service.fail(500)
        await worker.bring(self.event)
        ends = await worker.outcomes(self.event)
        assert ends[:1] == ["retry"], f"500 is worth another attempt; the attempts ended as {ends}"
        assert len(worker.service.effects()) == 1, f"after the second attempt: {worker.service.effects()}"
        assert not await worker.dead(), "a service that failed once is no reason to give up"

    @rule(7)
    @pytest.mark.parametrize("status", [400, 422])
    async def test_a_refused_request_is_refused_for_good(self, rig: Rig, status: int) -> None:
        rig.service.fail(status)
        result = await rig.outcome(self.event)
        refused = isinstance(result, Rejected) or getattr(result, "outcome", None) is Outcome.REJECTED
        assert refused, f"{status} became {result!r}"

    @rule(7)
    async def test_a_refused_request_becomes_a_dead_letter_with_what_the_service_said(self, worker: Worker) -> None:
        worker.service.fail(400, body=REFUSAL, headers={"Content-Type": "application/json"})
        await worker.bring(self.event)
        ends, dead = await worker.outcomes(self.event), await worker.dead()
        assert ends == ["rejected"], f"400 is an answer for good; the attempts ended as {ends}"
        assert [letter.reason for letter in dead] == ["rejected"], f"one dead letter is expected: {dead}"
        assert SAID in dead[0].error, f"the service said {SAID!r}, and the dead letter says {dead[0].error!r}"

    @rule(7)
    async def test_refused_credentials_are_told_apart(self, rig: Rig) -> None:
        rig.service.reject_credentials = True
        result = await rig.outcome(self.event)
        assert isinstance(result, AuthFailed), f"refused credentials became {result!r}"
        assert (await rig.adapter.health()).state in ("healthy", "degraded", "unhealthy")

    @rule(7)
    async def test_refused_credentials_are_told_once_and_the_events_wait(self, worker: Worker) -> None:
        told: list[str] = []

        async def note(event: Event[IntegrationDegraded]) -> None:
            told.append(event.data.detail)

        await worker.bus.subscribe("integration.degraded", note, group="people")
        worker.service.reject_credentials = True
        working = asyncio.create_task(worker.bring(*(self.another(number) for number in range(3))))
        try:
            await until(lambda: told or working.done(), "people are told of refused credentials")
            probed = len(worker.service.requests) + 2
            await until(lambda: len(worker.service.requests) >= probed or working.done(), "two more are let through")
        finally:
            worker.service.reject_credentials = False
            await working
        assert len(told) == 1, f"refused credentials are told once, not {len(told)} times: {told}"
        assert not await worker.dead(), f"what waits for other credentials is not given up: {await worker.dead()}"
        assert len(worker.service.effects()) == 3, f"with its credentials back: {worker.service.effects()}"

    @rule(8)
    async def test_a_call_to_a_slow_service_ends_at_the_timeout(self, service: FakeService) -> None:
        held = service.hold()
        async with at_work(self.adapter, service, self.event.topic, timeout=TIMEOUT) as worker:
            working = asyncio.create_task(worker.bring(self.event))
            try:
                await until(lambda: working.done() or held.committed.is_set(), "a request reaches the service")
                await until(lambda: worker.trail(self.event), "a call that gets no answer ends")
            finally:
                held.released.set()
                await working
            first = (await worker.trail(self.event))[0]
        took = timedelta(milliseconds=float(str(first["latency_ms"])))
        assert took <= TIMEOUT + GRACE, f"with a timeout of {TIMEOUT}, a call that got no answer took {took}"
        assert first["outcome"] != "delivered", f"no answer came, and the attempt ended as {first}"
        assert len(service.effects()) == 1, f"cut off and tried again, one event made these: {service.effects()}"
