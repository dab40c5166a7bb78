"""What a file of settings makes of events in Slack, and of what people do there: messages, decisions, commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from eventbus import Event, catalog
from integrations.slack.fake import FakeSlack, Posted, Signed
from integrations.webhook.fake import FakeReceiver
from tests.e2e.configured import configured, gateway, given_up, happen

ACCOUNT = """
integrations:
  slack:
    bot_token: ${SLACK_BOT_TOKEN}
    signing_secret: ${SLACK_SIGNING_SECRET}
    base_url: ${SLACK_URL}/api
    default_channel: "#deployments"
"""


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack(channels={"deployments": "C0DEPLOYS", "migrations": "C0MIGRATE", "general": "C0G"}) as fake:
        yield fake


@pytest.fixture
def environ(slack: FakeSlack) -> dict[str, str]:
    return {
        "SLACK_BOT_TOKEN": slack.token,
        "SLACK_SIGNING_SECRET": slack.signing_secret,
        "SLACK_WEBHOOK_URL": slack.webhook_url,
        "SLACK_URL": slack.url,
    }


def completed(environment: str = "production", **more: Any) -> Event[Any]:
    data = {"migration": "add_user_email", "environment": environment, "duration_ms": 1834, **more}
    return catalog.event("migration.completed", data)


def kinds(message: Posted) -> list[str]:
    return [block["type"] for block in message.blocks]


def title(message: Posted) -> str:
    return str(message.blocks[0]["text"]["text"])


def fields(message: Posted) -> list[str]:
    return [field["text"] for block in message.blocks for field in block.get("fields", [])]


async def call(http: httpx.AsyncClient, signed: Signed) -> dict[str, Any]:
    """Slack's request to the gateway; what Slack shows of the answer."""
    answer = await http.post("/api/v1/webhooks/slack", headers=signed.headers, content=signed.body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()) if answer.content else {}


async def test_a_success_is_told_of_in_production_only_with_a_header_and_four_fields(
    slack: FakeSlack, environ: dict[str, str], tmp_path: Path
) -> None:
    route = """
routes:
  successes:
    topics: [migration.completed]
    when: data.environment == "production"
    to: slack
"""
    async with configured(tmp_path, ACCOUNT + route, **environ) as runtime:
        await happen(runtime, completed("staging"), completed("production"), completed("development"))
    (message,) = slack.messages
    assert (message.channel, title(message)) == ("C0DEPLOYS", "Migration completed")
    assert fields(message) == [
        "*Migration*\nadd_user_email",
        "*Duration*\n1.8 s",
        "*Environment*\nproduction",
        "*Status*\n:white_check_mark: Success",
    ]


async def test_a_failure_is_told_through_an_incoming_webhook_with_its_error_cut_at_500(
    slack: FakeSlack, environ: dict[str, str], tmp_path: Path
) -> None:
    account = """
integrations:
  slack:
    webhook_url: ${SLACK_WEBHOOK_URL}
"""
    error = "``` out of the block " + "\N{SNOWMAN}" * 600
    event = catalog.event("migration.failed", {"migration": "add_user_email", "error": error})
    async with configured(tmp_path, account, **environ) as runtime:
        await happen(runtime, event)
        assert await given_up(runtime) == []
    (message,) = slack.messages
    assert (kinds(message)[:3], title(message)) == (["header", "section", "context"], ":x: Migration failed")
    code = message.blocks[1]["text"]["text"]
    assert (code[:4], code[-4:], code.count("```")) == ("```\n", "\n```", 2)
    assert code.count("\N{SNOWMAN}") == 500 - len("``` out of the block ")
    assert message.blocks[2]["elements"][0]["text"] == "Migration: add_user_email"


async def test_a_route_lays_a_message_out_in_its_own_words_and_units(
    slack: FakeSlack, environ: dict[str, str], tmp_path: Path
) -> None:
    route = """
routes:
  pipeline:
    topics: [operation.ended]
    when: data.name == "migration-pipeline"
    to: slack
    target: "#migrations"
    severity:
      by: data.status
      map: {completed: info}
      default: error
    title: "Migration {{ data.status }}"
    text: "Migration {{ data.status }} in {{ data.duration }}ms"
    fields:
      Duration: "{{ data.duration }}ms"
      Memory Used: "{{ (data.memory.delta / 1024 / 1024) | round(2) }}MB"
"""
    memory = {"delta": 13_002_342}
    operations = [
        {"name": "migration-pipeline", "status": "completed", "duration": 1834, "memory": memory},
        {"name": "migration-pipeline", "status": "failed", "duration": 90, "memory": memory},
        {"name": "parse", "status": "completed", "duration": 3, "memory": memory},
    ]
    async with configured(tmp_path, ACCOUNT + route, **environ) as runtime:
        await happen(runtime, *(catalog.event("operation.ended", data) for data in operations))
        assert await given_up(runtime) == []
    good, bad = slack.messages
    assert (good.channel, title(good)) == ("C0MIGRATE", "Migration completed")
    assert good.blocks[1]["text"]["text"] == "Migration completed in 1834ms"
    assert fields(good) == ["*Duration*\n1834ms", "*Memory Used*\n12.4MB"]
    assert title(bad) == ":x: Migration failed"  # a sign and no colour bar


