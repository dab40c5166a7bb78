from __future__ import annotations

import asyncio
import gzip
import json
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing
from pydantic import BaseModel

from eventbus import Event, EventBus, catalog
from eventbus.redis.embedded import find_server
from integrations.base import Delivery, DeliveryResult, Health, InboundReply, InboundRequest, Integration, Manifest
from integrations.errors import Misconfigured, RateLimited
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.slack.fake import FORM, FakeSlack
from registry.account import Account
from service.gateway import refusals
from service.wiring import Runtime
from tests.conftest import wait_until

Open = Callable[..., AbstractAsyncContextManager[tuple[Runtime, httpx.AsyncClient]]]
Published = Callable[[], Awaitable[list[Event[Any]]]]
GITHUB, SLACK = "/api/v1/webhooks/github", "/api/v1/webhooks/slack"


async def topics(published: Published) -> list[str]:
    return [event.topic for event in await published()]


# -- accepted --------------------------------------------------------------------------------------------------------


async def test_a_signed_webhook_is_published_with_a_notice(
    http: httpx.AsyncClient, github: FakeGitHub, published: Published
) -> None:
    headers, body = github.raw_webhook("pull_request", github.pull_request_opened(), delivery="d-1")
    answer = await http.post(GITHUB, headers=headers, content=body)
    assert (answer.status_code, answer.json()) == (202, {"ok": True, "topic": "github.pull_request.opened"})
    event, notice = await published()
    assert (event.topic, event.idempotency_key) == (
        "github.pull_request.opened",
        "github:d-1:github.pull_request.opened",
    )
    assert (notice.topic, notice.source, notice.causation_id) == (
        "integration.webhook_received",
        "/gateway",
        event.id,
    )
    assert notice.data.model_dump() == {"integration": "github", "topics": (event.topic,), "size": len(body)}


