from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from cloudevents.v1.conversion import to_dict
from cloudevents.v1.http import CloudEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import Event, catalog
from integrations.github.fake import FakeGitHub
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.testing.fake import FakeService
from registry.account import Account
from service.wiring import Runtime

Open = Callable[..., AbstractAsyncContextManager[tuple[Runtime, httpx.AsyncClient]]]
Published = Callable[[], Awaitable[list[Event[Any]]]]
EVENTS = "/api/v1/events"
PULL = "/api/v1/integrations/github/pr"
GITHUB = "/api/v1/integrations/github"
SLACK = "/api/v1/integrations/slack/notifications"
VM = {"type": "vm.created", "data": {"vm_id": "vm-1"}}
CONTENT = {"owner": "acme", "repo": "api", "title": "Move to v2", "head": "move", "base": "main"}
CLOUD = {"specversion": "1.0", "id": "c-1", "source": "/billing", "type": "vm.created", "data": {"vm_id": "vm-1"}}


# -- who may -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def bare(open_gateway: Open) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway without accounts, and with two keys, one of them not ASCII."""
    async with open_gateway(api_keys=("the-old-key-000001", "schlüssel-äöü-00001")) as (_, http):
        yield http


async def test_every_wrong_way_to_show_a_key_is_401(bare: httpx.AsyncClient) -> None:
    key = "the-old-key-000001"
    wrong: list[dict[str, Any]] = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": key},
        {"Authorization": f"Basic {key}"},
        {"Authorization": f"Bearer {key}x"},
        {"Authorization": f"Bearer {key[:-1]}"},
        {"Authorization": f"Bearer {key.upper()}"},
        {"Authorization": "Bearer wrong", "X-API-Key": key},
        {"X-API-Key": ""},
        {"X-API-Key": f"Bearer {key}"},
        {"X-API-Key": "ключ-ключ-ключ-ключ".encode()},
        {"X-API-Key": b"\xff\xfe" * 10},
    ]
    for headers in wrong:
        answer = await bare.post(EVENTS, json=VM, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="eventbus"'), headers
        assert answer.json()["detail"].startswith("an API key is needed"), headers


async def test_every_right_way_to_show_a_key_is_202(bare: httpx.AsyncClient) -> None:
    key, other = "the-old-key-000001", "schlüssel-äöü-00001"
    right: list[dict[str, Any]] = [
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer {key}"},
        {"X-API-Key": key},
        {"X-API-Key": other.encode()},
        {"Authorization": b"Bearer " + other.encode()},
        {"Authorization": "Basic from-a-proxy", "X-API-Key": key},
    ]
    for headers in right:
        assert (await bare.post(EVENTS, json=VM, headers=headers)).status_code == 202, headers


# -- events ------------------------------------------------------------------------------------------------------------


async def test_an_event_is_published(rest: httpx.AsyncClient, published: Published) -> None:
    answer = await rest.post(EVENTS, json={**VM, "subject": "vm-1", "correlation_id": "c"})
    (event,) = await published()
    assert answer.status_code == 202
    assert answer.json() == {"id": event.id, "topic": "vm.created", "status": "stored", "sequence": 1}
    assert (event.source, event.subject, event.correlation_id, event.key) == ("/api", "vm-1", "c", "vm_id:vm-1")


async def test_an_event_may_be_published_for_later(open_gateway: Open) -> None:
    async with open_gateway(api_keys=("the-old-key-000001",)) as (runtime, http):
        http.headers["X-API-Key"] = "the-old-key-000001"
        answer = await http.post(EVENTS, json={**VM, "at": "2100-01-01T00:00:00+01:00"})
        assert (answer.status_code, answer.json()["status"], answer.json()["sequence"]) == (202, "scheduled", 0)
        (waiting,) = await runtime.bus.scheduled()
        assert (waiting.event.id, waiting.due.isoformat()) == (answer.json()["id"], "2099-12-31T23:00:00+00:00")


@pytest.mark.parametrize(
    "topic",
    [
        "github.push",
        "slack.action.x",
        "pagerduty.incident.resolved",
        "alertmanager.alert.resolved",
        "integration.degraded",
        "notification.due.slack",
        "delivery.dead_lettered",
        "approval.granted",
        "silence.expiring",
    ],
)
async def test_what_only_the_bus_or_a_verified_webhook_may_say_can_not_be_forged(
    rest: httpx.AsyncClient, published: Published, topic: str
) -> None:
    known = catalog.find(topic)
    example = None if known is None else known.example()
    data = {} if example is None else example.model_dump(mode="json")
    answer = await rest.post(EVENTS, json={"topic": topic, "data": data})
    assert answer.status_code == 403, answer.text
    assert await published() == []


@pytest.mark.parametrize("at", ["2100-01-01T00:00:00", "soon", 5, {}, ""])
async def test_a_time_that_is_none_is_422(rest: httpx.AsyncClient, at: Any) -> None:
    answer = await rest.post(EVENTS, json={**VM, "at": at})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "at")