async def test_what_is_risky_waits_for_a_person_and_what_is_not_goes_on_by_itself(
    slack: FakeSlack, environ: dict[str, str], tmp_path: Path
) -> None:
    """A condition, an approval, and what was asked for is carried out by whoever holds the webhook."""
    more = """
  migrator:
    adapter: webhook
    endpoints:
      - name: migrator
        url: ${MIGRATOR_URL}/hook
        secret: ${MIGRATOR_SECRET}
        topics: [schema.assessed, approval.granted, approval.rejected]
        allow_private: [127.0.0.1]
routes:
  apply:
    topics: [schema.assessed]
    when: data.risk == "low" and data.confidence > 90
    to: migrator
    stop: true
  review:
    topics: [schema.assessed]
    to: slack
    artifact: approval
    content:
      title: "Apply {{ data.migration }}?"
      text: "Risk {{ data.risk }}, confidence {{ data.confidence }}"
      subject: "{{ data.migration }}"
      approvers: [U0ADA]
      expires_in: PT4H
"""

    def assessed(migration: str, risk: str, confidence: int) -> Event[Any]:
        data = {"migration": migration, "risk": risk, "confidence": confidence}
        return catalog.event("schema.assessed", data, key=migration)

    async with FakeReceiver() as migrator:
        environ |= {"MIGRATOR_URL": migrator.url, "MIGRATOR_SECRET": migrator.secret.get_secret_value()}
        async with configured(tmp_path, ACCOUNT + more, **environ) as runtime, gateway(runtime) as http:
            await happen(runtime, assessed("safe", "low", 95))
            assert [one.content["data"]["migration"] for one in migrator.received] == ["safe"]
            assert slack.messages == []
            await happen(runtime, assessed("unsure", "low", 90), assessed("risky", "high", 99))
            unsure, risky = sorted(slack.messages, key=lambda message: "risky" in title(message))
            buttons = [
                (button["text"]["text"], button["action_id"], button["style"])
                for block in risky.blocks
                if block["type"] == "actions"
                for button in block["elements"]
            ]
            assert buttons == [("Approve", "approve", "primary"), ("Reject", "reject", "danger")]
            assert "Risk high, confidence 99" in str(risky.blocks)

            await call(http, slack.press(risky, "approve", user="U0BOB"))  # not among the approvers
            await call(http, slack.press(risky, "approve", user="U0ADA"))
            await call(http, slack.press(unsure, "reject", user="U0ADA"))
            await runtime.bus.run_until_idle()
    told = {one.content["type"]: one.content["data"] for one in migrator.received[1:]}
    assert {topic: data["subject"] for topic, data in told.items()} == {
        "approval.granted": "risky",
        "approval.rejected": "unsure",
    }
    assert [vote["user_id"] for vote in told["approval.granted"]["votes"]] == ["U0ADA"]


async def test_the_commands_answer_under_the_prefix_of_the_settings(
    slack: FakeSlack, environ: dict[str, str], tmp_path: Path
) -> None:
    more = """
    command_prefix: aetherium
    topics: ["vm.*", "slack.command.*"]
"""
    async with configured(tmp_path, ACCOUNT + more, **environ) as runtime, gateway(runtime) as http:
        machines = [
            catalog.event("vm.created", {"vm_id": f"id-{name}", "vm_name": name}) for name in ("my-vm", "test-vm")
        ]
        await happen(runtime, *machines, catalog.event("vm.started", {"vm_id": "id-my-vm", "vm_name": "my-vm"}))

        for command in ("/aetherium-status", "/aetherium-vm-list"):
            await call(http, slack.slash_command(command))
            await runtime.bus.run_until_idle()
        status, listed = (str(answer.blocks) for answer in slack.responses)
        assert "slack: healthy" in status
        assert "event_bus: healthy" in status
        assert "my-vm (id-my-vm) - running since" in listed
        assert "test-vm (id-test-vm) - created since" in listed
        assert "Total: 2 VMs" in listed

        tasks: list[Event[Any]] = []
        await runtime.bus.subscribe("task.created", tasks.append, group="tasks")
        answer = await call(http, slack.slash_command("/aetherium-task", "create vm name=quick-test vcpus=2"))
        await runtime.bus.run_until_idle()
        (task,) = tasks
        assert answer["text"].splitlines() == [
            "Creating task: create vm name=quick-test vcpus=2",
            f"Task ID: {task.data.task_id}",
        ]
        assert task.data.parameters == {"name": "quick-test", "vcpus": 2}


async def test_buttons_of_a_route_come_back_as_events_with_their_value(
    slack: FakeSlack, environ: dict[str, str], tmp_path: Path
) -> None:
    route = """
routes:
  next:
    topics: [task.completed]
    to: slack
    target: "#general"
    text: "Task completed. What next?"
    actions:
      - {text: Deploy, action_id: deploy, value: "{{ data.task_id }}", style: primary}
      - {text: Drop it, action_id: drop, value: "{{ data.task_id }}"}
"""
    async with configured(tmp_path, ACCOUNT + route, **environ) as runtime, gateway(runtime) as http:
        pressed: list[Event[Any]] = []
        await runtime.bus.subscribe("slack.action.*", pressed.append, group="pressed")
        await happen(runtime, catalog.event("task.completed", {"task_id": "task-42"}))
        (message,) = slack.messages
        await call(http, slack.press(message, "deploy", user="U0BOB"))
        await runtime.bus.run_until_idle()
    (event,) = pressed
    assert (event.topic, event.data.value, event.data.user_id) == ("slack.action.deploy", "task-42", "U0BOB")
