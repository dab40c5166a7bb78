from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.topics import SlackCommand, TaskCreated
from integrations.slack import commands
from integrations.slack.commands import Reply


def answer(command: str, text: str = "", *, prefix: str = "eventbus", call_id: str = "t-1") -> Reply:
    call = SlackCommand(command=command, text=text, user_id="U0ADA", response_url="https://hooks.slack.com/x")
    return commands.answer(prefix, call, call_id)


@pytest.mark.parametrize("name", ["status", "vm-list"])
def test_a_question_is_published_for_the_worker_to_answer(name: str) -> None:
    reply = answer(f"/eventbus-{name}")
    assert reply.topic == f"slack.command.{name}"
    assert isinstance(reply.payload, SlackCommand)
    assert reply.text


def test_the_prefix_is_a_setting() -> None:
    assert answer("/aetherium-status", prefix="aetherium").topic == "slack.command.status"
    assert answer("/aetherium-status").payload is None


def test_a_task_is_published_with_typed_parameters_and_answered_with_its_id() -> None:
    reply = answer("/eventbus-task", "create vm name=quick-test vcpus=2")
    assert isinstance(reply.payload, TaskCreated)
    assert reply.topic == "task.created"
    assert reply.payload.kind == "create vm"
    assert reply.payload.name == "quick-test"
    assert reply.payload.parameters == {"name": "quick-test", "vcpus": 2}
    assert reply.payload.requested_by == "U0ADA"
    assert "create vm name=quick-test vcpus=2" in reply.text
    assert reply.payload.task_id in reply.text


def test_the_same_call_gives_the_same_task_and_another_call_another() -> None:
    first, again, other = (answer("/eventbus-task", "create vm name=a", call_id=c) for c in ("t-1", "t-1", "t-2"))
    assert first.payload == again.payload != other.payload


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("create vm name=a", {"name": "a"}),
        ("  create   vm  vcpus=8 name=a memory_mb=2048", {"vcpus": 8, "name": "a", "memory_mb": 2048}),
        ('create vm name="my vm"', {"name": "my vm"}),
        ("create vm name=\u201cmy vm\u201d", {"name": "my vm"}),
        ("create vm name=a=b", {"name": "a=b"}),
        ("create vm name=007", {"name": "007"}),
    ],
)
def test_parameters_are_parsed(text: str, parameters: dict[str, object]) -> None:
    assert commands.parse_task(text) == parameters


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "create vm"),
        ("destroy vm name=a", "destroy vm"),
        ("create vm", "needs a name"),
        ("create vm name", "write name=value"),
        ("create vm name=", "write name=value"),
        ("create vm name=a vcpu=2", "did you mean vcpus"),
        ("create vm name=a name=b", "twice"),
        ("create vm name=a vcpus=two", "whole number"),
        ("create vm name=a vcpus=0", "whole number"),
        ("create vm name=a vcpus=-1", "whole number"),
        ("create vm name=a vcpus=\u0662", "whole number"),
        ("create vm name=a vcpus=" + "9" * 5000, "whole number"),
        ('create vm name="a', "quote"),
    ],
)
def test_what_cannot_be_understood_publishes_nothing_and_says_how_it_is_done(text: str, complaint: str) -> None:
    reply = answer("/eventbus-task", text)
    assert reply.payload is None
    assert complaint in reply.text
    assert "Usage: `/eventbus-task create vm name=quick-test vcpus=2`" in reply.text


def test_an_unknown_command_gets_the_list_and_a_guess() -> None:
    reply = answer("/eventbus-stats")
    assert reply.payload is None
    assert "did you mean /eventbus-status?" in reply.text
    assert all(f"/eventbus-{name}" in reply.text for name in ("status", "vm-list", "task", "help"))


def test_help_lists_every_command_and_publishes_nothing() -> None:
    reply = answer("/eventbus-help")
    assert reply.payload is None
    assert len(reply.text.splitlines()) == len(commands.ARGUMENTS)


def test_calls_in_doubt_are_shown_to_operators_only() -> None:
    call = SlackCommand(command="/eventbus-unknown", user_id="U0ADA")
    assert commands.answer("eventbus", call, "t-1", ("U0ADA",)).topic == "slack.command.unknown"
    nobody = call.model_copy(update={"user_id": None})
    for caller, operators in ((call, ()), (call, ("U0BOB",)), (nobody, ("U0BOB",))):
        reply = commands.answer("eventbus", caller, "t-1", operators)
        assert (reply.payload, reply.topic) == (None, "")
        assert reply.text.startswith("You are not among those who may decide this. `operators`")


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_typed_the_answer_can_ping_nobody(command: str, text: str) -> None:
    for reply in (
        answer("/eventbus-task", f"create vm name={text}"),
        answer(f"/{command}"),
        answer("/eventbus-task", text),
    ):
        assert "<" not in reply.text
        assert 0 < len(reply.text) < 3000
