from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.topics import (
    DeliveryDeadLettered,
    IntegrationDegraded,
    MigrationCompleted,
    MigrationFailed,
    SlackCommand,
    TaskCompleted,
    TaskFailed,
    VmCreated,
    WebhookReceived,
)
from integrations.base import Action, Health, Notification, Severity
from integrations.doubts import Doubt, Resolved
from integrations.slack import render
from integrations.slack.adapter import Slack
from integrations.slack.blocks import Message
from integrations.slack.fake import refusal

WHEN = datetime(2026, 1, 12, 10, 30, tzinfo=UTC)


def made(payload: Payload | str, data: dict[str, Any] | None = None) -> Event[Any]:
    return catalog.event(payload, data, id="e-1", time=WHEN)


def said(event: Event[Any]) -> Message:
    message = render.event_message(event)
    assert message is not None
    return message


def facts(message: Message) -> list[str]:
    return [field["text"] for block in message.blocks for field in block.get("fields", [])]


def small(message: Message) -> list[str]:
    return [element["text"] for block in message.blocks for element in block.get("elements", [])]


def test_a_success_has_a_header_four_fields_and_a_line_that_names_the_event() -> None:
    message = said(made(MigrationCompleted(migration="add_user_email", environment="production", duration_ms=2310)))
    assert [block["type"] for block in message.blocks] == ["header", "section", "context"]
    assert message.blocks[0]["text"]["text"] == "Migration completed"
    assert facts(message) == [
        "*Migration*\nadd_user_email",
        "*Duration*\n2.3 s",
        "*Environment*\nproduction",
        "*Status*\n:white_check_mark: Success",
    ]
    assert message.blocks[2]["elements"][0]["text"] == "migration.completed at 2026-01-12 10:30:00 UTC, event e-1"
    assert message.text == "Migration completed: add_user_email"


def test_a_failure_has_a_header_its_error_in_a_code_block_and_a_line_of_facts() -> None:
    message = said(made(MigrationFailed(migration="m", error="lock <timeout>", error_type="TimeoutError")))
    assert [block["type"] for block in message.blocks] == ["header", "section", "context", "context"]
    assert message.blocks[0]["text"]["text"] == ":x: Migration failed"
    assert message.blocks[1]["text"]["text"] == "```\nlock &lt;timeout&gt;\n```"
    assert small(message)[0] == "Migration: m | Error type: TimeoutError"
    assert message.text == "Migration failed: m: lock &lt;timeout&gt;"


def test_the_facts_of_a_failure_that_do_not_fit_are_counted() -> None:
    event = made("custom.failed", {"error": "x", **{f"f{n}": "v" * 290 for n in range(14)}})
    line = small(said(event))[0]
    assert len(line) <= 1500
    assert line.endswith(f"and {14 - line.count('vvv | ')} more")


def test_a_pull_request_is_a_link() -> None:
    assert "Pull request: <https://github.com/acme/api/pull/7>" in small(said(made(TaskFailed.example())))[0]
    done = facts(said(made(TaskCompleted.example())))
    assert "*Pull request*\n<https://github.com/acme/api/pull/7>" in done


def test_a_machine_is_told_with_its_name_and_size() -> None:
    message = said(made(VmCreated.example()))
    assert message.blocks[0]["text"]["text"] == "VM created"
    assert facts(message) == ["*VM id*\nvm-1", "*VM*\nmy-vm", "*vCPUs*\n2", "*Memory (MiB)*\n2048"]
    assert message.text == "VM created: my-vm"


def test_troubles_of_the_bus_itself_are_told() -> None:
    degraded = said(made(IntegrationDegraded(integration="github", detail="503")))
    assert degraded.blocks[0]["text"]["text"] == ":warning: Integration degraded"
    assert degraded.blocks[1]["text"]["text"] == "```\n503\n```"
    dead = said(made(DeliveryDeadLettered.example()))
    assert dead.text == "Delivery dead lettered: vm.created: channel_not_found"
    assert "Reason: rejected" in small(dead)[0]


def test_an_untyped_topic_is_told_with_its_own_fields() -> None:
    message = said(made("custom.disk_full", {"host": "db-1", "percent": 97, "empty": None, "tags": ["a"]}))
    assert message.blocks[0]["text"]["text"] == "Custom disk full"
    assert facts(message) == ["*Host*\ndb-1", "*Percent*\n97", '*Tags*\n["a"]']


def test_what_happened_in_slack_and_webhooks_as_such_are_not_told() -> None:
    assert render.event_message(made(WebhookReceived.example())) is None
    assert render.event_message(made("slack.command.status", SlackCommand.example().model_dump())) is None


def test_every_standard_topic_that_slack_handles_makes_a_message_that_slack_takes() -> None:
    examples = [cls.example() for cls in catalog if not cls.__topic__.endswith(("*", ">"))]
    told = [e for e in examples if e is not None and render.event_message(made(e))]
    assert len(told) >= 14
    for payload in told:
        message = said(made(payload))
        assert refusal({"text": message.text, "blocks": list(message.blocks)}) is None
    assert "vm.*" in Slack.manifest.handles


