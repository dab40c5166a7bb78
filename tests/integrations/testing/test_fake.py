"""What every fake can do: serve, count, be out of order, lose answers, end cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from integrations.errors import OutcomeUnknown, Unreachable
from integrations.http import Answer, Http
from integrations.testing.fake import FakeService


class Counter(FakeService):
    """Counts what is posted."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[str] = []

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/count", self._count, methods=["POST"])]

    def settings(self) -> dict[str, Any]:
        return {"url": self.url}

    def effects(self) -> list[str]:
        return list(self.counted)

    async def _count(self, request: Request) -> Response:
        self.counted.append((await request.body()).decode())
        return PlainTextResponse("counted", 201)


@pytest.fixture
async def counter() -> AsyncIterator[Counter]:
    async with Counter() as counter:
        yield counter


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http() as http:
        yield http


async def count(http: Http, counter: Counter, what: str = "one") -> Answer:
    return await http.request("POST", f"{counter.url}/count?to=10", content=what.encode(), headers={"X-Key": "k"})


async def test_it_serves_and_keeps_what_arrived(http: Http, counter: Counter) -> None:
    answer = await count(http, counter)
    assert (answer.status, answer.text, counter.effects()) == (201, "counted", ["one"])
    (request,) = counter.requests
    assert (request.method, request.path, request.body, request.status) == ("POST", "/count?to=10", b"one", 201)
    assert request.headers["x-key"] == "k"


async def test_a_planned_failure_does_nothing_and_is_met_as_often_as_asked(http: Http, counter: Counter) -> None:
    counter.fail(429, times=2, body="slow down", headers={"Retry-After": "7"})
    answers = [await count(http, counter) for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 201]
    assert (answers[0].text, answers[0].headers["retry-after"]) == ("slow down", "7")
    assert counter.effects() == ["one"]
    assert [request.status for request in counter.requests] == [429, 429, 201]


async def test_an_answer_swallowed_before_the_effect_leaves_none(http: Http, counter: Counter) -> None:
    counter.swallow("before")
    with pytest.raises(OutcomeUnknown):
        await count(http, counter)
    assert (counter.effects(), counter.requests[0].status) == ([], None)
    assert (await count(http, counter)).status == 201


async def test_an_answer_swallowed_after_the_effect_leaves_it(http: Http, counter: Counter) -> None:
    counter.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await count(http, counter)
    assert (counter.effects(), counter.requests[0].status) == (["one"], None)


@pytest.mark.parametrize(("when", "made"), [("before", []), ("after", ["one"])])
async def test_a_caller_that_is_left_without_an_answer_gives_up_and_the_next_is_served(
    http: Http, counter: Counter, when: Any, made: list[str]
) -> None:
    counter.stall(when)
    with pytest.raises(OutcomeUnknown, match="did not answer within"):
        await http.request("POST", f"{counter.url}/count", content=b"one", timeout=timedelta(milliseconds=200))
    assert counter.effects() == made
    assert (await count(http, counter, "two")).status == 201
    assert [request.status for request in counter.requests] == [None, 201]


async def test_a_held_answer_comes_when_it_is_released(http: Http, counter: Counter) -> None:
    held = counter.hold()
    call = asyncio.create_task(count(http, counter))
    await held.committed.wait()
    assert (counter.effects(), call.done()) == (["one"], False)
    held.released.set()
    assert (await call).status == 201


async def test_an_outage_lasts_until_it_ends(http: Http, counter: Counter) -> None:
    counter.go_down()
    assert [(await count(http, counter)).status for _ in range(3)] == [503] * 3
    counter.come_back()
    assert (await count(http, counter)).status == 201


async def test_coming_back_drops_planned_faults(http: Http, counter: Counter) -> None:
    counter.fail(500, times=9)
    counter.come_back()
    assert (await count(http, counter)).status == 201


async def test_faults_are_met_in_the_order_they_were_planned(http: Http, counter: Counter) -> None:
    counter.fail(500)
    counter.swallow("after")
    counter.fail(400)
    assert (await count(http, counter, "first")).status == 500
    with pytest.raises(OutcomeUnknown):
        await count(http, counter, "second")
    assert (await count(http, counter, "third")).status == 400
    assert counter.effects() == ["second"]


async def test_two_run_beside_each_other(http: Http, counter: Counter) -> None:
    async with Counter() as other:
        await asyncio.gather(count(http, counter), count(http, other), count(http, other))
        assert (len(counter.effects()), len(other.effects())) == (1, 2)


async def test_it_ends_and_its_port_is_closed(http: Http) -> None:
    before = asyncio.all_tasks()
    async with Counter() as counter:
        await count(http, counter)
    with pytest.raises(Unreachable):
        await count(http, counter)
    assert asyncio.all_tasks() <= before


async def test_it_may_be_ended_twice(http: Http, counter: Counter) -> None:
    await counter.__aexit__(None, None, None)
    with pytest.raises(Unreachable):
        await count(http, counter)
