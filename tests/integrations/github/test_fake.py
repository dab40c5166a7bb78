"""The fake keeps GitHub's rules, seen with a plain HTTP client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

from integrations.github.fake import FakeGitHub, app_key

COMMENTS = "/repos/acme/api/issues/7/comments"


@pytest.fixture
async def http(fake: FakeGitHub) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {fake.token}"}
    async with httpx.AsyncClient(base_url=fake.url, headers=headers, trust_env=False) as http:
        yield http


async def test_a_comment_can_be_made_read_changed_and_deleted(fake: FakeGitHub, http: httpx.AsyncClient) -> None:
    made = (await http.post(COMMENTS, json={"body": "one"})).json()
    path = f"/repos/acme/api/issues/comments/{made['id']}"
    assert (await http.get(path)).json()["body"] == "one"
    assert (await http.patch(path, json={"body": "two"})).json()["body"] == "two"
    assert (await http.delete(path)).status_code == 204
    assert (await http.get(path)).status_code == 404
    assert fake.effects() == ["comment acme/api#7 by acme-bot: one", "change acme/api#7 by acme-bot: two"]


async def test_lists_come_in_pages_with_a_link_to_the_next(fake: FakeGitHub, http: httpx.AsyncClient) -> None:
    for number in range(65):
        fake.remark("acme/api#7", f"{number}")
    seen: list[str] = []
    url: str | None = COMMENTS
    pages = 0
    while url is not None:
        answer = await http.get(url)
        seen += [comment["body"] for comment in answer.json()]
        url, pages = answer.links.get("next", {}).get("url"), pages + 1
    assert seen == [str(number) for number in range(65)]
    assert pages == 3  # 30 to a page


async def test_an_issue_list_holds_pull_requests_too(fake: FakeGitHub, http: httpx.AsyncClient) -> None:
    await http.post("/repos/acme/api/issues", json={"title": "t"})
    assert [thread["number"] for thread in (await http.get("/repos/acme/api/issues")).json()] == [8, 7]
    ours = await http.get("/repos/acme/api/issues", params={"creator": "acme-bot"})
    assert [thread["number"] for thread in ours.json()] == [8]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/repos/acme/none", None, 404),
        ("GET", "/repos/acme/api/issues/99", None, 404),
        ("POST", "/repos/acme/none/issues", {"title": "t"}, 404),
        ("POST", "/repos/acme/api/issues", {}, 422),
        ("POST", "/repos/acme/api/issues", {"title": "t" * 257}, 422),
        ("POST", "/repos/acme/api/issues", {"title": "t", "body": "b" * 65_537}, 422),
        ("POST", "/repos/acme/api/issues", [], 400),
        ("POST", COMMENTS, {"body": " "}, 422),
        ("POST", COMMENTS, {"body": "b" * 65_536}, 201),
        ("POST", "/repos/acme/api/pulls", {"title": "t", "head": "h"}, 422),
        ("POST", "/repos/acme/api/pulls", {"title": "t", "base": "b"}, 422),
        ("POST", "/repos/acme/api/pulls", {"title": "t", "head": "feature/email", "base": "main"}, 422),
        ("POST", "/repos/acme/api/pulls", {"title": "t", "head": "h", "base": "main"}, 201),
        ("GET", "/repos/acme/api/pulls/7", None, 200),
        ("GET", "/repos/acme/api", None, 200),
    ],
)
async def test_each_request_gets_the_documented_status(
    http: httpx.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    answer = await http.request(method, path, json=body)
    assert answer.status_code == status
    assert "x-ratelimit-remaining" in answer.headers


async def test_the_hourly_limit_is_kept(fake: FakeGitHub, http: httpx.AsyncClient) -> None:
    fake.limit = 2
    answers = [await http.get("/user") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 403]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert int(answers[2].headers["x-ratelimit-reset"]) > time.time()


async def test_an_unknown_credential_is_refused(fake: FakeGitHub) -> None:
    async with httpx.AsyncClient(base_url=fake.url, trust_env=False) as http:
        for headers in ({}, {"Authorization": "token no"}, {"Authorization": f"Basic {fake.token}"}):
            assert (await http.get("/user", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("change", "key", "status"),
    [
        ({}, app_key(), 200),
        ({"exp": 660}, app_key(), 401),
        ({"exp": -10}, app_key(), 401),
        ({"iss": "1"}, app_key(), 401),
        ({"exp": None}, app_key(), 401),
        ({"iss": None}, app_key(), 401),
        ({}, "a secret of at least thirty-two characters", 401),
    ],
)
async def test_an_app_needs_a_short_lived_jwt_of_its_own(
    fake: FakeGitHub, change: dict[str, Any], key: str, status: int
) -> None:
    claims = {"iat": int(time.time()) - 60, "exp": 300, "iss": fake.app_id, **change}
    claims = {name: value for name, value in claims.items() if value is not None}
    if "exp" in claims:
        claims["exp"] += int(time.time())
    token = jwt.encode(claims, key, algorithm="RS256" if "PRIVATE" in key else "HS256")
    async with httpx.AsyncClient(base_url=fake.url, trust_env=False) as http:
        answer = await http.get("/app", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status