async def test_a_cloud_event_is_published_as_it_is(rest: httpx.AsyncClient, published: Published) -> None:
    made = to_dict(CloudEvent({"type": "vm.created", "source": "/billing", "id": "c-7"}, {"vm_id": "vm-1"}))
    answer = await rest.post(EVENTS, json=made, headers={"Content-Type": "application/cloudevents+json"})
    assert (answer.status_code, answer.json()["id"]) == (202, "c-7")
    (event,) = await published()
    assert (event.id, event.source, event.idempotency_key) == ("c-7", "/billing", "c-7")
    assert (await rest.post(EVENTS, json=made)).json()["status"] == "duplicate"


async def test_a_batch_is_stored_in_its_order(rest: httpx.AsyncClient, published: Published) -> None:
    batch = [{**CLOUD, "id": f"b-{number}"} for number in range(5)]
    answer = await rest.post(EVENTS, json=batch, headers={"Content-Type": "application/cloudevents-batch+json"})
    assert answer.status_code == 202
    assert [one["id"] for one in answer.json()] == [event.id for event in await published()]


@pytest.mark.parametrize(
    ("batch", "status", "named"),
    [
        ([CLOUD, {**CLOUD, "data": {}}], 422, "event 1 of the batch: vm.created: vm_id"),
        ([CLOUD, {**CLOUD, "type": "delivery.forged"}], 403, "event 1 of the batch"),
        ([CLOUD, 7], 422, "event 1 of the batch"),
        ([CLOUD] * 501, 422, "500"),
    ],
    ids=["wrong", "reserved", "no object", "too many"],
)
async def test_a_batch_with_one_wrong_event_is_refused_whole(
    rest: httpx.AsyncClient, published: Published, batch: list[Any], status: int, named: str
) -> None:
    answer = await rest.post(EVENTS, json=batch)
    assert answer.status_code == status
    assert named in answer.json()["detail"]
    assert await published() == []


async def test_one_key_for_a_whole_batch_is_refused(rest: httpx.AsyncClient, published: Published) -> None:
    assert (await rest.post(EVENTS, json=[CLOUD], headers={"Idempotency-Key": "k"})).status_code == 400
    assert await published() == []


async def test_the_same_key_and_content_is_stored_once_and_answered_with_the_first_id(
    rest: httpx.AsyncClient, published: Published
) -> None:
    first, second, quoted = [
        await rest.post(EVENTS, json=VM, headers={"Idempotency-Key": key})
        for key in ("order-7", "order-7", '"order-7"')
    ]
    assert [one.status_code for one in (first, second, quoted)] == [202] * 3
    assert [one.json()["status"] for one in (first, second, quoted)] == ["stored", "duplicate", "duplicate"]
    assert first.json()["id"] == second.json()["id"] == quoted.json()["id"]
    assert second.headers["idempotency-key"] == "order-7"
    assert len(await published()) == 1


async def test_the_same_key_for_other_content_is_a_conflict(rest: httpx.AsyncClient, published: Published) -> None:
    other = {"type": "vm.created", "data": {"vm_id": "vm-2"}}
    assert (await rest.post(EVENTS, json=VM, headers={"Idempotency-Key": "k"})).status_code == 202
    assert (await rest.post(EVENTS, json=other, headers={"Idempotency-Key": "k"})).status_code == 409
    assert len(await published()) == 1


