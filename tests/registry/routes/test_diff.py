"""Messages that would appear, vanish or change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from registry.routes.diff import Change, Plan, compare, messages
from tests.registry.routes.conftest import failed, routing

WINDOWS = {"nights": [{"times": [{"start_time": "22:00", "end_time": "24:00"}]}]}
ACCOUNTS = {"slack": ("task.*",), "log": (">",)}


def plan(accounts: Any = ACCOUNTS, **routes: Any) -> Plan:
    whole = {name: {"topics": ["migration.failed"], "to": "slack", **route} for name, route in routes.items()}
    return Plan(routing(whole, windows=WINDOWS), accounts)


def changes(old: Plan, new: Plan) -> list[Change]:
    return list(compare([failed()], old, new))


def kinds(old: Plan, new: Plan) -> list[tuple[str, str]]:
    return [(change.kind, (change.after or change.before).to) for change in changes(old, new)]  # type: ignore[union-attr]


def test_the_same_routes_change_nothing() -> None:
    assert changes(plan(a={"text": "{{ data.error }}"}), plan(a={"text": "{{ data.error }}"})) == []


def test_a_new_name_or_other_templates_of_the_same_text_are_no_change() -> None:
    assert changes(plan(a={"text": "{{ data.error }}"}), plan(b={"text": "lock {{ 'timeout' }}"})) == []


def test_a_message_appears_and_vanishes() -> None:
    assert kinds(plan(), plan(a={"text": "x"})) == [("appear", "slack")]
    assert kinds(plan(a={"text": "x"}), plan()) == [("vanish", "slack")]
    assert kinds(plan(a={"text": "x"}), plan(a={"text": "x", "when": "data.environment == 'staging'"})) == [
        ("vanish", "slack")
    ]


def test_another_text_is_a_change_with_both() -> None:
    (change,) = changes(plan(a={"text": "old"}), plan(b={"text": "new"}))
    assert change.kind == "change"
    assert change.before is not None
    assert change.after is not None
    assert ("old" in change.before.text, "new" in change.after.text) == (True, True)


def test_another_target_or_thread_of_one_route_is_a_change() -> None:
    assert kinds(plan(a={"text": "x"}), plan(a={"text": "x", "target": "#b"})) == [("change", "slack")]
    assert kinds(plan(a={"text": "x"}), plan(a={"text": "x", "dedup_key": "{{ data.error }}"})) == [("change", "slack")]
    assert (
        kinds(plan(a={"text": "x"}), plan(b={"text": "x", "target": "#b"}))
        == [("appear", "slack"), ("vanish", "slack")][::-1]
    )


def test_dry_run_and_disabled_integrations_send_nothing() -> None:
    assert kinds(plan(a={"text": "x"}), plan(a={"text": "x", "dry_run": True})) == [("vanish", "slack")]
    assert kinds(plan(a={"text": "x"}), plan({"log": (">",)}, a={"text": "x"})) == [("vanish", "slack")]


def test_a_route_to_an_integration_that_acted_by_itself_changes_its_message() -> None:
    assert kinds(plan(), plan(a={"to": "log", "text": "x"})) == [("vanish", "log"), ("appear", "log")]
    assert changes(plan(), plan(a={"to": "log"})) == [], "its own layout, by a route"


def test_events_count_at_their_own_time() -> None:
    muted = plan(a={"text": "x", "mute": ["nights"]})
    by_day, by_night = (
        failed().model_copy(update={"time": datetime(2026, 1, 12, hour, tzinfo=UTC)}) for hour in (12, 23)
    )
    assert [message.to for message in messages(by_day, muted)] == ["slack", "log"]
    assert [message.to for message in messages(by_night, muted)] == ["log"]


def test_the_same_message_sent_twice_is_counted_twice() -> None:
    assert kinds(plan(a={"text": "x"}), plan(a={"text": "x"}, b={"text": "x"})) == [("appear", "slack")]
