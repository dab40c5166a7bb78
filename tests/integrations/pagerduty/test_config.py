"""Which settings PagerDuty takes, under which names, and what the built-in tables say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from integrations.base import Severity
from integrations.pagerduty.config import PagerDutyConfig, fingerprint

KEY = "e93facc04764012d7bfb002500d5d1a6"
OTHER = "737ea619db564d41bd9824063e1f6b08"


def config(**changes: Any) -> PagerDutyConfig:
    return PagerDutyConfig.model_validate({"routing_key": KEY} | changes)


def fault(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(**changes)
    return str(caught.value)


@pytest.mark.parametrize("name", ["routing_key", "integration_key"])
def test_the_integration_key_has_two_names(name: str) -> None:
    assert PagerDutyConfig.model_validate({name: KEY}).routing_key.get_secret_value() == KEY


@pytest.mark.parametrize("name", ["api_token", "token"])
def test_the_rest_token_has_two_names(name: str) -> None:
    assert config(**{name: "y_token"}).api_token == SecretStr("y_token")


@pytest.mark.parametrize("given", [(KEY, ""), ("", KEY), (None, KEY), (KEY, None), (KEY, KEY)])
def test_of_two_variables_for_one_setting_the_one_that_is_set_counts(given: tuple[str | None, str | None]) -> None:
    found = PagerDutyConfig.model_validate({"routing_key": given[0], "integration_key": given[1]})
    assert found.routing_key.get_secret_value() == KEY


def test_two_names_with_two_values_are_refused_without_showing_either() -> None:
    text = fault(integration_key=OTHER)
    assert "two names of one setting" in text
    assert KEY not in text
    assert OTHER not in text


@pytest.mark.parametrize("key", ["canary", "c" * 33, KEY[:-1] + " ", KEY[:-1] + "\n", ""])
def test_what_is_no_integration_key_is_refused_without_showing_it(key: str) -> None:
    text = fault(routing_key=key)
    assert "32 letters and digits" in text
    assert "canary" not in text


def test_no_secret_is_in_a_repr() -> None:
    shown = repr(
        config(api_token="y_canary", from_email="a@b.c", webhook_secret="canary", previous_routing_keys=[OTHER])
    )
    assert not any(secret in shown for secret in (KEY, OTHER, "canary"))


@pytest.mark.parametrize(
    ("changes", "events", "api"),
    [
        ({}, "https://events.pagerduty.com", "https://api.pagerduty.com"),
        ({"region": "eu"}, "https://events.eu.pagerduty.com", "https://api.eu.pagerduty.com"),
        ({"base_url": "http://127.0.0.1:4310/"}, "http://127.0.0.1:4310", "http://127.0.0.1:4310"),
    ],
)
def test_the_region_or_the_base_url_says_where_pagerduty_is(changes: dict[str, str], events: str, api: str) -> None:
    assert (config(**changes).events_url, config(**changes).api_url) == (events, api)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("migration-error", "one success would resolve the alerts of all of them"),
        ("{domain}", "one success would resolve"),
        ("{environment}-{error_type}", "one success would resolve"),
        ("confiture-{migration}-{time}", "no success would ever resolve it"),
        ("confiture-{migration}-{timestamp}", "no success would ever resolve it"),
        ("{event_id}", "no success would ever resolve it"),
        ("confiture-{migration", "holds a { or } that is no field"),
        ("confiture-{Migration}", "holds a { or } that is no field"),
        ("", "one success would resolve"),
    ],
)
def test_a_dedup_key_that_is_constant_or_holds_a_time_is_refused(template: str, why: str) -> None:
    assert why in fault(dedup_key=template)


@pytest.mark.parametrize(
    "template", ["with_environment", "without_environment", "confiture-{migration}", "{thing}/{domain}"]
)
def test_a_dedup_key_that_names_the_thing_is_taken(template: str) -> None:
    assert config(dedup_key=template).dedup_key == template


@pytest.mark.parametrize(
    ("topic", "action"),
    [
        ("task.failed", "trigger"),
        ("migration.failed", "trigger"),
        ("vm.failed", "trigger"),
        ("integration.degraded", "trigger"),
        ("delivery.dead_lettered", "trigger"),
        ("backup.failed", "trigger"),
        ("task.completed", "resolve"),
        ("integration.recovered", "resolve"),
        ("vm.started", "resolve"),
        ("migration.completed", "resolve_or_change"),
        ("deploy.completed", "resolve_or_change"),
        ("migration.rolled_back", "change"),
        ("task.started", "none"),
        ("task.created", "none"),
        ("pagerduty.incident.resolved", "none"),
    ],
)
def test_the_built_in_table_of_actions(topic: str, action: str) -> None:
    assert config().action_for(topic) == action


def test_an_action_of_the_settings_comes_before_the_built_in_ones_and_the_first_match_wins() -> None:
    found = config(actions={"task.*": "none", ">": "change"})
    assert [found.action_for(topic) for topic in ("task.failed", "vm.failed")] == ["none", "change"]


@pytest.mark.parametrize(
    ("topic", "environment", "severity"),
    [
        ("migration.failed", "production", Severity.CRITICAL),
        ("migration.failed", "staging", Severity.ERROR),
        ("migration.failed", "development", Severity.WARNING),
        ("delivery.dead_lettered", "production", Severity.WARNING),
        ("integration.degraded", "production", Severity.ERROR),
    ],
)
def test_the_severity_comes_from_the_topic_or_the_environment(topic: str, environment: str, severity: Severity) -> None:
    assert config().severity_for(topic, environment) is severity


def test_severities_of_the_settings_come_first() -> None:
    found = config(severities={"vm.*": "warning"}, environment_severities={"QA": "info"})
    assert found.severity_for("vm.failed", "production") is Severity.WARNING
    assert found.severity_for("task.failed", "qa") is Severity.INFO
    assert found.severity_for("task.failed", "production") is Severity.WARNING, "the table was replaced"


RUNBOOKS = {
    "production": {
        "DatabaseError": "https://wiki.example.com/connection",
        "TimeoutError": "https://wiki.example.com/slow",
        "default": "https://wiki.example.com/failures",
    },
    "staging": "https://wiki.example.com/staging",
    "default": {"TimeoutError": "https://wiki.example.com/any-timeout"},
}


@pytest.mark.parametrize(
    ("environment", "error_type", "page"),
    [
        ("production", "DatabaseError", "connection"),
        ("production", "TimeoutError", "slow"),
        ("production", "ConstraintError", "failures"),
        ("production", "", "failures"),
        ("staging", "TimeoutError", "staging"),
        ("development", "TimeoutError", "any-timeout"),
        ("development", "DatabaseError", None),
    ],
)
def test_the_runbook_is_found_by_environment_and_error_type(
    environment: str, error_type: str, page: str | None
) -> None:
    found = config(runbooks=RUNBOOKS).runbook(environment, error_type)
    assert found == (page and f"https://wiki.example.com/{page}")


@pytest.mark.parametrize(
    "changes",
    [
        {"runbooks": {"production": "javascript:alert(1)"}},
        {"links": [{"href": "wiki"}]},
        {"client_url": "https://user:password@example.com"},
        {"images": [{"src": "http://example.com/graph.png"}]},
        {"base_url": "https://proxy.example.com/?key=canary"},
        {"region": "ap"},
        {"actions": {"task.failed": "page"}},
        {"actions": {"Task.*": "trigger"}},
        {"environments": []},
    ],
)
def test_what_pagerduty_would_not_take_is_refused(changes: dict[str, Any]) -> None:
    assert next(iter(changes)) in fault(**changes)


def test_a_service_for_incidents_needs_a_token_and_a_maker() -> None:
    assert "also need api_token and from_email" in fault(service="Database Migrations", api_token="y_1")


def test_an_integration_key_is_found_again_by_its_fingerprint() -> None:
    found = config(previous_routing_keys=[OTHER])
    assert found.key_known_as(fingerprint(SecretStr(OTHER))) == SecretStr(OTHER)
    assert found.key_known_as("unknown") is None