async def test_what_is_no_idempotency_key_is_400(rest: httpx.AsyncClient) -> None:
    for wrong in (b"", b"\xff", b"k" * 256, b"tab\there"):
        answer = await rest.post(EVENTS, json=VM, headers={b"Idempotency-Key": wrong})
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), wrong


async def test_what_only_webhooks_and_the_bus_may_say_can_not_be_forged(
    rest: httpx.AsyncClient, published: Published
) -> None:
    data: dict[str, Any] = {"integration": "x", "detail": "", "delivery": "d", "event": "push", "command": "/x"}
    data |= {"group": "g", "event_id": "e", "event_topic": "t", "reason": "poison", "error": "", "attempts": 1}
    for topic in ("github.push", "slack.command.status", "delivery.dead_lettered", "integration.degraded"):
        for form in ({}, CLOUD):
            answer = await rest.post(EVENTS, json={**form, "type": topic, "data": data})
            assert answer.status_code == 403, answer.text
    assert await published() == []


WRONG: list[tuple[Any, str | None]] = [
    ({"type": "vm.created", "data": {}}, "vm_id"),
    ({"type": "vm.created", "data": {"vm_id": []}}, "vm_id"),
    ({"type": "vm.created", "data": 7}, "data"),
    ({"data": {}}, "topic"),
    ({"type": 7}, "topic"),
    ({"type": "Not A Topic"}, None),
    ({"type": "team.x", "colour": "red"}, "colour"),
    ({"type": "team.x", "time": "yesterday"}, "time"),
    ({"type": "team.x", "traceparent": "x"}, "traceparent"),
    ({"type": "team.x", "id": 7}, "id"),
    ({"type": "team.x", "source": "x" * 501}, "source"),
    ({**CLOUD, "specversion": "0.3"}, None),
    ({**CLOUD, "unknownattribute": 1}, "unknownattribute"),
    (7, None),
    ("text", None),
]


async def test_what_is_wrong_is_named(rest: httpx.AsyncClient, published: Published) -> None:
    for body, field in WRONG:
        answer = await rest.post(EVENTS, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), body
        if field is not None:
            assert field in answer.json()["errors"][0]["field"], body
    assert await published() == []


NOT_STRICT = [
    b"",
    b"{",
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": 1e999}',
    b'{"a": 1, "a": 2}',
    b'{"a": "\\ud800"}',
    b'{"a": 9223372036854775808}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 65 + b"1" + b"}" * 65,
    b"{" + b",".join(b'"%d":1' % n for n in range(10_001)) + b"}",
    b"\xef\xbb\xbf{}",
]


async def test_what_is_not_strict_json_is_400(bare: httpx.AsyncClient) -> None:
    for raw in NOT_STRICT:
        answer = await bare.post(EVENTS, content=raw, headers={"X-API-Key": "the-old-key-000001"})
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), raw[:80]


async def test_an_event_that_is_too_large_is_422_and_a_body_413(bare: httpx.AsyncClient) -> None:
    headers = {"X-API-Key": "the-old-key-000001"}
    large = {"type": "team.x", "data": {"text": "x" * 300_000}}
    assert (await bare.post(EVENTS, json=large, headers=headers)).status_code == 422
    larger = {"type": "team.x", "data": {"text": "x" * 1_100_000}}
    assert (await bare.post(EVENTS, json=larger, headers=headers)).status_code == 413
    zipped = headers | {"Content-Encoding": "gzip"}
    assert (await bare.post(EVENTS, content=b"", headers=zipped)).status_code == 415


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["type", "topic", "data", "specversion", "id", "source", "time", "key", "idempotency_key", "traceparent", "subject",
     "datacontenttype", "dataversion", "partitionkey"]
)  # fmt: skip
VALUES = JSON | st.sampled_from(
    ["1.0", "vm.created", "team.x", {"vm_id": "1"}, "2024-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"]
)
BODIES = st.binary(max_size=200) | (JSON | st.dictionaries(NAMES, VALUES)).map(lambda value: json.dumps(value).encode())


