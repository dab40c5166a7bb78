"""What was made for a thread is changed by what follows, whatever was lost in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.topics import MigrationStarted, TaskCompleted, TaskFailed, TaskStarted
from integrations.base import Artifact, Delivery, DeliveryResult, Earlier, Notification, Outcome
from integrations.errors import OutcomeUnknown, Rejected, ServiceFault
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub

Connect = Callable[[dict[str, Any]], Awaitable[GitHub]]
PULL_REQUEST = "https://github.com/acme/api/pull/7"
SHA = "1" * 40


def event(kind: type[Payload], **fields: Any) -> Event[Any]:
    return catalog.event(kind(**{"task_id": "t-1", "pull_request": PULL_REQUEST, **fields}))


def after(result: DeliveryResult, key: str, **more: Any) -> Delivery:
    """The next delivery of the thread, as the dispatcher makes it."""
    return Delivery(key, thread="task_id:t-1", earlier=Earlier(result.reference, result.url, result.state), **more)


STARTED, COMPLETED = event(TaskStarted), event(TaskCompleted)
FIRST = Delivery("k1", thread="task_id:t-1")


async def test_a_finished_task_changes_the_comment_that_its_start_made(fake: FakeGitHub, github: GitHub) -> None:
    started = await github.handle_event(STARTED, FIRST)
    assert fake.comments[0].body.startswith("**Task started:** t-1\n\n<!--")
    result = await github.handle_event(COMPLETED, after(started, "k2"))
    (comment,) = fake.comments
    assert comment.body.startswith("**Task completed:** t-1\n\n<!--")
    assert result.outcome is Outcome.DELIVERED
    assert (result.reference, result.url, result.state) == (started.reference, started.url, started.state)
    assert [line.split()[0] for line in fake.effects()] == ["comment", "change"]


async def test_a_task_that_runs_again_and_fails_changes_the_same_comment(fake: FakeGitHub, github: GitHub) -> None:
    result = await github.handle_event(STARTED, FIRST)
    for key, following in (("k2", COMPLETED), ("k3", STARTED), ("k4", event(TaskFailed, error="no"))):
        result = await github.handle_event(following, after(result, key))
    assert len(fake.comments) == 1
    assert fake.comments[0].body.startswith("**Task failed:**")


async def test_a_migration_begins_with_a_comment_too(fake: FakeGitHub, github: GitHub) -> None:
    started = catalog.event(MigrationStarted(migration="m", pull_request=PULL_REQUEST))
    await github.handle_event(started, Delivery("k"))
    assert fake.comments[0].body.startswith("**Migration started:** m\n")


async def test_a_comment_that_was_deleted_is_made_anew(fake: FakeGitHub, github: GitHub) -> None:
    started = await github.handle_event(STARTED, FIRST)
    fake.comments.clear()
    result = await github.handle_event(COMPLETED, after(started, "k2"))
    (comment,) = fake.comments
    assert comment.body.startswith("**Task completed:**")
    assert result.reference == str(comment.id) != started.reference
    assert list(result.state.values()) == [result.reference]


async def test_a_thread_has_a_comment_of_its_own_on_each_pull_request(fake: FakeGitHub, github: GitHub) -> None:
    fake.open_pull("acme/api", "other", "main", number=8)
    first = await github.handle_event(STARTED, FIRST)
    elsewhere = event(TaskCompleted, pull_request="https://github.com/acme/api/pull/8")
    second = await github.handle_event(elsewhere, after(first, "k2"))
    assert [comment.number for comment in fake.comments] == [7, 8]
    third = await github.handle_event(COMPLETED, after(second, "k3"))
    assert third.reference == first.reference


async def test_a_comment_made_as_somebody_else_is_left_alone(fake: FakeGitHub, connect: Connect) -> None:
    started = await (await connect(fake.settings())).handle_event(STARTED, FIRST)
    app = await connect(fake.app_settings())
    await app.handle_event(COMPLETED, after(started, "k2"))
    assert [comment.author for comment in fake.comments] == ["acme-bot", "acme-deployer[bot]"]


async def test_only_so_many_things_of_a_thread_are_remembered(github: GitHub) -> None:
    state = {f"comment on acme/api#{n} by token": str(n) for n in range(100, 130)}
    result = await github.handle_event(STARTED, replace(FIRST, earlier=Earlier(state=state)))
    assert len(result.state) == 20
    assert result.state["comment on acme/api#7 by token"] == result.reference


async def test_a_notification_of_the_same_thread_changes_the_comment(fake: FakeGitHub, github: GitHub) -> None:
    first = await github.send_notification(Notification(target="acme/api#7", message="running"), FIRST)
    await github.send_notification(Notification(target="acme/api#7", message="done"), after(first, "k2"))
    (comment,) = fake.comments
    assert comment.body.startswith("done\n")


async def test_what_stands_alone_is_never_changed(fake: FakeGitHub, github: GitHub) -> None:
    for key in ("k1", "k2"):
        await github.send_notification(Notification(target="acme/api#7", message=key), Delivery(key))
    assert len(fake.comments) == 2


# -- answers that were lost -------------------------------------------------------------------------------------------


async def test_a_change_whose_answer_was_lost_is_found(fake: FakeGitHub, github: GitHub) -> None:
    started = await github.handle_event(STARTED, FIRST)
    delivery = after(started, "k2")
    assert await github.find(COMPLETED, delivery) is None
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await github.handle_event(COMPLETED, delivery)
    found = await github.find(COMPLETED, delivery)
    assert found is not None
    assert (found.outcome, found.reference, found.state) == (Outcome.DUPLICATE, started.reference, started.state)


async def test_a_change_that_never_came_to_be_is_made_on_the_same_comment(fake: FakeGitHub, github: GitHub) -> None:
    started = await github.handle_event(STARTED, FIRST)
    delivery = after(started, "k2")
    fake.swallow("before")
    with pytest.raises(OutcomeUnknown):
        await github.handle_event(COMPLETED, delivery)
    assert await github.find(COMPLETED, delivery) is None
    await github.handle_event(COMPLETED, replace(delivery, attempt=2))
    assert len(fake.comments) == 1


async def test_a_found_comment_can_be_changed_by_what_follows(fake: FakeGitHub, github: GitHub) -> None:
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await github.handle_event(STARTED, FIRST)
    found = await github.find(STARTED, FIRST)
    assert found is not None
    await github.handle_event(COMPLETED, after(found, "k2"))
    assert len(fake.comments) == 1


async def test_a_comment_that_nobody_remembers_is_found_by_its_thread(fake: FakeGitHub, github: GitHub) -> None:
    await github.handle_event(STARTED, FIRST)  # and a crash before it was noted
    await github.handle_event(COMPLETED, Delivery("k2", thread="task_id:t-1"))
    (comment,) = fake.comments
    assert comment.body.startswith("**Task completed:**")


async def test_a_second_attempt_finds_what_the_thread_has(fake: FakeGitHub, github: GitHub) -> None:
    await github.handle_event(STARTED, FIRST)
    await github.handle_event(STARTED, Delivery("k2", thread="task_id:t-1", attempt=2))
    assert len(fake.comments) == 1


@pytest.mark.parametrize("thread", ["task_id:t-2", ""])
async def test_a_comment_of_another_thread_is_not_taken(fake: FakeGitHub, github: GitHub, thread: str) -> None:
    await github.handle_event(STARTED, FIRST)
    await github.handle_event(COMPLETED, Delivery("k2", thread=thread))
    assert len(fake.comments) == 2


async def test_a_comment_with_our_marker_by_somebody_else_is_not_changed(fake: FakeGitHub, github: GitHub) -> None:
    await github.handle_event(STARTED, FIRST)
    fake.comments[0].author = "ada"
    await github.handle_event(COMPLETED, Delivery("k2", thread="task_id:t-1"))
    assert [comment.author for comment in fake.comments] == ["ada", "acme-bot"]


async def test_a_thread_that_can_not_be_looked_for_makes_no_second_comment(fake: FakeGitHub, github: GitHub) -> None:
    await github.handle_event(STARTED, FIRST)
    fake.fail(502)
    with pytest.raises(ServiceFault):
        await github.handle_event(COMPLETED, Delivery("k2", thread="task_id:t-1"))
    assert len(fake.comments) == 1


async def test_the_first_start_of_a_task_takes_one_request(fake: FakeGitHub, github: GitHub) -> None:
    await github.handle_event(STARTED, FIRST)
    assert len(fake.requests) == 1


async def test_an_old_comment_that_was_changed_lately_is_found(fake: FakeGitHub, github: GitHub) -> None:
    started = await github.handle_event(STARTED, FIRST)
    fake.comments[0].created = datetime.now(UTC) - timedelta(days=60)
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await github.handle_event(COMPLETED, after(started, "k2"))
    assert await github.find(COMPLETED, after(started, "k2")) is not None


# -- checks -----------------------------------------------------------------------------------------------------------


def check(**content: Any) -> Artifact:
    given = {"owner": "acme", "repo": "api", "head_sha": SHA, "name": "migrations", **content}
    return Artifact(type="check_run", content=given)


RUNNING, DONE = check(status="in_progress"), check(conclusion="success", summary="All *good*")


async def test_a_check_is_changed_from_running_to_done(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    first = await app.create_artifact(RUNNING, FIRST)
    result = await app.create_artifact(DONE, after(first, "k2"))
    (run,) = fake.checks
    assert (run["status"], run["conclusion"], run["output"]["summary"]) == ("completed", "success", "All *good*")
    assert (result.reference, result.url) == (str(run["id"]), f"https://github.com/acme/api/runs/{run['id']}")


@pytest.mark.parametrize("earlier", [False, True])
async def test_a_check_whose_answer_was_lost_is_found(fake: FakeGitHub, connect: Connect, earlier: bool) -> None:
    app = await connect(fake.app_settings())
    delivery = FIRST
    if earlier:
        delivery = after(await app.create_artifact(RUNNING, FIRST), "k2")
    assert await app.find(DONE, delivery) is None
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await app.create_artifact(DONE, delivery)
    found = await app.find(DONE, delivery)
    assert found is not None
    assert found.reference == str(fake.checks[0]["id"])
    assert await app.find(DONE, replace(delivery, key="other")) is None


async def test_a_check_by_a_token_is_rejected_unasked(fake: FakeGitHub, github: GitHub) -> None:
    with pytest.raises(Rejected, match="only a GitHub App"):
        await github.create_artifact(DONE, Delivery("k"))
    assert fake.requests == []
