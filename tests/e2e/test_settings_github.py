"""What a file of settings makes of events at GitHub, and of what GitHub tells: comments, branches, merges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from eventbus import Event, catalog
from integrations.github.fake import FakeGitHub
from integrations.webhook.fake import FakeReceiver
from tests.e2e.configured import configured, gateway, given_up, happen

ACCOUNT = """
integrations:
  github:
    token: ${GITHUB_TOKEN}
    webhook_secret: ${GITHUB_WEBHOOK_SECRET}
    base_url: ${GITHUB_URL}
    web_url: https://github.com
"""
PULL = "https://github.com/acme/api/pull/7"


@pytest.fixture
async def github() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as fake:
        yield fake


@pytest.fixture
def environ(github: FakeGitHub) -> dict[str, str]:
    return {
        "GITHUB_TOKEN": github.token,
        "GITHUB_WEBHOOK_SECRET": github.webhook_secret,
        "GITHUB_URL": github.url,
    }


async def call(http: httpx.AsyncClient, github: FakeGitHub, event: str, payload: dict[str, Any]) -> None:
    """GitHub's webhook to the gateway."""
    headers, body = github.raw_webhook(event, payload)
    answer = await http.post("/api/v1/webhooks/github", headers=headers, content=body)
    assert answer.status_code == 202, answer.text


async def test_a_task_that_ends_is_commented_where_its_event_names_a_pull_request(
    github: FakeGitHub, environ: dict[str, str], tmp_path: Path
) -> None:
    tasks = [
        catalog.event("task.completed", {"task_id": "uuid-1", "pull_request": PULL}),
        catalog.event("task.failed", {"task_id": "uuid-2", "pull_request": PULL, "error": "2 of 310 tests failed"}),
        catalog.event("task.completed", {"task_id": "uuid-3"}),
    ]
    async with configured(tmp_path, ACCOUNT, **environ) as runtime:
        await happen(runtime, *tasks)
        assert await given_up(runtime) == []
    good, bad = sorted(github.comments, key=lambda comment: "uuid-2" in comment.body)
    assert [(comment.repository, comment.number) for comment in (good, bad)] == [("acme/api", 7)] * 2
    assert "uuid-1" in good.body
    assert "completed" in good.body
    assert "failed" in bad.body
    assert "2 of 310 tests failed" in bad.body


async def test_a_check_of_conflicts_has_one_comment_that_says_which_or_none_and_changes_with_each_run(
    github: FakeGitHub, environ: dict[str, str], tmp_path: Path
) -> None:
    route = """
routes:
  conflicts:
    topics: [coordination.checked]
    to: github
    artifact: comment
    dedup_key: "conflicts {{ data.owner }}/{{ data.repo }}#{{ data.number }}"
    content:
      owner: "{{ data.owner }}"
      repo: "{{ data.repo }}"
      number: "{{ data.number }}"
      body: |
        ## Schema Coordination Check
        {% if data.conflicts %}
        **Conflicts detected:**
        {% for conflict in data.conflicts %}
        - **{{ conflict.type }}**: {{ conflict.suggestion }}
        {% endfor %}
        {% else %}
        No schema conflicts detected.
        {% endif %}
"""
    conflicts = [
        {"type": "table", "suggestion": "ask @ada about users"},
        {"type": "column", "suggestion": "wait for #6"},
    ]

    def checked(*found: dict[str, str]) -> Event[Any]:
        data = {"owner": "acme", "repo": "api", "number": 7, "conflicts": list(found)}
        return catalog.event("coordination.checked", data)

    async with configured(tmp_path, ACCOUNT + route, **environ) as runtime:
        await happen(runtime, checked(*conflicts))
        (comment,) = github.comments
        assert comment.body.startswith("## Schema Coordination Check")
        assert "- **table**: ask @\u200bada about users" in comment.body  # nobody is pinged
        assert "- **column**: wait for #\u200b6" in comment.body
        await happen(runtime, checked())
        assert await given_up(runtime) == []
    (comment,) = github.comments
    assert "No schema conflicts detected." in comment.body
    assert "table" not in comment.body


async def test_new_branches_and_merges_are_handed_to_whoever_keeps_intentions(
    github: FakeGitHub, environ: dict[str, str], tmp_path: Path
) -> None:
    more = """
  coordinator:
    adapter: webhook
    endpoints:
      - name: coordinator
        url: ${COORDINATOR_URL}/hook
        secret: ${COORDINATOR_SECRET}
        topics: [github.create, github.pull_request.closed]
        allow_private: [127.0.0.1]
routes:
  register:
    topics: [github.create]
    when: >-
      data.body.ref_type == "branch" and (data.ref is startswith "feature/" or data.ref is startswith "schema/")
    to: coordinator
    title: register
    text: "{{ data.ref[8:] if data.ref is startswith 'feature/' else data.ref }}"
    fields: {agent_id: "{{ data.sender }}", risk_level: medium}
  complete:
    topics: [github.pull_request.closed]
    when: data.body.pull_request.merged
    to: coordinator
    title: complete
    text: "Merged via PR #{{ data.number }}"
    fields:
      agent_id: "{{ data.body.pull_request.user.login }}"
      outcome: success
      merge_commit: "{{ data.body.pull_request.merge_commit_sha }}"
"""
    opened = github.pull_request_opened()
    closed = opened | {"action": "closed", "pull_request": opened["pull_request"] | {"merged": False}}
    merge = {"merged": True, "merge_commit_sha": "1" * 40}
    merged = opened | {"action": "closed", "pull_request": opened["pull_request"] | merge}

    def created(ref: str, kind: str = "branch") -> dict[str, Any]:
        """Webhooks, "create"."""
        return {"ref": ref, "ref_type": kind} | {name: opened[name] for name in ("repository", "sender")}

    async with FakeReceiver() as coordinator:
        environ |= {"COORDINATOR_URL": coordinator.url, "COORDINATOR_SECRET": coordinator.secret.get_secret_value()}
        async with configured(tmp_path, ACCOUNT + more, **environ) as runtime, gateway(runtime) as http:
            for ref in (created("feature/email"), created("fix/typo"), created("feature/1.0", "tag")):
                await call(http, github, "create", ref)
            await call(http, github, "pull_request", closed)
            await call(http, github, "pull_request", merged)
            await runtime.bus.run_until_idle()
            assert await given_up(runtime) == []
    told = {one.content["data"]["title"]: one.content["data"] for one in coordinator.received}
    assert len(coordinator.received) == 2
    assert (told["register"]["message"], told["register"]["fields"]) == (
        "email",
        {"agent_id": "ada", "risk_level": "medium"},
    )
    assert told["complete"]["message"] == "Merged via PR #7"
    assert told["complete"]["fields"] == {"agent_id": "ada", "outcome": "success", "merge_commit": "1" * 40}


async def test_a_pull_request_that_somebody_opens_starts_what_a_program_subscribed_to_it_does(
    github: FakeGitHub, environ: dict[str, str], tmp_path: Path
) -> None:
    seen: list[Event[Any]] = []
    async with configured(tmp_path, ACCOUNT, **environ) as runtime, gateway(runtime) as http:
        await runtime.bus.subscribe("github.pull_request.opened", seen.append, group="builder")
        await call(http, github, "pull_request", github.pull_request_opened())
        await call(http, github, "push", github.push())
        await call(http, github, "issue_comment", github.issue_comment_created(github.remark("acme/api#7", "go")))
        await runtime.bus.run_until_idle()
    (event,) = seen
    assert (event.data.number, event.data.url) == (7, PULL)