async def test_no_body_makes_it_fail(bare: httpx.AsyncClient) -> None:
    loop, found = asyncio.get_running_loop(), list[int]()

    async def ask(body: bytes, batch: bool) -> int:
        kind = "application/cloudevents-batch+json" if batch else "application/json"
        headers = {"X-API-Key": "the-old-key-000001", "Content-Type": kind}
        return (await bare.post(EVENTS, content=body, headers=headers)).status_code

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(body=BODIES, batch=st.booleans())
    def fuzz(body: bytes, batch: bool) -> None:
        status = asyncio.run_coroutine_threadsafe(ask(body, batch), loop).result(10)
        found.append(status)
        assert status in (202, 400, 403, 409, 422), body

    await asyncio.to_thread(fuzz)
    assert {202, 400, 422} <= set(found)


# -- notifications and artifacts -------------------------------------------------------------------------------------


async def test_a_notification_is_sent_once_for_a_key(rest: httpx.AsyncClient, slack: FakeSlack) -> None:
    message = {"message": "Deploy done", "target": "#general"}
    first, second = [await rest.post(SLACK, json=message, headers={"Idempotency-Key": "n-1"}) for _ in range(2)]
    assert (first.status_code, first.json()["outcome"]) == (200, "delivered")
    assert (second.status_code, second.json()["outcome"]) == (200, "duplicate")
    assert second.json()["reference"] == first.json()["reference"] == slack.messages[0].ts
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert len(slack.messages) == 1


async def test_without_a_key_each_is_sent_and_names_the_key_it_was_given(
    rest: httpx.AsyncClient, slack: FakeSlack
) -> None:
    answers = [await rest.post(SLACK, json={"message": "again"}) for _ in range(2)]
    assert len({answer.headers["idempotency-key"] for answer in answers}) == 2
    assert len(slack.messages) == 2


async def test_a_pull_request_is_made_once_for_a_key_by_its_long_and_its_short_address(
    rest: httpx.AsyncClient, github: FakeGitHub
) -> None:
    headers = {"Idempotency-Key": "pr-1"}
    first = await rest.post(PULL, json=CONTENT, headers=headers)
    second = await rest.post(f"{GITHUB}/artifacts/pull_request", json=CONTENT, headers=headers)
    assert (first.status_code, first.json()["outcome"]) == (201, "delivered")
    assert first.json()["url"] == "https://github.com/acme/api/pull/8"
    assert (second.status_code, second.json()["url"]) == (200, first.json()["url"])
    assert second.headers["idempotent-replayed"] == "true"
    assert len(github.effects()) == 1


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("issue", {"owner": "acme", "repo": "api", "title": "It broke", "labels": ["bug"]}),
        ("comment", {"owner": "acme", "repo": "api", "number": 7, "body": "Looks good"}),
    ],
)
async def test_issues_and_comments_are_made_too(
    rest: httpx.AsyncClient, github: FakeGitHub, kind: str, content: dict[str, Any]
) -> None:
    answer = await rest.post(f"{GITHUB}/artifacts/{kind}", json=content)
    assert (answer.status_code, answer.json()["outcome"]) == (201, "delivered")
    assert len(github.effects()) == 1


async def test_a_key_used_for_other_content_is_422_and_makes_nothing(
    rest: httpx.AsyncClient, github: FakeGitHub
) -> None:
    headers = {"Idempotency-Key": "pr-1"}
    assert (await rest.post(PULL, json=CONTENT, headers=headers)).status_code == 201
    other = await rest.post(PULL, json={**CONTENT, "head": "other"}, headers=headers)
    assert (other.status_code, other.headers["idempotency-key"]) == (422, "pr-1")
    assert len(github.effects()) == 1


async def test_requests_with_one_key_at_the_same_time_make_one_thing(
    rest: httpx.AsyncClient, github: FakeGitHub
) -> None:
    held = github.hold()
    ask = {"json": CONTENT, "headers": {"Idempotency-Key": "pr-1"}}
    first = asyncio.create_task(rest.post(PULL, **ask))  # type: ignore[arg-type]
    await held.committed.wait()
    others = await asyncio.gather(*(rest.post(PULL, **ask) for _ in range(5)))  # type: ignore[arg-type]
    assert {one.status_code for one in others} == {409}
    assert all(one.headers["retry-after"] for one in others)
    held.released.set()
    assert (await first).status_code == 201
    assert (await rest.post(PULL, **ask)).status_code == 200  # type: ignore[arg-type]
    assert len(github.effects()) == 1


