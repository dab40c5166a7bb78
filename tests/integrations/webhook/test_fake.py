"""The receiver is as strict as Standard Webhooks asks, or tests against it would prove nothing."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from integrations.http import MAX_ANSWER_BYTES, Http
from integrations.signing import public_key, sign_plain, sign_standard
from integrations.webhook.fake import FakeReceiver

BODY = b'{"type":"vm.created","timestamp":"2026-01-12T10:30:00Z","data":{}}'
OTHER = SecretStr("whsec_" + "A" * 32)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http() as http:
        yield http


def signed(secret: SecretStr, *, age: int = 0, webhook_id: str = "msg_1", body: bytes = BODY) -> dict[str, str]:
    stamp = int(time.time()) - age
    signature = sign_standard(webhook_id, stamp, body, [secret])
    return {"webhook-id": webhook_id, "webhook-timestamp": str(stamp), "webhook-signature": signature}


async def post(http: Http, receiver: FakeReceiver, headers: dict[str, str], body: bytes = BODY) -> int:
    return (await http.request("POST", f"{receiver.url}/hook", headers=headers, content=body)).status


async def test_a_signed_webhook_is_accepted_and_its_repeat_is_no_effect(http: Http) -> None:
    async with FakeReceiver() as receiver:
        for _ in range(3):
            assert await post(http, receiver, signed(receiver.secret)) == 204
        assert await post(http, receiver, signed(receiver.secret, webhook_id="msg_2")) == 204
    assert receiver.effects() == ["msg_1 vm.created", "msg_2 vm.created"]
    assert (len(receiver.received), receiver.repeats) == (4, 2)


@pytest.mark.parametrize("age", [-295, 295])
async def test_five_minutes_are_tolerated(http: Http, age: int) -> None:
    async with FakeReceiver() as receiver:
        assert await post(http, receiver, signed(receiver.secret, age=age)) == 204


@pytest.mark.parametrize("age", [-310, 310, 86_400])
async def test_more_are_not(http: Http, age: int) -> None:
    async with FakeReceiver() as receiver:
        assert await post(http, receiver, signed(receiver.secret, age=age)) == 401
    assert receiver.received == []


async def test_a_forged_webhook_is_refused(http: Http) -> None:
    async with FakeReceiver() as receiver:
        right = signed(receiver.secret)
        assert await post(http, receiver, signed(OTHER)) == 401
        assert await post(http, receiver, right, BODY + b" ") == 401
        assert await post(http, receiver, right | {"webhook-id": "msg_2"}) == 401
        for name in right:
            assert await post(http, receiver, {k: v for k, v in right.items() if k != name}) == 401
    assert receiver.effects() == []


async def test_a_receiver_whose_secret_was_replaced_refuses_everything(http: Http) -> None:
    async with FakeReceiver() as receiver:
        receiver.reject_credentials = True
        assert await post(http, receiver, signed(receiver.secret)) == 401


async def test_what_is_not_json_is_refused(http: Http) -> None:
    async with FakeReceiver() as receiver:
        assert await post(http, receiver, signed(receiver.secret, body=b"{"), b"{") == 400
    assert receiver.received == []


async def test_only_a_post_is_a_webhook(http: Http) -> None:
    async with FakeReceiver() as receiver:
        for method in ("GET", "HEAD", "PUT"):
            assert (await http.request(method, f"{receiver.url}/hook")).status == 405


async def test_a_plain_receiver_checks_its_own_header(http: Http) -> None:
    async with FakeReceiver("plain") as receiver:
        right = {"webhook-id": "msg_1", "x-signature": sign_plain(BODY, receiver.secret)}
        assert await post(http, receiver, right) == 204
        assert await post(http, receiver, right | {"x-signature": sign_plain(BODY, OTHER)}) == 401
        assert await post(http, receiver, {"webhook-id": "msg_1"}) == 401
        assert await post(http, receiver, signed(receiver.secret)) == 401
    assert len(receiver.effects()) == 1


async def test_a_receiver_that_changes_over_verifies_with_all_it_trusts(http: Http) -> None:
    key = SecretStr("whsk_" + base64.b64encode(bytes(32)).decode())
    async with FakeReceiver() as receiver:
        assert await post(http, receiver, signed(key)) == 401
        receiver.trusts.append(SecretStr(str(public_key(key))))
        assert await post(http, receiver, signed(key)) == 204
        assert await post(http, receiver, signed(receiver.secret, webhook_id="msg_2")) == 204
        receiver.trusts.remove(receiver.secret)
        assert await post(http, receiver, signed(receiver.secret, webhook_id="msg_3")) == 401
    assert len(receiver.effects()) == 2


async def test_a_receiver_that_is_gone_takes_nothing_even_if_it_is_signed(http: Http) -> None:
    async with FakeReceiver() as receiver:
        receiver.gone = True
        assert await post(http, receiver, signed(receiver.secret)) == 410
    assert receiver.received == []


@pytest.mark.parametrize("wish", ["disable", "abort-message"])
async def test_what_a_receiver_wishes_stands_in_its_answer(http: Http, wish: str) -> None:
    async with FakeReceiver() as receiver:
        receiver.wish = wish
        answer = await http.request("POST", f"{receiver.url}/hook", headers=signed(receiver.secret), content=BODY)
    assert (answer.status, answer.headers["webhook-delivery"]) == (204, wish)


async def test_an_answer_may_be_a_gigabyte_in_chunks(http: Http) -> None:
    async with FakeReceiver() as receiver:
        receiver.talk = "endless"
        answer = await http.request("POST", f"{receiver.url}/hook", headers=signed(receiver.secret), content=BODY)
    assert answer.headers["transfer-encoding"] == "chunked"
    assert len(answer.body) == MAX_ANSWER_BYTES
