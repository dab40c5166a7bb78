"""What GitHub answers, or does not, as an error that says what to do; and nothing is ever sent twice."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from integrations.errors import (
    AuthFailed,
    IntegrationError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.github import writes
from integrations.github.artifacts import Issue, PullRequest
from integrations.github.client import THREADS, Client
from integrations.github.config import GitHubConfig
from integrations.github.fake import FakeGitHub
from integrations.github.place import Place

PLACE = Place("acme/api", 7)


class Clients:
    """Makes clients and closes them."""

    def __init__(self) -> None:
        self.made: list[Client] = []

    def __call__(self, settings: dict[str, Any]) -> Client:
        self.made.append(Client(GitHubConfig.model_validate(settings)))
        return self.made[-1]


@pytest.fixture
async def clients() -> Any:
    clients = Clients()
    yield clients
    for client in clients.made:
        await client.close()


@pytest.fixture
def client(fake: FakeGitHub, clients: Clients) -> Client:
    return clients(fake.settings())


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads that take turns after every few instructions: what can happen between two of them, happens."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def says(message: str, **more: Any) -> str:
    return json.dumps({"message": message, **more})


LIMITED = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (401, {}, says("Bad credentials"), AuthFailed),
        (403, {}, says("Resource not accessible by personal access token"), AuthFailed),
        (403, {"x-ratelimit-remaining": "12"}, says("Must have admin rights"), AuthFailed),
        (403, {"retry-after": "30"}, says("anything"), RateLimited),
        (403, {"x-ratelimit-remaining": "0"}, says("anything"), RateLimited),
        (403, {}, says(LIMITED), RateLimited),
        (403, {}, says("You have triggered an abuse detection mechanism."), RateLimited),
        (429, {}, says(""), RateLimited),
        (429, {}, "", RateLimited),
        (400, {}, says("Problems parsing JSON"), Rejected),
        (404, {}, says("Not Found"), Rejected),
        (410, {}, says("Issues are disabled for this repo"), Rejected),
        (422, {}, says("Validation Failed"), Rejected),
        (500, {}, "", ServiceFault),
        (502, {}, "<html>Unicorn!</html>", ServiceFault),
        (503, {"retry-after": "3"}, says("Service unavailable"), ServiceFault),
        (500, {}, "{broken", OutcomeUnknown),
        (500, {}, '["a list"]', OutcomeUnknown),
        (200, {}, "", OutcomeUnknown),
        (200, {}, "<html>login</html>", OutcomeUnknown),
        (201, {}, "{broken", OutcomeUnknown),
        (201, {}, "{}", OutcomeUnknown),
        (302, {}, "", OutcomeUnknown),
        (307, {}, says("Moved Permanently"), Rejected),
    ],
)
async def test_each_answer_says_what_to_do_and_is_asked_for_once(
    fake: FakeGitHub, client: Client, status: int, headers: dict[str, str], body: str, error: type[IntegrationError]
) -> None:
    fake.fail(status, headers=headers, body=body)
    with pytest.raises(error):
        await client.send(writes.comment(PLACE, "hello"))
    assert len(fake.requests) == 1
    assert fake.effects() == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after": "30", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"}, 30),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "{now+900}"}, 901),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "{now-900}"}, 1),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"}, 86_400),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1.5e9"}, 60),
        ({"x-ratelimit-remaining": "0"}, 60),
        ({"x-ratelimit-remaining": "4999", "x-ratelimit-reset": "{now+900}"}, 60),
        ({}, 60),
    ],
)
async def test_a_rate_limit_says_how_long_to_wait(
    fake: FakeGitHub, client: Client, headers: dict[str, str], seconds: int
) -> None:
    now = int(time.time())
    filled = {
        k: v.replace("{now+900}", str(now + 900)).replace("{now-900}", str(now - 900)) for k, v in headers.items()
    }
    fake.fail(403, headers=filled, body=says(LIMITED))
    with pytest.raises(RateLimited) as caught:
        await client.send(writes.comment(PLACE, "hello"))
    assert caught.value.retry_after is not None
    assert abs(caught.value.retry_after - timedelta(seconds=seconds)) < timedelta(seconds=5)


async def test_a_refusal_repeats_what_github_said_of_each_field(fake: FakeGitHub, client: Client) -> None:
    with pytest.raises(Rejected) as caught:
        await client.send(writes.comment(PLACE, "x" * 65_537))
    said = "GitHub answered 422: Validation Failed: body is too long (maximum is 65536 characters)"
    assert caught.value.detail == said


async def test_an_error_shows_no_credential_even_where_github_repeats_it(fake: FakeGitHub, client: Client) -> None:
    fake.fail(422, body=says(f"odd: token {fake.token} \n ghs_{'a' * 60}.b-c \x1b[31m"))
    with pytest.raises(Rejected) as caught:
        await client.send(writes.comment(PLACE, "hello"))
    assert caught.value.detail == "GitHub answered 422: odd: token [hidden] [hidden] [31m"


async def test_an_unknown_repository_is_rejected(client: Client) -> None:
    with pytest.raises(Rejected, match="our credentials may not see it"):
        await client.send(writes.comment(Place("acme/secret", 1), "hello"))


async def test_a_repository_that_was_renamed_is_rejected(fake: FakeGitHub, client: Client) -> None:
    fake.moved.add("acme/api")
    with pytest.raises(Rejected, match="has moved"):
        await client.send(writes.issue(Issue(owner="acme", repo="api", title="t"), "t", "b"))
    assert len(fake.requests) == 1


async def test_a_write_without_the_right_is_a_matter_of_credentials(fake: FakeGitHub, client: Client) -> None:
    fake.forbidden.add("acme/api")
    with pytest.raises(AuthFailed):
        await client.send(writes.comment(PLACE, "hello"))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_answer_that_is_lost_leaves_the_outcome_unknown(fake: FakeGitHub, client: Client, when: Any) -> None:
    fake.swallow(when)
    with pytest.raises(OutcomeUnknown):
        await client.send(writes.comment(PLACE, "hello"))
    assert len(fake.requests) == 1
    assert len(fake.effects()) == (when == "after")


@pytest.mark.parametrize("call", [lambda client: client.send(writes.comment(PLACE, "hello")), Client.account])
async def test_a_connection_cut_before_any_answer_leaves_the_outcome_unknown(clients: Clients, call: Any) -> None:
    asked: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = clients({"token": "t", "base_url": f"http://127.0.0.1:{port}"})
        with pytest.raises(OutcomeUnknown, match=f"127.0.0.1:{port}"):
            await call(client)
    assert len(asked) == 1


async def test_silence_leaves_the_outcome_unknown(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.github.client.TIMEOUT_SECONDS", 1)
    done = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        client = clients({"token": "t", "base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        with pytest.raises(OutcomeUnknown, match="ReadTimeout"):
            await client.send(writes.comment(PLACE, "hello"))
        done.set()


async def test_a_closed_port_means_that_surely_nothing_was_done(clients: Clients) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = clients({"token": "t", "base_url": f"http://127.0.0.1:{port}"})
    with pytest.raises(Unreachable):
        await client.send(writes.comment(PLACE, "hello"))


async def test_a_host_that_does_not_exist_means_that_surely_nothing_was_done(clients: Clients) -> None:
    client = clients({"token": "t", "base_url": "http://github.invalid"})
    with pytest.raises(Unreachable, match=r"github\.invalid"):
        await client.send(writes.comment(PLACE, "hello"))


async def test_a_service_that_speaks_no_tls_means_that_surely_nothing_was_done(
    fake: FakeGitHub, clients: Clients
) -> None:
    client = clients({"token": "t", "base_url": fake.url.replace("http:", "https:")})
    with pytest.raises(Unreachable):
        await client.send(writes.comment(PLACE, "hello"))


async def test_calls_at_the_same_time_each_arrive_once(fake: FakeGitHub, client: Client, eager_threads: None) -> None:
    bodies = [f"comment {number}" for number in range(60)]
    made = await asyncio.gather(*(client.send(writes.comment(PLACE, body)) for body in bodies))
    assert sorted(comment.body for comment in fake.comments) == sorted(bodies)
    by_id = {str(comment.id): comment.body for comment in fake.comments}
    assert [by_id[one.reference] for one in made] == bodies
    assert len(client._clients) == THREADS  # what really keeps them apart; without it one call in a thousand doubles


async def test_a_cancelled_call_does_not_disturb_the_next(fake: FakeGitHub, client: Client) -> None:
    for number in range(20):
        call = asyncio.create_task(client.send(writes.comment(PLACE, f"cancelled {number}")))
        await asyncio.sleep(0)
        call.cancel()
        await client.send(writes.comment(PLACE, f"kept {number}"))
    kept = [comment.body for comment in fake.comments if comment.body.startswith("kept")]
    assert sorted(kept) == sorted(f"kept {number}" for number in range(20))


async def test_writes_are_not_delayed(fake: FakeGitHub, client: Client) -> None:
    began = time.monotonic()
    for _ in range(5):
        await client.send(writes.comment(PLACE, "hello"))
    assert time.monotonic() - began < 3  # PyGithub's own default is a second between two writes


async def test_enterprise_server_has_its_api_under_a_path(fake: FakeGitHub, clients: Clients) -> None:
    client = clients({**fake.settings(), "base_url": f"{fake.url}/api/v3"})
    made = await client.send(writes.comment(PLACE, "hello"))
    assert made.url.startswith("https://github.com/acme/api/pull/7#issuecomment-")
    assert fake.requests[0].path == "/api/v3/repos/acme/api/issues/7/comments"


async def test_every_request_names_its_version_and_its_sender(fake: FakeGitHub, client: Client) -> None:
    await client.send(writes.comment(PLACE, "hello"))
    headers = fake.requests[0].headers
    assert headers["x-github-api-version"] == "2022-11-28"
    assert headers["user-agent"] == "eventbus-integrations"
    assert headers["authorization"] == f"token {fake.token}"


async def test_a_pull_request_is_opened_as_asked_for(fake: FakeGitHub, client: Client) -> None:
    content = PullRequest(owner="acme", repo="api", title="T", head="ada:topic", base="main", draft=True)
    made = await client.send(writes.pull_request(content, content.title, "text"))
    pull = fake.pulls[-1]
    assert (made.reference, made.url) == (str(pull.number), f"https://github.com/acme/api/pull/{pull.number}")
    assert (pull.title, pull.body, pull.head, pull.base, pull.draft) == ("T", "text", "ada:topic", "main", True)


async def test_an_issue_is_opened_as_asked_for(fake: FakeGitHub, client: Client) -> None:
    content = Issue(owner="acme", repo="api", title="T", labels=("bug", "ci"), assignees=("ada",))
    made = await client.send(writes.issue(content, content.title, "text"))
    issue = fake.issues[-1]
    assert (made.reference, made.url) == (str(issue.number), f"https://github.com/acme/api/issues/{issue.number}")
    assert (issue.title, issue.body, issue.labels, issue.assignees) == ("T", "text", ["bug", "ci"], ["ada"])


async def test_the_account_says_who_and_how_much_is_left(fake: FakeGitHub, client: Client) -> None:
    account = await client.account()
    assert (account.login, account.remaining, account.limit) == ("acme-bot", 4999, 5000)
