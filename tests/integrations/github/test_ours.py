"""What we caused ourselves is told apart when it comes back as a webhook; what others did is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import TaskCompleted
from integrations.base import Artifact, Delivery, Notification
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub

Connect = Callable[[dict[str, Any]], Awaitable[GitHub]]
DONE = catalog.event(TaskCompleted(task_id="t", pull_request="https://github.com/acme/api/pull/7"))
K = Delivery("k")


@pytest.fixture(params=["token", "app"])
async def account(request: pytest.FixtureRequest, fake: FakeGitHub, connect: Connect) -> GitHub:
    return await connect(fake.settings() if request.param == "token" else fake.app_settings())


async def received(github: GitHub, fake: FakeGitHub, name: str, payload: dict[str, Any]) -> Event[Any]:
    (event,) = (await github.receive(fake.webhook(name, payload))).events
    return event


async def test_our_own_comment_names_the_event_it_followed_from(fake: FakeGitHub, account: GitHub) -> None:
    await account.handle_event(DONE, K)
    event = await received(account, fake, "issue_comment", fake.issue_comment_created(fake.comments[0]))
    assert event.data.ours
    assert event.causation_id == DONE.id
    assert event.source == "https://github.com/acme/api"


async def test_our_own_words_that_follow_from_nothing_known_are_ours_too(fake: FakeGitHub, account: GitHub) -> None:
    await account.send_notification(Notification(target="acme/api#7", message="m"), K)
    event = await received(account, fake, "issue_comment", fake.issue_comment_created(fake.comments[0]))
    assert (event.data.ours, event.causation_id) == (True, "github")


async def test_what_somebody_else_writes_is_not_ours(fake: FakeGitHub, account: GitHub) -> None:
    await account.handle_event(DONE, K)
    comment = fake.remark("acme/api#7", "Thanks!")
    event = await received(account, fake, "issue_comment", fake.issue_comment_created(comment))
    assert (event.data.ours, event.causation_id) == (False, None)


async def test_our_marker_copied_by_somebody_else_hides_nothing(fake: FakeGitHub, account: GitHub) -> None:
    await account.handle_event(DONE, K)
    copied = fake.remark("acme/api#7", fake.comments[0].body)
    event = await received(account, fake, "issue_comment", fake.issue_comment_created(copied))
    assert (event.data.ours, event.causation_id) == (False, None)


async def test_a_forged_marker_is_nobodys(fake: FakeGitHub, github: GitHub) -> None:
    forged = "<!-- eventbus:v1:" + "0" * 32 + f"::{DONE.id}:" + "0" * 32 + " -->"
    event = await received(github, fake, "issue_comment", fake.issue_comment_created(fake.remark("acme/api#7", forged)))
    assert (event.data.ours, event.causation_id) == (False, None)


async def test_somebody_who_edits_or_deletes_our_comment_is_not_us(fake: FakeGitHub, account: GitHub) -> None:
    await account.handle_event(DONE, K)
    payload = fake.issue_comment_created(fake.comments[0]) | {"sender": {"login": "ada", "type": "User"}}
    for action in ("edited", "deleted"):
        event = await received(account, fake, "issue_comment", {**payload, "action": action})
        assert not event.data.ours, action


async def test_somebody_who_closes_our_issue_is_not_us_even_with_our_token(fake: FakeGitHub, github: GitHub) -> None:
    await github.create_artifact(Artifact(type="issue", content={"owner": "acme", "repo": "api", "title": "T"}), K)
    issue = fake._show_thread(fake.issues[0])
    payload = {"issue": issue, "repository": fake._show_repository("acme/api"), "sender": issue["user"]}
    assert (await received(github, fake, "issues", {**payload, "action": "opened"})).data.ours
    assert not (await received(github, fake, "issues", {**payload, "action": "closed"})).data.ours


async def test_a_persons_own_doings_with_the_same_account_are_not_ours(fake: FakeGitHub, github: GitHub) -> None:
    await github.handle_event(DONE, K)
    by_hand = fake.remark("acme/api#7", "by hand", author=fake.login)
    assert not (await received(github, fake, "issue_comment", fake.issue_comment_created(by_hand))).data.ours


async def test_whatever_the_apps_bot_does_is_ours(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    await app.handle_event(DONE, K)
    bot = {"login": f"{fake.app_slug}[bot]", "type": "Bot"}
    labelled = {**fake.pull_request_opened(), "action": "labeled", "sender": bot}
    event = await received(app, fake, "pull_request", labelled)
    assert (event.data.ours, event.causation_id) == (True, "github")
    other = {**labelled, "sender": {"login": "dependabot[bot]", "type": "Bot"}}
    assert not (await received(app, fake, "pull_request", other)).data.ours


async def test_our_own_check_run_comes_back_as_ours(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    content = {"owner": "acme", "repo": "api", "head_sha": "1" * 40, "name": "n", "conclusion": "success"}
    await app.create_artifact(Artifact(type="check_run", content=content), K)
    payload = {"action": "completed", "check_run": fake._show_check(fake.checks[0])}
    payload |= {"repository": fake._show_repository("acme/api"), "sender": {"login": "acme-deployer[bot]"}}
    assert (await received(app, fake, "check_run", payload)).data.ours
    by_ada = {**payload, "sender": {"login": "ada"}, "action": "rerequested"}
    assert not (await received(app, fake, "check_run", by_ada)).data.ours