async def test_a_lost_answer_is_504_and_the_repeat_finds_what_was_made(
    rest: httpx.AsyncClient, github: FakeGitHub
) -> None:
    github.swallow("after")
    first = await rest.post(PULL, json=CONTENT)
    assert (first.status_code, first.headers["content-type"]) == (504, "application/problem+json")
    assert "it takes effect once" in first.json()["detail"]
    again = await rest.post(PULL, json=CONTENT, headers={"Idempotency-Key": first.headers["idempotency-key"]})
    assert (again.status_code, again.json()["outcome"]) == (200, "duplicate")
    assert again.json()["url"] == "https://github.com/acme/api/pull/8"
    assert len(github.effects()) == 1


async def test_a_lost_answer_of_a_service_that_can_not_be_asked_says_that_a_repeat_may_double_it(
    open_gateway: Callable[..., Any], slack: FakeSlack, key: str
) -> None:
    hook = Account("slack", Slack(), Slack.manifest.config.model_validate(slack.webhook_settings()))
    async with open_gateway(hook) as (_, http):
        slack.swallow("after")
        answer = await http.post(SLACK, json={"message": "once?"}, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 504
    assert "it may be done twice" in answer.json()["detail"]


def limited(fake: FakeService) -> None:
    fake.fail(429, headers={"Retry-After": "17"})


def refused(fake: FakeService) -> None:
    fake.reject_credentials = True


def down(fake: FakeService) -> None:
    fake.go_down(500)


@pytest.mark.parametrize("service", ["slack", "github"])
@pytest.mark.parametrize(("trouble", "status"), [(limited, 429), (refused, 502), (down, 502)])
async def test_a_services_trouble_has_its_status_and_the_repeat_works_when_it_is_over(
    rest: httpx.AsyncClient,
    runtime: Runtime,
    slack: FakeSlack,
    github: FakeGitHub,
    service: str,
    trouble: Callable[[FakeService], None],
    status: int,
) -> None:
    fake: FakeService = slack if service == "slack" else github
    path, body = (SLACK, {"message": "hello"}) if service == "slack" else (PULL, CONTENT)
    trouble(fake)
    failed = await rest.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert (failed.status_code, failed.headers["content-type"]) == (status, "application/problem+json")
    if status == 429:
        assert 1 <= int(failed.headers["retry-after"]) <= 60
    assert fake.effects() == []
    fake.reject_credentials = False
    fake.come_back()
    await runtime.bus._connection.do("DEL", runtime.bus._keys.gate(service))  # time has passed: it may be asked again
    again = await rest.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert again.status_code in (200, 201), again.text
    assert len(fake.effects()) == 1


async def test_what_the_service_refuses_is_422_with_its_words(rest: httpx.AsyncClient, github: FakeGitHub) -> None:
    answer = await rest.post(PULL, json={**CONTENT, "head": "feature/email"})
    assert answer.status_code == 422
    assert "already exists" in answer.json()["detail"]
    channel = await rest.post(SLACK, json={"message": "hi", "target": "#nowhere"})
    assert (channel.status_code, "channel_not_found" in channel.text) == (422, True)
    assert github.effects() == []


IMPOSSIBLE: list[tuple[str, Any, int, str]] = [
    (SLACK, {}, 422, "message"),
    (SLACK, {"message": ""}, 422, "message"),
    (SLACK, {"message": "hi", "loud": True}, 422, "loud"),
    (SLACK, {"message": "hi", "severity": "panic"}, 422, "severity"),
    (SLACK, {"message": "hi", "type": "song"}, 422, "message"),
    (SLACK, [], 422, ""),
    (PULL, {}, 422, "owner"),
    (PULL, {**CONTENT, "colour": "red"}, 422, "colour"),
    (f"{GITHUB}/artifacts/poem", {}, 404, "pull_request, issue, comment"),
    ("/api/v1/integrations/slack/artifacts/issue", {}, 404, "approval"),
    ("/api/v1/integrations/nobody/notifications", {"message": "hi"}, 404, "github"),
    ("/api/v1/integrations/nobody/artifacts/issue", {}, 404, "github"),
]


async def test_a_request_that_can_not_work_says_why(rest: httpx.AsyncClient) -> None:
    for path, body, status, named in IMPOSSIBLE:
        answer = await rest.post(path, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path
        assert named in answer.json()["detail"]