def test_a_notification_shows_title_text_fields_link_and_buttons() -> None:
    message = render.notification_message(
        Notification(
            message="Approve *this*?",
            title="Deploy",
            severity=Severity.CRITICAL,
            fields={"Version": "1.2"},
            url="https://ci.example/7",
            actions=(
                Action(text="Approve", action_id="approve", value="task-1", style="primary"),
                Action(text="Reject", action_id="reject", style="danger"),
            ),
        )
    )
    header, body, fields, link, buttons = message.blocks
    assert header["text"]["text"] == ":rotating_light: Deploy"
    assert body["text"] == {"type": "plain_text", "text": "Approve *this*?", "emoji": False}
    assert fields["fields"][0]["text"] == "*Version*\n1.2"
    assert link["fields"][0]["text"] == "*Read more*\n<https://ci.example/7>"
    assert [(b["action_id"], b.get("value"), b["style"]) for b in buttons["elements"]] == [
        ("approve", "task-1", "primary"),
        ("reject", None, "danger"),
    ]


@pytest.mark.parametrize(
    ("severity", "header"),
    [(Severity.INFO, None), (Severity.WARNING, ":warning: Warning"), (Severity.ERROR, ":x: Error")],
)
def test_a_notification_without_a_title_still_shows_that_it_is_serious(severity: Severity, header: str | None) -> None:
    first = render.notification_message(Notification(message="disk full", severity=severity)).blocks[0]
    assert (first["text"]["text"] if first["type"] == "header" else None) == header


def test_the_status_names_every_component_with_its_sign_the_worst_first() -> None:
    message = render.status_message(
        {"redis": Health("healthy"), "github": Health("degraded", "slow"), "slack": Health("unhealthy", "gone")}
    )
    assert message.text == "2 of 3 components not healthy"
    assert message.blocks[1]["text"]["text"].splitlines() == [
        ":red_circle: slack: unhealthy, gone",
        ":large_yellow_circle: github: degraded, slow",
        ":large_green_circle: redis: healthy",
    ]
    assert render.status_message({"redis": Health("healthy")}).text == "All 1 components are healthy"


def test_the_list_of_machines_has_states_and_a_total() -> None:
    message = render.vm_list_message(
        {
            "vm-2": {"name": None, "state": "failed", "since": "2026-01-12T10:30:00+00:00"},
            "vm-1": {"name": "a-vm", "state": "running", "since": "2026-01-12T10:31:00+00:00"},
        }
    )
    assert message.text == "Total: 2 VMs"
    assert message.blocks[1]["text"]["text"].splitlines() == [
        "\u2022 a-vm (vm-1) - running since 2026-01-12T10:31:00+00:00",
        "\u2022 vm-2 (vm-2) - failed since 2026-01-12T10:30:00+00:00",
    ]
    assert "No machine is known" in render.vm_list_message({}).text


# -- calls in doubt ----------------------------------------------------------------------------------------------------


def doubt(**fields: str) -> Doubt:
    given = {"id": "hook/17-0", "group": "hook", "topic": "vm.created", "event_id": "e-1", "error": "cut off"} | fields
    return Doubt(**given, since=WHEN)


def test_each_call_in_doubt_has_what_is_known_of_it_and_two_buttons() -> None:
    message = render.doubts_message([doubt(error="<!channel> *cut*")], 1)
    header, about, buttons = message.blocks
    assert (message.text, header["text"]["text"]) == ("1 call is in doubt", "1 call is in doubt")
    assert about["text"]["text"].splitlines() == [
        "hook: vm.created",
        "&lt;!channel&gt; *cut*",
        "event e-1, since 2026-01-12 10:30:00 UTC",
    ]
    assert buttons["block_id"] == "unknown:hook/17-0"
    shown = [(one["text"]["text"], one["action_id"], one["value"]) for one in buttons["elements"]]
    assert shown == [("It was done", "done", "e-1"), ("Send again", "resend", "e-1")]


@pytest.mark.parametrize(
    ("by", "line"),
    [
        (Resolved("done", "U0ADA", WHEN), "hook: it was done, said by &lt;@U0ADA&gt; at 2026-01-12 10:30:00 UTC"),
        (Resolved("resend", "<!here>", WHEN), "hook: sent again, as asked by &lt;!here&gt; at 2026-01-12 10:30:00 UTC"),
        (None, "hook: it is not known any more; nothing was changed"),
    ],
)
def test_the_decision_is_shown_with_who_made_it(by: Resolved | None, line: str) -> None:
    message = render.doubts_message([], 0, "hook", by)
    assert message.text == "No call is in doubt"
    assert small(message) == [line.replace("&lt;@U0ADA&gt;", "<@U0ADA>")]


def test_the_largest_list_of_doubts_is_taken_and_says_how_many_are_missing() -> None:
    huge = [
        doubt(error="&" * 5000, topic="&" * 500, event_id="\U0001f600" * 300, group="g" * 200, id=f"g/{n}")
        for n in range(render.MOST_DOUBTS)
    ]
    message = render.doubts_message(huge, 40, "g" * 300, Resolved("done", "U" * 31, WHEN))
    assert refusal({"text": message.text, "blocks": list(message.blocks)}) is None
    assert small(message)[-1] == "and 28 more, older ones"
