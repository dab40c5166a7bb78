"""What a line says, and that no content can say more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.topics import TaskCreated
from integrations.base import Artifact, Notification, Severity
from integrations.log.render import describe_artifact, describe_event, describe_notification, one_line

EVENT = catalog.event(TaskCreated.example(), id="event-1", source="/cli")


def test_an_event_is_told_without_its_data_unless_asked() -> None:
    line = {"topic": "task.created", "event_id": "event-1", "source": "/cli", "ordering_key": "task_id:task-42"}
    assert describe_event(EVENT, data=False) == line
    data = describe_event(EVENT, data=True)["data"]
    assert data["task_id"] == "task-42"
    assert data["parameters"] == '{"name":"quick-test","vcpus":2}'
    assert data["environment"] is None


def test_a_notification_is_told() -> None:
    told = Notification(message="lock timeout", target="#ops", severity=Severity.ERROR, fields={"table": "users"})
    line = {"kind": "message", "target": "#ops", "severity": "error"}
    assert describe_notification(told, data=False) == line
    shown = {"message": "lock timeout", "fields": '{"table":"users"}'}
    assert describe_notification(told, data=True) == line | {"data": shown}


def test_an_artifact_is_told() -> None:
    made = Artifact(type="issue", content={"title": "It broke"})
    assert describe_artifact(made, data=False) == {"kind": "issue"}
    assert describe_artifact(made, data=True) == {"kind": "issue", "data": {"title": "It broke"}}


def test_a_long_value_is_cut_and_says_how_long_it_was() -> None:
    assert one_line("x" * 200) == "x" * 200
    assert one_line("x" * 1234) == "x" * 200 + "... (1,234 characters)"


def test_a_control_character_becomes_an_escape() -> None:
    assert one_line("a\r\nlevel=error\x1b[31m\x00\x85\u2028\u202e") == (r"a\r\nlevel=error\x1b[31m\x00\x85\u2028\u202e")
    assert one_line("caf\u00e9 \u4e2d \U0001f600") == "caf\u00e9 \u4e2d \U0001f600"


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))  # an event holds no others
def test_no_name_and_no_value_leaves_its_line(name: str, value: str) -> None:
    event = catalog.event("custom.thing", {name: value, "deep": {name: [value]}})
    for shown_name, shown in describe_event(event, data=True)["data"].items():
        assert shown_name.isprintable()
        assert shown.isprintable()
        assert max(len(shown_name), len(shown)) < 200 * 10 + 30


def test_a_wide_payload_is_cut_too() -> None:
    event = catalog.event("custom.thing", {f"field_{number}": number for number in range(1000)})
    data = describe_event(event, data=True)["data"]
    assert len(data) == 31
    assert data["..."] == "970 more fields"
