from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import MigrationCompleted, TaskCompleted, TaskFailed, TaskStarted
from integrations.base import Artifact, Delivery, Inbound, Notification, Outcome, Reconciles
from integrations.errors import IntegrationError, Misconfigured, OutcomeUnknown, RateLimited, Rejected, ServiceFault
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.github.marker import hidden

Connect = Callable[[dict[str, Any]], Awaitable[GitHub]]

PULL_REQUEST = "https://github.com/acme/api/pull/7"
ARTIFACTS = [
    Artifact(
        type="pull_request",
        content={"owner": "acme", "repo": "api", "title": "T", "body": "B", "head": "topic", "base": "main"},
    ),
    Artifact(type="issue", content={"owner": "acme", "repo": "api", "title": "T", "body": "B"}),
    Artifact(type="comment", content={"owner": "acme", "repo": "api", "number": 7, "body": "B"}),
]


def completed(pull_request: str | None = PULL_REQUEST, **envelope: Any) -> Event[Any]:
    return catalog.event(TaskCompleted(task_id="t-1", pull_request=pull_request), **envelope)


async def lose_the_answer(github: GitHub, fake: FakeGitHub, event: Event[Any], key: str) -> None:
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await github.handle_event(event, Delivery(key))


# -- events -----------------------------------------------------------------------------------------------------------


async def test_a_finished_task_is_commented_on_its_pull_request(fake: FakeGitHub, github: GitHub) -> None:
    result = await github.handle_event(completed(), Delivery("k"))
    (comment,) = fake.comments
    assert (comment.repository, comment.number, comment.author) == ("acme/api", 7, "acme-bot")
    assert comment.body.startswith("**Task completed:** t-1\n\n<!-- eventbus:v1:")
    assert result.outcome is Outcome.DELIVERED
    assert (result.reference, result.url) == (str(comment.id), f"{PULL_REQUEST}#issuecomment-{comment.id}")


@pytest.mark.parametrize(
    "event",
    [
        completed(None),
        completed(""),
        catalog.event(MigrationCompleted(migration="m")),
        catalog.event(TaskStarted(task_id="t")),
        catalog.event("custom.topic", {"pull_request": PULL_REQUEST}),
    ],
)
async def test_an_event_without_a_comment_to_make_is_skipped(
    fake: FakeGitHub, github: GitHub, event: Event[Any]
) -> None:
    assert (await github.handle_event(event, Delivery("k"))).outcome is Outcome.SKIPPED
    assert fake.requests == []


async def test_a_pull_request_on_another_host_is_rejected_unasked(fake: FakeGitHub, github: GitHub) -> None:
    with pytest.raises(Rejected, match=r"is not on https://github\.com"):
        await github.handle_event(completed("https://gitlab.com/acme/api/pull/7"), Delivery("k"))
    assert fake.requests == []


async def test_a_pull_request_on_enterprise_is_taken_from_its_own_host(fake: FakeGitHub, connect: Connect) -> None:
    settings = {**fake.settings(), "web_url": None, "base_url": f"{fake.url}/api/v3"}
    github = await connect(settings)
    await github.handle_event(completed(f"{fake.url}/acme/api/pull/7"), Delivery("k"))
    assert len(fake.comments) == 1
    with pytest.raises(Rejected):
        await github.handle_event(completed(), Delivery("k"))


async def test_a_long_error_is_cut_to_what_github_takes(fake: FakeGitHub, github: GitHub) -> None:
    event = catalog.event(TaskFailed(task_id="t", pull_request=PULL_REQUEST, error="\U0001f4a5 " * 80_000))
    await github.handle_event(event, Delivery("k"))
    assert len(fake.comments[0].body) <= 65_536


# -- notifications ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["message", "pr_comment", "issue_comment"])
async def test_a_notification_is_a_comment(fake: FakeGitHub, github: GitHub, kind: str) -> None:
    notification = Notification(type=kind, target="acme/api#7", message="hello @ada")
    result = await github.send_notification(notification, Delivery("k"))
    assert fake.comments[0].body.startswith("hello @\u200bada\n\n<!--")
    assert result.outcome is Outcome.DELIVERED


