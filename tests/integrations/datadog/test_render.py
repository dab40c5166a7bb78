"""What leaves: datagrams as an Agent reads them, bodies as the API takes them, and nothing else that events say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import MigrationCompleted, MigrationFailed
from integrations.base import Delivery, Notification, Severity
from integrations.datadog import fake
from integrations.datadog.config import DatadogConfig
from integrations.datadog.fake_agent import check
from integrations.datadog.render import Plan, plan_for
from integrations.errors import Rejected

NOW = datetime(2026, 1, 12, 10, 30, tzinfo=UTC)
ZWSP = "\u200b"


def plan(what: Any, *, thread: str = "migration:add_email", **settings: Any) -> Plan:
    made = plan_for(what, Delivery("key-1", thread=thread), DatadogConfig.model_validate(settings), NOW)
    assert made is not None
    return made


def lines(what: Any, **settings: Any) -> list[str]:
    sent = plan(what, **settings).datagrams(DatadogConfig.model_validate(settings))
    found = [line for datagram in sent for line in datagram.split(b"\n")]
    assert [fault for line in found for fault in check(line)] == []
    return [line.decode() for line in found]


def completed(**changes: Any) -> Event[Any]:
    data = {"migration": "add_email", "environment": "production", "duration_ms": 2310} | changes
    return catalog.event(MigrationCompleted.model_validate(data), time=NOW)


def operation(topic: str, data: dict[str, Any]) -> Event[Any]:
    return catalog.event(topic, data, time=NOW)


# -- the user's documents ----------------------------------------------------------------------------------------------


def test_a_completed_migration_is_counted_and_its_duration_measured_as_documented() -> None:
    # The bytes that Datadog's own client (datadog 0.56.0) sends for statsd.increment and statsd.histogram.
    assert lines(completed()) == [
        "confiture.migrations.completed:1|c|#env:production,migration:add_email",
        "confiture.migrations.duration:2310|h|#env:production",
    ]


def test_an_operation_is_measured_as_documented() -> None:
    metrics = {"name": "parse", "duration": 12.5, "memory": {"delta": -4096}}
    assert lines(operation("operation.ended", {"operationId": "7", "metrics": metrics})) == [
        "pg_migration.operation.duration:12.5|h|#operation:parse",
        "pg_migration.operation.memory:-4096|g|#operation:parse",
    ]


def test_a_threshold_that_is_exceeded_is_an_event_as_documented() -> None:
    data = {"type": "memory", "level": "warning", "metrics": {"name": "parse"}}
    message = plan(operation("performance.threshold.exceeded", data)).message
    assert message is not None
    assert (message.title, message.alert) == ("Performance threshold exceeded: parse", "warning")
    assert {("type", "memory"), ("operation", "parse")} <= set(message.tags.items())


# -- DogStatsD ---------------------------------------------------------------------------------------------------------


def test_an_events_lengths_are_of_bytes_and_a_line_break_is_escaped() -> None:
    # The bytes that Datadog's own client sends for statsd.event of the same.
    told = Notification(title="Müll | gräßlich", message="line 1\nline 2 é 日本", severity=Severity.CRITICAL)
    (datagram,) = plan(told, thread="mig:1").datagrams(DatadogConfig())
    line = datagram.decode()
    assert line == ("_e{18,24}:Müll | gräßlich|line 1\\nline 2 é 日本|k:mig:1|s:eventbus|t:error|#severity:critical")


@pytest.mark.parametrize("text", ["a,b", "a|b", "a\nb", "x|#team:evil", "a:b|c|@0.1", "a\u2028b", "@all"])
def test_what_an_event_says_never_becomes_a_field_a_tag_or_a_line(text: str) -> None:
    sent = lines(completed(migration=text, environment=text))
    assert len(sent) == 2
    assert all(line.count("#") == 1 and "@" not in line for line in sent)
    assert all(tag.partition(":")[0] in ("env", "migration") for line in sent for tag in line.split("#")[1].split(","))


def test_tags_are_cut_and_an_empty_one_is_left_out() -> None:
    (line, _) = lines(completed(migration="x" * 400, environment=None))
    (tag,) = line.split("#")[1].split(",")
    assert len(tag) == 200
    assert "env" not in line


def test_tags_and_host_of_the_settings_are_on_everything() -> None:
    sent = lines(completed(), tags=["team:database"], host="db-1")
    assert all(line.endswith(",team:database,host:db-1") for line in sent)
    (event,) = lines(Notification(message="m"), tags=["team:database"], host="db-1")
    assert "|h:db-1|" in event
    assert event.endswith("team:database")


@pytest.mark.parametrize(("agent", "room"), [("udp://127.0.0.1:8125", 1432), ("unix:///run/dsd.socket", 8192)])
def test_many_lines_fill_datagrams_and_none_is_cut(agent: str, room: int) -> None:
    measures = [
        {"name": f"metric.number.{n}", "type": "counter", "topics": ["migration.completed"], "labels": {"a": "topic"}}
        for n in range(200)
    ]
    settings: dict[str, Any] = {"agent": agent, "measures": measures, "defaults": False}
    sent = plan(completed(), **settings).datagrams(DatadogConfig.model_validate(settings))
    assert len(lines(completed(), **settings)) == 200
    assert all(len(one) <= room for one in sent)
    assert all(len(one) > room - 60 for one in sent[:-1]), "each is filled before the next begins"


@pytest.mark.parametrize("text", ["x" * 200, "漢" * 200, "é" * 100 + "漢" * 100])
def test_long_tags_are_cut_to_what_the_datagram_has_room_for_and_the_number_counts(text: str) -> None:
    labels = {f"label_{n}": "data.migration" for n in range(10)} | {"env": "data.environment"}
    measure = {"name": "a.b", "type": "counter", "topics": ["migration.completed"], "labels": labels}
    (line,) = lines(completed(migration=text), measures=[measure], defaults=False, tags=["team:database"], host="db-1")
    assert 1400 < len(line.encode()) <= 1432
    *cut, env, team, host = line.removeprefix("a.b:1|c|#").split(",")
    assert (env, team, host) == ("env:production", "team:database", "host:db-1"), "what is short stays whole"
    found = dict(tag.split(":") for tag in cut)
    assert [*found] == [f"label_{n}" for n in range(10)]
    assert all(len(value) > 30 and text.startswith(value) for value in found.values())


@pytest.mark.parametrize("letter", ["x", "漢", "\U0001d51e"])
def test_an_event_with_long_tags_is_shown_with_some_of_its_text(letter: str) -> None:
    long = letter * 1000
    data = {"type": long, "environment": long, "migration": long, "metrics": {"name": long}, "error": "out of memory"}
    (line,) = lines(operation("performance.threshold.exceeded", data), tags=["team:database"])
    assert len(line.encode()) <= 1432
    assert "|out of memory|" in line
    assert line.endswith(",topic:performance.threshold.exceeded,team:database")
    assert all(f"{name}:{letter * 10}" in line for name in ("env", "migration", "type", "operation"))


def test_a_line_that_fits_into_no_datagram_is_refused() -> None:
    with pytest.raises(Rejected, match=r"bytes, and a datagram has 1,432"):
        lines(completed(), tags=[f"tag_{n}:{'x' * 190}" for n in range(10)])


@given(st.text(min_size=1), st.text())
def test_any_text_becomes_an_event_that_fits(title: str, text: str) -> None:
    told = Notification(title=title, message=text or "m", fields={"environment": text})
    (datagram,) = plan(told).datagrams(DatadogConfig())
    assert len(datagram) <= 1432
    assert list(check(datagram)) == []


@pytest.mark.parametrize("text", ["x" * 100_000, "日本" * 50_000, "a\n" * 50_000])
def test_a_long_text_is_cut_to_what_the_datagram_has_room_for_and_says_so(text: str) -> None:
    (line,) = lines(Notification(title="t", message=text))
    assert 1400 < len(line.encode()) <= 1432
    assert " more|k:" in line


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["@all", "@jane@example.com", "@slack-ops", "a @here b", "%%%\n# big\n%%%"])
def test_text_notifies_nobody_and_is_no_markdown(text: str) -> None:
    # docs.datadoghq.com, "Events": @-names in an event's text notify people; %%% begins Markdown.
    message = plan(Notification(title=text, message=text, fields={"environment": text})).message
    assert message is not None
    for said in (message.title, message.text):
        assert "%%%" not in said
        assert all(said[at + 1 : at + 2] == ZWSP for at, one in enumerate(said) if one == "@")


@pytest.mark.parametrize(
    ("severity", "alert"),
    [("critical", "error"), ("error", "error"), ("warning", "warning"), ("info", "info")],
)
def test_a_severity_is_an_alert_type(severity: Severity, alert: str) -> None:
    message = plan(Notification(message="m", severity=severity)).message
    assert message is not None
    assert message.alert == alert
    over = plan(Notification(type="resolve", message="m", severity=severity)).message
    assert over is not None
    assert over.alert == "success"


def test_events_of_one_thread_are_grouped_and_a_long_thread_has_a_key_of_100_characters() -> None:
    keys = set()
    for thread in ("x" * 300 + "1", "x" * 300 + "2"):
        message = plan(Notification(message="m"), thread=thread).message
        assert message is not None
        keys.add(message.key)
    assert len(keys) == 2
    assert all(len(key) <= 100 for key in keys)
    alone = plan(Notification(message="m"), thread="").message
    assert alone is not None
    assert alone.key == "key-1"


def test_an_event_that_the_settings_name_is_shown_and_counted() -> None:
    broken = MigrationFailed(migration="add_email", environment="production", error="lock timeout")
    made = plan(catalog.event(broken, time=NOW), events=["migration.failed"])
    assert [one.name for one in made.readings] == ["confiture.migrations.failed"]
    assert made.message is not None
    assert (made.message.title, made.message.text) == ("Migration failed: add_email", "lock timeout")
    assert (made.message.alert, made.message.at) == ("error", NOW)


def test_an_event_older_than_datadog_takes_says_when_it_happened() -> None:
    late = catalog.event(MigrationFailed(migration="m", error="e"), time=NOW - timedelta(hours=19))
    made = plan(late, events=["migration.failed"]).message
    assert made is not None
    assert made.at is None
    assert made.text == "e\nHappened at 2026-01-11 15:30:00 UTC."


def test_what_is_not_measured_and_not_named_is_nothing() -> None:
    event = catalog.event("deploy.completed", {"name": "api"})
    assert plan_for(event, Delivery("k"), DatadogConfig(), NOW) is None


def test_a_number_that_is_missing_is_named_and_what_is_there_is_sent() -> None:
    made = plan(completed(duration_ms=None))
    assert [one.name for one in made.readings] == ["confiture.migrations.completed"]
    assert made.missing == ("confiture.migrations.duration: no number at data.duration_ms",)


@pytest.mark.parametrize("what", [Notification(type="ticket", message="m"), Notification(target="#ops", message="m")])
def test_what_datadog_has_no_place_for_is_refused(what: Notification) -> None:
    with pytest.raises(Rejected):
        plan(what)


# -- the API -----------------------------------------------------------------------------------------------------------


def series(what: Any, **settings: Any) -> list[dict[str, Any]]:
    config = DatadogConfig.model_validate({"transport": "api", "api_key": "k" * 32} | settings)
    made = plan_for(what, Delivery("k"), config, NOW)
    assert made is not None
    (request,) = made.requests(config, NOW)
    rows: list[dict[str, Any]] = json.loads(request.content)["series"]
    assert [fault for row in rows for fault in fake.check_series(row)] == []
    return rows


def test_a_histogram_becomes_what_an_agent_makes_of_one_value() -> None:
    rows = {row["metric"]: (row["type"], row["points"][0]["value"]) for row in series(completed())}
    spread = {f"confiture.migrations.duration.{part}": (3, 2310) for part in ("avg", "max", "median", "95percentile")}
    counts = {"confiture.migrations.completed": (1, 1), "confiture.migrations.duration.count": (1, 1)}
    assert rows == spread | counts


def test_points_have_the_time_of_the_event_and_the_host_of_the_settings() -> None:
    for row in series(completed(), host="db-1"):
        assert row["points"][0]["timestamp"] == int(NOW.timestamp())
        assert row["resources"] == [{"type": "host", "name": "db-1"}]


@pytest.mark.parametrize("away", [timedelta(hours=-1, seconds=-1), timedelta(minutes=10, seconds=1)])
def test_points_that_datadog_would_drop_are_refused(away: timedelta) -> None:
    with pytest.raises(Rejected, match="Datadog drops points"):
        series(catalog.event(completed().data, time=NOW + away))


def test_more_than_a_request_holds_is_refused() -> None:
    labels = {f"label_{n}": "data.migration" for n in range(30)}
    measures = [
        {"name": f"m{n}", "type": "counter", "topics": ["migration.completed"], "labels": labels} for n in range(200)
    ]
    with pytest.raises(Rejected, match="Datadog takes 512,000"):
        series(completed(migration="x" * 200), measures=measures)
