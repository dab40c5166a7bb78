from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from eventbus import Event
from service.gateway.operations import OPERATIONS
from service.wiring import Runtime

Open = Callable[..., AbstractAsyncContextManager[tuple[Runtime, httpx.AsyncClient]]]
Published = Callable[[], Awaitable[list[Event[Any]]]]
EVENT = {"topic": "team.joined", "data": {}}
GUARDED = [
    (one.method, one.path.format(name=name, type="pull_request"))
    for one in OPERATIONS
    if one.access == "key"
    for name in ("slack", "nobody")
]


@pytest.mark.parametrize("form", ["Authorization: Bearer {}", "authorization: bearer  {}", "X-API-Key: {}"])
async def test_a_key_is_taken_in_either_header(http: httpx.AsyncClient, key: str, form: str) -> None:
    name, _, value = form.format(key).partition(": ")
    assert (await http.post("/api/v1/events", json=EVENT, headers={name: value})).status_code == 202


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-API-Key", ""),
        ("X-API-Key", "{}x"),
        ("X-API-Key", "a-key-for-tests-000"),
        ("X-API-Key", "A-KEY-FOR-TESTS-0001"),
        ("X-API-Key", "schlüssel"),
        ("Authorization", "Bearer"),
        ("Authorization", "Bearer {}x"),
        ("Authorization", "Basic {}"),
        ("Authorization", "{}"),
        ("Cookie", "key={}"),
    ],
)
async def test_no_key_and_a_wrong_one_get_one_answer(
    http: httpx.AsyncClient, key: str, published: Published, name: str, value: str
) -> None:
    none = await http.post("/api/v1/events", json=EVENT)
    wrong = await http.post("/api/v1/events", json=EVENT, headers={name.encode(): value.format(key).encode("latin-1")})
    assert none.status_code == 401
    assert none.headers["www-authenticate"] == 'Bearer realm="eventbus"'
    assert none.headers["content-type"] == "application/problem+json"
    assert (wrong.status_code, wrong.content) == (none.status_code, none.content)
    assert await published() == []


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_every_rest_route_is_guarded_before_it_says_what_it_knows(
    http: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await http.request(method, path, content=b"not even json", headers={"Idempotency-Key": "x" * 300})
    assert answer.status_code == 401
    assert "github" not in answer.text


async def test_a_key_in_the_query_is_none(http: httpx.AsyncClient, key: str) -> None:
    assert (await http.post("/api/v1/events", json=EVENT, params={"api_key": key})).status_code == 401


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_without_keys_rest_is_closed_and_says_which_setting_opens_it(
    open_gateway: Open, method: str, path: str
) -> None:
    async with open_gateway(api_keys=()) as (_, http):
        answer = await http.request(method, path, json=EVENT, headers={"X-API-Key": ""})
    assert answer.status_code == 403
    assert "gateway.api_keys" in answer.json()["detail"]


async def test_while_rotating_both_keys_open(open_gateway: Open) -> None:
    keys = ("the-old-key-of-the-gateway", "ein-schlüssel-mit-umlaut")
    async with open_gateway(api_keys=tuple(map(SecretStr, keys))) as (_, http):
        for key in keys:
            answer = await http.post("/api/v1/events", json=EVENT, headers={b"X-API-Key": key.encode()})
            assert answer.status_code == 202


async def test_a_refusal_reaches_a_caller_who_is_still_sending(http: httpx.AsyncClient) -> None:
    # RFC 9112, section 9.6: a connection that is closed at once is reset by what still arrives, and the answer is lost.
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    writer.write(b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)  # the answer waits for the body that is on its way
    writer.write(b"x" * 2000)
    assert await asyncio.wait_for(reader.read(12), 5) == b"HTTP/1.1 401"
    writer.close()