@pytest.mark.parametrize(
    ("notification", "said"),
    [
        (Notification(target="acme/api", message="m"), "write owner/repo#123"),
        (Notification(message="m"), "write owner/repo#123"),
        (Notification(type="sms", target="acme/api#7", message="m"), "sends no notification 'sms'; it sends: message"),
    ],
)
async def test_a_notification_that_can_not_go_anywhere_is_rejected(
    fake: FakeGitHub, github: GitHub, notification: Notification, said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        await github.send_notification(notification, Delivery("k"))
    assert fake.requests == []


# -- artifacts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact.type)
async def test_an_artifact_is_made_and_bears_our_marker(fake: FakeGitHub, github: GitHub, artifact: Artifact) -> None:
    result = await github.create_artifact(artifact, Delivery("k"))
    made: dict[str, list[Any]] = {"comment": fake.comments, "issue": fake.issues, "pull_request": fake.pulls}
    assert made[artifact.type][-1].body.startswith("B\n\n<!-- eventbus:v1:")
    assert result.outcome is Outcome.DELIVERED
    assert result.url is not None
    assert result.url.startswith("https://github.com/acme/api/")
    assert len(fake.effects()) == 1


@pytest.mark.parametrize(
    ("artifact", "said"),
    [
        (
            Artifact(type="gist", content={}),
            "it makes: pull_request, issue, comment, review_request, commit_status, check_run",
        ),
        (Artifact(type="issue", content={"owner": "acme", "repo": "api"}), "issue: title: field required"),
        (Artifact(type="issue", content={**ARTIFACTS[1].content, "color": "red"}), "color: extra inputs"),
        (Artifact(type="issue", content={**ARTIFACTS[1].content, "repo": ".."}), "repo: "),
        (Artifact(type="issue", content={**ARTIFACTS[1].content, "repo": "a/../../user"}), "repo: "),
        (Artifact(type="issue", content={**ARTIFACTS[1].content, "title": "t" * 257}), "title: "),
        (Artifact(type="comment", content={**ARTIFACTS[2].content, "number": 0}), "number: "),
        (Artifact(type="pull_request", content={**ARTIFACTS[1].content, "head": "h"}), "base: field required"),
    ],
)
async def test_an_artifact_that_can_not_be_is_rejected_naming_the_field(
    fake: FakeGitHub, github: GitHub, artifact: Artifact, said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        await github.create_artifact(artifact, Delivery("k"))
    assert fake.requests == []


async def test_a_second_pull_request_between_the_same_branches_is_rejected(github: GitHub) -> None:
    await github.create_artifact(ARTIFACTS[0], Delivery("k1"))
    with pytest.raises(Rejected, match="A pull request already exists for acme:topic"):
        await github.create_artifact(ARTIFACTS[0], Delivery("k2"))


# -- looking up what was made -----------------------------------------------------------------------------------------


async def test_a_comment_whose_answer_was_lost_is_found(fake: FakeGitHub, github: GitHub) -> None:
    event = completed()
    await lose_the_answer(github, fake, event, "k")
    found = await github.find(event, Delivery("k"))
    assert found is not None
    assert found.outcome is Outcome.DUPLICATE
    assert found.reference == str(fake.comments[0].id)
    assert found.url == f"{PULL_REQUEST}#issuecomment-{found.reference}"


async def test_a_comment_of_another_delivery_is_not_taken_for_ours(github: GitHub) -> None:
    event = completed()
    await github.handle_event(event, Delivery("k1"))
    assert await github.find(event, Delivery("k2")) is None


async def test_our_marker_quoted_by_somebody_else_proves_nothing(fake: FakeGitHub, github: GitHub) -> None:
    event = completed()
    await lose_the_answer(github, fake, event, "k")
    ours = fake.comments.pop()
    fake.remark("acme/api#7", ours.body)
    fake.remark("acme/api#7", ours.body, author="acme-bot2")
    assert await github.find(event, Delivery("k")) is None
    fake.comments.append(ours)
    found = await github.find(event, Delivery("k"))
    assert found is not None
    assert found.reference == str(ours.id)


async def test_a_marker_in_the_text_of_an_event_is_not_taken_for_ours(fake: FakeGitHub, connect: Connect) -> None:
    github = await connect({**fake.settings(), "webhook_secret": None})  # anybody can compute these markers
    forged = hidden(github._marker.sign("k2"))
    error = catalog.event(
        TaskFailed(task_id="t", name=forged, pull_request=PULL_REQUEST, error=forged, error_type=forged)
    )
    await github.handle_event(error, Delivery("k1"))
    await github.send_notification(Notification(target="acme/api#7", message=forged, title=forged), Delivery("k1"))
    assert await github.find(completed(), Delivery("k2")) is None


async def test_a_look_up_reads_every_page(fake: FakeGitHub, github: GitHub) -> None:
    event = completed()
    for number in range(230):
        fake.remark("acme/api#7", f"chatter {number}")
    await lose_the_answer(github, fake, event, "k")
    fake.requests.clear()
    found = await github.find(event, Delivery("k"))
    assert found is not None
    assert found.reference == str(fake.comments[230].id)
    pages = [request.path for request in fake.requests if "/comments" in request.path]
    assert len(pages) == 3
    assert all("per_page=100" in page and "since=" in page for page in pages)


async def test_a_look_up_leaves_out_what_is_older_than_the_event(fake: FakeGitHub, github: GitHub) -> None:
    now = datetime.now(UTC)
    for number in range(250):
        fake.remark("acme/api#7", f"old {number}", at=now - timedelta(days=30))
    event = completed(time=now)
    await lose_the_answer(github, fake, event, "k")
    fake.requests.clear()
    assert await github.find(event, Delivery("k")) is not None
    assert len([request for request in fake.requests if "/comments" in request.path]) == 1


async def test_a_publisher_whose_clock_is_hours_ahead_does_not_hide_the_comment(
    fake: FakeGitHub, github: GitHub
) -> None:
    event = completed(time=datetime.now(UTC) + timedelta(hours=20))
    await lose_the_answer(github, fake, event, "k")
    assert await github.find(event, Delivery("k")) is not None


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact.type)
async def test_an_artifact_whose_answer_was_lost_is_found(fake: FakeGitHub, github: GitHub, artifact: Artifact) -> None:
    assert await github.find(artifact, Delivery("k")) is None
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await github.create_artifact(artifact, Delivery("k"))
    found = await github.find(artifact, Delivery("k"))
    assert found is not None
    assert found.outcome is Outcome.DUPLICATE
    assert found.url is not None
    assert await github.find(artifact, Delivery("other")) is None


@pytest.mark.parametrize("artifact", ARTIFACTS[:2], ids=lambda artifact: artifact.type)
async def test_an_artifact_is_found_when_it_was_closed_meanwhile(
    fake: FakeGitHub, github: GitHub, artifact: Artifact
) -> None:
    await github.create_artifact(artifact, Delivery("k"))
    made = (fake.pulls if artifact.type == "pull_request" else fake.issues)[-1]
    made.state = "closed"
    found = await github.find(artifact, Delivery("k"))
    assert found is not None
    assert found.reference == str(made.number)


@pytest.mark.parametrize("artifact", ARTIFACTS[:2], ids=lambda artifact: artifact.type)
async def test_an_artifact_that_somebody_copied_is_not_taken_for_ours(
    fake: FakeGitHub, github: GitHub, artifact: Artifact
) -> None:
    await github.create_artifact(artifact, Delivery("k"))
    made = (fake.pulls if artifact.type == "pull_request" else fake.issues)[-1]
    made.author = "ada"
    assert await github.find(artifact, Delivery("k")) is None


async def test_an_issue_is_found_among_all_that_we_ever_opened(fake: FakeGitHub, github: GitHub) -> None:
    await github.create_artifact(ARTIFACTS[1], Delivery("k"))
    for number in range(120):
        await github.create_artifact(ARTIFACTS[1], Delivery(f"later {number}"))
    found = await github.find(ARTIFACTS[1], Delivery("k"))
    assert found is not None
    assert found.reference == str(fake.issues[0].number)


async def test_a_notification_whose_answer_was_lost_is_found(fake: FakeGitHub, github: GitHub) -> None:
    notification = Notification(target="acme/api#7", message="m")
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await github.send_notification(notification, Delivery("k"))
    assert await github.find(notification, Delivery("k")) is not None
    assert await github.find(notification, Delivery("other")) is None


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_look_up_that_fails_on_any_page_is_no_answer(fake: FakeGitHub, github: GitHub, lost: int) -> None:
    for number in range(230):
        fake.remark("acme/api#7", f"chatter {number}")
    fake.broken_page = lost
    with pytest.raises(ServiceFault):
        await github.find(completed(), Delivery("k"))


@pytest.mark.parametrize(("status", "error"), [(500, ServiceFault), (429, RateLimited), (404, Rejected)])
async def test_a_look_up_that_is_refused_is_no_answer(
    fake: FakeGitHub, github: GitHub, status: int, error: type[IntegrationError]
) -> None:
    fake.fail(status)
    with pytest.raises(error):
        await github.find(completed(), Delivery("k"))


async def test_an_event_without_a_comment_has_nothing_to_be_found(fake: FakeGitHub, github: GitHub) -> None:
    assert await github.find(completed(None), Delivery("k")) is None
    assert fake.requests == []


async def test_a_comment_made_before_the_webhook_secret_was_replaced_is_found(
    fake: FakeGitHub, connect: Connect
) -> None:
    event = completed()
    await (await connect(fake.settings())).handle_event(event, Delivery("k"))
    new = {"webhook_secret": "new", "previous_webhook_secrets": [fake.webhook_secret]}
    assert await (await connect({**fake.settings(), **new})).find(event, Delivery("k")) is not None


# -- health, inbound, life --------------------------------------------------------------------------------------------


async def test_health_says_who_we_are_and_what_is_left(fake: FakeGitHub, github: GitHub) -> None:
    health = await github.health()
    assert (health.state, health.detail) == ("healthy", "signed in as acme-bot, 4,999 of 5,000 requests left")
    assert health.latency_ms is not None


async def test_health_tells_a_used_up_limit_from_a_fault(fake: FakeGitHub, github: GitHub) -> None:
    fake.used = fake.limit
    assert (await github.health()).state == "degraded"
    fake.used = 0
    fake.reject_credentials = True
    health = await github.health()
    assert (health.state, health.detail) == ("unhealthy", "GitHub answered 401: Bad credentials")


async def test_a_secondary_limit_pauses_for_as_long_as_github_says(fake: FakeGitHub, github: GitHub) -> None:
    fake.secondary_limit = 2
    for key in ("1", "2"):
        await github.handle_event(completed(), Delivery(key))
    with pytest.raises(RateLimited) as caught:
        await github.handle_event(completed(), Delivery("3"))
    assert caught.value.retry_after is not None
    assert timedelta(seconds=50) < caught.value.retry_after <= timedelta(seconds=61)


async def test_a_webhook_is_received_by_the_adapter(fake: FakeGitHub, github: GitHub) -> None:
    reply = await github.receive(fake.webhook("pull_request", fake.pull_request_opened()))
    assert [event.topic for event in reply.events] == ["github.pull_request.opened"]


async def test_a_private_key_that_can_not_sign_stops_the_start_and_close_still_works(fake: FakeGitHub) -> None:
    from integrations.testing.context import make_context

    github = GitHub()
    context = make_context(GitHub, {**fake.app_settings(), "private_key": "none"})
    with pytest.raises(Misconfigured):
        await github.initialize(context)
    await github.close()
    await context.http.close()


def test_it_says_what_it_can() -> None:
    github = GitHub()
    assert isinstance(github, Inbound)
    assert isinstance(github, Reconciles)
    assert GitHub.manifest.effects == "searchable"
