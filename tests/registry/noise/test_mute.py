"""What silences and inhibitions keep quiet: Alertmanager's rules, sentence by sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from eventbus import Event, catalog
from eventbus.topics import SilenceExpiring
from registry.noise.mute import MAX_SOURCES, Mutes, Silence, Sources, observed
from registry.routes.model import Inhibition, Route, Routing
from registry.routes.scope import names_of, names_on

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROUTE = Route.model_validate({"topics": [">"], "to": "slack", "text": "x", "severity": "error"})


def about(event: Event[Any]) -> dict[str, Any]:
    """What a condition sees of an event on the route `failures`."""
    return names_on("failures", ROUTE, event, Routing())


def failed(**data: Any) -> Event[Any]:
    return catalog.event("deploy.failed", data)


def silence(when: str, **more: Any) -> Silence:
    return Silence.model_validate({"id": "s1", "when": when, "starts": NOON, "ends": NOON + HOUR, **more})


# -- silences ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "when",
    [
        'data.environment == "staging"',
        'topic is startswith "deploy."',
        'severity == "error" and to == "slack"',
        'route == "failures"',
        "event.key is none",
    ],
)
def test_a_silence_asks_about_the_event_and_the_route(when: str) -> None:
    assert Mutes([silence(when)]).why(about(failed(environment="staging")), NOON)
    assert not Mutes([silence(f"not ({when})")]).why(about(failed(environment="staging")), NOON)


def test_a_silence_says_who_and_why_and_until_when() -> None:
    why = Mutes([silence("true", by="ada", comment="migrating")]).why(about(failed()), NOON)
    assert why == "muted by silence s1 (ada: migrating) until 2026-11-20T13:00:00Z"


@pytest.mark.parametrize(
    ("after", "stand"), [(-1, "pending"), (0, "active"), (3599, "active"), (3600, "expired"), (9999, "expired")]
)
def test_a_silence_holds_from_its_start_until_before_its_end(after: int, stand: str) -> None:
    now = NOON + timedelta(seconds=after)
    assert silence("true").stand(now) == stand
    assert bool(Mutes([silence("true")]).why(about(failed()), now)) is (stand == "active")


def test_a_silence_about_a_field_that_is_missing_does_not_hold() -> None:
    assert not Mutes([silence('data.environment == "staging"')]).why(about(failed()), NOON)


def test_no_silence_mutes_what_is_told_of_silences() -> None:
    assert not Mutes([silence("true")]).why(about(catalog.event(SilenceExpiring.example())), NOON)


def test_a_wrong_condition_is_refused_with_the_place_of_the_fault() -> None:
    with pytest.raises(ValidationError, match="there is no 'labels'"):
        silence("labels.team == 'a'")


# -- inhibitions ------------------------------------------------------------------------------------------------------

HOST_DOWN = {
    "topics": ["host.*"],
    "resolves": 'topic == "host.up"',
    "mutes": {"topics": ["deploy.failed", "host.slow"]},
    "equal": ["data.host"],
}


def inhibition(**more: Any) -> Inhibition:
    return Inhibition.model_validate(HOST_DOWN | more)


def after(rule: Inhibition, *events: Event[Any], now: datetime = NOON) -> Sources:
    """What is known after these events, in their order."""
    sources: Sources = {}
    for number, event in enumerate(events, 1):
        sources = observed(rule, sources, names_of(event, Routing()), event.id, number, now)
    return sources


def muted(rule: Inhibition, sources: Sources, event: Event[Any], now: datetime = NOON) -> str:
    return Mutes((), {"host-down": rule}, {"host-down": sources}).why(about(event), now)


def host(what: str = "down", name: str | None = "web-1", **envelope: Any) -> Event[Any]:
    return catalog.event(f"host.{what}", {} if name is None else {"host": name}, **envelope)


def test_while_the_source_fires_what_is_equal_is_muted_and_nothing_else() -> None:
    rule, down = inhibition(), host()
    sources = after(rule, down)
    said = f"muted by inhibition host-down while host.down ({down.id}) fires, until 2026-11-20T13:00:00Z at the latest"
    assert muted(rule, sources, failed(host="web-1")) == said
    assert not muted(rule, sources, failed(host="web-2"))
    assert not muted(rule, sources, catalog.event("deploy.started", {"host": "web-1"}))


def test_a_missing_value_equals_an_empty_one() -> None:
    rule = inhibition()
    sources = after(rule, host(name=None))
    assert muted(rule, sources, failed())
    assert muted(rule, sources, failed(host=""))
    assert not muted(rule, sources, failed(host="web-1"))


def test_without_equal_every_target_is_muted() -> None:
    rule = inhibition(equal=[])
    assert muted(rule, after(rule, host()), failed(host="web-9"))


def test_when_the_source_is_resolved_nothing_is_muted() -> None:
    rule = inhibition()
    assert not muted(rule, after(rule, host(), host("up")), failed(host="web-1"))
    assert muted(rule, after(rule, host(), host("up", "web-2")), failed(host="web-1"))


def test_a_source_is_resolved_by_its_ordering_key_where_it_has_one() -> None:
    rule = inhibition()
    sources = after(rule, host(key="rack:7"), host("up", "other-name", key="rack:7"))
    assert not muted(rule, sources, failed(host="web-1"))


def test_a_source_ends_by_itself_when_it_has_lasted() -> None:
    rule = inhibition(lasts=60)
    sources = after(rule, host())
    assert muted(rule, sources, failed(host="web-1"), NOON + timedelta(seconds=59))
    assert not muted(rule, sources, failed(host="web-1"), NOON + timedelta(seconds=60))


def test_what_matches_both_sides_is_muted_neither_by_another_such_nor_by_itself() -> None:
    rule = inhibition()
    slow = host("slow")
    sources = after(rule, slow)
    assert not muted(rule, sources, slow), "itself"
    assert not muted(rule, sources, host("slow")), "another such"
    assert muted(rule, sources, failed(host="web-1")), "it does mute what is only a target"
    assert muted(rule, after(rule, host("down")), slow), "and is muted by what is only a source"


def test_both_sides_have_conditions() -> None:
    rule = inhibition(when="data.severe", mutes={"topics": ["deploy.failed"], "when": 'severity != "critical"'})
    assert after(rule, host()) == {}
    sources = after(rule, catalog.event("host.down", {"host": "web-1", "severe": True}))
    assert muted(rule, sources, failed(host="web-1"))
    loud = inhibition(when="data.severe", mutes={"topics": ["deploy.failed"], "when": 'severity == "critical"'})
    assert not muted(loud, sources, failed(host="web-1"))


def test_a_repeat_and_a_late_event_change_nothing() -> None:
    rule = inhibition()
    sources = after(rule, host(), host("up"))
    late = observed(rule, sources, names_of(host(), Routing()), "late", 1, NOON)
    assert late is sources


def test_sources_that_ended_are_forgotten_and_the_oldest_go_first_beyond_the_bound() -> None:
    rule = inhibition()
    early = after(rule, host(name="old"), now=NOON - 2 * HOUR)
    assert list(observed(rule, early, names_of(host(), Routing()), "x", 9, NOON)) == ["web-1"]
    many = after(rule, *(host(name=f"h{number}") for number in range(MAX_SOURCES + 1)))
    assert (len(many), "h0" in many, "h1" in many) == (MAX_SOURCES, False, True)
