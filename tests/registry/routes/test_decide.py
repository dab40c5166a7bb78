"""Which routes an event takes, and the reason for each that it does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from eventbus import catalog
from registry.routes.decide import decide
from registry.routes.model import Routing
from tests.registry.routes.conftest import failed, routing

NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)
NIGHT = datetime(2026, 1, 12, 23, tzinfo=UTC)
NIGHTS = {"nights": [{"times": [{"start_time": "22:00", "end_time": "24:00"}]}]}


def reasons(of: Routing, event: Any = None, now: datetime = NOON) -> dict[str, str]:
    return {decision.name: decision.reason for decision in decide(event or failed(), of, now)}


def route(**more: Any) -> dict[str, Any]:
    return {"topics": ["migration.*"], "to": "slack", **more}


def test_each_route_is_taken_or_says_why_not() -> None:
    tried = routing(
        {
            "taken": route(when="data.environment == 'production'"),
            "other-topic": route(topics=["task.completed"]),
            "other-topics": route(topics=["task.completed", "vm.*"]),
            "staging": route(when="data.environment == 'staging'"),
            "absent": route(when="data.cluster == 'a'"),
            "off": route(enabled=False),
        }
    )
    assert reasons(tried) == {
        "taken": "",
        "other-topic": "topics: migration.failed is not task.completed",
        "other-topics": "topics: migration.failed is none of task.completed, vm.*",
        "staging": "when: data.environment == 'staging' was false: data.environment = 'production'",
        "absent": "when: data.cluster is missing",
        "off": "enabled: false",
    }


def test_a_route_that_matches_stops_those_below_it_and_one_that_does_not_does_not() -> None:
    tried = routing(
        {
            "staging": route(when="data.environment == 'staging'", stop=True),
            "production": route(when="data.environment == 'production'", stop=True),
            "rest": route(),
        }
    )
    assert reasons(tried)["production"] == ""
    assert reasons(tried)["rest"] == "stopped by route production above"
    assert reasons(tried, failed(environment="test"))["rest"] == ""


def test_a_mute_window_says_until_when() -> None:
    tried = routing({"r": route(mute=["nights"])}, windows=NIGHTS)
    assert reasons(tried, now=NOON) == {"r": ""}
    assert reasons(tried, now=NIGHT) == {"r": "muted by window nights until 2026-01-13T00:00Z"}


def test_outside_of_its_active_windows_a_route_is_mute() -> None:
    tried = routing({"r": route(active=["nights"])}, windows=NIGHTS)
    assert reasons(tried, now=NIGHT) == {"r": ""}
    assert reasons(tried, now=NOON) == {"r": "outside of its active windows nights until 2026-01-12T22:00Z"}


def test_a_muted_route_still_stops_as_in_alertmanager() -> None:
    tried = routing({"r": route(mute=["nights"], stop=True), "rest": route()}, windows=NIGHTS)
    assert reasons(tried, now=NIGHT)["rest"] == "stopped by route r above"
    assert [decision.is_mute for decision in decide(failed(), tried, NIGHT)] == [True, False]


def test_a_condition_may_ask_for_the_severity_and_the_runbook() -> None:
    tried = routing(
        {
            "r": route(
                text="x",
                severity={"by": "data.environment", "map": {"production": "critical"}},
                when="severity == 'critical' and runbook",
            )
        },
        runbooks={"production": {"default": "https://wiki.example.com"}},
    )
    assert reasons(tried) == {"r": ""}
    assert reasons(tried, failed(environment="test")) == {
        "r": "when: severity == 'critical' was false: severity = 'warning'"
    }


def test_routes_take_over_their_topics_at_their_integration_and_no_others() -> None:
    tried = routing({"a": route(), "off": route(topics=["task.*"], enabled=False)})
    assert tried.takes_over("slack", "migration.failed")
    assert not tried.takes_over("slack", "task.failed"), "a disabled route decides nothing"
    assert not tried.takes_over("github", "migration.failed")
    assert tried.topics_for("slack") == ("migration.*",)


def test_a_runbook_is_found_by_environment_then_by_type_then_by_default() -> None:
    books = routing(
        {},
        {
            "production": {"TimeoutError": "https://a.example/1", "default": "https://a.example/2"},
            "staging": {"TimeoutError": "https://a.example/3"},
            "default": {"TimeoutError": "https://a.example/4", "default": "https://a.example/5"},
        },
    )
    found = [
        books.runbook(*of)[-1]
        for of in [
            ("production", "TimeoutError"),
            ("production", "X"),
            ("staging", "X"),
            ("test", "TimeoutError"),
            (None, None),
        ]
    ]
    assert found == ["1", "2", "5", "4", "5"]
    assert routing({}).runbook("production", "X") == ""


def test_an_event_outside_the_catalogue_is_decided_the_same_way() -> None:
    tried = routing({"r": route(topics=["custom.>"], when="data.level > 3")})
    assert reasons(tried, catalog.event("custom.a.b", {"level": 5})) == {"r": ""}
    assert reasons(tried, catalog.event("custom.a.b", {})) == {"r": "when: data.level is missing"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"title": "x"}, "title belongs to a notification: add text"),
        ({"text": "x", "artifact": "issue", "content": {"a": "b"}}, "not both"),
        ({"artifact": "issue"}, "artifact needs content"),
        ({"content": {"a": "b"}}, "content belongs to an artifact"),
        ({"dedup_key": "always"}, "is the same for every event"),
        ({"dedup_key": "{{ topic }}-{{ severity }}"}, "is the same for every event"),
        ({"text": "x", "severity": "{{ severity }}"}, "can't be made of itself"),
        ({"text": "x", "severity": {"by": "data.a", "map": {"a": "loud"}}}, "is no severity"),
        ({"text": "{{ data.a"}, "unexpected end of template"),
        ({"artifact": "issue", "content": {"a": ["{{ data.a"]}}, "unexpected end of template"),
        ({"when": "data.a ="}, "chunk|unexpected|not understood"),
        ({"topics": []}, "at least 1 item"),
        ({"topics": ["Not A Topic"]}, "is not a topic pattern"),
        ({"text": "x", "actions": [{"text": "a", "action_id": "a b"}]}, "pattern"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_a_route_that_contradicts_itself_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        routing({"r": route(**given)})
