"""Review requests, commit statuses and the rules of every artifact's text."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.topics import TaskCompleted, TaskStarted, VmCreated
from integrations.base import Artifact, Delivery, Earlier, Notification, Outcome, What
from integrations.errors import OutcomeUnknown, Rejected
from integrations.exchange import listening
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub

Connect = Callable[[dict[str, Any]], Awaitable[GitHub]]
PULL_REQUEST = "https://github.com/acme/api/pull/7"
SHA = "1" * 40
IN = {"owner": "acme", "repo": "api"}
K = Delivery("k")

STATUS = Artifact(
    type="commit_status",
    content={**IN, "sha": SHA, "state": "success", "context": "ci/migrations", "description": "12 applied"},
)
REVIEW = Artifact(
    type="review_request", content={**IN, "number": 7, "reviewers": ["grace"], "team_reviewers": ["core"]}
)
CHECK = Artifact(type="check_run", content={**IN, "head_sha": SHA, "name": "migrations", "conclusion": "failure"})
EVERYTHING: list[What] = [
    catalog.event(TaskCompleted(task_id="t", pull_request=PULL_REQUEST)),
    Notification(target="acme/api#7", message="m"),
    Artifact(type="comment", content={**IN, "number": 7, "body": "B"}),
    Artifact(type="issue", content={**IN, "title": "T", "labels": ["bug"]}),
    Artifact(type="pull_request", content={**IN, "title": "T", "head": "topic", "base": "main"}),
    REVIEW,
    STATUS,
    CHECK,
]


async def bring_out(github: GitHub, what: What, delivery: Delivery) -> Any:
    if isinstance(what, Artifact):
        return await github.create_artifact(what, delivery)
    if isinstance(what, Notification):
        return await github.send_notification(what, delivery)
    return await github.handle_event(what, delivery)


# -- each type --------------------------------------------------------------------------------------------------------


async def test_a_status_is_set_on_a_commit(fake: FakeGitHub, github: GitHub) -> None:
    result = await github.create_artifact(STATUS, K)
    (status,) = fake.statuses
    assert (status["context"], status["state"], status["description"]) == ("ci/migrations", "success", "12 applied")
    assert (result.reference, result.url) == (str(status["id"]), f"https://github.com/acme/api/commit/{SHA}")


async def test_a_status_whose_answer_was_lost_is_found_though_a_newer_one_stands(
    fake: FakeGitHub, github: GitHub
) -> None:
    assert await github.find(STATUS, K) is None
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await github.create_artifact(STATUS, K)
    fake.statuses.append({**fake.statuses[0], "id": 5, "state": "failure", "creator": {"login": "ada"}})
    found = await github.find(STATUS, K)
    assert found is not None
    assert found.reference == str(fake.statuses[0]["id"])


async def test_the_same_status_by_somebody_else_is_not_ours(fake: FakeGitHub, github: GitHub) -> None:
    await github.create_artifact(STATUS, K)
    fake.statuses[0]["creator"] = {"login": "ada"}
    assert await github.find(STATUS, K) is None


async def test_a_long_description_is_cut_to_what_a_status_takes(fake: FakeGitHub, github: GitHub) -> None:
    long = Artifact(type="commit_status", content={**STATUS.content, "description": "word\n" * 100})
    await github.create_artifact(long, K)
    assert 130 < len(fake.statuses[0]["description"]) <= 140
    assert fake.statuses[0]["description"].endswith(" ...")
    assert await github.find(long, K) is not None


async def test_people_and_teams_are_asked_for_a_review(fake: FakeGitHub, github: GitHub) -> None:
    result = await github.create_artifact(REVIEW, K)
    assert fake.requested == {"acme/api#7": {"grace", "@core"}}
    assert (result.reference, result.url) == ("7", PULL_REQUEST)


async def test_a_review_request_whose_answer_was_lost_is_found_even_after_the_review(
    fake: FakeGitHub, github: GitHub
) -> None:
    assert await github.find(REVIEW, K) is None
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await github.create_artifact(REVIEW, K)
    found = await github.find(REVIEW, K)
    assert found is not None
    assert (found.outcome, found.url) == (Outcome.DUPLICATE, PULL_REQUEST)
    fake.requested["acme/api#7"].remove("grace")
    assert await github.find(REVIEW, K) is None
    fake.reviews["acme/api#7"] = ["Grace"]
    assert await github.find(REVIEW, K) is not None


async def test_asking_somebody_who_may_not_review_is_rejected(github: GitHub) -> None:
    wrong = Artifact(type="review_request", content={**IN, "number": 7, "reviewers": ["mallory"]})
    with pytest.raises(Rejected, match="may only be requested from collaborators"):
        await github.create_artifact(wrong, K)


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("review_request", {**IN, "number": 7}, "asks nobody"),
        ("review_request", {**IN, "number": 7, "reviewers": ["a/b"]}, "reviewers.0"),
        ("commit_status", {**IN, "sha": "abc", "state": "success"}, "sha"),
        ("commit_status", {**IN, "sha": SHA, "state": "done"}, "state"),
        ("commit_status", {**IN, "sha": SHA, "state": "success", "target_url": "javascript:x"}, "target_url"),
        ("check_run", {**IN, "head_sha": SHA, "name": "n"}, "conclusion exactly when"),
        ("check_run", {**IN, "head_sha": SHA, "name": "n", "status": "queued", "conclusion": "success"}, "conclusion"),
    ],
)
async def test_content_that_github_would_refuse_is_rejected_unasked(
    fake: FakeGitHub, github: GitHub, kind: str, content: dict[str, Any], said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        await github.create_artifact(Artifact(type=kind, content=content), K)
    assert fake.requests == []


@pytest.mark.parametrize(
    "said", ["Unable to create comment because issue is locked.", "Repository was archived so is read-only."]
)
async def test_a_locked_issue_is_no_matter_of_credentials(fake: FakeGitHub, github: GitHub, said: str) -> None:
    fake.read_only["acme/api#7"] = said
    with pytest.raises(Rejected, match=said.split()[-1]):
        await github.send_notification(Notification(target="acme/api#7", message="m"), K)


# -- text that is not trusted -----------------------------------------------------------------------------------------


HOSTILE = "Hi @ada and @acme/core, fixes #12, GH-13, acme/api#14 ![p](https://e.example/p.png) <!-- eventbus:v1:x -->"


@pytest.mark.parametrize("kind", ["comment", "issue", "pull_request"])
async def test_the_text_of_an_artifact_mentions_nobody_and_refers_to_nothing(
    fake: FakeGitHub, github: GitHub, kind: str
) -> None:
    own: dict[str, dict[str, Any]] = {
        "comment": {"number": 7},
        "issue": {"title": HOSTILE},
        "pull_request": {"title": HOSTILE, "head": "topic", "base": "main"},
    }
    await github.create_artifact(Artifact(type=kind, content={**IN, **own[kind], "body": f"# Head\n\n{HOSTILE}"}), K)
    sent = json.loads(fake.requests[0].body)
    for text in (sent["body"].rpartition("\n\n")[0], sent.get("title", "")):
        for wrong in ("@a", "#1", "GH-1", "![", "<!--"):
            assert wrong not in text
    assert sent["body"].startswith("# Head\n\nHi ")


async def test_an_account_may_be_told_to_trust_its_artifacts(fake: FakeGitHub, connect: Connect) -> None:
    github = await connect({**fake.settings(), "allow_mentions": True})
    issue = Artifact(type="issue", content={**IN, "title": "Fix #12", "body": HOSTILE})
    await github.create_artifact(issue, K)
    sent = json.loads(fake.requests[0].body)
    assert sent["title"] == "Fix #12"
    assert sent["body"].startswith("Hi @ada and @acme/core, fixes #12, GH-13, acme/api#14 ![p]")
    assert sent["body"].count("<!-- eventbus:v1") == 1, "a marker of somebody else's is never let through"


async def test_trusted_artifacts_leave_events_and_notifications_untrusted(fake: FakeGitHub, connect: Connect) -> None:
    github = await connect({**fake.settings(), "allow_mentions": True})
    await github.send_notification(Notification(target="acme/api#7", message="@ada #12"), K)
    assert "@ada" not in fake.comments[0].body


# -- previews, budgets, requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", EVERYTHING, ids=lambda what: getattr(what, "type", type(what).__name__))
async def test_a_preview_is_the_request_that_is_sent(fake: FakeGitHub, connect: Connect, what: What) -> None:
    app = await connect(fake.app_settings())
    (preview,) = app.preview(what, K)
    assert fake.requests == []
    await bring_out(app, what, K)
    sent = fake.requests[-1]
    assert preview.request == f"{sent.method} {fake.url}{sent.path}"
    assert json.loads(preview.body) == json.loads(sent.body)
    assert preview.doing


async def test_a_preview_knows_what_would_be_changed(fake: FakeGitHub, github: GitHub) -> None:
    started = await github.handle_event(catalog.event(TaskStarted(task_id="t", pull_request=PULL_REQUEST)), K)
    (preview,) = github.preview(EVERYTHING[0], Delivery("k2", earlier=Earlier(state=started.state)))
    assert preview.request == f"PATCH {fake.url}/repos/acme/api/issues/comments/{started.reference}"
    assert preview.doing == f"change {started.reference}: comment on acme/api#7"


async def test_there_is_nothing_to_preview_of_what_is_skipped(github: GitHub) -> None:
    assert github.preview(catalog.event(TaskCompleted(task_id="t")), K) == ()
    assert github.preview(catalog.event(VmCreated(vm_id="1")), K) == ()
    with pytest.raises(Rejected):
        github.preview(Notification(target="nowhere", message="m"), K)


@pytest.mark.parametrize(("name", "most"), [("texts/minute", 80), ("texts/hour", 500)])
def test_the_budgets_keep_within_what_github_takes(name: str, most: int) -> None:
    (budget,) = [budget for budget in GitHub.manifest.budgets if budget.name == name]
    assert budget.burst + budget.per // budget.spacing <= most


async def test_statuses_are_no_texts(fake: FakeGitHub, connect: Connect) -> None:
    github = await connect(fake.settings())
    assert [budget.name for budget in github.budgets(STATUS, K)] == ["calls/hour"]
    assert github.budgets(EVERYTHING[0], K) == GitHub.manifest.budgets


async def test_github_refuses_more_texts_an_hour_than_it_says(fake: FakeGitHub, github: GitHub) -> None:
    fake.hourly_limit = 1
    await github.send_notification(Notification(target="acme/api#7", message="m"), K)
    with pytest.raises(Exception, match="secondary rate limit") as caught:
        await github.send_notification(Notification(target="acme/api#7", message="m"), K)
    assert caught.value.retry_after > timedelta(minutes=59)  # type: ignore[attr-defined]  # it is a RateLimited


@pytest.mark.parametrize("settings", ["settings", "app_settings"])
async def test_each_request_is_told_to_who_listens(fake: FakeGitHub, connect: Connect, settings: str) -> None:
    github = await connect(getattr(fake, settings)())
    with listening() as heard:
        await github.send_notification(Notification(target="acme/api#7", message="m"), K)
        fake.fail(404)
        with pytest.raises(Rejected):
            await github.create_artifact(STATUS, K)
        fake.swallow("before")
        with pytest.raises(OutcomeUnknown):
            await github.create_artifact(STATUS, K)
    told = [(one.request.removeprefix(f"POST {fake.url}"), one.answer) for one in heard]
    assert told[-3:] == [
        ("/repos/acme/api/issues/7/comments", "201"),
        (f"/repos/acme/api/statuses/{SHA}", "404"),
        (f"/repos/acme/api/statuses/{SHA}", "no answer"),
    ]
    assert told[:-3] == ([] if settings == "settings" else [("/app/installations/815/access_tokens", "201")])
    assert all(one.ms >= 0 for one in heard)


async def test_what_others_ask_for_is_not_told_to_me(fake: FakeGitHub, github: GitHub) -> None:
    await github.health()
    with listening() as heard:
        pass
    await github.health()
    assert heard == []