async def test_a_redelivery_is_accepted_and_stored_once(
    http: httpx.AsyncClient, github: FakeGitHub, published: Published
) -> None:
    headers, body = github.raw_webhook("pull_request", github.pull_request_opened(), delivery="d-1")
    answers = [await http.post(GITHUB, headers=headers, content=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert len(await published()) == 2


async def test_the_same_delivery_id_with_another_body_is_a_conflict(
    http: httpx.AsyncClient, github: FakeGitHub, published: Published
) -> None:
    payload = github.pull_request_opened()
    for content, status in ((payload, 202), (payload | {"number": 8, "more": "x" * 100}, 409)):
        headers, body = github.raw_webhook("pull_request", content, delivery="d-1")
        answer = await http.post(GITHUB, headers=headers, content=body)
        assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(await published()) == 2


async def test_a_repeat_of_slack_in_other_bytes_is_no_conflict(
    http: httpx.AsyncClient, slack: FakeSlack, published: Published
) -> None:
    mention = {"type": "app_mention", "text": "hello", "ts": "1714000000.000100"}
    first = slack.event_callback(mention, event_id="Ev1", event_time=1714000000)
    repeat = slack.event_callback(mention, event_id="Ev1", event_time=1714000000, event_context="longer", retry=1)
    for signed in (first, repeat):
        answer = await http.post(SLACK, headers=signed.headers, content=signed.body)
        assert answer.status_code == 200
    assert await topics(published) == ["slack.app_mention", "integration.webhook_received"]


async def test_a_replayed_command_of_slack_is_a_conflict(
    http: httpx.AsyncClient, slack: FakeSlack, published: Published
) -> None:
    command = slack.slash_command("/eventbus-status")
    first, second = [await http.post(SLACK, headers=command.headers, content=command.body) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 409)
    assert first.json()["response_type"] == "ephemeral"
    assert second.json()["detail"] == "this request was accepted before"
    assert await topics(published) == ["slack.command.status", "integration.webhook_received"]


async def test_a_button_and_a_task_are_published(
    http: httpx.AsyncClient, slack: FakeSlack, published: Published
) -> None:
    for signed in (slack.button_click("approve"), slack.slash_command("/eventbus-task", "create vm name=web")):
        answer = await http.post(SLACK, headers=signed.headers, content=signed.body)
        assert answer.status_code == 200
    assert await topics(published) == [
        "slack.action.approve",
        "integration.webhook_received",
        "task.created",
        "integration.webhook_received",
    ]


async def test_what_asks_for_nothing_publishes_nothing(
    http: httpx.AsyncClient, slack: FakeSlack, github: FakeGitHub, published: Published
) -> None:
    headers, body = github.raw_webhook("ping", github.ping())
    ping = await http.post(GITHUB, headers=headers, content=body)
    assert (ping.status_code, ping.json()) == (200, {"ok": True, "event": "ping"})
    asked = slack.url_verification("a-challenge")
    challenge = await http.post(SLACK, headers=asked.headers, content=asked.body)
    assert (challenge.status_code, challenge.json()) == (200, {"challenge": "a-challenge"})
    assert await published() == []


# -- turned away -----------------------------------------------------------------------------------------------------


def forgeries(headers: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    signature = headers["X-Hub-Signature-256"]
    others = ("", "sha256=", signature[:-1], signature + "0", signature.upper(), "sha1=" + signature[7:], "v1,é")
    for other in others:
        yield {**headers, "X-Hub-Signature-256": other.encode("latin-1")}  # type: ignore[dict-item]
    yield {name: value for name, value in headers.items() if name != "X-Hub-Signature-256"}


async def test_a_forged_signature_publishes_nothing_and_learns_nothing(
    http: httpx.AsyncClient, github: FakeGitHub, published: Published
) -> None:
    headers, body = github.raw_webhook("pull_request", github.pull_request_opened())
    answers = [await http.post(GITHUB, headers=forged, content=body) for forged in forgeries(headers)]
    answers.append(await http.post(GITHUB, headers=headers, content=body + b" "))
    answers.append(await http.post(GITHUB, headers=[*headers.items(), ("x-hub-signature-256", "x")], content=body))
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (401, '{"type":"about:blank","title":"Unauthorized","status":401,"detail":"signature mismatch"}')
    }
    assert await published() == []


async def test_a_second_signature_is_refused_even_beside_the_right_one(
    http: httpx.AsyncClient, github: FakeGitHub, published: Published
) -> None:
    headers, body = github.raw_webhook("pull_request", github.pull_request_opened())
    signature = headers["X-Hub-Signature-256"]
    for pair in ((signature, signature), ("sha256=00", signature), (signature, "sha256=00")):
        rest = [(name, value) for name, value in headers.items() if name != "X-Hub-Signature-256"]
        doubled = rest + [("X-Hub-Signature-256", value) for value in pair]
        assert (await http.post(GITHUB, headers=doubled, content=body)).status_code == 401
    assert await published() == []


async def test_a_doubled_header_is_joined_and_so_fits_nothing(
    http: httpx.AsyncClient, github: FakeGitHub, published: Published
) -> None:
    headers, body = github.raw_webhook("pull_request", github.pull_request_opened())
    doubled = [*headers.items(), ("X-GitHub-Delivery", "another")]
    assert (await http.post(GITHUB, headers=doubled, content=body)).status_code == 400
    assert await published() == []


@pytest.mark.parametrize("seconds", [-301, 301])
async def test_a_stale_or_future_time_stamp_publishes_nothing(
    http: httpx.AsyncClient, slack: FakeSlack, published: Published, seconds: int
) -> None:
    command = slack.sign(slack.slash_command("/eventbus-status").body, FORM, at=int(time.time()) + seconds)
    assert (await http.post(SLACK, headers=command.headers, content=command.body)).status_code == 401
    assert await published() == []


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"",
        b"[]",
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
    ],
    ids=lambda body: body[:16].decode("latin-1"),
)
async def test_a_signed_body_that_is_not_strict_json_publishes_nothing(
    http: httpx.AsyncClient, github: FakeGitHub, published: Published, body: bytes
) -> None:
    headers, body = github.raw_webhook("push", body)
    answer = await http.post(GITHUB, headers=headers, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert await published() == []


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_refused_unread(
    http: httpx.AsyncClient, github: FakeGitHub, published: Published, encoding: str
) -> None:
    headers, body = github.raw_webhook("push", gzip.compress(b" " * 1_000_000))
    answer = await http.post(GITHUB, headers={**headers, "Content-Encoding": encoding}, content=body)
    assert answer.status_code == 415
    assert await published() == []


async def test_a_name_that_nobody_has_and_one_that_receives_nothing_get_the_same_answer(
    http: httpx.AsyncClient,
) -> None:
    nobody, log = [await http.post(f"/api/v1/webhooks/{name}", content=b"{}") for name in ("nobody", "log")]
    assert nobody.status_code == 404
    assert (nobody.status_code, nobody.content) == (log.status_code, log.content)


async def test_the_reason_of_a_refusal_is_logged_without_values(http: httpx.AsyncClient, github: FakeGitHub) -> None:
    headers, body = github.raw_webhook("push", github.push(), secret="another-secret")
    with structlog.testing.capture_logs() as lines:
        answer = await http.post(GITHUB, headers={**headers, "Authorization": "Basic s3cr3t"}, content=body)
    (line,) = [line for line in lines if line["event"] == "webhook refused"]
    assert (line["integration"], line["body_bytes"], line["log_level"]) == ("github", len(body), "warning")
    assert {"authorization", "x-hub-signature-256", "x-github-delivery"} <= set(line["headers"])
    assert "matches none of 1 secrets" in line["reason"]
    assert "secrets" not in answer.text
    assert "s3cr3t" not in repr(lines)
    assert headers["X-Hub-Signature-256"] not in repr(lines)


async def test_strangers_can_not_fill_the_log_with_refusals(
    http: httpx.AsyncClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "EACH_SECONDS", 0.3)
    names = {f"x-{number:03}-{'a' * 100}": "1" for number in range(80)}
    with structlog.testing.capture_logs() as lines:
        for _ in range(refusals.TOLD + 7):
            assert (await http.post(GITHUB, headers=names, content=b"{}")).status_code == 401

        def counted() -> int:
            return sum(line["count"] for line in lines if line["event"] == "more webhooks refused")

        def told() -> list[Any]:
            return [line for line in lines if line["event"] == "webhook refused"]

        await wait_until(lambda: counted() + len(told()) == refusals.TOLD + 7, "all are told or counted")
    assert counted() >= 1
    assert all(sum(map(len, line["headers"])) < 3_000 for line in told())


# -- size ------------------------------------------------------------------------------------------------------------


async def test_a_body_over_the_limit_is_cut_while_it_comes(
    http: httpx.AsyncClient, slack: FakeSlack, published: Published
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * 1024 * 1024:
            sent += 64 * 1024
            yield b"x" * 64 * 1024
        pytest.fail("it took 100 MiB")

    try:
        answer = await http.post(SLACK, headers=slack.url_verification().headers, content=endless())
    except httpx.TransportError:
        pass  # it hung up on us: an answer to a sender who does not listen may be lost
    else:
        assert answer.status_code == 413
    assert sent < 20 * 1024 * 1024, "the limit is 1 MiB; the rest is buffers on the way"
    assert await published() == []


async def test_a_body_over_the_limit_is_told_so(http: httpx.AsyncClient) -> None:
    answer = await http.post(SLACK, content=b"x" * (1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["detail"]) == (413, "the body is larger than 1,048,576 bytes")


async def test_a_content_length_that_lies_gains_nothing(http: httpx.AsyncClient, published: Published) -> None:
    # RFC 9112, section 6.3: with Transfer-Encoding the Content-Length does not count.
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head = f"POST {SLACK} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode() + chunk * 17)
    answer = await asyncio.wait_for(reader.read(12), 5)
    assert answer in (b"HTTP/1.1 413", b"HTTP/1.1 400")
    writer.close()
    assert await published() == []


# -- adapters of all kinds -------------------------------------------------------------------------------------------


class Nothing(BaseModel):
    """No settings."""


class Partner(Integration[Nothing]):
    """Sends signed bytes; what `receive` does with them is up to the test."""

    manifest = Manifest(name="partner", title="Partner", config=Nothing, emits=("partner.>",))
    max_body_bytes = 2 * 1024 * 1024
    failure: BaseException | None = None
    reply = InboundReply(
        events=tuple(
            catalog.event(f"partner.{name}", {}, id=name, idempotency_key=f"partner:{name}") for name in ("one", "two")
        ),
        replay_status=409,
    )
    replies: Iterator[InboundReply] = iter(())
    received: InboundRequest | None = None

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return DeliveryResult.skipped("not of interest")

    async def receive(self, request: InboundRequest) -> InboundReply:
        self.received = request
        if self.failure is not None:
            raise self.failure
        return next(self.replies, self.reply)

    async def health(self) -> Health:
        return Health("healthy")


@pytest.fixture
async def partner(open_gateway: Open) -> AsyncIterator[tuple[Partner, httpx.AsyncClient, Runtime]]:
    adapter = Partner()
    account = Account("partner", adapter, Nothing(), timeout=timedelta(seconds=0.2))
    async with open_gateway(account) as (runtime, http):
        yield adapter, http, runtime


PARTNER = "/api/v1/webhooks/partner"


async def test_a_request_is_a_replay_only_when_all_its_events_are_known(
    partner: tuple[Partner, httpx.AsyncClient, Runtime],
) -> None:
    _, http, runtime = partner
    await runtime.bus.publish(Partner.reply.events[0])
    assert [(await http.post(PARTNER)).status_code for _ in range(2)] == [200, 409]


async def test_what_an_adapter_makes_of_verified_requests_can_not_be_forged_over_rest(
    partner: tuple[Partner, httpx.AsyncClient, Runtime], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, http, _ = partner
    monkeypatch.setattr(
        Partner, "manifest", replace(Partner.manifest, emits=("partner.>", "task.created", "*.anything", ">"))
    )

    async def status(topic: str, data: dict[str, Any]) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return (await http.post("/api/v1/events", json={"type": topic, "data": data}, headers=headers)).status_code

    assert await status("partner.alert", {}) == 403
    assert await status("task.created", {"task_id": "1", "name": "x"}) == 202
    assert await status("team.anything", {}) == 202


def told(word: str, *names: str, first_wins: bool = True) -> InboundReply:
    """What a sender says of these happenings, in a word of the moment."""
    events = [catalog.event("partner.alert", {"said": word}, idempotency_key=f"alert:{name}") for name in names]
    return InboundReply(tuple(events), first_wins=first_wins)


async def said(bus: EventBus) -> dict[str, list[str]]:
    """The words of all that was stored, by what it is about."""
    found: dict[str, list[str]] = {}
    async for event in bus.past(since=datetime.now(UTC) - timedelta(hours=1)):
        if event.topic == "partner.alert":
            found.setdefault(event.idempotency_key, []).append(event.data["said"])
    return found


async def test_where_the_first_words_win_a_repeat_in_others_brings_what_is_new_and_changes_nothing(
    partner: tuple[Partner, httpx.AsyncClient, Runtime],
) -> None:
    adapter, http, runtime = partner
    for reply, status in (
        (told("first", "a", "b"), 200),
        (told("later", "a", "b", "c"), 200),
        (told("last", "c", "d", first_wins=False), 409),
    ):
        adapter.reply = reply
        assert (await http.post(PARTNER)).status_code == status
    assert await said(runtime.bus) == {
        "alert:a": ["first"],
        "alert:b": ["first"],
        "alert:c": ["later"],
        "alert:d": ["last"],
    }


async def test_two_senders_that_say_the_same_at_once_in_other_words_are_both_accepted(
    partner: tuple[Partner, httpx.AsyncClient, Runtime],
) -> None:
    adapter, http, runtime = partner
    replies = [told(f"by {sender}", "a", "b") for sender in range(10)]
    adapter.replies = iter(replies)
    answers = await asyncio.gather(*(http.post(PARTNER) for _ in replies))
    assert [one.status_code for one in answers] == [200] * 10
    assert [len(words) for words in (await said(runtime.bus)).values()] == [1, 1]


async def test_an_adapter_may_allow_larger_bodies(partner: tuple[Partner, httpx.AsyncClient, Runtime]) -> None:
    adapter, http, _ = partner
    assert (await http.post(PARTNER, content=b"x" * 2 * 1024 * 1024)).status_code == 200
    assert adapter.received is not None
    assert len(adapter.received.body) == 2 * 1024 * 1024
    assert (await http.post(PARTNER, content=b"x" * (2 * 1024 * 1024 + 1))).status_code == 413


async def test_how_long_a_request_is_remembered_is_the_adapters_word(
    partner: tuple[Partner, httpx.AsyncClient, Runtime],
) -> None:
    adapter, http, _ = partner
    adapter.reply = InboundReply(adapter.reply.events, remember=timedelta(milliseconds=50), replay_status=409)
    assert (await http.post(PARTNER)).status_code == 200
    async with asyncio.timeout(5):
        while (await http.post(PARTNER)).status_code == 409:  # noqa: ASYNC110  the state is in Redis
            await asyncio.sleep(0.02)


async def test_a_misconfigured_adapter_tells_its_sender_nothing(
    partner: tuple[Partner, httpx.AsyncClient, Runtime],
) -> None:
    adapter, http, _ = partner
    adapter.failure = Misconfigured("a signing secret is empty: anybody could sign with it; set one")
    with structlog.testing.capture_logs() as lines:
        answer = await http.post(PARTNER, headers={"Webhook-Id": "msg-7"})
    assert (answer.status_code, answer.json()["detail"], answer.headers["retry-after"]) == (503, "not accepted", "30")
    (line,) = [line for line in lines if line["event"] == "webhook not accepted"]
    assert (line["delivery"], line["log_level"]) == ({"webhook-id": "msg-7"}, "error")
    assert "a signing secret is empty" in line["error"]


@pytest.mark.parametrize("failure", [RateLimited("x"), TimeoutError()])
async def test_trouble_of_an_adapter_is_503(
    partner: tuple[Partner, httpx.AsyncClient, Runtime], failure: Exception
) -> None:
    adapter, http, _ = partner
    adapter.failure = failure
    assert (await http.post(PARTNER)).status_code == 503


async def test_a_fault_of_an_adapter_is_500_and_the_gateway_lives_on(
    partner: tuple[Partner, httpx.AsyncClient, Runtime],
) -> None:
    adapter, http, _ = partner
    for failure in (RuntimeError("the password is hunter2"), SystemExit(3)):
        adapter.failure = failure
        answer = await http.post(PARTNER)
        assert (answer.status_code, answer.json()["detail"]) == (500, "a fault of ours; it is in our log")
    adapter.failure = None
    assert (await http.post(PARTNER)).status_code == 200


async def test_an_adapter_that_hangs_is_cut_off(
    partner: tuple[Partner, httpx.AsyncClient, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, http, _ = partner

    async def hang(_: InboundRequest) -> InboundReply:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Partner, "receive", lambda self, request: hang(request))
    assert (await asyncio.wait_for(http.post(PARTNER), 5)).status_code == 503


async def test_an_account_that_is_not_ready_is_503_and_becomes_ready_by_itself(
    open_gateway: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    import registry.registry

    monkeypatch.setattr(registry.registry, "RETRY_SECONDS", 0.05)  # 15 otherwise
    down = True

    class Late(Partner):
        async def initialize(self, context: Any) -> None:
            await super().initialize(context)
            if down:
                raise Misconfigured("not yet")

    async with open_gateway(Account("partner", Late(), Nothing())) as (_, http):
        assert (await http.post(PARTNER)).status_code == 503
        down = False
        async with asyncio.timeout(5):
            while (await http.post(PARTNER)).status_code == 503:  # noqa: ASYNC110  the state is in Redis
                await asyncio.sleep(0.02)


async def test_long_idempotency_keys_that_differ_at_the_end_are_kept_apart(
    partner: tuple[Partner, httpx.AsyncClient, Runtime],
) -> None:
    adapter, http, runtime = partner
    for end in "ab":
        event = catalog.event(f"partner.{end}", {}, idempotency_key="k" * 499 + end)
        adapter.reply = InboundReply((event,))
        with structlog.testing.capture_logs() as lines:
            assert (await http.post(PARTNER)).status_code == 200
        (line,) = [line for line in lines if line["event"] == "webhook"]
        assert line["events"][0]["status"] == "stored"
    assert runtime.metrics.registry.get_sample_value(
        "event_bus_messages_published_total", {"topic": "integration.webhook_received"}
    ) == 2  # fmt: skip


# -- durable before 2xx ----------------------------------------------------------------------------------------------


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A redis-server of the test's own, and the address of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(find_server()), "--port", str(port), "--dir", str(tmp_path), "--appendonly", "yes", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process, f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def answers(url: str) -> None:
    async with asyncio.timeout(10):
        while True:
            async with EventBus.open(url) as bus:
                try:
                    await bus.check_server()
                except Exception:  # noqa: BLE001  whatever keeps it from answering yet
                    await asyncio.sleep(0.05)
                else:
                    return


def account_of(github: FakeGitHub) -> Account:
    return Account("github", GitHub(), GitHub.manifest.config.model_validate(github.settings()))


async def test_no_2xx_before_redis_has_it_and_503_when_it_does_not_answer(
    open_gateway: Open, github: FakeGitHub, redis: tuple[subprocess.Popen[bytes], str]
) -> None:
    process, url = redis
    await answers(url)
    async with open_gateway(account_of(github), url=url) as (_, http):
        headers, body = github.raw_webhook("push", github.push(), delivery="d-1")
        process.send_signal(signal.SIGSTOP)
        with structlog.testing.capture_logs() as lines:
            answer = await http.post(GITHUB, headers=headers, content=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["content-type"] == "application/problem+json"
        (line,) = [line for line in lines if line["event"] == "webhook not accepted"]
        assert (line["delivery"], line["log_level"]) == ({"x-github-delivery": "d-1"}, "error")
        assert (await http.get("/livez")).status_code == 200
        process.send_signal(signal.SIGCONT)
        again = await http.post(GITHUB, headers=headers, content=body)
        assert again.status_code == 202
        process.kill()
        assert (await http.post(GITHUB, headers=headers, content=body)).status_code == 503
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)


async def test_a_full_redis_is_503(
    open_gateway: Open, github: FakeGitHub, redis: tuple[subprocess.Popen[bytes], str]
) -> None:
    _, url = redis
    await answers(url)
    async with open_gateway(account_of(github), url=url) as (runtime, http):
        await runtime.bus._connection.do("CONFIG", "SET", "maxmemory", "1")
        headers, body = github.raw_webhook("push", github.push())
        answer = await http.post(GITHUB, headers=headers, content=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "full" in answer.json()["detail"]


async def test_a_large_webhook_is_503_too_when_its_body_can_not_be_kept(
    open_gateway: Open, github: FakeGitHub, unused_port: int
) -> None:
    async with open_gateway(account_of(github), url=f"redis://127.0.0.1:{unused_port}") as (_, http):
        payload = json.dumps({**github.push(), "more": "x" * 200_000}).encode()
        headers, body = github.raw_webhook("push", payload, delivery="d-2")
        with structlog.testing.capture_logs() as lines:
            answer = await http.post(GITHUB, headers=headers, content=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    (line,) = [line for line in lines if line["event"] == "webhook not accepted"]
    assert line["delivery"] == {"x-github-delivery": "d-2"}


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("name", ["X-Hub-Signature-256", "Webhook-Signature", "X-Partner-Signature"])
async def test_no_adapter_is_shown_two_signatures(
    partner: tuple[Partner, httpx.AsyncClient, Runtime], name: str
) -> None:
    adapter, http, _ = partner
    doubled = [(name, "v1,one"), (name.lower(), "v1,two")]
    assert (await http.post(PARTNER, headers=doubled)).status_code == 401
    assert adapter.received is None
